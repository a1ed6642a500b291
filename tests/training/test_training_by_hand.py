"""A second derivation: chips, stages and layers walked one by one, in another style.

Nothing of the cost model is used but the columns it returns.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from golden.asking import ask

IDEAL = "workload=train calibration=ideal hardware=h200"
C, W, LINK = 9.895e14, 4.8e12, 4.5e11


@dataclass
class Llama:
    """Llama 3.1 8B, as its model card prints it."""

    layers = 32
    width = 4096
    heads = 32
    kv_heads = 8
    head = 128
    ffn = 14336
    vocab = 128256

    @property
    def matrices(self) -> list[tuple[int, int, str]]:
        """Inner sizes of the products of a layer, and which side tensor parallelism divides."""
        q, kv = self.heads * self.head, self.kv_heads * self.head
        into = [(self.width, q), (self.width, kv), (self.width, kv)]
        gated = [(self.width, self.ffn)] * 2
        out = [(q, self.width), (self.ffn, self.width)]
        return [(*m, "columns") for m in (*into, *gated)] + [(*m, "rows") for m in out]

    def params(self, tp: int) -> int:
        """Parameters of a layer on one of tp chips."""
        return sum(a * b // tp for a, b, _ in self.matrices)


M = Llama()


def stage_of(layer: int, pp: int) -> int:
    return layer // (M.layers // pp)


@pytest.mark.parametrize(("tp", "pp", "dp"), [(1, 1, 1), (2, 4, 2), (8, 2, 4), (4, 8, 1)])
@pytest.mark.parametrize("zero", [0, 1, 3])
def test_memory_chip_by_chip(tp: int, pp: int, dp: int, zero: int) -> None:
    """Weights, gradients in two bytes, Adam with a master copy; 1F1B, two sequences a pass."""
    sequence, each, m = 2048, 2, 2 * pp
    row = ask(
        f"{IDEAL} model=llama3_1_8b parallelism=single parallelism.tp={tp} parallelism.pp={pp} "
        f"parallelism.dp={dp} parallelism.zero={zero} workload.sequence={sequence} "
        f"workload.global_batch={each * m * dp} parallelism.microbatches={m}"
    )
    fullest: tuple[float, dict[str, float]] = (0.0, {})
    for stage in range(pp):
        params, kept = 0.0, 0.0
        for layer in range(M.layers):
            if stage_of(layer, pp) != stage:
                continue
            params += M.params(tp)
            tokens = each * sequence
            whole = 4 * M.width  # both norms, in and out
            inner = 2 * M.heads * M.head + 2 * M.kv_heads * M.head + 3 * M.ffn
            kept += 2 * tokens * (whole + inner / tp)
        ends = (stage == 0) + (stage == pp - 1)
        both = ends * M.vocab * M.width / tp
        params += both
        under_way = min(pp - stage, m) if pp > 1 else 1
        kinds = {
            "weights": 2 * params / (dp if zero >= 3 else 1),
            "gradient": 2 * params / (dp if zero >= 2 else 1),
            "optimizer": 12 * params / (dp if zero >= 1 else 1),
            "activation": kept * under_way,
        }
        logits = each * sequence * M.vocab / tp * 6 * (stage == pp - 1)
        # of two layers, and all of embedding and head
        gathered = (2 * 2 * (params - both) / (M.layers / pp) + 2 * both) * (zero >= 3)
        total = sum(kinds.values()) + logits + gathered
        if total > fullest[0]:
            fullest = total, kinds
    assert row["mem_total_bytes"] == pytest.approx(fullest[0])
    for kind, value in fullest[1].items():
        assert row[f"mem_{kind}_bytes"] == pytest.approx(value), kind


@pytest.mark.parametrize(("tp", "pp"), [(1, 1), (2, 2), (8, 4)])
@pytest.mark.parametrize("recompute", ["none", "full"])
def test_arithmetic_layer_by_layer(tp: int, pp: int, recompute: str) -> None:
    """The slowest stage is the last, with the head; the backward core has five products for two."""
    sequence, m = 4096, 8
    row = ask(
        f"{IDEAL} model=llama3_1_8b parallelism=single parallelism.tp={tp} parallelism.pp={pp} "
        f"workload.sequence={sequence} workload.global_batch={m} parallelism.recompute={recompute} "
        f"cost.activation_io=false overlap=none hardware.flops_per_s.bf16={C!r}"
    )
    slowest = 0.0
    for stage in range(pp):
        flops = 0.0
        for layer in range(M.layers):
            if stage_of(layer, pp) == stage:
                products = 2 * sequence * M.params(tp)
                core = 4 * M.heads * M.head / tp * sequence * sequence / 2
                again = recompute == "full"
                flops += (3 + again) * products
                flops += (1 + again + 2.5 * 73 / 63) * core
        if stage == pp - 1:
            flops += 3 * 2 * sequence * M.width * M.vocab / tp
        slowest = max(slowest, flops)
    assert row["t_compute_s"] == pytest.approx(m * slowest / C)


def test_exchanges_counted() -> None:
    """Megatron's layout in one node: all-reduces forward and backward, and gradients once."""
    sequence, m, tp, dp = 4096, 4, 2, 4
    base = (
        f"{IDEAL} model=llama3_1_8b parallelism=single parallelism.tp={tp} parallelism.dp={dp} "
        f"workload.sequence={sequence} workload.global_batch={m * dp} overlap=none "
        "hardware.fabric.scale_up.in_network_reduction=false"
    )
    size = sequence * M.width * 2
    reduced = 2 * (tp - 1) / tp * size
    grads = 2 * (M.layers * M.params(tp) + 2 * M.vocab * M.width / tp)
    plain = ask(base)
    # two sums in a layer and direction; the head's input gradient
    assert plain["traffic_tp_1_bytes"] == pytest.approx(m * reduced * (4 * M.layers + 1))
    assert plain["traffic_dp_1_bytes"] == pytest.approx(2 * (dp - 1) / dp * grads)
    divided = ask(f"{base} parallelism.sequence_parallel=true parallelism.zero=1")
    gather = (tp - 1) / tp * size
    # forward 2, backward 2 and the kept input again, for each of two blocks; likewise the head
    assert divided["traffic_tp_1_bytes"] == pytest.approx(m * gather * (10 * M.layers + 3))
    assert divided["traffic_dp_1_bytes"] == pytest.approx(2 * (dp - 1) / dp * grads)
    full = ask(f"{base} parallelism.zero=3")
    assert full["traffic_dp_1_bytes"] == pytest.approx(3 * m * (dp - 1) / dp * grads)


