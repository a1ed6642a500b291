"""What there is to say of predicted training runs: errors, targets, peers, what was left out.

Time and memory are never put together. vTrain's runs on one node are two thirds of all runs, and
come from one source: every number over all runs is also told without them.
"""

from typing import NamedTuple

import polars as pl

from roofrack.validation import training_table
from roofrack.validation.errors import statistics
from roofrack.validation.targets import Target

PEERS = training_table.HERE / "training_peers.csv"
"""Errors that other tools published of themselves."""

PEER_COLUMNS = {
    "tool": pl.String,
    "set": pl.String,
    "quantity": pl.String,
    "rows": pl.Int64,
    "mean": pl.Float64,
    "worst": pl.Float64,
    "source": pl.String,
    "notes": pl.String,
}
"""Tool and version; one of SETS with the same runs, null where they are not here; what was
compared, on how many runs; mean and largest error, null where not told; the public source."""

_SINGLE = pl.col("origin") == "vtrain_single"
_EIGHT = pl.col("id").str.starts_with("korthikanti_t5_")

SETS = {
    "all": pl.lit(True),
    "all_but_vtrain_single": ~_SINGLE,
    "vtrain_single": _SINGLE,
    "vtrain_multi": pl.col("origin") == "vtrain_multi",
    "korthikanti": _EIGHT,
}
"""Runs that are judged or compared together, by name; none is chosen by its error."""

SET_WORDS = {
    "all": "all runs",
    "all_but_vtrain_single": "all but vTrain's on one node",
    "vtrain_single": "vTrain's on one node",
    "vtrain_multi": "vTrain's on many nodes",
    "korthikanti": "the eight of Korthikanti et al. 2022, table 5",
}

_STEP = pl.col("quantity") == "step_s"

TARGETS = (
    Target("Step time, eight runs of Korthikanti et al.: mean error", "mean_abs", 0.035, _EIGHT),
    Target("Step time, eight runs of Korthikanti et al.: largest error", "worst", 0.08, _EIGHT),
    Target("Step time, all runs: median error", "median_abs", 0.08, _STEP),
    Target(
        "Step time, all runs but vTrain's on one node: median error",
        "median_abs",
        0.08,
        _STEP & ~_SINGLE,
    ),
    Target(
        "Step time, vTrain's runs on one node: median error", "median_abs", 0.08, _STEP & _SINGLE
    ),
    Target(
        "Peak memory, measured: largest error",
        "worst",
        0.05,
        pl.col("quantity") == "peak_memory_bytes",
    ),
    Target(
        "Activations, as Korthikanti et al. count them: largest error",
        "worst",
        0.05,
        pl.col("quantity") == "activation_bytes",
    ),
)

STATISTICS = ("rows", "median_abs", "mean_abs", "worst", "bias", "within", "inside")
"""Errors of a group: see `errors.statistics`."""

NAMED = 4
"""Rows or groups that a missed target names."""


class Training(NamedTuple):
    """Tables of one validation of training runs, as the functions of their names return them."""

    errors: pl.DataFrame
    targets: pl.DataFrame
    left_out: pl.DataFrame
    assumed: pl.DataFrame
    peers: pl.DataFrame


def judge(lines: pl.DataFrame) -> Training:
    """Return what there is to say of the lines of training runs."""
    return Training(errors(lines), targets(lines), left_out(lines), assumed(lines), peers(lines))


def errors(lines: pl.DataFrame) -> pl.DataFrame:
    """Return errors by quantity over all runs (`by` is `set`) and by group (`by` is `group`).

    Columns: quantity, by, group, those of STATISTICS, `worst_id`, and `too_large`: runs that ran
    and whose memory is predicted to be more than the chip has (null for counts, of no run).
    """
    used = lines.filter(pl.col("log_ratio").is_not_null())
    without = used.filter(SETS["all_but_vtrain_single"], _STEP)
    return pl.concat(
        [
            _errors(used.with_columns(group=pl.lit("all")), "set"),
            _errors(without.with_columns(group=pl.lit("all_but_vtrain_single")), "set"),
            _errors(used.with_columns(group="origin"), "group"),
        ]
    )


def _errors(lines: pl.DataFrame, by: str) -> pl.DataFrame:
    keys = ("quantity", "group")
    size, ran = pl.col("error").abs(), pl.col("quantity") != "activation_bytes"
    worst = lines.group_by(keys).agg(
        worst_id=pl.col("id").sort_by(size).last(),
        too_large=pl.when(ran.first()).then((~pl.col("fits")).sum()),
    )
    joined = statistics(lines, keys).join(worst, on=keys, maintain_order="left")
    columns = ("quantity", "by", "group", *STATISTICS, "worst_id", "too_large")
    return joined.with_columns(by=pl.lit(by)).select(columns).sort("quantity", "group")


