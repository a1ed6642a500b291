"""Questions to a sweep: small tables whose answers are seen by eye, and brute force beside them."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from roofrack.errors import InputError
from roofrack.results import best, frontier, marginal, streaming, table, units
from roofrack.results.schema import COLUMNS

COST, SPEED = "usd_per_mtok", "tokens_per_s_per_user"


def rows(**columns: Sequence[Any]) -> pl.LazyFrame:
    """A table of results: all rows run and fit unless said otherwise."""
    height = len(next(iter(columns.values())))
    filled = {"valid": [True] * height, "fits": [True] * height, "why_invalid": [None] * height}
    texts = {"why_invalid": pl.String, "model": pl.String, "hardware": pl.String}
    floats = dict.fromkeys((COST, SPEED, "tpot_s", "ttft_s", "chips"), pl.Float32)
    found = {**filled, **columns}
    overrides = {name: kind for name, kind in (texts | floats).items() if name in found}
    return pl.LazyFrame(found, schema_overrides=overrides)


PLANS = rows(
    **{
        "model": ["llama", "llama", "llama", "llama", "kimi", "kimi"],
        "batch": [8, 8, 16, 16, 8, 8],
        "parallelism.tp": [1, 2, 2, 4, 1, 2],
        "parallelism.ep": ["1", "stage", "1", "stage", "1", "1"],
        "chips": [8, 8, 8, 8, 8, 8],
        COST: [3.0, 2.0, 2.0, 1.0, 9.0, None],
        "tpot_s": [0.01, 0.02, 0.02, 0.05, 0.01, 0.01],
        "valid": [True, True, True, True, True, False],
        "fits": [True, True, True, True, False, None],
        "why_invalid": [None] * 5 + ["tp does not divide the query heads"],
    }
)


def test_the_best_row_of_each_group_and_why_others_are_not() -> None:
    found = best(PLANS, by="model", within={"tpot_s": 0.03})
    assert found.columns[:9] == [
        "model", COST, "tpot_s", "rows", "cannot_run", "do_not_fit", "beyond_tpot_s",
        f"without_{COST}", "batch",
    ]  # fmt: skip
    kimi, llama = found.rows(named=True)
    # of two rows of 2 $ the one with tp alone above 1, though its batch is larger
    assert (llama["batch"], llama["parallelism.tp"], llama["parallelism.ep"]) == (16, 2, "1")
    assert (llama[COST], llama["rows"], llama["beyond_tpot_s"]) == (2.0, 4, 1)
    assert (kimi[COST], kimi["cannot_run"], kimi["do_not_fit"], kimi["beyond_tpot_s"]) == (
        None, 1, 1, 0,
    )  # fmt: skip


def test_the_best_of_all_the_most_of_a_column_and_plans_that_do_not_fit() -> None:
    assert best(PLANS)[COST].item() == 1.0
    assert best(PLANS, maximise=COST)[COST].item() == 3.0
    assert best(PLANS, maximise=COST, fitting=False)[COST].item() == 9.0
    assert best(PLANS.collect(), within={"batch": (None, 8)})[COST].item() == 2.0


@pytest.mark.parametrize(
    ("columns", "won"),
    [
        ({"chips": [8, 4], "batch": [1, 2]}, 1),  # fewer chips before a lower batch
        ({"chips": [8, 8], "batch": [2, 1]}, 1),
        ({"parallelism.tp": [1, 1], "pp": [2, 1], "batch": [1, 2]}, 1),
        ({"parallelism.tp": [2.0, 1.0], "chips": [1, 8]}, 1),
        ({"parallelism.tp": [None, 2], "parallelism": ["a", "b"], "chips": [8, 1]}, 0),
        ({"racks": [2, 1], "chips": [1, 8]}, 1),  # swept: it stands before the chips
        ({"context": [None, 5]}, 1),  # the least of an input; a job without it comes last
        ({"workload.dtype.math": ["fp8", "bf16"]}, 1),
    ],
)
def test_of_equals_the_simplest_plan_wins(columns: dict[str, list], won: int) -> None:
    lazy = rows(**columns, **{COST: [1.0, 1.0], "step_s": [0, 1]})
    for asked in (lazy, lazy.reverse()):
        assert best(asked)["step_s"].item() == won


def test_degrees_that_were_not_swept_count() -> None:
    lazy = rows(parallelism=["a", "b"], chips=[1, 8], **{COST: [1.0, 1.0]})
    plans = {"a": {"tp": 8, "ep": "stage"}, "b": {"tp": 8, "ep": 1}}
    assert best(lazy)["parallelism"].item() == "a"
    assert best(lazy, plans=plans)["parallelism"].item() == "b"


def test_more_equals_than_are_held_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "ENOUGH", 0)
    batch = [b for b in range(1, 41) for _ in range(3)]
    lazy = rows(batch=batch, context=[3, 2, None] * 40, chips=[2] * 120, **{COST: [1.0] * 120})
    found = best(lazy)
    assert found.select("batch", "context").row(0) == (1, 2)
    twice = pl.concat([lazy, lazy])  # nothing tells them apart: one of them
    assert best(twice).select("batch", "context", "rows").row(0) == (1, 2, 240)


@settings(max_examples=60)
@given(st.data())
def test_the_best_is_what_sorting_everything_finds(data: st.DataObject) -> None:
    size = data.draw(st.integers(1, 30))
    small = st.sampled_from([0.0, -0.0, 1.0, 2.0, math.inf, math.nan, None])
    drawn = {
        "model": data.draw(
            st.lists(st.sampled_from(["a", "b", None]), min_size=size, max_size=size)
        ),
        "batch": data.draw(st.lists(st.integers(1, 3), min_size=size, max_size=size)),
        "valid": data.draw(st.lists(st.booleans(), min_size=size, max_size=size)),
        COST: data.draw(st.lists(small, min_size=size, max_size=size)),
        "tpot_s": data.draw(st.lists(small, min_size=size, max_size=size)),
    }
    lazy, limit = rows(**drawn), 1.0
    kept = [
        row
        for row in lazy.collect().rows(named=True)
        if row["valid"]
        and row[COST] is not None
        and not math.isnan(row[COST])
        and row["tpot_s"] is not None
        and row["tpot_s"] <= limit
    ]
    if not kept:
        with pytest.raises(InputError, match=f"best: none of {size} rows is left"):
            best(lazy, by="model", within={"tpot_s": limit})
        return
    found = {
        row["model"]: row
        for row in best(lazy, by="model", within={"tpot_s": limit}).rows(named=True)
    }
    assert set(found) == set(drawn["model"])
    for model, row in found.items():
        order = sorted((r[COST], r["batch"]) for r in kept if r["model"] == model)
        assert (row[COST], row["batch"]) == (order[0] if order else (None, None))
        assert row["rows"] == drawn["model"].count(model)


def beaten(row: tuple[float, ...], others: list[tuple[float, ...]]) -> bool:
    """Whether another row is at least as small everywhere, and smaller somewhere."""
    return any(
        all(o <= r for o, r in zip(other, row, strict=True)) and other != row for other in others
    )


@settings(max_examples=60)
@given(st.data())
@pytest.mark.parametrize("goals", [2, 3])
def test_the_frontier_is_what_comparing_all_pairs_finds(goals: int, data: st.DataObject) -> None:
    size = data.draw(st.integers(1, 40))
    values = st.sampled_from([-1.0, 0.0, 1.0, 2.0, 3.0, math.inf]) | st.floats(-5, 5, width=32)
    names = (COST, SPEED, "mfu")[:goals]
    drawn = {n: data.draw(st.lists(values, min_size=size, max_size=size)) for n in names}
    model = data.draw(st.lists(st.sampled_from(["a", None]), min_size=size, max_size=size))
    batch = data.draw(st.lists(st.integers(1, 5), min_size=size, max_size=size))
    found = frontier(rows(model=model, batch=batch, **drawn), *names, by="model")
    expected = {}
    for group in set(model):
        # less of the first is better, more of the others
        of = [i for i in range(size) if model[i] == group]
        seen = {i: (drawn[names[0]][i], *(-drawn[n][i] for n in names[1:])) for i in of}
        for i in of:
            if not beaten(seen[i], list(seen.values())):
                key = (group, *(drawn[n][i] + 0.0 for n in names))
                expected[key] = min(batch[i], expected.get(key, 9))
    told = found.select("model", *names, "batch").rows()
    assert {row[:-1]: row[-1] for row in told} == expected
    assert len(told) == len(expected)
    assert found.select("model", COST).equals(found.select("model", COST).sort("model", COST))


def test_batches_of_the_stream_change_no_frontier() -> None:
    rng = np.random.default_rng(0)
    cost, speed, use = rng.random((3, 50_000)).astype(np.float32)
    lazy = rows(**{COST: cost, SPEED: speed, "mfu": use})
    cut = pl.concat([lazy.slice(at, 5_000) for at in range(0, 50_000, 5_000)])
    for goals in ((COST, SPEED), (COST, SPEED, "mfu")):
        whole = frontier(lazy, *goals)
        assert whole.select(goals).equals(frontier(cut, *goals).select(goals))
        least = np.lexsort((-speed, cost))
        assert whole[COST][0] == cost[least[0]]


def test_a_frontier_needs_directions() -> None:
    assert frontier(PLANS, COST, ("batch", "max"))["batch"].to_list() == [16]
    with pytest.raises(InputError, match=r'goals=batch: more may be better .*\("batch", "min"\)'):
        frontier(PLANS, COST, "batch")
    with pytest.raises(InputError, match="give two different columns"):
        frontier(PLANS, COST, COST)
    with pytest.raises(InputError, match=r'allowed is a column, or \(column, "min" or "max"\)'):
        frontier(PLANS, COST, ("batch", "most"))


def test_directions_are_of_columns_that_exist() -> None:
    assert set(table.LESS) | set(table.MORE) <= set(COLUMNS)
    assert not set(table.LESS) & set(table.MORE)


def test_the_marginal_of_an_axis() -> None:
    found = marginal(PLANS, "batch", COST)
    assert found.rows() == [(8, 2.0, 2), (16, 1.0, 2)]
    assert marginal(PLANS, "batch", COST, "median").rows() == [(8, 2.5, 2), (16, 1.5, 2)]
    assert marginal(PLANS, "batch", COST, "mean")[COST].to_list() == [2.5, 1.5]
    assert marginal(PLANS, "batch", COST, "max", fitting=False)[COST].to_list() == [9.0, 2.0]
    assert marginal(PLANS, "batch", COST, 0.25, within={"tpot_s": 0.03}).rows() == [
        (8, 2.25, 2),
        (16, 2.0, 1),
    ]
    both = marginal(PLANS, ("model", "batch"), COST)
    assert both.rows() == [("llama", 8, 2.0, 2), ("llama", 16, 1.0, 2)]
    assert units(both) == {COST: "USD/Mtoken"}


def test_jobs_without_the_axis_have_a_line_of_their_own() -> None:
    lazy = rows(batch=[None, None, 4], **{COST: [3.0, 1.0, 2.0]})
    assert marginal(lazy, "batch", COST).rows() == [(None, 1.0, 2), (4, 2.0, 1)]
    assert marginal(lazy, "batch", COST, "median").rows() == [(None, 2.0, 2), (4, 2.0, 1)]


@settings(max_examples=80)
@given(
    st.lists(
        st.tuples(
            st.sampled_from([1, 2, None]),
            st.floats(width=32) | st.sampled_from([0.0, 1.0, -1.0, 1e30]) | st.none(),
        ),
        min_size=1,
        max_size=60,
    ),
    st.sampled_from([0.0, 0.1, 0.5, 0.77, 1.0]),
)
def test_quantiles_are_those_of_numpy(drawn: list[tuple[Any, Any]], share: float) -> None:
    frame = pl.DataFrame(drawn, schema={"g": pl.Int64, "x": pl.Float64}, orient="row").lazy()
    cut = [frame.slice(0, 7), frame.slice(7, 1), frame.slice(8)]
    found = streaming.quantiles(lambda: iter(cut), ["g"], "x", [share])
    by_group = {g: (points, value) for g, points, value in found.rows()}
    for group in {g for g, _ in drawn}:
        values = sorted(x for g, x in drawn if g == group and x is not None and not math.isnan(x))
        if not values:
            assert group not in by_group
            continue
        place = share * (len(values) - 1)
        low, high = values[math.floor(place)], values[math.ceil(place)]
        flat = low in (high, -math.inf)
        value = low if flat else low + (high - low) * (place - math.floor(place))
        assert by_group[group][0] == len(values)
        assert by_group[group][1] == pytest.approx(value, rel=1e-12)


def test_median_of_many_rows_is_exact() -> None:
    rng = np.random.default_rng(1)
    batch, cost = rng.integers(0, 3, 100_000), rng.lognormal(0, 4, 100_000).astype(np.float32)
    found = marginal(rows(batch=batch, **{COST: cost}), "batch", COST, "median")
    expected = [np.quantile(cost[batch == b].astype(np.float64), 0.5) for b in range(3)]
    assert found[COST].to_list() == pytest.approx(expected, rel=1e-7)


@pytest.mark.parametrize(
    ("ask", "says"),
    [
        (lambda: best(PLANS, by="modle"), "by=modle: no such column. Did you mean 'model'?"),
        (lambda: best(PLANS, by="tp"), "by=tp: no such column. Did you mean 'parallelism.tp'?"),
        (lambda: best(PLANS, by=COST), f"by={COST}: what is compared itself"),
        (lambda: best(PLANS, minimise="model"), "minimise=model: holds no numbers"),
        (lambda: best(PLANS, within={"tpot": 1}), "within=tpot: no such column. Did you mean"),
        (lambda: best(PLANS, within={"batch": 1}), "within.batch=1: lowest or highest?"),
        (lambda: best(PLANS, within={COST: "1"}), "allowed is a number or (lowest, highest)"),
        (lambda: best(PLANS, within={COST: True}), "allowed is a number or (lowest, highest)"),
        (lambda: best(PLANS.drop("fits")), "rows: column fits is missing"),
        (
            lambda: best(PLANS, inputs="batsh"),
            "inputs=batsh: no such column. Did you mean 'batch'?",
        ),
        (lambda: marginal(PLANS, "batch", COST, "meen"), "how=meen: allowed is min, max, mean"),
        (lambda: marginal(PLANS, "batch", COST, 2.0), "how=2.0: allowed is min"),
        (lambda: marginal(PLANS, "batch", "batch"), "give an axis, and a result"),
    ],
)
def test_mistakes_are_named(ask: Any, says: str) -> None:
    with pytest.raises(InputError) as error:
        ask()
    assert says in str(error.value)
    assert "\n" not in str(error.value)


def test_an_empty_answer_says_why() -> None:
    with pytest.raises(InputError) as error:
        best(PLANS, by="model", within={"tpot_s": 1e-3, "batch": (20, 30)})
    assert str(error.value) == (
        "best: none of 6 rows is left: 1 cannot run (most often: tp does not divide the query"
        " heads); 1 do not fit; 4 with tpot_s above 0.001 (it is 0.01 to 0.05);"
        " 4 with batch outside 20 to 30 (it is 8 to 16)"
    )
    with pytest.raises(InputError, match=r"^frontier: there are no rows$"):
        frontier(PLANS.head(0), COST, "tpot_s")
    with pytest.raises(InputError, match=r"^marginal: none of 1 rows is left: 1 do not fit$"):
        marginal(PLANS.slice(4, 1), "batch", COST)
    unknown = PLANS.with_columns(ttft_s=pl.lit(None, pl.Float32))
    with pytest.raises(InputError, match=r"4 without ttft_s$"):
        best(unknown, within={"ttft_s": 5})
    nothing = PLANS.with_columns(pl.lit(math.nan, pl.Float32).alias(COST))
    with pytest.raises(InputError, match=f"4 without {COST}$"):
        best(nothing)


def test_one_row_answers_everything() -> None:
    one = PLANS.head(1)
    assert best(one)[COST].item() == 3.0
    assert frontier(one, COST, "tpot_s").height == 1
    assert marginal(one, "batch", COST, "median").rows() == [(8, 3.0, 1)]
