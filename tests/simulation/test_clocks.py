"""The clock of a simulation: its tables against the cost model that filled them."""

import numpy as np
import pytest

from roofrack import api
from roofrack.cost.mixed import decode_of, pass_s, prompts_of
from roofrack.cost.passes import places
from roofrack.cost.site import site
from roofrack.simulation.clocks import CONTEXTS, Reach, clock, context_nodes

LONGEST, SLOTS = 16000.0, 64
MODELS = {
    "llama3_1_8b": 0.03,  # full attention
    "gpt_oss_120b": 0.02,  # a window of 128 tokens in every other layer
    "gemma3_27b": 0.03,  # one of 1,024 in five of six
    "deepseek_v3_2": 0.02,  # 2,048 tokens picked
}


@pytest.mark.parametrize("model", MODELS)
def test_decode_passes_are_those_of_the_cost_model(model: str) -> None:
    s = api.scenario("workload=chat", "batch=64", f"model={model}", "hardware=h200")
    table = clock(s, Reach(SLOTS, LONGEST, LONGEST, 8192.0, False))
    at, rng = places(site(s)), np.random.default_rng(1)
    batch = rng.integers(1, SLOTS + 1, 600).astype(float)
    context = np.exp(rng.uniform(np.log(20.0), np.log(LONGEST), 600))
    with np.errstate(all="ignore"):
        exact = np.asarray(pass_s(at, (decode_of(at.main, batch, context),)))
    pairs = zip(batch, context, strict=True)
    found = np.array([table(b, c, 0.0, 0.5) for b, c in pairs])
    assert np.abs(found / exact - 1.0).max() < MODELS[model]


def test_prompts_in_a_pipeline_are_those_of_the_cost_model() -> None:
    words = ("model=llama3_1_70b", "hardware=h200", "parallelism=single", "parallelism.pp=4")
    s = api.scenario("workload=chat", "batch=64", *words)
    table = clock(s, Reach(SLOTS, 4000.0, 3000.0, 32768.0, False))
    at, rng, new, attended = places(site(s)), np.random.default_rng(1), [], []
    for _ in range(600):
        prompts = np.exp(rng.normal(np.log(1000.0), 0.6, rng.integers(1, 9))).round().clip(1, 3000)
        new.append(prompts.sum())
        attended.append((prompts**2 / 2.0).sum() / prompts.sum())
    with np.errstate(all="ignore"):
        exact = np.asarray(pass_s(at, (prompts_of(at.main, np.array(new), np.array(attended)),)))
    found = np.array([table(0.0, 0.0, n, a) for n, a in zip(new, attended, strict=True)])
    assert np.percentile(np.abs(found / exact - 1.0), 95) < 0.09


def test_context_nodes_are_where_lines_bend() -> None:
    nodes = context_nodes(4000.0, (128.0, 2048.0))
    assert len(nodes) == CONTEXTS and {1.0, 128.0, 2048.0, 4000.0} <= set(nodes)
    assert (np.diff(nodes) > 0).all()
    assert context_nodes(100.0, (128.0,))[-1] == 100.0
