"""The timeline of a training step against the cost model's closed form, and against itself."""

import json
from itertools import pairwise
from typing import Any

import altair as alt
import polars as pl
import pytest
import vl_convert

import roofrack
from roofrack.cost.site import site
from roofrack.cost.training.pace import setting
from roofrack.cost.training.readings import read
from roofrack.errors import InputError
from roofrack.report import theme
from roofrack.report.specs import to_spec
from roofrack.report.timeline_chart import AT_MOST, gantt_chart
from roofrack.report.timeline_text import text
from roofrack.tables import SCHEDULES
from roofrack.timelines import Summary, Timeline
from roofrack.timelines.stages import timed

# totals: nothing known of heads, and nothing gathered for them, so that all stages are alike
ALIKE = (
    "workload=train", "model=blackboard", "model.experts=0", "model.experts_per_token=0",
    "model.moe_layers=0", "model.layers=64", "model.params_total=7e10",
    "model.params_active=7e10", "hardware=h100_sxm", "parallelism=train_tp8_pp8",
    "parallelism.tp=1", "workload.global_batch=32",
)  # fmt: skip
EXPERTS = (
    *ALIKE, "model.experts=64", "model.experts_per_token=8", "model.moe_layers=64",
    "model.params_active=1.2e10", "parallelism.ep=8", "parallelism.dp=8",
    "workload.global_batch=256",
)  # fmt: skip
LLAMA = (
    "workload=train", "model=llama3_1_70b", "hardware=h100_sxm", "parallelism=train_tp8_pp8",
    "workload.global_batch=32",
)  # fmt: skip
# 61 layers on 8 stages, the first three of them dense, and one more that predicts a further token
DEEPSEEK = (
    "workload=train", "model=deepseek_v3", "hardware=h100_sxm", "parallelism=train_tp8_pp8",
    "parallelism.tp=1", "parallelism.dp=8", "parallelism.ep=8", "workload.global_batch=160",
    "workload.mtp_layers=1",
)  # fmt: skip
SIZED = {"interleaved": ("parallelism.virtual_stages=4",)}


def made(base: tuple[str, ...], name: str = "1f1b", *more: str) -> Timeline:
    return roofrack.timeline(*base, f"parallelism.schedule={name}", *SIZED.get(name, ()), *more)


def part(found: Summary, name: str) -> tuple[float, float]:
    """Seconds of a part by the closed form and on the timeline."""
    (one,) = [one for one in found.parts if one.part == name]
    return one.closed_s, one.timeline_s


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("overlap", ["smooth", "ideal"])
def test_uniform_stages_take_what_the_closed_form_says(name: str, overlap: str) -> None:
    found = made(ALIKE, name, f"overlap={overlap}").summary
    assert len({one.forward_s for one in found.stages}) == 1
    for which in ("passes and bubble", "after the passes"):
        closed_s, seconds = part(found, which)
        assert seconds == pytest.approx(closed_s)
    late = part(found, "stages end one by one")[1]
    assert late == pytest.approx(0.0, abs=1e-9) or name == "zb_h2"
    assert late > 1e-9 or name != "zb_h2"
    if overlap == "ideal":  # messages take no time
        assert found.makespan_s - late == pytest.approx(found.step_s)
    assert [one.held for one in found.stages] == pytest.approx(
        [one.closed_held for one in found.stages]
    )


@pytest.mark.parametrize("zero", [0, 1, 2, 3])
@pytest.mark.parametrize("overlap", ["smooth", "none", "ideal"])
def test_waits_for_other_ranks_are_those_of_the_closed_form(zero: int, overlap: str) -> None:
    words = ("parallelism.dp=32", "workload.global_batch=512", f"parallelism.zero={zero}")
    found = made(ALIKE, "1f1b", *words, f"overlap={overlap}")
    closed_s, seconds = part(found.summary, "after the passes")
    assert seconds == pytest.approx(closed_s)
    assert ("weights" in set(found.rows["kind"])) == (zero > 0 and overlap != "ideal")