def test_hops_counted() -> None:
    """Each of tp chips sends its part of a micro-batch over three boundaries of four, both ways.

    Those that receive gather all parts, unless they are sequence parallel.
    """
    m, tp, pp = 8, 2, 4
    base = (
        f"{IDEAL} model=llama3_1_8b parallelism=single parallelism.tp={tp} parallelism.pp={pp} "
        f"workload.sequence=2048 workload.global_batch={m}"
    )
    part = 2048 / tp * M.width * 2
    divided = ask(f"{base} parallelism.sequence_parallel=true")
    assert divided["traffic_pp_1_bytes"] == pytest.approx(2 * m * part * (pp - 1) / pp)
    part = part + 2048 * M.width * 2 * (tp - 1) / tp
    plain = ask(base)
    assert plain["traffic_pp_1_bytes"] == pytest.approx(2 * m * part * (pp - 1) / pp)
    cut = "parallelism.schedule=interleaved parallelism.virtual_stages=2"
    assert ask(f"{base} {cut}")["traffic_pp_1_bytes"] == 2 * plain["traffic_pp_1_bytes"]
    waiting = ask(f"{base} parallelism.overlap_pp=false hardware.fabric.scale_up.latency_s=0")
    assert waiting["exposed_pp_s"] == pytest.approx(2 * m * part / LINK)


