"""What is measured of a run."""

from math import inf

import numpy as np
import pytest

from roofrack import config
from roofrack.conversion import to_study
from roofrack.simulation.asked import Limits, asked
from roofrack.simulation.deployments import deployments
from roofrack.simulation.measured import grows, series
from roofrack.simulation.played import simulate

SMALL = ("workload=chat", "hardware=h100_sxm", "model=llama3_1_8b", "parallelism=single",
         "workload.batch=32", "traffic.requests=200")  # fmt: skip


@pytest.mark.parametrize(
    "words",
    [
        ("workload.arrivals_per_s=60",),  # the queue grows
        ("workload.arrivals_per_s=8",),
        ("workload.arrivals_per_s=8", "workload.wait_s=0.5"),  # most wait where nothing runs
        ("workload.arrivals_per_s=60", "engine.policy=chunked", "parallelism.replicas=2"),
        ("workload.arrivals_per_s=60", "workload.serving=disaggregated"),
        ("workload.arrivals_per_s=30", "engine.cache_tokens=4096"),  # some are rejected
    ],
)
def test_the_mean_queue_is_the_rate_times_the_mean_wait(words) -> None:
    of = asked([*SMALL, *words])
    (played,) = simulate(deployments(to_study(config.compose(of.overrides)), of.engine), of)
    over_time = series(played)
    width = 2.0 * over_time["time_s"][0]
    there = played.done_s == played.done_s
    lasts = width * len(over_time["time_s"])  # a run may go on after what is shown
    ends, begins = (np.minimum(x[there], lasts) for x in (played.admitted_s, played.arrival_s))
    waits = ends - begins
    assert waits.mean() > 0
    # Little's law: N = (requests / time) * W
    assert over_time["waiting"].mean() == pytest.approx(there.sum() / lasts * waits.mean())


@pytest.mark.parametrize(
    ("middle", "end", "promised", "usual", "found"),
    [
        (1.0, 1.4, 1.0, 1.0, False),  # not by half
        (1.0, 1.6, 1.0, 1.0, True),
        (1.0, 1.6, 10.0, 1.0, False),  # nobody was promised less
        (1.0, 1.6, inf, 10.0, False),
        (1.0, 1.6, inf, 1.0, True),
        (None, 1.6, 1.0, 1.0, False),
    ],
)
def test_a_queue_grows_where_the_end_waits_longer(middle, end, promised, usual, found) -> None:
    values = {"ttft_middle_s": middle, "ttft_end_s": end, "e2e_p50_s": usual}
    assert grows(values, Limits(ttft_s=promised)) is found
