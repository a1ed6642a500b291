"""What comes to a deployment, and what is found of it in caches."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from roofrack import config
from roofrack.conversion import to_study
from roofrack.errors import InputError
from roofrack.simulation.asked import asked
from roofrack.simulation.command import answer
from roofrack.simulation.deployments import deployments
from roofrack.simulation.played import Maker
from roofrack.simulation.state import ASSIGNED, ROUND_ROBIN
from roofrack.traffic import prefix_hits

SMALL = ("workload=chat", "hardware=h100_sxm", "model=llama3_1_8b", "parallelism=single",
         "workload.batch=32")  # fmt: skip
RATE = "workload.arrivals_per_s=4"
BLOCKS = ("traffic=mooncake_conversation", "traffic.requests=120")


def made(*words: str):
    of = asked([*SMALL, *words])
    study = to_study(config.compose(of.overrides))
    return Maker(of), deployments(study, of.engine)[0]


def test_of_requests_and_a_time_the_smaller_counts() -> None:
    for requests, seconds, least, most in (
        (50, 1000, 50, 50),
        (500, 10, 20, 70),
        (500, 0, 500, 500),
    ):
        maker, of = made(f"traffic.requests={requests}", f"traffic.duration_s={seconds}")
        job = maker.job(of, 4.0, 0)
        assert least <= len(job.requests) <= most
        assert not seconds or job.stretch * job.requests.duration_s < seconds


@pytest.mark.parametrize(
    "words",
    [
        ("engine.routing=least_loaded",),
        ("engine.scale_at=4",),
        ("engine.routing=round_robin,least_loaded",),
    ],
)
def test_prefixes_are_not_looked_up_where_nobody_knows_who_is_sent_where(words) -> None:
    words = (*SMALL, *BLOCKS, "parallelism.replicas=2", *words)
    with pytest.raises(InputError, match=r"engine\..*round_robin or prefix.*keeps none") as caught:
        answer(words)
    assert "\n" not in str(caught.value)
    rows = answer([*words, "engine.prefix_tokens=1"]).rows
    assert (rows["cached_share"] == 0).all()
    one = answer([word.replace("replicas=2", "replicas=1") for word in words])
    assert (one.rows["cached_share"] > 0).all()


@pytest.mark.parametrize("routing", ["round_robin", "prefix"])
def test_pools_apart_find_prefixes_where_prompts_are_computed(routing: str) -> None:
    maker, of = made(
        *BLOCKS, "workload.serving=disaggregated", "workload.prefill_instances=3",
        "engine.prefix_tokens=inf", f"engine.routing={routing}",
    )  # fmt: skip
    job = maker.job(of, 1.0, 0)
    hits = prefix_hits(job.requests, np.inf, 3, routing)
    assert (job.stream.cached == hits.cached).all() and hits.cached.any()
    assert (job.entering.stream.replica == hits.replica).all()
    assert job.entering.routing == ASSIGNED and job.entering.replicas == 3
    assert job.after is not None and job.after.routing == ROUND_ROBIN
    # as much as that pool has room for, not the one that decodes
    small, of = made(*BLOCKS, "workload.serving=disaggregated", f"engine.routing={routing}")
    assert of.prompt_cache_tokens != of.cache_tokens
    replicas = of.prefill_instances
    found = prefix_hits(job.requests, of.prompt_cache_tokens, replicas, routing)
    assert (small.job(of, 1.0, 0).stream.cached == found.cached).all()


def test_whoever_is_rejected_takes_no_turn(tmp_path: Path) -> None:
    lines = [
        {"arrival_s": float(i), "input_length": n, "output_length": 8, "hash_ids": [7, 8]}
        for i, n in enumerate((600, 5000, 600, 600))
    ]
    path = tmp_path / "turns.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    maker, of = made(
        f"traffic={path}", "parallelism.replicas=2", "engine.cache_tokens=2048",
        "engine.prefix_tokens=inf",
    )  # fmt: skip
    job = maker.job(of, 1.0, 0)
    assert job.stream.replica[[0, 2, 3]].tolist() == [0, 1, 0]
    assert job.stream.cached.tolist() == [0, 0, 0, 599]


def test_what_is_shared_is_known_by_its_value() -> None:
    maker, of = made("traffic.requests=50")
    first = maker.job(of, 4.0, 0)
    again = maker.job(replace(of, scenario=replace(of.scenario)), 4.0, 0)
    assert again.entering.clock is first.entering.clock
    assert again.entering.stream is first.entering.stream
    other = replace(
        of.scenario,
        workload=replace(of.scenario.workload, dtype=of.scenario.workload.dtype, routing_skew=2.0),
    )
    assert maker.job(replace(of, scenario=other), 4.0, 0).entering.clock is not first.entering.clock
