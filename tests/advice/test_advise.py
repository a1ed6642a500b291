"""Advice on real machines and models: what it says, and that every claim can be evaluated again."""

import functools
import json
import math
from typing import Any

import numpy as np
import pytest

import roofrack
from roofrack.advice import Advice, Advised, advise
from roofrack.cost import estimate
from roofrack.errors import InfeasibleError, InputError

DEEPSEEK = ("hardware=gb200_nvl72", "model=deepseek_v3", "dtype=fp8", "parallelism=ep64")
RACKS = ("hardware=gb200_superpod", "model=deepseek_v3", "dtype=fp8", "parallelism=ep128",
         "batch=8192")  # fmt: skip
DEEP = ("hardware=h100_sxm", "model=llama3_1_70b", "parallelism=pp4_tp8")
TRAIN = ("workload=train", "parallelism=train_tp8_pp8")
CHAT = ("workload=chat",)
CASES: dict[str, tuple[str, ...]] = {
    "decode": (*DEEPSEEK, "batch=64"),
    "racks": RACKS,
    "aliases": ("model=blackboard", "hardware=blackboard", "parallelism=rack", "racks=1"),
    "deep": DEEP,
    "fixed": (*DEEP, "parallelism.pp_batch=fixed"),
    "train": TRAIN,
    "chat": CHAT,
    "load": (*CHAT, "workload.arrivals_per_s=2"),
    "overloaded": (*CHAT, "workload.arrivals_per_s=20"),
    "late": (*CHAT, "workload.tpot_limit_s=0.01"),
    "pools": (*CHAT, "workload.serving=disaggregated"),
    "afd": ("hardware=h200", "model=mixtral_8x22b", "workload.serving=afd", *CHAT),
    "prefill": ("workload=prefill", "hardware=b200"),
    "one_chip": ("model=llama3_1_8b", "parallelism=single"),
    "too_large": ("parallelism=single",),
    "too_large_to_train": ("workload=train", "parallelism=single"),
    "drafting": ("workload.draft_tokens=2", "parallelism=tp8_attention_dp", "model=deepseek_v2",
                 "dtype=fp8"),
    "held": (*CHAT, "workload.cached=512", "workload.hold_s=100000", "workload.cache_tier=host"),
}  # fmt: skip


FAST = ("decode", "deep", "train", "load", "late", "too_large")
EVERY = [name if name in FAST else pytest.param(name, marks=pytest.mark.slow) for name in CASES]
"""All kinds of scenarios; those that ask the same of another corner take seconds together."""


@functools.cache
def said(*words: str, machines: tuple[str, ...] = ()) -> Advised:
    return advise(words, machines=machines)


def of(found: Advised, *starts: str) -> list[Advice]:
    return [one for one in found.advices if one.says.startswith(starts)]


@pytest.mark.parametrize("name", EVERY)
def test_every_advice_evaluates_again_to_what_it_claims(name: str):
    found = said(*CASES[name])
    assert found.advices
    for one in found.advices:
        columns = again(*CASES[name], *one.overrides)
        assert columns["why_invalid"] == 0
        assert columns["fits"]
        for column, value in one.after.items():
            if value is None:
                assert not math.isfinite(columns[column])
            else:
                assert columns[column] == pytest.approx(value, rel=1e-9), (one.says, column)
        if one.ratio is not None and found.goal in one.after:
            before = again(*CASES[name])[found.goal]
            assert columns[found.goal] / before == pytest.approx(one.ratio, rel=1e-9)
            assert one.saves_usd_per_mtok == pytest.approx(before - columns[found.goal], rel=1e-9)


def again(*words: str) -> dict[str, Any]:
    with np.errstate(all="ignore"):
        return {name: np.asarray(v)[()] for name, v in estimate(roofrack.scenario(*words)).items()}


@pytest.mark.parametrize("name", EVERY)
def test_savings_are_sorted_and_their_error_bars_hold_them(name: str):
    found = said(*CASES[name])
    assert len({one.overrides for one in found.advices}) == len(found.advices)
    if not found.runs:
        assert {one.ratio for one in found.advices} == {None}
        return
    saves = [one.saves_usd_per_mtok for one in found.advices]
    assert saves == sorted(saves, reverse=True)  # type: ignore[type-var]
    assert min(saves) > 0  # type: ignore[type-var]
    for one in found.advices:
        assert one.ratio is not None and one.ratio_low is not None and one.ratio_high is not None
        assert 0 < one.ratio_low <= one.ratio <= one.ratio_high
        assert one.ratio < 0.98 + 1e-9
        assert one.certain == (one.ratio_high < 1)
        assert (one.ratio_rel_std == 0) == one.overrides[0].startswith("economics=")
        assert one.saves_usd_per_hour is not None