def targets(lines: pl.DataFrame) -> pl.DataFrame:
    """Return the targets with what was found.

    Columns: target, limit, found (null without rows), rows, met, `over` (found less the limit, null
    where it is met), `which` (where it is missed: the groups, or the runs of a single group, that
    are beyond the limit, furthest first).
    """
    found = [_judged(target, lines) for target in TARGETS]
    floats = {"limit": pl.Float64, "found": pl.Float64, "over": pl.Float64}
    return pl.DataFrame(found, schema_overrides=floats | {"rows": pl.Int64, "met": pl.Boolean})


def _judged(target: Target, lines: pl.DataFrame) -> dict[str, object]:
    chosen = lines.filter(target.lines, pl.col("log_ratio").is_not_null())
    found = None if chosen.is_empty() else float(statistics(chosen)[target.statistic][0])
    met = None if found is None else found <= target.limit
    missed = found is not None and not met
    return {
        "target": target.name,
        "limit": target.limit,
        "found": found,
        "rows": chosen.height,
        "met": met,
        "over": found - target.limit if found is not None and missed else None,
        "which": _beyond(chosen, target.limit) if missed else "",
    }


def _beyond(lines: pl.DataFrame, limit: float) -> str:
    """Return in words what is beyond a limit: groups by their median, or runs of one group."""
    if lines["origin"].n_unique() > 1:
        found = statistics(lines, ("origin",)).select("origin", "median_abs", "bias", "rows")
        over = found.filter(pl.col("median_abs") > limit).sort("median_abs", descending=True)
        words = [
            f"{name} {median:.1%} of {rows} too {'high' if bias > 0 else 'low'}"
            for name, median, bias, rows in over.iter_rows()
        ]
    else:
        size = pl.col("error").abs()
        over = lines.filter(size > limit).sort(size, descending=True)
        words = [f"{name} {error:+.1%}" for name, error in over.select("id", "error").iter_rows()]
    more = [f"and {len(words) - NAMED} more"] if len(words) > NAMED else []
    return ", ".join([*words[:NAMED], *more])


def left_out(lines: pl.DataFrame) -> pl.DataFrame:
    """Return how many runs of each group have no prediction, by reason; first what is most.

    Columns: group, reason, rows.
    """
    return (
        lines.filter(pl.col("excluded").is_not_null())
        .group_by(group="origin", reason="excluded")
        .agg(rows=pl.len())
        .sort("rows", "group", "reason", descending=[True, False, False])
    )


def assumed(lines: pl.DataFrame) -> pl.DataFrame:
    """Return what was assumed for each group that is predicted, one assumption a line.

    Columns: group, source, software, flops (the count by which its numbers became seconds), key,
    value, why. A group without assumptions has one line, with empty key.
    """
    used = lines.filter(pl.col("log_ratio").is_not_null())["origin"].unique().sort()
    rows = []
    for name in used:
        group = training_table.groups()[name]
        same = {key: group[key] for key in ("source", "software", "flops")}
        entries = [(k, str(e["value"]), e["why"]) for k, e in group["assumed"].items()]
        for key, value, why in entries or [("", "", "nothing is assumed")]:
            rows.append({"group": name, **same, "key": key, "value": value, "why": why})
    names = ("group", "source", "software", "flops", "key", "value", "why")
    return pl.DataFrame(rows, schema=dict.fromkeys(names, pl.String))


def peers(lines: pl.DataFrame) -> pl.DataFrame:
    """Return what other tools published of their own errors, beside those of here on the same runs.

    Columns: those of PEER_COLUMNS, `rows_ours`, `mean_ours`, `worst_ours`, null where the runs are
    not here.
    """
    table = pl.read_csv(PEERS, schema=PEER_COLUMNS)
    ours = []
    for row in table.iter_rows(named=True):
        chosen = lines.filter(
            SETS[row["set"]] if row["set"] else pl.lit(False),
            pl.col("quantity") == row["quantity"],
        )
        found = statistics(chosen).row(0, named=True)
        ours.append(
            {
                "rows_ours": found["rows"],
                "mean_ours": found["mean_abs"],
                "worst_ours": found["worst"],
            }
        )
    floats = {"mean_ours": pl.Float64, "worst_ours": pl.Float64, "rows_ours": pl.Int64}
    return table.hstack(pl.DataFrame(ours, schema_overrides=floats))
