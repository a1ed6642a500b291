"""Quantities derived a second way: by enumerating, walking or drawing, never by the formula."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given as forall
from hypothesis import settings
from hypothesis import strategies as st
from model.cases import given, lay, result, study

from roofrack.cost import collectives, pipeline, routing
from roofrack.cost.attention import attended
from roofrack.cost.fabric import Wires
from roofrack.cost.moe import distinct_experts
from roofrack.cost.shares import Pass
from roofrack.cost.site import site
from roofrack.cost.ways import group

BOARD = study("blackboard", "blackboard", "ideal")


def wires(members: int, rack: int, **leaves: float) -> Wires:
    paths = {"hardware.fabric.scale_up.chips": float(rack)} | given(**leaves)
    return lay(BOARD.bind(paths), (float(members), 1.0))


@pytest.mark.parametrize(("rack", "racks"), [(4, 1), (4, 2), (2, 4), (8, 3)])
@pytest.mark.parametrize("k", [1, 2, 6])
def test_exchange_by_listing_every_copy(rack: int, racks: int, k: int) -> None:
    """Tokens x experts x chips: every chip sends one token to each choice of uniform routing.

    Each of the k copies goes to each chip equally often, so that listing one copy and counting it
    k times lists them all.
    """
    chips = rack * racks
    sent = {"home": 0, "up": 0, "out": 0}
    for source, target in product(range(chips), repeat=2):
        kind = "home" if source == target else "up" if source // rack == target // rack else "out"
        sent[kind] += k
    per_token = {kind: copies / chips / chips for kind, copies in sent.items()}
    way = routing.route(wires(chips, rack), float(k), 1.0, 0.0, 0.0)
    assert way.copies == pytest.approx([per_token["up"], per_token["out"], 0.0, 0.0])
    assert sum(per_token.values()) == pytest.approx(k)

    token_bytes, tokens = 7168.0, 16.0
    sent_there = routing.all_to_all(wires(chips, rack), way, token_bytes, tokens)
    speeds = (3.2e12, 4.0e11)
    walked = [per_token[kind] * tokens * token_bytes for kind in ("up", "out")]
    expected = [b / w for b, w in zip(walked, speeds, strict=True)]
    assert sent_there.transfer.seconds == pytest.approx([*expected, 0.0, 0.0])
    assert sent_there.transfer.sent_bytes == pytest.approx([*walked, 0.0, 0.0])
    assert sent_there.longest == pytest.approx(max(expected))


@pytest.mark.parametrize(("racks", "limit", "k"), [(8, 0, 8), (8, 4, 8), (2, 0, 8), (3, 0, 1)])
def test_deduplicated_copies_by_drawing_experts(racks: int, limit: int, k: int) -> None:
    """Racks touched, copies that leave and copies forwarded, of 40,000 tokens routed at random.

    With a node limit the racks of a token are drawn first. Drawn with replacement, as the closed
    form has it; for 256 experts and k = 8 that is within 2 % of drawing without.
    """
    draw, rack, tokens = np.random.default_rng(3), 4, 40_000
    reachable = min(limit, racks) if limit else racks
    allowed = np.argsort(draw.random((tokens, racks)), axis=1)[:, :reachable]
    chosen = np.take_along_axis(allowed, draw.integers(reachable, size=(tokens, k)), axis=1)
    home = draw.integers(racks, size=tokens)
    touched = np.array([len(set(row)) for row in chosen])
    leaving = np.array([len(set(row) - {h}) for row, h in zip(chosen, home, strict=True)])
    # an expert on the chip that a rack's copy lands on needs no forwarding
    forwarded = np.count_nonzero(draw.integers(rack, size=(tokens, k)), axis=1)

    way = routing.route(wires(rack * racks, rack), float(k), 1.0, float(limit), 1.0)
    noise = 5 / np.sqrt(tokens)  # standard deviations of the means, in units of about 1
    assert way.domains == pytest.approx(touched.mean(), abs=noise)
    assert sum(way.copies[1:]) == pytest.approx(leaving.mean(), abs=noise)
    assert way.copies[0] == pytest.approx(forwarded.mean(), abs=2 * noise)


@pytest.mark.parametrize(
    ("experts", "k", "tokens"), [(256, 8, 1), (256, 8, 64), (8, 2, 5), (128, 8, 9)]
)
def test_distinct_experts_by_drawing(experts: int, k: int, tokens: int) -> None:
    """Each token visits k different experts."""
    draw, trials = np.random.default_rng(4), 2_000
    seen = np.zeros((trials, experts), bool)
    for _ in range(tokens):
        visited = np.argpartition(draw.random((trials, experts)), k, axis=1)[:, :k]
        np.put_along_axis(seen, visited, True, axis=1)
    counts = seen.sum(axis=1)
    error = max(counts.std() / np.sqrt(trials), 1e-9)
    assert distinct_experts(float(experts), float(k), float(tokens)) == pytest.approx(
        counts.mean(), abs=5 * error
    )


@forall(st.integers(0, 3_000), st.integers(1, 3_000), st.integers(0, 2_000))
@settings(max_examples=200)
def test_attended_by_summing_positions(cached: int, new: int, window: int) -> None:
    """Position i sees i + 1 tokens, itself included, a window at most.

    The closed form takes positions as continuous: it is half a token short, and another half where
    the window cuts in.
    """
    seen = cached + 1 + np.arange(new)
    exact = np.mean(np.minimum(seen, window) if window else seen)
    assert 0 <= exact - attended(float(cached), float(new), float(window)) <= 0.5 + 1e-9


@pytest.mark.parametrize("members", [2, 3, 4, 8, 16])
def test_all_reduce_by_walking_a_ring(members: int) -> None:
    """Reduce-scatter and all-gather: in each step every chip sends V/g to its neighbour."""
    size, speed, latency = 3.0e8, 3.2e12, 2.0e-6
    holds = [[{(chip, chunk)} for chunk in range(members)] for chip in range(members)]
    walked = 0.0
    for step in range(2 * (members - 1)):
        before = [[set(part) for part in chip] for chip in holds]
        for chip in range(members):
            chunk = (chip - step) % members
            holds[(chip + 1) % members][chunk] |= before[chip][chunk]
        walked += size / members / speed + latency
    everything = [{(chip, chunk) for chip in range(members)} for chunk in range(members)]
    assert all(chip == everything for chip in holds)  # the walk is an all-reduce

    laid = wires(members, 64, hardware__fabric__scale_up__latency_s=latency)
    fewer = (
        2 * (members - 1 - min(np.log2(members), members - 1)) * latency
    )  # halving-doubling takes log2 g steps
    assert sum(collectives.all_reduce(group(laid), size).seconds) == pytest.approx(walked - fewer)


@pytest.mark.parametrize("decode", [True, False])
@pytest.mark.parametrize(
    ("stages", "stage", "rack"),
    [
        (1, 8, 8),
        (2, 4, 8),
        (2, 8, 8),
        (4, 8, 72),
        (8, 2, 4),
        (4, 16, 8),
        (3, 4, 8),
        (5, 4, 8),
        (12, 8, 72),
    ],
)
def test_hops_by_walking_the_stages(stages: int, stage: int, rack: int, decode: bool) -> None:
    """A micro-batch goes from stage to stage, in decode back to the first."""
    leaves = {
        "hardware.fabric.scale_up.chips": float(rack),
        "model.layers": 120.0,
        "calibration.quantize": 1.0,  # whole racks
    }
    scenario = BOARD.bind(leaves | given(tp=float(stage), pp=float(stages), batch=64.0))
    at = site(scenario)
    mine = at.share(Pass(decode, 64.0, 1.0, 0.0, 1.0))
    hop = 64 / stage * 7168 * 2
    racks = [index // max(1, rack // stage) for index in range(stages)]
    way = list(zip(racks, racks[1:] + racks[:1], strict=True))
    way = way[: stages if decode and stages > 1 else stages - 1]
    walked = sum(hop / (3.2e12 if here == there else 4.0e11) for here, there in way)
    moved = pipeline.hops(scenario, at.plan, at.roads.pipeline, mine, float(decode))
    assert sum(moved.seconds) == pytest.approx(walked)
    assert sum(moved.sent_bytes) == pytest.approx(hop * len(way) / stages)


@pytest.mark.parametrize(
    ("tp", "dp", "ep"),
    [
        (tp, dp, ep)
        for tp, dp, ep in product((1, 2, 8, 16), (1, 4), (1, 4, 16, 64))
        if tp * dp % ep == 0
    ],
)
@pytest.mark.parametrize("attention_dp", [0.0, 1.0])
def test_weights_by_placing_every_matrix(tp: int, dp: int, ep: int, attention_dp: float) -> None:
    """Qwen3-235B: heads to chips, KV heads at least one each, experts over the stage."""
    chips = tp * dp
    at = study("b200", "qwen3_235b_a22b", "ideal")
    m, b = at.bind({}).model, 2
    ways = 1 if attention_dp else tp
    heads = 2 * m.d_model * m.head_dim * (m.heads / ways)
    kv_heads = 2 * m.d_model * m.head_dim * max(1, m.kv_heads / ways)
    experts_here = m.experts / ep
    slices = max(
        1, min(tp, chips // ep)
    )  # an expert is cut only where ep leaves chips of a tp group
    expert = 3 * m.d_model * m.d_ff_expert / slices
    layer = heads + kv_heads + m.d_model * m.experts + experts_here * expert
    matrices = 2 * m.vocab * m.d_model / tp
    row = result(at, tp=float(tp), dp=float(dp), ep=float(ep), attention_dp=attention_dp)
    assert row["mem_weights_bytes"] == pytest.approx((m.layers * layer + matrices) * b)
