"""What an instance has room for in a pass and in its cache."""

import numpy as np
import pytest

from roofrack import config
from roofrack.conversion import to_study
from roofrack.errors import InputError
from roofrack.simulation.asked import asked
from roofrack.simulation.command import answer
from roofrack.simulation.deployments import deployments

SMALL = ("workload=chat", "hardware=h100_sxm", "model=llama3_1_8b", "parallelism=single")


def deployment(*words: str):
    of = asked([*SMALL, *words])
    return deployments(to_study(config.compose(of.overrides)), of.engine)[0]


def test_a_chunk_is_of_prompt_tokens_and_a_budget_of_all() -> None:
    chunked = deployment("batch=64", "workload.chunk=48", "workload.draft_tokens=3")
    assert (chunked.budget, chunked.each) == (48, 0)
    words = ("batch=64", "engine.policy=chunked", "workload.draft_tokens=3")
    told = deployment(*words, "engine.budget=300")
    assert (told.budget, told.each) == (300, 4)
    with pytest.raises(InputError, match=r"engine\.budget=256.*64 decoding.*of 4 tokens each"):
        deployment(*words, "engine.budget=256")
    ranks = deployment("batch=64", "workload.chunk=48", "parallelism.pp=2")
    assert ranks.budget == 96


@pytest.mark.parametrize("drafted", [0, 3])
def test_a_prompt_beside_a_full_batch_takes_as_many_passes_as_it_has_chunks(drafted: int) -> None:
    words = (*SMALL, "batch=32", "workload.chunk=128", "workload.prompt=1024",
             "workload.output=200", "workload.prompt_cv=0", "workload.output_cv=0",
             "traffic.requests=200", "workload.arrivals_per_s=1000",
             f"workload.draft_tokens={drafted}")  # fmt: skip
    row = answer(words).rows.row(0, named=True)
    chunks = 200 * 1024 / 128
    assert row["preemptions"] == 0
    assert chunks <= row["passes"] <= chunks + 210


@pytest.mark.slow
def test_chunks_mean_the_same_in_closed_forms() -> None:
    words = (*SMALL, "batch=64", "workload.chunk=128", "traffic.requests=2000",
             "workload.arrivals_per_s=5")  # fmt: skip
    row = answer(words).rows.row(0, named=True)
    assert 0.3 < row["utilization"] < 0.75
    for name in ("ttft_p50_s", "tpot_p50_s", "tpot_p95_s"):
        assert row[f"closed_{name}"] == pytest.approx(row[name], rel=0.1), name


@pytest.mark.parametrize("stages", [1, 4])
def test_each_sequence_counts_a_shared_prefix(stages: int) -> None:
    words = ("batch=64", f"parallelism.pp={stages}")
    alone, shared = (
        deployment(*words, f"workload.shared_prefix={tokens}").cache_tokens for tokens in (0, 400)
    )
    assert shared == pytest.approx(alone, rel=1e-12)
    assert np.isfinite(alone) and alone > 1e5
