"""What an axis or a group does while all else is held, against loops over all pairs of rows."""

import itertools
import math
from collections.abc import Sequence
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from roofrack.errors import InputError
from roofrack.results import compare, sensitivity, streaming, units

COST = "usd_per_mtok"


def rows(**columns: Sequence[Any]) -> pl.LazyFrame:
    """A table of results: all rows run and fit unless said otherwise."""
    height = len(next(iter(columns.values())))
    filled = {"valid": [True] * height, "fits": [True] * height, "why_invalid": [None] * height}
    return pl.LazyFrame(
        {**columns, **{name: v for name, v in filled.items() if name not in columns}},
        schema_overrides={"why_invalid": pl.String},
    )


# batch 1, 2, 4 at two contexts, and at a third where 2 cannot run
STEPS = rows(
    **{
        "batch": [1, 2, 4] * 3,
        "context": [10, 10, 10, 20, 20, 20, 30, 30, 30],
        COST: [8.0, 4.0, 2.0, 8.0, 8.0, 8.0, 1.0, None, 16.0],
        "valid": [True] * 7 + [False, True],
    }
)


def test_the_steps_of_an_axis() -> None:
    found = sensitivity(STEPS, "batch", COST)
    assert found.select("batch", "batch_next", "points").rows() == [(1, 2, 2), (1, 4, 1), (2, 4, 2)]
    change = f"{COST}_change_median"
    # to twice the batch: half the cost and the same; past what cannot run: 16 times in two octaves
    assert found[change].to_list() == [-2.0, 15.0, -1.0]
    assert found["elasticity_median"].to_list() == pytest.approx([-0.5, 2.0, -0.5])
    assert found["elasticity_p10"].to_list() == pytest.approx([-0.9, 2.0, -0.9])
    assert found["elasticity_p90"].to_list() == pytest.approx([-0.1, 2.0, -0.1])
    assert units(found)[change] == "USD/Mtoken"


def test_jobs_without_the_axis_do_not_count() -> None:
    more = rows(batch=[None, None], context=[10, 20], **{COST: [1.0, 2.0]})
    both = pl.concat([STEPS, more], how="diagonal_relaxed")
    assert sensitivity(both, "batch", COST).equals(sensitivity(STEPS, "batch", COST))


def test_other_axes_that_a_job_lacks_are_held_at_null() -> None:
    lazy = rows(batch=[1, 2, 1, 2], pp=[None, None, 2, 2], **{COST: [1.0, 2.0, 4.0, 4.0]})
    found = sensitivity(lazy, "batch", COST)
    assert (found["points"].item(), found["elasticity_median"].item()) == (2, 0.5)


def test_an_elasticity_needs_values_above_zero() -> None:
    lazy = rows(batch=[0, 1, 2], **{"mfu": [1.0, 2.0, 0.0]})
    found = sensitivity(lazy, "batch", "mfu")
    assert found["mfu_change_median"].to_list() == [1.0, -2.0]
    assert found["elasticity_median"].to_list() == [None, None]
    back = sensitivity(rows(batch=[1, 2, 3], mfu=[0.0, 2.0, 0.0]), "batch", "mfu")
    assert back["elasticity_p90"].to_list() == [None, None]


@pytest.mark.parametrize("size", [7, 2_000_000])
@settings(max_examples=20)
@given(st.data())
def test_steps_are_those_of_a_loop(size: int, data: st.DataObject) -> None:
    points = list(itertools.product([1, 2, 3, 7], [None, 4, 8], ["a", "b"]))
    value = st.floats(0.125, 100, width=32) | st.sampled_from([None, math.nan, math.inf])
    drawn = data.draw(st.lists(value, min_size=len(points), max_size=len(points)))
    order = data.draw(st.permutations(range(len(points))))
    batch, context, model = zip(*(points[i] for i in order), strict=True)
    cost = [drawn[i] for i in order]
    lazy = rows(batch=batch, context=context, model=model, **{COST: cost})
    expected: dict[tuple[int, int], list[float]] = {}
    known = {p: v for p, v in zip(points, drawn, strict=True) if v is not None and v == v}
    for context_, model_ in itertools.product([None, 4, 8], ["a", "b"]):
        held = sorted((b, v) for (b, c, m), v in known.items() if (c, m) == (context_, model_))
        for (b, v), (after, w) in itertools.pairwise(held):
            expected.setdefault((b, after), []).append(w - v)
    expected = {k: [v for v in vs if v == v] for k, vs in expected.items()}
    expected = {k: vs for k, vs in expected.items() if vs}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(streaming, "SLICE", size)
        if not expected:
            with pytest.raises(InputError):
                sensitivity(lazy, "batch", COST)
            return
        found = sensitivity(lazy, "batch", COST)
    told = {(b, n): (p, m) for b, n, p, m in found.select(pl.nth(0, 1, 2, 4)).rows()}
    assert set(told) == set(expected)
    for step, changes in expected.items():
        changes.sort()
        half = (len(changes) - 1) / 2
        low, high = changes[math.floor(half)], changes[math.ceil(half)]
        middle = low if low in (high, -math.inf) else (low + high) / 2
        assert told[step][0] == len(changes)
        assert told[step][1] == pytest.approx(middle)


# b200 has a context that h100 has not; each has its own calibration
MACHINES = rows(
    **{
        "hardware": ["h100", "h100", "b200", "b200", "b200"],
        "calibration": ["hopper", "hopper", "blackwell", "blackwell", "blackwell"],
        "model": ["llama", "kimi", "llama", "kimi", "kimi"],
        "context": [8, 8, 8, 8, 16],
        COST: [4.0, 10.0, 2.0, 20.0, 1.0],
    }
)