def test_a_faster_stage_does_not_wait_longer_in_each_microbatch() -> None:
    words = ("parallelism.dp=32", "parallelism.zero=3", "workload.global_batch=1024")
    closed_s, seconds = part(made(LLAMA, "gpipe", *words).summary, "after the passes")
    assert seconds <= closed_s * (1.0 + 1e-9)


def test_messages_of_gpipe_are_waited_for_as_the_closed_form_says() -> None:
    found = made(ALIKE, "gpipe").summary
    closed_s, seconds = part(found, "messages")
    assert seconds == pytest.approx(closed_s) and seconds > 0


def test_a_sender_that_waits_is_slower() -> None:
    free, waits = (
        part(made(ALIKE, "gpipe", f"parallelism.overlap_pp={on}").summary, "messages")[1]
        for on in ("true", "false")
    )
    assert waits > 2 * free


@pytest.mark.parametrize("name", SCHEDULES)
def test_layers_and_work_are_conserved(name: str) -> None:
    if name == "interleaved":
        found = made(LLAMA, name, "model.layers=64")
        layers, heads = 64.0, 1.0
    else:
        found = made(DEEPSEEK, name)
        layers, heads = 62.0, 2.0
    twice = 2.0 if name == "dualpipe" else 1.0
    stages = found.summary.stages
    assert sum(one.layers for one in stages) == pytest.approx(twice * layers)
    assert sum(one.heads for one in stages) == pytest.approx(twice * heads)
    rows = found.rows.filter(pl.col("microbatch").is_not_null(), ~pl.col("overlapped"))
    if name != "dualpipe":  # whose pairs take another time
        spent = rows.group_by("stage").agg((pl.col("end_s") - pl.col("start_s")).sum())
        for stage, seconds in spent.sort("stage").iter_rows():
            one = stages[stage]
            each = one.forward_s + one.backward_s
            assert seconds == pytest.approx(found.summary.microbatches * each)
    assert sum(seconds for _, _, seconds in found.summary.parts) == pytest.approx(
        found.summary.makespan_s
    )
    assert found.rows["end_s"].max() == pytest.approx(found.summary.makespan_s)


def test_stages_differ_by_what_they_have() -> None:
    stages = made(DEEPSEEK).summary.stages
    # 61 = 8 x 8 - 3: the last, the first, then the one before the last have one less
    assert [one.layers for one in stages] == [7, 8, 8, 8, 8, 8, 7, 8]
    middle = stages[1].forward_s
    assert stages[0].forward_s < 7 / 8 * middle  # three dense layers, with smaller FFNs
    assert stages[-1].forward_s > middle  # as many layers, and two heads
    assert stages[6].forward_s == pytest.approx(7 / 8 * middle)


@pytest.mark.parametrize("more", ["", "calibration=ideal"])
@pytest.mark.parametrize("base", [LLAMA, DEEPSEEK])
def test_the_stages_that_the_cost_model_times_are_the_same(
    base: tuple[str, ...], more: str
) -> None:
    of = setting(site(roofrack.scenario(*base, *filter(None, [more]))))
    each = timed(of).chunks
    for at, stage, load in zip((0, 1, -1), of.stages.all, of.loads[:3], strict=True):
        (chunk,) = each[at]
        assert chunk.stage.has == pytest.approx(stage.has)
        assert (chunk.stage.number, chunk.stage.ends) == (stage.number, stage.ends)
        layers = load.has.every
        takes = read(of.at, of.at.s.overlap, load.stage, load.body, layers, of.full_layers)
        assert chunk.takes == pytest.approx(takes)
    held = [sum(chunk.stage.has.dense for chunk in stage) for stage in each]
    assert sum(held) == pytest.approx(of.at.counts.dense_layers)
    assert sum(stage[0].stage.has.every for stage in each) == pytest.approx(of.stages.whole.every)


