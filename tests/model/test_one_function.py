"""One compiled function serves all machines and models: a change of numbers compiles nothing."""

from itertools import product

import numpy as np
import pytest
from model.cases import HARDWARE, MODELS, columns, given, study

from roofrack.grid import compiled, evaluate

BATCH = np.arange(1.0, 101.0)


def evaluated(hardware: str, model: str) -> dict[str, np.ndarray]:
    return evaluate(study(hardware, model).bind(given(batch=BATCH)), double=False)


@pytest.mark.slow
def test_the_cross_product_compiles_once() -> None:
    """All machines times all models, 100 batches each: one compilation for all of them."""
    evaluated(HARDWARE[0], MODELS[0])
    before = compiled()._cache_size()
    for hardware, model in product(HARDWARE, MODELS):
        row = evaluated(hardware, model)
        assert row["step_s"].shape == BATCH.shape
        assert np.all(np.isfinite(row["step_s"])) and np.all(row["step_s"] > 0)
    assert compiled()._cache_size() == before
    # no less is compiled than what is asked for: it is the value of this very pair
    pair = ("gb200_superpod", "deepseek_v3_2")
    exact = columns(study(*pair).bind(given(batch=BATCH)))["step_s"]
    np.testing.assert_allclose(evaluated(*pair)["step_s"], exact, rtol=1e-5)


@pytest.mark.slow
def test_each_phase_overlap_and_pattern_of_axes_compiles_once() -> None:
    start = compiled()._cache_size()
    patterns = [given(batch=BATCH), given(batch=BATCH, tp=np.ones(100))]
    kinds = [("decode", "smooth"), ("decode", "ideal"), ("prefill", "smooth")]
    for phase, overlap in kinds:
        for leaves in patterns:
            for hardware, model in zip(HARDWARE, MODELS, strict=False):
                evaluate(study(hardware, model, "ideal", phase, overlap).bind(leaves), double=False)
    assert compiled()._cache_size() - start <= len(kinds) * len(patterns)
