"""The enumerator of plans against brute force over full products, and against counts by hand."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from model.cases import DTYPE, columns, study

import roofrack
from roofrack.conversion import Study, to_study
from roofrack.cost.layout import REASONS
from roofrack.errors import InputError
from roofrack.nouns import Scenario
from roofrack.planning import LEAVES, Plans, bind, candidates, plans, why_none
from roofrack.tables import PLACEMENTS

DENSE = ("gpt3_175b", "llama3_1_70b")
MOE = ("deepseek_v3", "mixtral_8x7b", "qwen3_235b_a22b", "qwen3_next_80b_a3b", "blackboard")
MACHINES = ("h100_sxm", "gh200", "h100_pcie")
"""Domains of 8 chips, of 1, and of 2 in servers of 8."""


def at(model: str, hardware: str = "h100_sxm", phase: str = "decode", **leaves: float) -> Scenario:
    return study(hardware, model, "default", phase).bind(
        {"workload.batch": 8.0} | {f"workload.{name}": value for name, value in leaves.items()}
    )


SERVED = LEAVES[: LEAVES.index("microbatches")]
"""The leaves that plans for serving vary in; those of training follow (tests/search)."""


def full_product(chips: int, leaves: Mapping[str, list[float]]) -> Plans:
    """Return all degrees from 1 to `chips` that multiply to it, crossed with all other leaves."""
    every = np.arange(1.0, chips + 1.0)
    tp, pp, cp = (axis.ravel() for axis in np.meshgrid(every, every, every))
    dp = chips / (tp * pp * cp)
    whole = dp == np.floor(dp)
    degrees = np.stack([tp, pp, cp, dp])[:, whole]
    rows = np.array(np.meshgrid(np.arange(degrees.shape[1]), *leaves.values(), indexing="ij"))
    which, *others = rows.reshape(len(leaves) + 1, -1)
    table = dict(zip(("tp", "pp", "cp", "dp"), degrees[:, which.astype(int)], strict=True))
    return Plans(table | dict(zip(leaves, others, strict=True)))


def canonical(s: Scenario, plan: dict[str, float]) -> tuple[float, ...]:
    """Return what stands for a plan: leaves without effect as the rules of `plans` have them.

    Placement apart. In the default order an expert group has max(1, min(size, floor(R/stride)))
    chips in a domain of R along each of tp, cp and dp (MODEL section 4).
    """
    inner = plan["tp"] * plan["cp"]
    stage = inner * plan["dp"]
    ep = plan["ep"] or stage
    experts = s.model.experts > 0
    span = ep * max(1.0, min(plan["tp"], stage / ep))
    exchanges = experts and span > (1.0 if plan["attention_dp"] else plan["tp"])
    domain = s.hardware.fabric[0].chips
    along_cp = min(plan["cp"], span / plan["tp"])
    together = min(plan["tp"], domain) * max(1.0, min(along_cp, domain // plan["tp"]))
    together *= max(1.0, min(span / plan["tp"] / along_cp, domain // inner))
    sharded = plan["tp"] > 1 and not plan["attention_dp"]
    changed = plan | {
        "ep": ep if experts else 1.0,
        "attention_dp": plan["attention_dp"] if plan["tp"] > 1 else 0.0,
        "sequence_parallel": plan["sequence_parallel"] if sharded else 0.0,
        "pp_batch": plan["pp_batch"] if plan["pp"] > 1 else 0.0,
        "tp_rows": plan["tp_rows"] if s.model.moe_layers < s.model.layers else 1.0,
    }
    if plan["placement"] == 0 and not (exchanges and together < span * (1 - 1e-9)):
        changed["dedup"] = 0.0
    return tuple(float(changed[name]) for name in SERVED)


def rows_of(found: Plans) -> list[dict[str, float]]:
    return [
        dict(zip(SERVED, row, strict=True))
        for row in zip(*(found[name].tolist() for name in SERVED), strict=True)
    ]


def check_against(s: Scenario, chips: int, everything: Plans, found: Plans) -> None:
    """Every valid plan stands in `found` as its canonical form, at the same cost; nothing else."""
    costs = columns(bind(s, everything))
    valid = np.broadcast_to(costs["why_invalid"] == 0, len(everything))
    keys = [canonical(s, row) for row in rows_of(everything.take(valid))]
    listed = [tuple(row.values()) for row in rows_of(found)]
    assert len(set(listed)) == len(listed)
    assert set(listed) == set(keys)
    assert np.all(found.chips == chips)
    if not listed:
        return
    position = {key: i for i, key in enumerate(listed)}
    mine = columns(bind(s, found))
    # of a dense model ep changes nothing that is counted, but the cost model lets it part stages
    same = np.array([s.model.experts > 0 or row["ep"] == 1 for row in rows_of(everything)])[valid]
    stands_for = np.array([position[key] for key in keys])[same]
    for name, values in costs.items():
        theirs = np.broadcast_to(values, len(everything))[valid][same]
        ours = np.broadcast_to(mine[name], len(found))[stands_for]
        np.testing.assert_allclose(theirs, ours, rtol=1e-12, err_msg=name)


@settings(max_examples=30)
@given(
    st.sampled_from(DENSE + MOE),
    st.sampled_from(MACHINES),
    st.sampled_from(["decode", "prefill", "serve"]),
    st.sampled_from([1, 2, 3, 4, 6, 7, 8, 12, 16]),
    st.integers(1, 16),
)
def test_all_valid_plans_and_no_others(
    model: str, hardware: str, phase: str, chips: int, batch: int
) -> None:
    s = at(model, hardware, phase, batch=float(batch))
    varied = {
        "ep": [float(ep) for ep in range(chips + 1)],
        **{name: [0.0, 1.0] for name in ("attention_dp", "dedup", "sequence_parallel")},
        **{name: [0.0] for name in ("redundant_experts", "pp_batch", "placement")},
        **{name: [1.0] for name in ("tp_rows", "overlap_batches")},
    }
    check_against(s, chips, full_product(chips, varied), plans(s, chips))


@settings(max_examples=20)
@given(
    st.sampled_from(DENSE + MOE),
    st.sampled_from(MACHINES),
    st.sampled_from(["decode", "prefill"]),
    st.sampled_from([1, 2, 3, 4, 6, 8]),
    st.integers(1, 5),
)
def test_all_valid_plans_when_every_leaf_varies(
    model: str, hardware: str, phase: str, chips: int, batch: int
) -> None:
    s = at(model, hardware, phase, batch=float(batch))
    varied = {
        "ep": [0.0, 1.0, 2.0, 3.0],
        "redundant_experts": [0.0, 2.0],
        "tp_rows": [1.0, 2.0, 3.0],
        "overlap_batches": [1.0, 2.0, 3.0],
        **{name: [0.0, 1.0] for name in ("attention_dp", "dedup", "sequence_parallel", "pp_batch")},
        "placement": [0.0],
    }
    within = {
        "ep": [1, 2, 3, "stage"],
        "redundant_experts": (0, 2),
        "tp_rows": range(1, 4),
        "overlap_batches": np.arange(1, 4),
        "pp_batch": "all",
    }
    check_against(s, chips, full_product(chips, varied), plans(s, chips, within=within))


@pytest.mark.parametrize("chips", [72, 96])
@pytest.mark.parametrize("model", ["llama3_1_70b", "deepseek_v3"])
def test_all_valid_plans_of_many_chips(model: str, chips: int) -> None:
    s = at(model, "gb200_nvl72", batch=512.0)
    varied = {
        "ep": [float(ep) for ep in range(1, chips + 1)] if model in MOE else [1.0],
        **{name: [0.0, 1.0] for name in ("attention_dp", "dedup")},
        **{name: [0.0] for name in ("redundant_experts", "pp_batch", "placement")},
        **{name: [1.0] for name in ("tp_rows", "overlap_batches")},
        "sequence_parallel": [0.0],
    }
    check_against(
        s, chips, full_product(chips, varied), plans(s, chips, within={"sequence_parallel": False})
    )


@pytest.mark.parametrize("hardware", MACHINES)
@pytest.mark.parametrize(("model", "chips"), [("mixtral_8x7b", 16), ("llama3_1_70b", 32)])
def test_every_order_over_the_fabric_has_one_that_costs_the_same(
    model: str, chips: int, hardware: str
) -> None:
    s = at(model, hardware)
    found = plans(s, chips, within={"placement": "all"})
    first = plans(s, chips)
    assert len(found) == len(first) if hardware == "gh200" else len(found) > len(first)
    others = [name for name in SERVED if name not in ("placement", "dedup")]
    mine = columns(bind(s, found))
    told = ("step_s", "t_scale_up_s", "t_scale_out_s", "t_pipeline_s", "step_upper_s")
    costs: dict[tuple[float, ...], np.ndarray] = {}
    listed = rows_of(found)
    for key in {tuple(row[name] for name in others) for row in listed}:
        is_key = np.all([found[n] == v for n, v in zip(others, key, strict=True)], axis=0)
        costs[key] = np.stack([mine[name][is_key] for name in told])
    for placement in range(len(PLACEMENTS)):
        for dedup in (0.0, 1.0):
            n = len(first)
            order = {"placement": np.full(n, float(placement)), "dedup": np.full(n, dedup)}
            table = Plans(dict(first.columns) | order)
            theirs = columns(bind(s, table))
            for i, row in enumerate(rows_of(table)):
                ours = costs[tuple(row[name] for name in others)]
                its = np.array([theirs[name][i] for name in told])[:, None]
                assert np.any(np.all(np.isclose(ours, its, rtol=1e-12, atol=0), axis=0))


def count(model: str, chips: int, hardware: str = "h100_sxm", **within: Any) -> int:
    return len(plans(at(model, hardware), chips, within=within))


def test_counts_by_hand() -> None:
    # 64 heads: tp of 1, 2, 4, 8 leaves 10, 6, 3, 1 ways to divide 8 chips over pp, cp, dp; with
    # tp > 1 attention is sharded, sharded with sequence parallelism, or data parallel
    assert count("llama3_1_70b", 1) == 1
    assert count("llama3_1_70b", 8) == 10 + 3 * (6 + 3 + 1)
    # 7 does not divide the heads but d_ff = 28,672: tp=7 only with attention data parallel
    assert count("llama3_1_70b", 7) == 3 + 1
    # 8 experts: ep of 1 or 2 with tp=2 (three ways), cp=2, dp=2; pp=2 has one chip in a stage
    assert count("mixtral_8x7b", 2) == 2 * 3 + 2 + 2 + 1
    # where each chip is a domain, dedup matters with ep=2 on cp=2 and dp=2, and for both values of
    # ep with attention data parallel over tp=2
    assert count("mixtral_8x7b", 2, "gh200") == 2 * 3 + 2 + 2 + 1 + (2 + 1 + 1)
    # totals: nothing is known that 3 would have to divide, not even 256 experts
    assert count("blackboard", 3) == 2 * 3 + 2 + 2 + 1
    assert count("gpt3_175b", 97) == 2  # a prime: cp or dp; 96 layers, no tp


def test_orders_by_hand() -> None:
    one = dict(attention_dp=False, sequence_parallel=False, placement="all")
    # tp of 8 in a node of 8 and two stages across; or both stages in a node
    assert count("llama3_1_70b", 16, tp=8, pp=2, cp=1, dp=1, **one) == 2
    assert count("llama3_1_70b", 8, tp=4, pp=2, cp=1, dp=1, **one) == 1
    # dp is outermost in all orders: nothing passes between its members
    assert count("llama3_1_70b", 16, tp=8, pp=1, cp=1, dp=2, **one) == 1


def test_leaves_by_hand() -> None:
    one = dict(pp=1, cp=1, dp=1, sequence_parallel=False, attention_dp=False)
    assert count("gpt3_175b", 4, tp_rows="all", **one) == 3
    assert count("mixtral_8x7b", 4, tp_rows="all", ep=1, **one) == 1  # no dense layers
    # the first of two rows that mean the same stands, unless it does not divide
    for chips, rows in ((4, {2}), (1, {1})):
        found = plans(at("mixtral_8x7b"), chips, within=one | {"tp_rows": [2, 1], "ep": 1})
        assert set(found["tp_rows"]) == rows and len(found) == 1
    assert count("llama3_1_70b", 4, pp=4, pp_batch="all") == 2
    assert count("llama3_1_70b", 4, pp=[1, 4], tp=4, pp_batch="all", **{"attention_dp": True}) == 1
    assert count("mixtral_8x7b", 1, redundant_experts="all") == 9
    # first values that cannot be do not hide later ones
    assert set(plans(at("deepseek_v3"), 8, within={"ep": [3, 2]})["ep"]) == {2}
    s = at("deepseek_v3", "gb200_nvl72", batch=512.0)
    assert plans(s, 72)["ep"].max() == 8
    with_copies = plans(s, 72, within={"redundant_experts": [0, 32]})
    assert set(with_copies["redundant_experts"][with_copies["ep"] == 72]) == {32}
    assert plans(s, 72, up_to=True)["ep"].max() == 64


def test_up_to_is_all_smaller_counts_together() -> None:
    s = at("mixtral_8x7b")
    together = plans(s, 12, up_to=True)
    alone = [plans(s, chips) for chips in range(1, 13)]
    assert {tuple(row.values()) for row in rows_of(together)} == {
        tuple(row.values()) for part in alone for row in rows_of(part)
    }
    assert len(together) == sum(map(len, alone))
    assert set(together.chips) <= set(range(1, 13))
    some = plans(s, 12, within={"tp": [2, 4, 8], "pp": [1, 3], "dp": 1, "cp": 1}, up_to=True)
    assert set(some.chips) == {2, 4, 6, 8, 12}


def test_the_scenario_has_the_leaves_that_do_not_vary() -> None:
    s = at("llama3_1_70b")
    s = replace(s, plan=replace(s.plan, placement=5.0, pp_batch=1.0, tp=64.0, dp=3.0, racks=2.0))
    found = plans(s, 8)
    assert set(found["placement"]) == {5} and set(found["pp_batch"]) == {1}
    assert set(found["tp"]) == {1, 2, 4, 8} and np.all(found.chips == 8)
    assert np.all(columns(bind(s, found))["chips"] == 8)


@settings(max_examples=15)
@given(
    st.sampled_from(["llama3_1_70b", "deepseek_v3", "kimi_linear_48b_a3b", "gemma3_27b"]),
    st.sampled_from(["decode", "prefill", "serve"]),
    st.integers(1, 128),
)
def test_every_plan_has_a_cost(model: str, phase: str, chips: int) -> None:
    s = at(model, "b200_superpod", phase, batch=256.0)
    row = columns(bind(s, plans(s, chips)))
    assert np.all(row["why_invalid"] == 0)
    for name in ("step_s", "tokens_per_s_per_chip", "usd_per_mtok", "mem_total_bytes"):
        assert np.all(np.isfinite(row[name])) and np.all(row[name] > 0), name


def test_chunks_that_cannot_keep_up_rule_plans_out() -> None:
    """Whether chunks keep the batch full is known only once passes are counted."""
    s = at("llama3_1_70b", phase="serve", batch=64.0, prompt=8192.0, output=1024.0, chunk=256.0)
    found = plans(s, 8)
    every = plans(replace(s, workload=replace(s.workload, chunk=0.0)), 8)
    runs = columns(bind(s, every))["why_invalid"] == 0
    assert 0 < len(found) < len(every)
    assert rows_of(found) == rows_of(every.take(runs))


def test_a_pool_of_another_kind_has_to_take_the_plan_too() -> None:
    from roofrack import config

    choices = ["hardware=h100_sxm", "model=mixtral_8x7b", "hardware@prefill.hardware=gh200"]
    serve = ["workload=chat", "workload.serving=disaggregated", "batch=64"]
    s = to_study(config.compose([*choices, *serve])).grid()
    alone = replace(s, prefill=None, workload=replace(s.workload, serving=0.0))
    # in its domains of one chip the prefill pool's tokens leave them: dedup matters there
    assert set(plans(s, 8)["dedup"]) == {0, 1} and set(plans(alone, 8)["dedup"]) == {0}
    assert np.all(columns(bind(s, plans(s, 8)))["why_invalid"] == 0)


def test_reasons_when_there_is_no_plan() -> None:
    s = at("deepseek_v3", "gb200_nvl72", batch=512.0)
    within = {"ep": "stage", "pp": 1}
    assert len(plans(s, 72, within=within)) == 0
    told = why_none(s, 72, within=within)
    assert told.nearest == (64, 128)
    assert told.reasons["ep does not divide the experts"] == told.candidates
    assert list(told.reasons.values()) == sorted(told.reasons.values(), reverse=True)
    assert set(told.reasons) <= set(REASONS)
    assert "\n" not in told.message and "64 and 128 chips" in told.message
    for count in told.nearest:
        assert len(plans(s, count, within=within)) > 0
    for count in set(range(65, 128)):
        assert len(plans(s, count, within=within)) == 0


def test_reasons_are_counted_over_all_candidates() -> None:
    s = at("llama3_1_70b")
    told = why_none(s, 3, within={"tp": 3, "attention_dp": False})
    assert told.candidates == 1 and told.nearest == ()
    assert told.reasons == {
        "tp does not divide the query heads": 1,
        "tp and the KV heads: neither divides the other": 1,
        "tp does not divide d_ff": 1,
    }
    nothing = why_none(s, 12, within={"tp": 8})
    assert nothing.candidates == 0 and nothing.reasons == {} and nothing.nearest == (8, 16)
    assert "no degrees that are allowed multiply to it" in nothing.message
    v3 = at("deepseek_v3")
    assert why_none(v3, 400, within={"ep": 256}).nearest == (256, 512)
    fixed = {"tp": [2, 8], "pp": [1, 3], "dp": 1, "cp": 1}
    assert why_none(s, 7, within=fixed).nearest == (6, 8)
    assert why_none(s, 8, within=fixed).nearest == (8,)


def test_no_machine_of_any_size_helps_where_the_chip_lacks_the_units() -> None:
    s = study("h100_sxm", "llama3_1_70b").bind({"workload.dtype.math": DTYPE["nvfp4"]})
    told = why_none(s, 8)
    assert next(iter(told.reasons)) == "the chip has no units for dtype.math"
    assert told.nearest == () and len(plans(s, 8)) == 0


@pytest.mark.parametrize(
    ("chips", "within", "said"),
    [
        (0, {}, "chips=0: allowed is a whole number"),
        (-8, {}, "chips=-8: allowed"),
        (7.5, {}, "chips=7.5: allowed"),
        (True, {}, "chips=True: allowed"),
        ("8", {}, "chips=8: allowed"),
        (float("nan"), {}, "chips=nan: allowed"),
        (float("inf"), {}, "chips=inf: allowed"),
        (2_000_000, {}, "the fabric connects 1e+06 at most"),
        (8, {"tpp": 8}, "Did you mean 'tp'"),
        (8, {"replicas": 2}, "within.replicas: not a leaf"),
        (8, {"tp": 0}, "within.tp=0: allowed is a whole number above 0"),
        (8, {"tp": [1, 2.5]}, "within.tp=2.5: allowed"),
        (8, {"tp": []}, "at least one value"),
        (8, {"tp": None}, "within.tp=None: allowed"),
        (8, {"tp": ["all"]}, "within.tp='all': allowed"),
        (8, {"ep": "rack"}, "or 'stage'"),
        (8, {"attention_dp": 1}, "allowed is true or false"),
        (8, {"placement": "tp-pp-ep"}, "Did you mean"),
        (8, {"overlap_batches": "all"}, "within.overlap_batches=all"),
        (8, {"redundant_experts": -1}, "within.redundant_experts=-1: allowed"),
    ],
)
def test_bad_input_is_said_in_one_line(chips: Any, within: dict[str, Any], said: str) -> None:
    s = at("llama3_1_70b")
    for ask in (plans, why_none):
        with pytest.raises(InputError) as error:
            ask(s, chips, within=within)
        assert said in str(error.value) and "\n" not in str(error.value)


def test_a_scenario_with_axes_is_refused() -> None:
    s = study().bind({"workload.batch": np.array([1.0, 2.0])})
    with pytest.raises(InputError, match=r"workload\.batch: an axis"):
        plans(s, 8)


def test_too_many_candidates_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(candidates, "MOST", 100)
    with pytest.raises(InputError, match="more than 100 plans to look at; restrict"):
        plans(at("deepseek_v3"), 64)


def test_plans_of_a_study_come_after_its_axes() -> None:
    of = study("h100_sxm", "llama3_1_70b")
    found = plans(of.bind({}), 8)
    row = columns(bind(of, found))
    assert row["step_s"].shape == (len(found),)
    swept = _swept("batch=[1,64]", "context=[1000,8000,32000]")
    s = bind(swept, found)
    row = columns(s)
    assert row["step_s"].shape == (2, 3, len(found))
    alone = columns(bind(swept.bind({"workload.batch": 64.0, "workload.context": 8000.0}), found))
    np.testing.assert_allclose(row["step_s"][1, 1], alone["step_s"], rtol=1e-12)
    with pytest.raises(InputError, match=r"parallelism\.tp: an axis of the study"):
        bind(_swept("parallelism.tp=[1,2]"), found)


def _swept(*overrides: str) -> Study:
    from roofrack import config

    return to_study(config.compose(["hardware=h100_sxm", "model=llama3_1_70b", *overrides]))


@pytest.mark.slow  # compiles
def test_plans_are_evaluated_by_jax_alike() -> None:
    s = at("mixtral_8x7b")
    s = bind(s, plans(s, 4))
    np.testing.assert_allclose(roofrack.estimate(s)["step_s"], columns(s)["step_s"], rtol=1e-4)


def test_taking_some_plans() -> None:
    found = plans(at("llama3_1_70b"), 8)
    assert len(found.take(slice(3))) == 3 and len(found.take(found["tp"] == 8)) == 3
    assert found.take([5])["dp"] == found["dp"][5]