def test_virtual_stages_have_the_dense_layers_where_they_come() -> None:
    words = ("parallelism.schedule=interleaved", "parallelism.virtual_stages=4", "model.layers=64")
    found = timed(setting(site(roofrack.scenario(*DEEPSEEK, *words, "model.moe_layers=61"))))
    assert found.parts == 4
    dense = [[chunk.stage.has.dense for chunk in stage] for stage in found.chunks]
    assert dense == [[2, 0, 0, 0], [1, 0, 0, 0], *[[0, 0, 0, 0]] * 6]
    heads = [[chunk.stage.has.head for chunk in stage] for stage in found.chunks]
    assert heads == [[0, 0, 0, 0]] * 7 + [[0, 0, 0, 2]]


def test_dualpipe_has_both_ends_on_one_stage() -> None:
    stages = made(DEEPSEEK, "dualpipe").summary.stages
    assert [one.layers for one in stages] == [15, 15, 16, 16, 16, 16, 15, 15]
    for one, other in zip(stages, reversed(stages), strict=True):
        assert one.forward_s == pytest.approx(other.forward_s)
        assert one.heads == other.heads == (2.0 if one.stage in (0, 7) else 0.0)


def test_a_pair_is_a_forward_of_one_direction_and_a_backward_of_the_other() -> None:
    found = timed(setting(site(roofrack.scenario(*LLAMA, "parallelism.schedule=dualpipe"))))
    rows = made(LLAMA, "dualpipe").rows.filter(pl.col("overlapped"), pl.col("kind") == "F")
    took = rows.with_columns(s=pl.col("end_s") - pl.col("start_s"))
    for stage, chunk in ((0, 0), (0, 1), (7, 0), (3, 1)):
        # of a dense model nothing is won by it
        alone = found.forward_s[stage, chunk] + found.backward_s[stage, 1 - chunk]
        here = took.filter(pl.col("stage") == stage, pl.col("chunk") == chunk)["s"]
        assert here.len() and here.to_list() == pytest.approx([alone] * here.len())
    # the head is at one end
    assert found.forward_s[0, 1] > found.forward_s[0, 0] == found.forward_s[7, 1]


@pytest.mark.parametrize("name", SCHEDULES)
def test_exchanges_of_experts_hide_as_the_closed_form_says(name: str) -> None:
    shown, hidden = (
        made(EXPERTS, name, f"parallelism.overlap_ep={on}").summary for on in ("false", "true")
    )
    closed_s, seconds = part(hidden, "passes and bubble")
    assert seconds == pytest.approx(closed_s)
    assert hidden.makespan_s < shown.makespan_s or name == "dualpipe"  # which hides them anyway


def test_what_follows_the_passes_follows_on_every_stage() -> None:
    found = made(LLAMA, "1f1b", "parallelism.dp=2", "model.tied_embeddings=true")
    tied = found.rows.filter(pl.col("kind") == "tied")
    assert tied["stage"].to_list() == [0, 7]
    assert tied["start_s"].n_unique() == 1
    for _, rows in found.rows.group_by("stage"):
        last = rows.filter(pl.col("microbatch").is_not_null())["end_s"].max()
        after = rows.filter(pl.col("microbatch").is_null()).sort("start_s")
        assert {"gradients", "update", "weights"} <= set(after["kind"])
        times = [(last, last), *after.select("start_s", "end_s").iter_rows()]
        assert all(b[0] >= a[1] - 1e-12 for a, b in pairwise(times))


def test_the_trace_parses_and_covers_the_step() -> None:
    found = made(LLAMA, "zb_h1")
    document = json.loads(json.dumps(found.trace, allow_nan=False))
    slices = [event for event in document["traceEvents"] if event["ph"] == "X"]
    assert len(slices) == found.rows.height
    assert min(event["ts"] for event in slices) == 0
    ends = max(event["ts"] + event["dur"] for event in slices)
    assert ends == pytest.approx(found.summary.makespan_s * 1e6, abs=2e-3)
    assert {event["tid"] for event in slices} == set(range(1, 9))
    assert {"F", "I", "W"} <= {event["name"][0] for event in slices}
    assert {"update", "gradients"} & {event["name"] for event in slices}
    assert all("cname" in event for event in slices)
    starts = [event for event in slices if event.get("flow_out") and not event["flow_in"]]
    assert len(starts) == 32