def test_a_group_brings_along_what_is_its_own() -> None:
    found = compare(MACHINES, "hardware", "b200", "h100", COST)
    assert found.select("points", "only_a", "only_b").row(0) == (2, 1, 0)
    ratios = found.select("ratio_min", "ratio_median", "ratio_max").row(0)
    assert ratios == (0.5, 1.25, 2.0)
    assert found["along"].item() == "calibration: blackwell over hopper"
    apart = compare(MACHINES, "hardware", "b200", "h100", COST, by="model")
    assert apart.select("model", "points", "only_a", "ratio_median").rows() == [
        ("kimi", 1, 1, 2.0),
        ("llama", 1, 0, 0.5),
    ]


def test_values_of_an_axis_are_compared_too() -> None:
    found = compare(STEPS, "batch", 4, 1, COST, by="context")
    assert found["ratio_median"].to_list() == [0.25, 1.0, 16.0]
    assert found["along"].null_count() == 3


def test_zero_over_zero_is_no_ratio() -> None:
    lazy = rows(pp=[1, 2, 1, 2], batch=[1, 1, 2, 2], **{"t_pipeline_s": [0.0, 0.0, 0.0, 1.0]})
    found = compare(lazy, "pp", 2, 1, "t_pipeline_s")
    assert found.select("points", "only_a", "only_b", "ratio_max").row(0) == (1, 1, 1, math.inf)


@pytest.mark.parametrize("size", [5, 2_000_000])
@settings(max_examples=20)
@given(st.data())
def test_ratios_are_those_of_a_loop(size: int, data: st.DataObject) -> None:
    points = list(itertools.product(["x", "y"], [None, 1, 2, 3], ["a", "b", "c"]))
    value = st.sampled_from([None, 0.5, 1.0, 2.0, 8.0])
    drawn = data.draw(st.lists(value, min_size=len(points), max_size=len(points)))
    hardware, batch, model = zip(*points, strict=True)
    lazy = rows(hardware=hardware, batch=batch, model=model, **{COST: drawn})
    known = {p: v for p, v in zip(points, drawn, strict=True) if v is not None}
    expected: dict[str, list[float]] = {}
    for (h, b, m), v in known.items():
        if h == "x" and ("y", b, m) in known:
            expected.setdefault(m, []).append(v / known["y", b, m])
    sides = [{(b, m) for h, b, m in known if h == side} for side in "xy"]
    # a side whose rows all agree in an input goes along with it, and is another question
    if any(len({point[i] for point in side}) < 2 for side in sides for i in (0, 1)):
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(streaming, "SLICE", size)
        if not expected:
            with pytest.raises(InputError, match=r"no point is on both sides|share no value"):
                compare(lazy, "hardware", "x", "y", COST, by="model")
            return
        found = compare(lazy, "hardware", "x", "y", COST, by="model")
    told = found.select("model", "points", "only_a", "ratio_min", "ratio_max").rows()
    assert told == [
        (m, len(r), sum(1 for h, _, n in known if (h, n) == ("x", m)) - len(r), min(r), max(r))
        for m, r in sorted(expected.items())
    ]


def machines(of: str = COST, **more: Any) -> pl.DataFrame:
    asked = {"group": "hardware", "a": "b200", "b": "h100"} | more
    return compare(asked.pop("rows", MACHINES), of=of, **asked)


@pytest.mark.parametrize(
    ("ask", "says"),
    [
        (lambda: machines(a="b20"), "a=b20: hardware is b200, h100. Did you mean 'b200'?"),
        (lambda: machines(b="b200"), "b=b200: the same as a"),
        (lambda: machines(group=COST, of="context"), f"group={COST}: a result"),
        (lambda: machines(by="calibration"), "by=calibration: no group of it has both"),
        (lambda: machines(by="hardware"), "by=hardware: no group of it has both"),
        (lambda: machines(of="model"), "of=model: holds no numbers"),
        (lambda: machines(of="hardware"), "of=hardware: holds no numbers"),
        (lambda: machines(rows=MACHINES.drop("context")), "do not tell all rows apart"),
        (
            lambda: compare(STEPS, "context", 10, 20, COST, within={COST: 4}),
            "compare context=20: none of 3 rows is left: 3 with usd_per_mtok above 4 (it is 8",
        ),
        (lambda: sensitivity(MACHINES, "hardware", COST), "axis=hardware: holds no numbers"),
        (lambda: sensitivity(STEPS, COST, "batch"), f"axis={COST}: a result"),
        (lambda: sensitivity(STEPS, "batch", "batch"), "of=batch: what is varied itself"),
        (lambda: sensitivity(MACHINES.head(3), "context", COST), "no point has two values of it"),
        (lambda: sensitivity(STEPS.drop("context"), "batch", COST), "do not tell all rows apart"),
        (lambda: sensitivity(STEPS.head(0), "batch", COST), "sensitivity: there are no rows"),
    ],
)
def test_mistakes_are_named(ask: Any, says: str) -> None:
    with pytest.raises(InputError) as error:
        ask()
    assert says in str(error.value)
    assert "\n" not in str(error.value)


def test_what_shares_no_value_is_named() -> None:
    lazy = rows(hardware=["a", "a", "b", "b"], batch=[1, 2, 3, 4], **{COST: [1.0] * 4})
    with pytest.raises(InputError, match="compare hardware=a with b: batch share no value"):
        compare(lazy, "hardware", "a", "b", COST)
