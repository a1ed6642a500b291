"""A point as text for people: what it costs, what binds, where the time and the memory go."""

from collections.abc import Mapping, Sequence
from math import exp
from typing import Any

from roofrack.cost.forward import COLLECTIVES
from roofrack.errors import InputError, nearest
from roofrack.hardware import DEPTH
from roofrack.report.format import NOTHING, quantity
from roofrack.results.schema import COLUMNS, INPUTS, PARTS

Row = Mapping[str, Any]

HEADLINE = (
    "step_s", "step_lower_s", "step_upper_s", "ttft_s", "tpot_s", "tokens_per_s",
    "tokens_per_s_per_chip", "tokens_per_s_per_user", "mfu", "mbu", "usd_per_mtok",
    "usd_per_mtok_input", "usd_per_mtok_cached", "usd_per_mtok_output", "usd_per_hour",
    "joule_per_token",
)  # fmt: skip
MEMORY = ("mem_weights_bytes", "mem_kv_bytes", "mem_activation_bytes", "mem_total_bytes")
TRAINED_MEMORY = (
    "mem_weights_bytes", "mem_gradient_bytes", "mem_optimizer_bytes", "mem_activation_bytes",
    "mem_buffer_bytes", "mem_total_bytes",
)  # fmt: skip
TRAINED = (
    "hfu", "mfu_non_causal", "microbatches", "microbatch", "passes_s", "bubble_s",
    "bubble_fraction", "exposed_tp_s", "exposed_cp_s", "exposed_ep_s", "exposed_pp_s",
    "exposed_dp_s", "exposed_offload_s", "optimizer_s", "goodput", "train_days", "usd_train",
    "overtraining", "usd_lifetime",
)  # fmt: skip
SHAPE = (
    "params_total", "params_active", "kv_bytes_per_token", "sparsity", "critical_batch",
    "experts_touched", "scale_out_fraction", "context_knee_tokens",
)  # fmt: skip
DEPLOYED = (
    "tokens_per_pass", "draft_s", "prefill_share", "prefill_instances", "chips_prefill",
    "chips_ffn", "kv_transfer_s", "retrieve_s",
)  # fmt: skip
AT_LOAD = (
    "utilization", "capacity_per_s", "ttft_p50_s", "ttft_p95_s", "ttft_p99_s", "tpot_p50_s",
    "tpot_p95_s", "tpot_p99_s", "queue_s", "batch_at_load", "slots_at_load",
    "usd_per_mtok_at_load", "goodput", "train_s", "train_wait_s", "train_worst_s", "fill_per_s",
)  # fmt: skip
SHORT = (
    "step_s", "tpot_s", "ttft_s", "tokens_per_s_per_chip", "usd_per_mtok", "bound", "fits",
    "why_invalid",
)  # fmt: skip
_BAR = 28
EIGHTY_PERCENT = 1.2816
"""Standard deviations of a normal distribution on either side of four fifths of it."""


def text(rows: Row | Sequence[Row], columns: Sequence[str] | str | None = None) -> str:
    """Return one point as a breakdown, several as a table with a line each.

    `columns` are shown instead of the usual ones; InputError for one that does not exist.
    """
    columns = [columns] if isinstance(columns, str) else columns
    for name in columns or ():
        known = {**COLUMNS, **dict.fromkeys(rows[0] if isinstance(rows, Sequence) else rows)}
        if name not in known:
            raise InputError(f"columns={name}: no such column.{nearest(name, known)}")
    if columns or isinstance(rows, Sequence):
        return _table(rows if isinstance(rows, Sequence) else [rows], columns or SHORT)
    return _breakdown(rows)


def cell(name: str, value: Any) -> str:
    """Write one value with the unit of its column; shares as percent."""
    if value is None:
        return NOTHING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str):
        return value
    if name in ("chips", "racks"):
        return f"{value:,g}"
    if name in ("mfu", "mbu", "hfu", "mfu_non_causal", "bubble_fraction", "scale_out_fraction"):
        return f"{value:.1%}"
    return quantity(value, COLUMNS[name].unit if name in COLUMNS else "")


