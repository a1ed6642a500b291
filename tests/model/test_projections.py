"""The projections told one by one: together they are the attention's parameters, no more."""

import numpy as np
import pytest
from model.cases import MODELS, given, study

from roofrack.cost import attention
from roofrack.cost.roofline import Work
from roofrack.cost.shares import Pass
from roofrack.cost.site import Site, site

COUNTED = [name for name in MODELS if study(model=name).leaves["model.params_total"] == 0]


def products(model: str, tp: float) -> tuple[Site, list[Work]]:
    """Return the projections of 64 decoding tokens, nothing lost, in two bytes."""
    at = site(study("b200", model, "ideal").bind(given(tp=tp)))
    mine = at.share(Pass(True, 64.0, 1.0, 1000.0, 1.0))
    return at, attention.projections(at, mine)


def test_few_models_are_totals() -> None:
    assert len(MODELS) - len(COUNTED) < 5 and "blackboard" not in COUNTED


@pytest.mark.parametrize("tp", [1.0, 8.0])
@pytest.mark.parametrize("model", COUNTED)
def test_projections_sum_up_to_the_parameters_of_the_attention(model: str, tp: float) -> None:
    at, works = products(model, tp)
    held = float(attention.params(at.s, at.counts, at.plan))
    assert held > 0
    # depth x columns of each, as often as there are layers: bytes are two for each of them
    read = sum(float(w.times * w.weight_bytes) / 2.0 for w in works)
    assert read == pytest.approx(held, rel=1e-12)
    computed = sum(float(w.times * w.flops) for w in works)
    assert computed == pytest.approx(2.0 * 64.0 * held, rel=1e-12)
    assert min(float(w.weight_bytes) for w in works) >= 0


@pytest.mark.parametrize("tp", [1.0, 8.0])
@pytest.mark.parametrize("model", COUNTED)
def test_those_out_of_the_cores_are_told_apart(model: str, tp: float) -> None:
    """Their weights may have a format of their own: the last of the products, counted apart."""
    at, works = products(model, tp)
    out = float(works[-1].times * works[-1].weight_bytes) / 2.0
    assert out == pytest.approx(float(attention.out_params(at.s, at.counts, at.plan)), rel=1e-12)


@pytest.mark.parametrize(
    ("model", "shapes"),
    [
        # queries, keys and values at once; out
        ("llama3_1_70b", {(8192, 1024 + 2 * 128), (1024, 8192)}),
        # both latents at once; queries; keys into queries; values out of latents; out
        (
            "deepseek_v3",
            {(7168, 1536 + 512 + 64), (1536, 16 * 192), (128, 512 * 16), (512, 128 * 16),
             (16 * 128, 7168)},
        ),
        # queries with as many gates; of linear layers q k v z and two gates for each head
        ("qwen3_next_80b_a3b", {(2048, 2 * 512 + 2 * 256), (512, 2048),
                                (2048, (2 * 2048 + 2 * 4096) // 8), (4096 // 8, 2048),
                                (2048, 2 * 32 // 8)}),
    ],
)  # fmt: skip
def test_shapes_by_hand_on_eight_chips(model: str, shapes: set[tuple[int, int]]) -> None:
    """Depth and columns of every product with weights, found in its FLOP and bytes."""
    _, works = products(model, 8.0)
    found = set()
    for work in works:
        if work.times * work.weight_bytes > 0:
            both = float(work.weight_bytes) / 2.0  # depth * columns
            of_both = float(work.io_bytes) / 64.0 / 2.0  # depth + columns
            root = np.sqrt(of_both**2 - 4.0 * both)
            found.add(frozenset(round(x) for x in ((of_both + root) / 2, (of_both - root) / 2)))
    assert found == {frozenset(shape) for shape in shapes}
