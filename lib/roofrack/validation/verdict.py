"""One validation: predictions of every measured row, and all that is said of their errors."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from roofrack.config import conf_dir
from roofrack.errors import InputError, nearest
from roofrack.validation import (
    peers,
    protocol,
    reasons,
    runs,
    service_runs,
    targets,
    training_runs,
    training_verdict,
)
from roofrack.validation.errors import by_group
from roofrack.validation.intervals import HALVES, discrepancy
from roofrack.validation.protocol import Host
from roofrack.validation.silicon import silicon_path, silicon_rows

ROWS = ("all", "shipped", "silicon", "published", "training", "service")
"""What may be validated against."""

APART = (training_runs.TABLE, service_runs.TABLE)
"""Tables of lines whose errors are told apart from those of serving runs and published facts."""


@dataclass(frozen=True)
class Verdict:
    """What was found. Tables as of `runs.LINES`, `errors.by_group`, `targets`, `peers`.

    `lines` holds every measured number with `drafting` and `reason`; `excluded` counts rows by
    mode and rule; `learnt` the discrepancies; `hosts` the host times, by client. These are of
    serving runs and published facts; `training` has the tables of training runs, None without.
    """

    rows: str
    calibration: str
    lines: pl.DataFrame
    groups: pl.DataFrame
    targets: pl.DataFrame
    coverage: pl.DataFrame
    excluded: pl.DataFrame
    learnt: pl.DataFrame
    peers: pl.DataFrame
    hosts: dict[str, Host]
    training: training_verdict.Training | None

    @property
    def runs(self) -> pl.DataFrame:
        """The lines of serving runs."""
        return self.lines.filter(pl.col("table") == "serving runs")

    @property
    def counted(self) -> pl.DataFrame:
        """The lines of serving runs that the targets are about."""
        return self.runs.filter(runs.COUNTED)

    @property
    def facts(self) -> pl.DataFrame:
        """The lines of published facts."""
        return self.lines.filter(pl.col("table") == "published facts")

    @property
    def services(self) -> pl.DataFrame:
        """The lines of services."""
        return self.lines.filter(pl.col("table") == service_runs.TABLE)

    @property
    def trained(self) -> pl.DataFrame:
        """The lines of training runs."""
        return self.lines.filter(pl.col("table") == training_runs.TABLE)


def verdict(rows: str = "all", calibration: str = "auto") -> Verdict:
    """Predict all measured rows and judge them.

    `rows` is one of ROWS; `calibration` a file of conf/calibration for every row, or `auto`, that
    of the machine and engine of each. Raises InputError for other values, and for serving runs
    without the package that has them.
    """
    if rows not in ROWS:
        raise InputError(f"rows={rows}: allowed: {', '.join(ROWS)}.{nearest(rows, ROWS)}")
    names = sorted(file.stem for file in (conf_dir() / "calibration").glob("*.yaml"))
    if calibration not in names:
        raise InputError(f"calibration={calibration}: no such file.{nearest(calibration, names)}")
    parts, hosts = [], {}
    if rows in ("all", "silicon"):
        computed = runs.predicted(_installed(), calibration)
        hosts = protocol.learn_all(computed)
        parts.append(reasons.with_reasons(runs.lines(computed, hosts)))
    apart = {
        "published": runs.published_lines,
        "training": training_runs.training_lines,
        "service": service_runs.service_lines,
    }
    for name, lines in apart.items():
        if rows in ("all", "shipped", name):
            found = lines(calibration).select(runs.LINES)
            parts.append(found.with_columns(drafting=pl.lit(False), reason=pl.lit(None, pl.String)))
    return judge(rows, calibration, pl.concat(parts), hosts)


def _installed() -> pl.DataFrame:
    others = ", ".join(f"rows={name}" for name in ROWS if name not in ("all", "silicon"))
    try:
        silicon_path()
    except InputError as error:
        raise InputError(f"{error}; {others} need no package") from None
    return silicon_rows()


def judge(rows: str, calibration: str, lines: pl.DataFrame, hosts: dict[str, Host]) -> Verdict:
    """Return what there is to say of lines."""
    serving = lines.filter(pl.col("table") == "serving runs")
    counted = serving.filter(runs.COUNTED)
    trained = lines.filter(pl.col("table") == training_runs.TABLE)
    tpot = serving.filter(pl.col("quantity") == "tpot_s")
    covered = targets.coverage(tpot)
    both = covered.filter(pl.col("mode") == "both").row(0, named=True) if len(covered) else {}
    return Verdict(
        rows=rows,
        calibration=calibration,
        lines=lines,
        groups=by_group(lines.filter(~pl.col("table").is_in(APART)), runs.SETS),
        targets=targets.judged(counted, both.get("share"), both.get("rows", 0)),
        coverage=covered,
        excluded=left_out(tpot),
        learnt=learn(counted),
        peers=peers.side_by_side(counted, peers.load()),
        hosts=hosts,
        training=None if trained.is_empty() else training_verdict.judge(trained),
    )


def left_out(tpot: pl.DataFrame) -> pl.DataFrame:
    """Return rows by mode and rule: `kept`, a rule's name, or `low confidence`."""
    why = pl.coalesce("excluded", pl.when(~pl.col("counted")).then(pl.lit("low confidence")))
    return (
        tpot.group_by("mode", why.fill_null("kept and counted").alias("rule"))
        .agg(rows=pl.len())
        .sort("mode", "rows", descending=[False, True])
    )