@pytest.mark.parametrize("name", EVERY)
def test_limits_are_kept_and_text_and_json_are_the_same_answer(name: str):
    found = said(*CASES[name])
    for one in found.advices:
        if name == "late":
            assert one.after["tpot_s"] <= 0.01
    text, tree = repr(found), json.dumps(found.json(), allow_nan=False)
    for one, kept in zip(found.advices, json.loads(tree)["advices"], strict=True):
        assert one.says in text
        assert kept["says"] == one.says
        assert kept["after"]["chips"] == one.after["chips"]
        assert all(word in text for word in one.overrides)
    for note in found.notes:
        assert note in text


def test_a_small_batch_is_told_the_critical_one_and_what_a_larger_one_does():
    found = said(*CASES["decode"])
    one, two = of(found, "you run batch 64; critical is ")
    assert f"critical is {found.row['critical_batch']:,.0f}; at " in one.says
    assert {one.overrides[0].partition("=")[0], two.overrides[0].partition("=")[0]} == {"batch"}
    knee = next(x for x in (one, two) if "where cost times wait is least" in x.says)
    assert knee.overrides == ("batch=4096",)
    assert 1 / knee.ratio == pytest.approx(34, rel=0.05)  # type: ignore[operator]
    assert "the token costs 34x less and TPOT rises 1.9x" in knee.says
    assert knee.certain
    # no doubling of the batch beats it in cost times wait
    products = [
        columns["usd_per_mtok"] * columns["tpot_s"]
        for size in (1024, 2048, 4096, 8192)
        for columns in [again(*DEEPSEEK, f"batch={size}")]
    ]
    assert min(products) == products[2]


def test_a_batch_past_the_critical_one_is_told_to_buy_little():
    found = said(*DEEPSEEK, "batch=40000")
    assert any("Batch 40,000 is past the critical 4,337" in note for note in found.notes)
    little = [note for note in said(*DEEPSEEK, "batch=61440").notes if "buys little" in note]
    small = said(*DEEPSEEK, "batch=64")
    assert not any("past the critical" in note or "buys little" in note for note in small.notes)
    assert all("with batch=" in note for note in little)


def test_experts_over_two_racks_are_advised_to_stay_inside_one():
    found = said(*RACKS)
    (one,) = of(found, "experts span 2 scale-up domains")
    share = found.row["scale_out_fraction"]
    assert f"{share * 100:.2g} % of dispatch bytes cross; staying inside one" in one.says
    assert one.overrides == ("parallelism.ep=32",)
    assert again(*RACKS, *one.overrides)["scale_out_fraction"] == 0
    # a rack that holds them all leaves nothing to say
    wide = said(*RACKS, "hardware.fabric.scale_up.chips=144")
    assert not of(wide, "experts span")


def test_a_needless_pipeline_is_told_so_where_the_model_fits_without():
    found = said(*DEEP)
    (one,) = of(found, "PP=4 is not needed: with PP=1 (tp=8) it fits with 16 % free")
    # the same sequences in flight: 4 passes of 64 before
    assert set(one.overrides) == {"pp=1", "batch=256"}
    large = ("model=llama3_1_405b", "parallelism=pp4_tp8")
    assert not of(said("hardware=h100_sxm", *large), "PP=4 is not needed")
    assert of(said("hardware=b300", *large), "PP=4 is not needed")
    assert set(of(said(*CASES["fixed"]), "PP=4 is not needed")[0].overrides) == {"pp=1"}


def test_training_is_told_of_its_schedule_and_of_money():
    found = said(*TRAIN)
    (order,) = of(found, "the pipeline in the order")
    assert order.after["step_s"] < order.before["step_s"]
    (steps,) = of(found, "2,048 sequences in a step instead of 256")
    assert steps.assumes == "how a model learns with larger steps is not modelled"
    (own,) = of(found, "bought and in use every hour of its life")
    assert own.overrides == ("economics=own",)
    assert not of(said(*TRAIN, "economics=own"), "bought")


def test_formats_are_said_to_be_bytes_only_and_need_units():
    found = said(*DEEP)
    for one in of(found, "weights in", "the cache in", "weights and maths in"):
        assert "quality of answers is not modelled" in one.assumes
    assert of(found, "weights and maths in fp8")
    # no FP8 units on A100
    assert not of(said("hardware=a100_80gb", *DEEP[1:]), "weights and maths in")


