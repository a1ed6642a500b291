"""Scenarios of measured serving runs: rows of the table become one scenario of arrays.

Every row is a scenario of its own - machine, model, calibration, plan, workload - and all of them
are evaluated together, through the same functions as any other estimate.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl

from roofrack import config
from roofrack.conversion import to_study
from roofrack.nouns import Scenario
from roofrack.tables import DTYPES, SERVING
from roofrack.validation.composed import Options, options_of

ROUTING_SPREAD = 1.0
"""Deviation of the experts' popularity over its mean. Not measured in any row: that of the power
law (exponent 1.01, over tokens * 0.8) which aiconfigurator-core 0.12.0 takes for real traffic."""


NAMED = ("hardware", "model", "calibration")
"""Columns that name a file of the group; each file is a noun of its own."""


def named(rows: pl.DataFrame) -> Options:
    """Compose the files that rows name."""
    return options_of({group: rows[group].to_list() for group in NAMED})


def scenarios(rows: pl.DataFrame, options: Options) -> Scenario:
    """Return one scenario of arrays, an element a row: decode pools, or whole aggregated engines.

    All rows have to be of one `mode`; `options` are those of `named`. A sequence meets, over its
    life, its prompt and half its output on average; lengths are the mean ones that the client drew.
    """
    base = to_study(config.compose(["calibration=ideal"])).grid()
    disaggregated = rows["mode"][0] == "disaggregated"
    prompt = _floats(rows, "prompt") * _floats(rows, "length_share")
    output = _floats(rows, "output") * _floats(rows, "length_share")
    engines = _floats(rows, "decode_workers" if disaggregated else "instances")
    workload = dataclasses.replace(
        base.workload,
        phase="decode" if disaggregated else "serve",
        serving=float(SERVING.index("aggregated")),
        batch=np.maximum(_floats(rows, "concurrency") / engines, 1.0),
        prompt=prompt,
        output=output,
        context=prompt + output / 2.0,
        routing_spread=ROUTING_SPREAD,
        dtype=_dtypes(rows, base.workload.dtype),
    )
    ranks, tp = _floats(rows, "attention_dp"), _floats(rows, "tp")
    # ranks of one chip each: attention is data parallel over what everything else is divided by
    alone = (ranks > 1) & (tp == 1)
    degrees: dict[str, Any] = {
        "tp": np.where(alone, ranks, tp),
        "dp": np.where(alone, 1.0, ranks),
        "ep": _floats(rows, "ep"),
        "pp": _floats(rows, "pp"),
        "attention_dp": alone.astype(float),
    }
    plan = dataclasses.replace(base.plan, **degrees)
    return dataclasses.replace(
        base,
        **{group: _nouns(rows[group], group, options) for group in NAMED},
        plan=plan,
        workload=workload,
        features=(),
        prefill=None,
    )


def _dtypes(rows: pl.DataFrame, base: Any) -> Any:
    names = list(DTYPES)

    def index(column: str) -> np.ndarray:
        return np.array([names.index(n) for n in rows[column]], float)

    return dataclasses.replace(
        base,
        weights=index("dtype_weights"),
        attention=index("dtype_attention") + 1.0,
        attention_out=index("dtype_attention_out") + 1.0,
        experts=index("dtype_experts") + 1.0,
        head=index("dtype_head") + 1.0,
        math=index("dtype_math"),
        experts_math=index("dtype_experts_math") + 1.0,
        kv=index("dtype_kv"),
    )


def _floats(rows: pl.DataFrame, column: str) -> np.ndarray:
    return rows[column].cast(pl.Float64).to_numpy()


def _nouns(names: pl.Series, group: str, options: Options) -> Any:
    """Return the noun of each row, as one noun of arrays."""
    unique = names.unique(maintain_order=True).to_list()
    nouns = [getattr(to_study(options[group, name]).grid(), group) for name in unique]
    position = {name: i for i, name in enumerate(unique)}
    return stacked(nouns, np.array([position[name] for name in names]))


def stacked(nouns: Sequence[Any], choice: np.ndarray) -> Any:
    """Return one noun whose leaves are those of `nouns[choice]`, element by element."""
    first = nouns[0]
    if dataclasses.is_dataclass(first) and not isinstance(first, type):
        inner = {
            f.name: stacked([getattr(n, f.name) for n in nouns], choice)
            for f in dataclasses.fields(first)
        }
        return dataclasses.replace(first, **inner)
    if isinstance(first, tuple):
        return tuple(stacked(items, choice) for items in zip(*nouns, strict=True))
    values = np.asarray(nouns, np.float64)
    return values[0] if np.all(values == values[0]) else values[choice]
