"""Collectives and placements by walking chips and links, never by the formula."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given as forall
from hypothesis import settings
from hypothesis import strategies as st
from model.cases import PLACEMENT, TOPOLOGY, given, lay, result, study

from roofrack.cost import layout as plans
from roofrack.cost.collectives import all_gather, all_reduce
from roofrack.cost.roads import roads
from roofrack.cost.ways import group
from roofrack.tables import PLACED, PLACEMENTS

BOARD = study("blackboard", "blackboard", "ideal")
SUPERPOD = study("gb200_superpod", "deepseek_v3", "ideal")
LEVELS = ("scale_up", "scale_out", "cluster")


def machine(*levels: tuple[float, float, float]):
    """Return a scenario on three levels of (chips, bytes per second, latency)."""
    leaves = {"calibration.quantize": 1.0}
    for name, (chips, speed, latency) in zip(LEVELS, levels, strict=True):
        path = f"hardware.fabric.{name}"
        leaves |= {
            f"{path}.chips": chips,
            f"{path}.bytes_per_s": speed,
            f"{path}.latency_s": latency,
            f"{path}.in_network_reduction": 0.0,
        }
    return SUPERPOD.bind(leaves)


def walk_ring(size: float, shape: tuple[int, int, int], speeds, latencies, rounds: int) -> float:
    """Return the seconds of a pipelined ring over a x b x c chips, walked link by link.

    As many rings as a domain has chips run side by side, each with its share of the bytes; ring i
    enters and leaves every domain through chip i. All links work at once; a chip's bandwidth on a
    level is that of all its links there.
    """
    a, b, c = shape
    chips = list(product(range(c), range(b), range(a)))  # cluster, rack, chip
    count = len(chips)

    def level(x, y):
        return 2 if x[0] != y[0] else 1 if x[1] != y[1] else 0

    orders = []  # one ring for each way of leaving the domains: position of the exit in each
    for out, mid in product(range(b), range(a)):
        ring = []
        for cluster in range(c):
            racks = [(out + 1 + i) % b for i in range(b)]  # leaves the unit through rack `out`
            for rack in racks:
                ring += [(cluster, rack, (mid + 1 + i) % a) for i in range(a)]  # through chip `mid`
        orders.append(ring)
    load: dict = {}
    delays = []
    for ring in orders:
        around = list(zip(ring, ring[1:] + ring[:1], strict=True))
        for x, y in around:
            key = (x, level(x, y))
            load[key] = load.get(key, 0.0) + rounds * size * (count - 1) / count / len(orders)
        delays.append(rounds * sum(latencies[level(x, y)] for x, y in around))
    # the latency of one full turn; the last link of a turn is not needed
    busiest = max(sent / speeds[kind] for (_, kind), sent in load.items())
    return busiest + max(delays)


shapes = st.tuples(st.integers(2, 4), st.integers(1, 4), st.integers(1, 3))


@forall(shapes, st.integers(1, 50), st.integers(1, 20), st.floats(0, 6))
@settings(max_examples=60)
def test_one_ring_by_walking_links(shape, first: int, second: int, log_size: float) -> None:
    """Never slower than the ring walked link by link, and no faster than its last link saved."""
    a, b, c = shape
    speeds, latencies = (first * 1e10, second * 1e9, 1e9), (1e-6, 5e-6, 7e-6)
    size = 10**log_size * 1e3
    chips = (a, a * b, a * b * c)
    scenario = machine(*zip(map(float, chips), speeds, latencies, strict=True))
    laid = group(lay(scenario, (float(a * b * c), 1.0)))
    for rounds, collective in ((2, all_reduce), (1, all_gather)):
        walked = walk_ring(size, shape, speeds, latencies, rounds)
        assert sum(collective(laid, size).seconds) <= walked * (1 + 1e-9)
    # where links outside are as fast as inside and nothing waits, the ring is the best there is
    even = machine(*((float(n), 1e10, 0.0) for n in chips))
    best = sum(all_reduce(group(lay(even, (float(a * b * c), 1.0))), size).seconds)
    assert best <= walk_ring(size, shape, (1e10,) * 3, (0.0,) * 3, 2) * (1 + 1e-9)


@pytest.mark.parametrize(("a", "b", "c"), [(4, 2, 1), (2, 3, 1), (2, 2, 2), (4, 3, 2)])
def test_bandwidth_of_the_best_is_that_of_a_walked_ring(a: int, b: int, c: int) -> None:
    """Large vectors: rings use the links of all levels at once, level by level one after another.

    A chip sends inside on the rings that do not leave its domain by it, (a - 1)/a of them.
    """
    size, speeds = 1e12, (1e11, 1e11, 1e11)
    scenario = machine(*((float(n), 1e11, 0.0) for n in (a, a * b, a * b * c)))
    moved = all_reduce(group(lay(scenario, (float(a * b * c), 1.0))), size)
    assert sum(moved.seconds) == pytest.approx(walk_ring(size, (a, b, c), speeds, (0.0,) * 3, 2))


@pytest.mark.parametrize(("racks", "rack"), [(2, 4), (4, 4), (3, 8), (16, 2)])
def test_bytes_of_a_hierarchical_all_reduce_by_moving_chunks(racks: int, rack: int) -> None:
    """Reduce-scatter inside, all-reduce across, all-gather inside, chunk by chunk.

    A vector of racks*rack chunks; every send of a chunk to a neighbour is counted by level.
    """
    chips = [(r, i) for r in range(racks) for i in range(rack)]
    chunks = racks * rack
    partial = {chip: {chunk: {chip} for chunk in range(chunks)} for chip in chips}
    sent = {"up": 0, "out": 0}

    def send(kind, source, target, parts, replace):
        sent[kind] += len(parts)
        return [(target, part, set(partial[source][part]), replace) for part in parts]

    def step(moves):
        for target, part, content, replace in moves:
            partial[target][part] = content if replace else partial[target][part] | content

    def ring(kind, members, blocks, replace):
        """Walk a reduce-scatter (member i ends with block i + 1), or an all-gather that follows."""
        g = len(members)
        for turn in range(g - 1):
            moves = []
            for place, member in enumerate(members):
                block = blocks[(place - turn - (0 if not replace else -1)) % g]
                target = members[(place + 1) % g]
                moves += send(kind, member, target, block, replace)
            step(moves)

    inside = [list(range(i * racks, (i + 1) * racks)) for i in range(rack)]
    for r in range(racks):
        ring("up", [(r, i) for i in range(rack)], inside, False)
    for i in range(rack):  # chip i now owns block i + 1
        own = inside[(i + 1) % rack]
        peers = [(r, i) for r in range(racks)]
        ring("out", peers, [[part] for part in own], False)
        ring("out", peers, [[part] for part in own], True)
    for r in range(racks):
        ring("up", [(r, i) for i in range(rack)], inside, True)
    everyone = set(chips)
    assert all(partial[chip][chunk] == everyone for chip in chips for chunk in range(chunks))

    slow = 1e11 / rack / 100  # links outside that a flat ring would wait for
    scenario = machine((rack, 1e11, 0.0), (racks * rack, slow, 0.0), (1e6, slow, 0.0))
    laid = group(lay(scenario, (float(chunks), 1.0)))
    moved = all_reduce(laid, chunks * 1e6)
    per_chip = {kind: count / len(chips) * 1e6 for kind, count in sent.items()}
    hierarchical = per_chip["up"] / 1e11 + per_chip["out"] / slow
    assert sum(moved.seconds) <= hierarchical * (1 + 1e-9)
    # or one ring of the whole, which sends all but the last share outside
    ring_out = 2 * (chunks - 1) / chunks * chunks * 1e6 / rack
    assert moved.sent_bytes[1] in (pytest.approx(per_chip["out"]), pytest.approx(ring_out))


@pytest.mark.parametrize("members", [16, 64, 512, 4096])
def test_short_messages_climb_a_tree(members: int) -> None:
    """Add up over a binary tree, pair by pair, and send back: 2 log2 n messages in sequence."""
    latency = 3e-6
    scenario = machine((8.0, 1e12, latency), (64.0, 1e12, latency), (1e6, 1e12, latency))
    height, left = 0, members
    while left > 1:
        left -= left // 2
        height += 1
    moved = all_reduce(group(lay(scenario, (float(members), 1.0))), 1.0)
    assert sum(moved.seconds) == pytest.approx(2 * height * latency, rel=1e-6)


def chips_of(order: str, sizes: dict[str, int]) -> list[dict[str, int]]:
    """List all chips of a plan in their order over the fabric; the first name is innermost."""
    names = order.split("-")
    ranges = [range(sizes[name]) for name in reversed(names)]
    return [dict(zip(reversed(names), places, strict=True)) for places in product(*ranges)]


@pytest.mark.parametrize("order", PLACEMENTS)
@pytest.mark.parametrize("rack", [4, 8, 16])
@pytest.mark.parametrize(
    "degrees", [(4, 2, 4, 2), (2, 2, 2, 4), (8, 1, 4, 2), (1, 2, 8, 2), (2, 4, 1, 4)]
)
def test_members_in_a_domain_by_listing_chips(order: str, rack: int, degrees) -> None:
    """Number the chips of a plan in order and count how many of each group lie in one domain.

    Powers of two nest, so that every domain holds as many.
    """
    tp, cp, span, pp = degrees
    sizes = {"tp": tp, "cp": cp, "ep": span, "pp": pp}
    chips = chips_of(order, sizes)

    def inside(*together: str) -> int:
        """Return members in the first chip's domain of the group that varies along `together`."""
        fixed = [name for name in PLACED if name not in together]
        mates = [
            index for index, chip in enumerate(chips) if all(chip[name] == 0 for name in fixed)
        ]
        return sum(1 for index in mates if index // rack == 0)

    leaves = {
        "hardware.fabric.scale_up.chips": float(rack),
        "model.experts": float(tp * cp * span),
        "model.layers": 64.0,
        **given(
            tp=float(tp), cp=float(cp), dp=float(span), pp=float(pp), ep=float(tp * cp * span),
            placement=PLACEMENT[order], batch=64.0,
        ),
    }  # fmt: skip
    scenario = BOARD.bind(leaves)
    ways = roads(scenario.hardware, scenario.calibration, plans.layout(scenario))
    assert ways.tensor.wires[0].reach == inside("tp")
    assert ways.context.wires[0].reach == inside("cp")
    assert ways.pipeline[0].reach == inside("pp")
    assert ways.experts[0].reach == inside("tp", "cp", "ep")


@pytest.mark.parametrize("order", PLACEMENTS)
def test_placement_changes_nothing_inside_one_domain(order: str) -> None:
    at = study("gb200_nvl72", "deepseek_v3")
    plan = {"tp": 2.0, "cp": 2.0, "dp": 4.0, "ep": 16.0, "pp": 4.0, "batch": 64.0}
    first, other = (result(at, **plan, placement=PLACEMENT[o]) for o in (PLACEMENTS[0], order))
    assert other["step_s"] == first["step_s"]


def sharded_bytes(columns: int, rows: int, tokens: int, width: int, hidden: int, matrices: int):
    """Run a 2-D weight-stationary FFN on explicit shards; count elements that one chip sends.

    Chip (r, c) holds rows r of d_model and columns c of d_ff. Checks that the product is right.
    """
    draw = np.random.default_rng(0)
    x = draw.standard_normal((tokens, width))
    w_in = [draw.standard_normal((width, hidden)) for _ in range(matrices - 1)]
    w_out = draw.standard_normal((hidden, width))
    own_d = np.array_split(np.arange(width), rows)
    own_f = np.array_split(np.arange(hidden), columns)
    sent = {"columns": 0.0, "rows": 0.0}

    def gather(kind: str, elements: int, group_size: int) -> None:
        sent[kind] += elements * (group_size - 1) / group_size

    gather("columns", tokens * width // rows, columns)  # the input of a row lies over its columns
    acts = []
    for w in w_in:
        partial = {
            (r, c): x[:, own_d[r]] @ w[np.ix_(own_d[r], own_f[c])]
            for r in range(rows)
            for c in range(columns)
        }
        acts.append([sum(partial[r, c] for r in range(rows)) for c in range(columns)])
        gather("rows", tokens * hidden // columns, rows)  # a reduce-scatter sends as much
    joined = [np.prod([act[c] for act in acts], axis=0) for c in range(columns)]
    gather("rows", tokens * hidden // columns, rows)  # all of the hidden columns again
    out = [
        sum(joined[c] @ w_out[np.ix_(own_f[c], own_d[r])] for c in range(columns))
        for r in range(rows)
    ]
    gather("columns", tokens * width // rows, columns)
    whole = np.prod([x @ w for w in w_in], axis=0) @ w_out
    assert np.allclose(np.concatenate(out, axis=1), whole)
    return sent


@pytest.mark.parametrize("matrices", [2, 3])
@pytest.mark.parametrize(("tp", "rows"), [(4, 2), (8, 2), (8, 4), (16, 4), (16, 16)])
def test_two_dimensional_ffn_by_computing_with_shards(tp: int, rows: int, matrices: int) -> None:
    tokens, width, hidden, columns = 16, 32, 128, tp // rows
    counted = sharded_bytes(columns, rows, tokens, width, hidden, matrices)
    at = study("blackboard", "llama3_1_70b", "ideal", overlap="none")
    shape = {
        "model.d_model": float(width),
        "model.d_ff": float(hidden),
        "model.ffn_matrices": float(matrices),
        "model.layers": 1.0,
        "model.vocab": 0.0,
        "hardware.fabric.scale_up.latency_s": 0.0,
        "hardware.fabric.scale_up.in_network_reduction": 0.0,
    }
    # attention-DP: nothing but the FFN is tensor parallel
    asked = {"tp": float(tp), "attention_dp": 1.0, "batch": float(tokens)}
    row = result(at, shape, **asked, tp_rows=float(rows))
    assert row["traffic_tp_1_bytes"] == pytest.approx(2 * sum(counted.values()))
    assert row["traffic_tp_2_bytes"] == 0
    one = result(at, shape, **asked)
    assert row["mem_weights_bytes"] == pytest.approx(one["mem_weights_bytes"])


def torus_ffn_s(tp: float, rows: float) -> float:
    """Return the communication of one plain FFN on a large 3-D torus, bandwidth only."""
    at = study("tpu_v4", "palm_540b", "ideal", overlap="none")
    shape = {
        "model.d_model": 8192.0,
        "model.d_ff": 32768.0,
        "model.ffn_matrices": 2.0,
        "model.layers": 1.0,
        "model.heads": 8192.0,
        "model.vocab": 0.0,
        "hardware.fabric.scale_up.latency_s": 0.0,
        "hardware.fabric.scale_up.ring_closes_at": 0.0,
        "hardware.fabric.scale_up.topology": TOPOLOGY["torus_3d"],
        "hardware.fabric.scale_up.chips": 1e6,
        "hardware.fabric.scale_out.chips": 1e6,
    }
    asked = {"tp": tp, "tp_rows": rows, "attention_dp": 1.0, "batch": 1e5}
    return float(result(at, shape, **asked)["t_scale_up_s"])


def test_two_dimensions_win_from_about_72_chips_on_a_torus() -> None:
    """The Scaling Book's setting, F = 4 D: 1-D moves 2 D over three axes, 2-D the rows over one.

    1-D: 2 BD / 3W. 2-D with rows X on one axis and Y = N / X on two: 2 (BD/X) / 2W + 2 (BF/Y) / W.
    At the best X they are equal at N = 72 (for N >> 1); the (g-1)/g terms move it a little.
    """
    one, best = torus_ffn_s(64.0, 1.0), min(torus_ffn_s(64.0, 2.0**i) for i in range(1, 5))
    assert best > one * 0.9  # at 64 chips there is nothing to gain
    for chips in (256.0, 1024.0):
        one = torus_ffn_s(chips, 1.0)
        best = min(torus_ffn_s(chips, 2.0**i) for i in range(1, 7))
        assert best < one
        # the closed form on closed rings used both ways, the best whole power of two
        flat = 2 / 3 * (1 - 1 / chips)
        square = min(
            (1 - x / chips) / x + 8 * x / chips * (1 - 1 / x) for x in (2.0**i for i in range(1, 7))
        )
        assert best / one == pytest.approx(square / flat, rel=0.02)