def learn(counted: pl.DataFrame) -> pl.DataFrame:
    """Return the discrepancy of TPOT and TTFT by mode and over both modes, one line each.

    Only that of the TPOT is a `step_rel_std`; a first token waits besides, so its own is wider.
    """
    found = []
    for quantity in ("tpot_s", "ttft_s"):
        part = counted.filter(pl.col("quantity") == quantity)
        for mode in ("aggregated", "disaggregated", "both"):
            some = part if mode == "both" else part.filter(pl.col("mode") == mode)
            now = some["inside"].mean()
            found.append(
                {
                    "quantity": quantity,
                    "mode": mode,
                    **discrepancy(some)._asdict(),
                    "covered_now": None if now is None else float(now),  # type: ignore[arg-type]
                }
            )
    floats = ("step_rel_std", "covered_learnt", "covered_tested", "covered_now")
    table = pl.DataFrame(found, schema_overrides=dict.fromkeys(floats, pl.Float64))
    return table.with_columns(pl.col(floats).fill_nan(None))


def write(found: Verdict, folder: Path) -> Sequence[Path]:
    """Write rows.parquet, errors.csv, targets.csv, peers.csv and learnt.json; return the paths.

    learnt.json has what was learnt on one half of the rows, and the ids of both halves. Tables of
    training runs are training_errors.csv and so on, by the names of `training_verdict.Training`;
    errors of services are service_errors.csv.
    """
    folder.mkdir(parents=True, exist_ok=True)
    found.lines.write_parquet(folder / "rows.parquet")
    tables = {"errors": found.groups, "targets": found.targets, "peers": found.peers}
    if found.training is not None:
        tables |= {f"training_{name}": t for name, t in found.training._asdict().items()}
    if not found.services.is_empty():
        tables["service_errors"] = service_runs.errors(found.services)
    for name, table in tables.items():
        table.write_csv(folder / f"{name}.csv")
    used = found.counted
    halves = {name: used.filter(pl.col("half") == name)["id"].unique().sort() for name in HALVES}
    told = {
        "calibration": found.calibration,
        "host": {name: host._asdict() for name, host in found.hosts.items()},
        "discrepancy": found.learnt.to_dicts(),
        "halves": {name: ids.to_list() for name, ids in halves.items()},
    }
    (folder / "learnt.json").write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    names = ("rows.parquet", *(f"{name}.csv" for name in tables), "learnt.json")
    return [folder / name for name in names]
