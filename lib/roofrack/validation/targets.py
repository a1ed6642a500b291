"""What was promised of the errors, and whether it holds: met or missed, never hidden."""

from typing import NamedTuple

import polars as pl

from roofrack.validation.errors import statistics

NOISE_FLOOR = 0.06
"""Median error below which a model would be better than the runs repeat: the same setting in two
versions of one engine differs by more."""


class Target(NamedTuple):
    """One promise: what of which lines is at most (or, `least`, at least) how much."""

    name: str
    statistic: str
    limit: float
    lines: pl.Expr
    least: bool = False


def _of(quantity: str, mode: str) -> pl.Expr:
    return (pl.col("quantity") == quantity) & (pl.col("mode") == mode)


_TPOT = _of("tpot_s", "aggregated")
_TTFT = (pl.col("quantity") == "ttft_s") & (pl.col("half") == "test")
_PROMPT = (
    (pl.col("mode") == "aggregated")
    & (pl.col("origin") == "inferencex")
    & pl.col("backend").is_in(["vllm", "trtllm"])
    & (pl.col("model") != "deepseek_v3")
)

TARGETS = (
    Target("TPOT, aggregated: median error", "median_abs", 0.095, _TPOT),
    Target("TPOT, aggregated: mean error", "mean_abs", 0.15, _TPOT),
    Target("TPOT, aggregated: share within 20 %", "within", 0.8, _TPOT, least=True),
    Target("TPOT, aggregated: largest bias of a model", "bias", 0.15, _TPOT),
    Target(
        "TTFT, aggregated InferenceX with vLLM and TensorRT-LLM, no DeepSeek: median error",
        "median_abs",
        0.17,
        _TTFT & _PROMPT,
    ),
    Target(
        "TTFT, all other runs, pools as well: median error", "median_abs", 0.3, _TTFT & ~_PROMPT
    ),
    Target("TPOT, disaggregated: median error", "median_abs", 0.15, _of("tpot_s", "disaggregated")),
)
"""TTFT is judged on the half of the rows that taught nothing."""

COVERAGE = Target("Coverage of medium and high confidence", "coverage", 0.9, pl.lit(True), True)


def judged(lines: pl.DataFrame, covered: float | None, wanted: int = 0) -> pl.DataFrame:
    """Return the targets with what was found over `lines`, the counted ones.

    `covered` is the share of `wanted` rows of medium or high confidence that are answered for.

    Columns: target, limit, found (null without rows), rows, `least` (the limit is a least one),
    met, `which` (the models beyond the limit, or
    the one with the largest bias).
    """
    found = [_judge(target, lines) for target in TARGETS]
    found.append(_line(COVERAGE, covered, wanted, ""))
    schema = {"limit": pl.Float64, "found": pl.Float64, "rows": pl.Int64, "met": pl.Boolean}
    return pl.DataFrame(found, schema_overrides=schema)


def _judge(target: Target, lines: pl.DataFrame) -> dict[str, object]:
    chosen = lines.filter(target.lines)
    total = statistics(chosen)
    rows = int(total["rows"][0])
    if not rows:
        return _line(target, None, 0, "")
    if target.statistic != "bias":
        return _line(target, float(total[target.statistic][0]), rows, "")
    models = statistics(chosen, ("model",)).sort(pl.col("bias").abs(), descending=True)
    over = models.filter(pl.col("bias").abs() > target.limit)
    named = (over if over.height else models.head(1)).select("model", "bias").iter_rows()
    which = ", ".join(f"{model} {bias:+.1%}" for model, bias in named)
    return _line(target, abs(float(models["bias"][0])), rows, which)


def _line(target: Target, found: float | None, rows: int, which: str) -> dict[str, object]:
    met = None
    if found is not None:
        met = found >= target.limit if target.least else found <= target.limit
    return {
        "target": target.name,
        "limit": target.limit,
        "found": found,
        "rows": rows,
        "least": target.least,
        "met": met,
        "which": which,
    }


def coverage(tpot: pl.DataFrame) -> pl.DataFrame:
    """Return, by mode and over both, how many rows of medium or high confidence are answered for.

    `tpot`: the TPOT lines, all of them. A row is covered if it is kept and predicted, or is a copy
    of one that is. Columns: mode, rows, covered, share.
    """
    kept = tpot.filter(pl.col("excluded").is_null(), pl.col("log_ratio").is_not_null())["id"]
    wanted = tpot.filter("counted").with_columns(
        covered=pl.coalesce("copy_of", "id").is_in(kept.implode())
    )
    both = [wanted, wanted.with_columns(mode=pl.lit("both"))]
    return (
        pl.concat(both)
        .group_by("mode")
        .agg(rows=pl.len(), covered=pl.col("covered").sum(), share=pl.col("covered").mean())
        .sort("mode")
    )
