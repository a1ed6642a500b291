"""Rules that leave measured rows out, read from rules.yaml; no prediction plays a part."""

from collections.abc import Callable, Mapping
from functools import cache
from importlib.resources import files
from typing import Any

import polars as pl
import yaml

from roofrack.errors import InputError, nearest
from roofrack.validation.rows import MEASURED, SETTING

NEEDED = (
    *("prompt", "output", "concurrency", "tp", "attention_dp", "ep", "expert_tp", "pp", "tpot_s"),
    *("model", "hardware", "dtype_weights", "dtype_experts", "dtype_math", "dtype_kv"),
)
"""What a prediction of the time per output token needs; a disaggregated one also its workers.

Nothing of the prefill pool: in steady state the decode pool runs alone. See `ttft_usable`.
"""


def _given(name: str) -> pl.Expr:
    """Not null and, for a number, positive."""
    text = name.startswith("dtype_") or name in ("model", "hardware")
    return pl.col(name).is_not_null() if text else (pl.col(name) > 0).fill_null(False)


def _missing_input(_: Mapping[str, Any]) -> pl.Expr:
    pool = (pl.col("mode") != "disaggregated") | _given("decode_workers")
    return ~pl.all_horizontal(*(_given(name) for name in NEEDED), pool)


def _impossible_layout(_: Mapping[str, Any]) -> pl.Expr:
    attention = pl.col("tp") * pl.col("attention_dp")
    return (attention != pl.col("ep") * pl.col("expert_tp")).fill_null(False)


def _run() -> pl.Expr:
    """What makes two rows one run. Exports differ in the last digit of a float: nanoseconds."""
    settings = [pl.col(c.name) for c in SETTING]
    return pl.struct(*settings, *(pl.col(c.name).round(9) for c in MEASURED))


def _duplicate(_: Mapping[str, Any]) -> pl.Expr:
    return ~_run().is_first_distinct()


def _admission_limited(rule: Mapping[str, Any]) -> pl.Expr:
    decoding = pl.col("output") * pl.col("tpot_s")
    return (decoding / (pl.col("ttft_s") + decoding) < rule["share"]).fill_null(False)


_TESTS: dict[str, Callable[[Mapping[str, Any]], pl.Expr]] = {
    "missing_input": _missing_input,
    "impossible_layout": _impossible_layout,
    "duplicate": _duplicate,
    "admission_limited": _admission_limited,
}


@cache
def rules() -> dict[str, Any]:
    """Return rules.yaml: the rules by name, in the order in which they are tried."""
    text = files("roofrack.validation").joinpath("rules.yaml").read_text(encoding="utf-8")
    found: dict[str, Any] = yaml.safe_load(text)
    for name in found:
        if name not in _TESTS:
            known = ", ".join(_TESTS)
            hint = nearest(name, _TESTS)
            raise InputError(f"rules.yaml: no rule '{name}' is known; there are {known}.{hint}")
    return found


def apply_rules(frame: pl.DataFrame) -> pl.DataFrame:
    """Return `frame` with `excluded`, the first rule that holds, and `copy_of`, both or null.

    The columns are those of rows.SCHEMA. A duplicate is told from all earlier rows of the frame, so
    rules are applied to the whole table once, not to parts of it.
    """
    held = [
        pl.when(_TESTS[name](rule if isinstance(rule, dict) else {})).then(pl.lit(name))
        for name, rule in rules().items()
    ]
    copy = pl.when(~_run().is_first_distinct()).then(pl.col("id").first().over(_run()))
    return frame.with_columns(pl.coalesce(*held).alias("excluded"), copy.alias("copy_of"))