def _breakdown(row: Row) -> str:
    swept = [k for k in row if k not in (*COLUMNS, "elasticities")]
    title = f"{row['model']} on {row['hardware']}, chips: {row['chips']:,g}, {row['phase']}"
    lines = [title + "".join(f", {k}={row[k]}" for k in swept), ""]
    lines += _block(row, HEADLINE)
    lines += ["", "where the time of a step goes (alone, before any overlap)"]
    total = row["step_upper_s"]
    for part in sorted(PARTS, key=lambda p: -row[f"t_{p}_s"]):
        seconds = row[f"t_{part}_s"]
        if seconds:
            share = seconds / total
            mark = "  <- binds" if part == row["bound"] else ""
            bar = "#" * max(1, round(share * _BAR))
            lines.append(f"  {part:<12}{cell('step_s', seconds):>10} {share:>6.1%}  {bar}{mark}")
    usable = cell("mem_capacity_bytes", row["mem_capacity_bytes"])
    lines += ["", f"memory of the fullest chip, of {usable} usable"]
    trains = row["phase"] == "train"
    lines += _block(row, TRAINED_MEMORY if trains else MEMORY)
    if not row["fits"]:
        lines.append("  DOES NOT FIT: the times above are what it would cost if it did")
    if trains:
        lines += ["", "what a step is made of, and a run of them"]
        lines += _block(row, [name for name in TRAINED if row[name]])
    deployed = [n for n in DEPLOYED if row[n] not in (None, 0, 1)]
    if deployed:
        lines += ["", "how the service is laid over passes and machines"]
        lines += _block(row, deployed)
    if row["utilization"] is not None:
        lines += ["", "at the load (workload.arrivals_per_s)"]
        lines += _block(row, AT_LOAD)
        if row["utilization"] >= 1:
            lines.append(
                "  OVERLOADED: more arrive than can be served, the queue grows without end"
            )
    lines += ["", "how model, plan and machine fit each other"]
    lines += _block(row, SHAPE)
    lines += _traffic(row)
    lines += _next(row.get("elasticities") or {})
    if (row["context_share"] or 0) > 1:
        lines += ["", f"{row['context_share']:.1f} times the longest context the model states"]
    if row["step_s_rel_std"] is None:
        lines += ["", "no error bar: this calibration is ideal, by definition without losses"]
    else:
        lines += ["", _interval(row)]
    return "\n".join(lines)


def _interval(row: Row) -> str:
    """Say between which values the step lies four times out of five."""
    spread = EIGHTY_PERCENT * row["step_s_rel_std"]
    low, high = (quantity(row["step_s"] * exp(sign * spread), "s") for sign in (-1, 1))
    return f"error bar: four of five measured steps lie between {low} and {high}"


def _traffic(row: Row) -> list[str]:
    """Return what a chip sends in a step: a line for each kind of traffic, levels side by side."""
    levels = range(1, DEPTH + 1)
    kinds = {kind: [row[f"traffic_{kind}_{i}_bytes"] for i in levels] for kind in COLLECTIVES}
    used = max((i for sent in kinds.values() for i, b in enumerate(sent, 1) if b), default=0)
    if not used:
        return []
    lines = ["", "what a chip sends in a step, by fabric level (1 is innermost)"]
    lines.append("  " + " " * 8 + "".join(f"{f'level {i}':>12}" for i in range(1, used + 1)))
    for kind, sent in kinds.items():
        if any(sent):
            texts = (cell("dispatch_bytes", b) for b in sent[:used])
            lines.append(f"  {kind:<8}" + "".join(f"{text:>12}" for text in texts))
    return lines


def _next(elasticities: Mapping[str, float]) -> list[str]:
    """Return what would change the cost most: numbers of the machine, then of the model."""
    lines = []
    for section, most in (("hardware", 5), ("model", 3)):
        found = [
            (path, value)
            for path, value in elasticities.items()
            if path.startswith(section) and abs(value) >= 0.005 and "usd" not in path
        ]
        lines += [f"  {path:<44}{value:>+7.2f} %" for path, value in found[:most]]
    return ["", "what 1 % more of a number does to the cost per token", *lines] if lines else []


def _block(row: Row, names: Sequence[str]) -> list[str]:
    shown = [name for name in names if row.get(name) is not None]
    return [f"  {name:<22}{cell(name, row[name]):>14}  {COLUMNS[name].doc}" for name in shown]


def _table(rows: Sequence[Row], columns: Sequence[str]) -> str:
    """Return one line per row: what differs between rows, then the main results."""
    named = (k for row in rows for k in row if k not in COLUMNS or k in INPUTS)
    inputs = dict.fromkeys(k for k in named if k != "elasticities")
    differs = [name for name in inputs if len({row.get(name) for row in rows}) > 1]
    shown = (n for n in columns if any(r.get(n) is not None for r in rows))
    names = list(dict.fromkeys([*differs, *shown]))
    grid = [names] + [[cell(n, r.get(n)) for n in names] for r in rows]
    widths = [max(len(line[i]) for line in grid) for i in range(len(names))]
    return "\n".join(
        "  ".join(value.rjust(width) for value, width in zip(line, widths, strict=True)).rstrip()
        for line in grid
    )