def test_what_does_not_fit_is_always_told_what_would():
    found = said(*CASES["too_large"])
    assert not found.runs
    costs = [one.after["usd_per_mtok"] for one in found.advices]
    assert costs == sorted(costs)
    assert any(one.overrides == ("parallelism.tp=4",) for one in found.advices)
    assert repr(found).splitlines()[1].startswith("DOES NOT FIT: the fullest chip needs 227 GB of")
    # far too many sequences: fewer of them
    many = said("batch=1000000")
    assert any(one.overrides[0].startswith("batch=") for one in many.advices)


@pytest.mark.slow
def test_a_load_that_is_too_high_needs_replicas():
    found = said(*CASES["overloaded"])
    assert not found.runs
    assert "OVERLOADED" in repr(found)
    (one,) = [x for x in found.advices if x.overrides == ("parallelism.replicas=3",)]
    assert one.after["chips"] == 24


def test_a_load_is_paid_for_and_told():
    served = said(*CASES["load"])
    assert served.goal == "usd_per_mtok_at_load"
    assert any("2 requests/s are 22 % of what the service can do" in n for n in served.notes)


def test_a_limit_that_is_missed_is_told_what_keeps_it():
    found = said(*CASES["late"])
    assert dict(found.missed) == {"tpot_s": 0.01}
    assert "LIMITS ARE NOT KEPT: tpot_s within 10 ms" in repr(found)


def test_other_machines_follow_their_price_and_are_left_out_where_numbers_were_set_by_hand():
    found = said(*CASES["decode"], machines=("h200", "mi325x"))
    here = [one for one in found.advices if one.subject == "machine"]
    assert here and here[0].overrides[0] == "hardware=mi325x"
    assert len(here) <= 3
    for one in here:
        columns = again(*CASES["decode"], *one.overrides)
        assert columns["usd_per_mtok"] == pytest.approx(one.after["usd_per_mtok"], rel=1e-9)
    by_hand = said(*CASES["decode"], "hardware.power_w=1000", machines=("h200",))
    assert not [one for one in by_hand.advices if one.subject == "machine"]
    assert any("changed by hand" in note for note in by_hand.notes)


def test_a_machine_without_a_price_is_ranked_by_chip_time():
    found = said(*CASES["decode"], "hardware.usd_per_chip_hour=0", "economics.basis=rent")
    assert found.goal == "chip_hours_per_mtok"
    assert {one.saves_usd_per_mtok for one in found.advices} == {None}
    ratios = [one.ratio for one in found.advices]
    assert ratios == sorted(ratios)  # type: ignore[type-var]
    assert any("no price" in note for note in found.notes)


def test_notes_are_those_of_the_scenario():
    assert any("never compute-bound" in note for note in said(*DEEP).notes)
    assert not any("never compute-bound" in note for note in said(*DEEP, "context=512").notes)
    (bought,) = [n for n in said(*DEEP).notes if n.startswith("What to buy next")]
    assert "hardware.hbm_bytes_per_s 0.52 %" in bought


@pytest.mark.slow
def test_a_cache_is_told_whether_it_pays():
    (held,) = [note for note in said(*CASES["held"]).notes if note.startswith("Cached tokens")]
    assert "computing them again costs less" in held
    (short,) = [
        note
        for note in said(*CASES["held"], "workload.hold_s=1").notes
        if note.startswith("Cached tokens")
    ]
    assert "keeping them pays" in short


def test_idle_hours_are_told():
    idle = said(*CASES["decode"], "economics=half_idle").notes
    assert any("every token costs 2x" in note for note in idle)


def test_without_a_fit_there_are_no_error_bars():
    found = said(*DEEP, "calibration=ideal")
    assert found.advices and {one.certain for one in found.advices} == {None}
    assert "no error bar" in repr(found)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("batch=[1,8]",), "batch: an axis; advice is for one scenario, give one value"),
        (("hardware=h100_sxm,b200",), "makes 2 configurations, not one"),
        (("hardware=h1000",), "h100_sxm"),
        (("batch=0",), "batch=0"),
    ],
)
def test_bad_input_is_one_line(words: tuple[str, ...], message: str):
    with pytest.raises(InputError, match=message.replace("[", r"\[")) as caught:
        advise(words, machines=())
    assert "\n" not in str(caught.value)


def test_an_unknown_machine_is_named_with_the_nearest():
    with pytest.raises(
        InputError, match=r"machines=h20o: allowed: all, none, .*Did you mean 'h20'"
    ):
        advise((), machines=("h20o",))


def test_a_plan_that_cannot_run_is_refused_as_by_point():
    with pytest.raises(InfeasibleError, match=r"parallelism.tp=7 does not divide model.heads=64"):
        advise(("parallelism.tp=7",), machines=())


def test_the_public_function_is_the_same():
    found = roofrack.advise(*DEEP, machines=())
    assert found.json() == said(*DEEP).json()