def test_one_stage_is_one_pass_after_the_other() -> None:
    found = roofrack.timeline(
        "workload=train", "model=llama3_1_8b", "parallelism=tp8", "workload.global_batch=4"
    ).summary
    assert found.stages[0].idle == pytest.approx(0.0, abs=1e-9)
    assert (found.stages[0].layers, found.stages[0].held) == (32, 1)
    assert found.makespan_s == pytest.approx(found.step_s)


def test_the_text_names_the_slowest_stage() -> None:
    said = text(made(LLAMA).summary)
    assert "slowest stage: 7 (10 layers and the head)" in said
    assert "hides messages" not in said
    assert "DOES NOT FIT" not in said
    assert "DOES NOT FIT" in text(made(LLAMA, "1f1b", "parallelism.tp=1").summary)
    alike = text(made(ALIKE, "1f1b", "overlap=ideal").summary)
    assert "the timeline is as long as the closed form\nall stages are alike" in alike


def test_the_text_says_what_messages_add() -> None:
    found = made(ALIKE).summary
    closed_s, seconds = part(found, "messages")
    # with equal stages 1F1B waits for both messages of nearly every micro-batch
    hop_s = closed_s / (2 * 7)
    waited = 2 * (7 + 31 - 4)
    assert seconds == pytest.approx(waited * hop_s)
    assert "in this order some are waited for" in text(found)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["workload=decode"], "workload.phase=decode: a timeline shows a training step"),
        (["workload.global_batch=[16,32]"], "workload.global_batch has 2 values"),
        (["workload.global_batch=16,32"], "workload.global_batch has 2 values"),
        (["hardware=h100_sxm,b200"], "hardware=b200, hardware=h100_sxm: 2 scenarios"),
        (["parallelism.schedule=dualpipe", "workload.global_batch=8"], "this plan cannot run"),
        (["parallelism.schedule=zbh1"], "Did you mean 'zb_h1'?"),
        (["workload.global_batch=8192"], "131,072 passes of 8,192 micro-batches"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_what_has_no_timeline_is_said(words: list[str], message: str) -> None:
    with pytest.raises(InputError) as error:
        roofrack.timeline(*LLAMA, *words)
    assert message in str(error.value)


@pytest.mark.parametrize("name", ["1f1b", "dualpipe"])
def test_the_chart_is_a_valid_drawing_of_every_row(name: str) -> None:
    found = made(LLAMA, name)
    chart = gantt_chart(found.rows)
    assert isinstance(chart, alt.Chart)
    spec = to_spec(chart)  # raises if it is not valid
    (drawn,) = spec["datasets"].values()
    assert len(drawn) == found.rows.height
    svg = vl_convert.vegalite_to_svg(spec | {"config": theme.config(), "width": 600})
    assert svg.count('aria-roledescription="rect mark"') == found.rows.height
    apart = {(one["stage"], one["start_s"], one["top"]) for one in drawn}
    assert len(apart) == len(drawn), "what happens at once lies in two halves"


def test_colours_of_a_chart_stay_with_their_kind() -> None:
    def colours(found: Timeline) -> dict[Any, Any]:
        scale = to_spec(gantt_chart(found.rows))["encoding"]["color"]["scale"]
        return dict(zip(scale["domain"], scale["range"], strict=True))

    some, others = colours(made(LLAMA)), colours(made(LLAMA, "zb_h1"))
    shared = some.keys() & others.keys()
    assert {"Forward", "Optimiser"} <= shared < others.keys()
    assert all(some[kind] == others[kind] for kind in shared)
    assert len(set(others.values())) == len(others)


def test_a_chart_too_large_for_a_page_is_refused() -> None:
    rows = made(LLAMA).rows
    with pytest.raises(InputError, match="at most 20,000"):
        gantt_chart(pl.concat([rows] * (AT_MOST // rows.height + 1)))