def test_experts_exchanged() -> None:
    """Mixtral over 8 experts: a token has two copies, of which one in eight stays home."""
    m = 2
    row = ask(
        f"{IDEAL} model=mixtral_8x7b parallelism=single parallelism.dp=8 parallelism.ep=8 "
        f"workload.sequence=1024 workload.global_batch={8 * m}"
    )
    copies = 1024 * 2 * 7 / 8 * 4096 * 2
    assert row["traffic_ep_1_bytes"] == pytest.approx(m * 32 * 4 * copies)
    assert row["traffic_tp_1_bytes"] == 0


def one_f_one_b(forward: list[float], backward: list[float], m: int) -> float:
    """Walk a 1F1B pipeline whose stages differ: each does its list as soon as it can."""
    pp = len(forward)
    orders = []
    for stage in range(pp):
        warm = min(pp - stage - 1, m)
        steady = [(k, i) for i in range(m - warm) for k in "fb"]
        named = [("f", warm + i) if k == "f" else ("b", i) for k, i in steady]
        orders.append(
            [("f", i) for i in range(warm)] + named + [("b", m - warm + i) for i in range(warm)]
        )
    done: dict[tuple[str, int, int], float] = {}
    clock, place = [0.0] * pp, [0] * pp
    while any(p < len(o) for p, o in zip(place, orders, strict=True)):
        for stage in range(pp):
            while place[stage] < len(orders[stage]):
                kind, i = orders[stage][place[stage]]
                if kind == "f":
                    ready = 0.0 if stage == 0 else done.get(("f", i, stage - 1))
                else:
                    last = stage == pp - 1
                    ready = done.get(("f", i, stage) if last else ("b", i, stage + 1))
                if ready is None:
                    break
                took = forward[stage] if kind == "f" else backward[stage]
                clock[stage] = max(clock[stage], ready) + took
                done[kind, i, stage] = clock[stage]
                place[stage] += 1
    return max(clock)


@pytest.mark.parametrize(("pp", "m"), [(2, 4), (4, 8), (4, 32)])
def test_a_pipeline_with_a_slow_end(pp: int, m: int) -> None:
    """Stages alike but for the head on the last one: the whole step, walked event by event."""
    asked = (
        f"{IDEAL} model=llama3_1_8b parallelism=single parallelism.pp={pp} workload.sequence=512 "
        f"workload.global_batch={m} hardware.fabric.scale_up.latency_s=0 "
        "hardware.fabric.scale_up.bytes_per_s=1e18"
    )
    row: dict[str, Any] = ask(asked)
    # one stage of the same layers without a head, and one with
    alone = ask(asked.replace(f"parallelism.pp={pp}", "parallelism.pp=1"))
    parts = [ask(f"{asked.replace(f'parallelism.pp={pp}', 'parallelism.pp=1')} model.layers={n}")
             for n in (M.layers // pp, 2 * M.layers // pp)]  # fmt: skip
    body = (parts[1]["passes_s"] - parts[0]["passes_s"]) / m
    slow = parts[0]["passes_s"] / m
    assert slow > body
    assert alone["passes_s"] / m == pytest.approx(slow + (pp - 1) * body)
    for share in (0.3, 0.4):  # how a pass divides into forward and backward does not matter
        times = [body] * (pp - 1) + [slow]
        walked = one_f_one_b([share * t for t in times], [(1 - share) * t for t in times], m)
        assert row["passes_s"] + row["bubble_s"] == pytest.approx(walked, rel=1e-6)


def test_dual_numbers_and_differences() -> None:
    """Elasticities of a step: all of its time is either FLOP, bytes, links or fixed."""
    from roofrack import config
    from roofrack.conversion import to_study
    from roofrack.derivatives import slopes

    overrides = (
        "workload=train model=llama3_1_8b hardware=h200 parallelism=single parallelism.tp=2 "
        "parallelism.dp=2 parallelism.zero=1 calibration=ideal"
    )
    study = to_study(config.compose(overrides.split()))
    with np.errstate(all="ignore"):
        found = slopes(study.grid(), "step_s", levels=study.levels).slopes
    rates = {s.entry.path: float(s.elasticity) for s in found if s.entry.leaf.unit.endswith("/s")}
    assert sum(rates.values()) == pytest.approx(-1, abs=1e-3)
    assert rates["hardware.flops_per_s.bf16"] < -0.5
