"""The protocol for small messages: never slower than the one for large ones alone."""

from typing import Any

import numpy as np
import pytest
from model.cases import COLLECTIVES, lay, result, study

from roofrack.cost.collectives import all_gather, all_reduce
from roofrack.cost.ways import NEVER_S, group

LINK = 4.5e11  # of an H100, one way
LATENCY = 1e-6
SIZES = np.geomspace(10.0, 1e10, 40)


def fitted(kind: str, **leaves: float) -> dict[str, Any]:
    return {f"calibration.scale_up.{kind}.{name}": value for name, value in leaves.items()}


def seconds(collective: Any, leaves: dict[str, Any], members: float = 8.0) -> np.ndarray:
    scenario = study("h100_sxm", "llama3_1_70b", "ideal").bind(
        {"hardware.fabric.scale_up.in_network_reduction": 0.0} | leaves
    )
    return sum(collective(group(lay(scenario, (members, 1.0))), SIZES).seconds)


NUMBERS = {"efficiency": 0.8, "launch_s": 2e-6, "step_s": 3e-7, "staged_s": 2e-5, "own": 0.2}


@pytest.mark.parametrize("low_latency", [0.0, 2.0, 16.0])
def test_a_gather_by_hand(low_latency: float) -> None:
    """Two lines; log2 8 = 3 hops of the large protocol, one of the small, which sends more."""
    fit = fitted("all_gather", low_latency=low_latency, **NUMBERS)
    sent = (7 / 8 + 0.2) * SIZES / (0.8 * LINK)
    waits = 2e-6 + 3 * 3e-7
    large = 3 * LATENCY + waits + 2e-5 + sent
    small = LATENCY + waits + low_latency * sent
    expected = np.minimum(large, small) if low_latency else large
    assert seconds(all_gather, fit) == pytest.approx(expected, rel=1e-12)
    if low_latency > 1:  # either is used
        assert np.any(small < large) and np.any(large < small)


@pytest.mark.parametrize("direct", [0.0, 1.0])
def test_an_all_reduce_by_hand(direct: float) -> None:
    """Engines' own kernels read the whole buffers of all seven others at once."""
    fit = fitted("all_reduce", direct=direct, low_latency=0.0, **NUMBERS)
    waits = 2e-6 + 3 * 3e-7
    large = 2 * 3 * LATENCY + waits + 2e-5 + (2 * 7 / 8 + 0.2) * SIZES / (0.8 * LINK)
    small = LATENCY + waits + (7 + 0.2) * SIZES / (0.8 * LINK)
    expected = np.minimum(large, small) if direct else large
    assert seconds(all_reduce, fit) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("own", [0.0, 0.5])
@pytest.mark.parametrize("extra", [{"low_latency": 1.5}, {"low_latency": 8.0}, {"direct": 1.0}])
@pytest.mark.parametrize("members", [2.0, 4.0, 8.0, 16.0, 64.0])
def test_it_is_never_slower_than_without(
    extra: dict[str, float], members: float, own: float
) -> None:
    numbers = NUMBERS | {"own": own}
    for kind, collective in (("all_gather", all_gather), ("all_reduce", all_reduce)):
        without = seconds(collective, fitted(kind, **numbers), members)
        having = seconds(collective, fitted(kind, **numbers, **extra), members)
        assert np.all(having <= without)
        # a level that has no such protocol: none for the group
        assert np.any(having < without) == (members <= 8)
        # where much is sent it changes nothing, unless it sends no more: one buffer, read by two
        if members > 2 or "direct" not in extra:
            assert having[-1] == without[-1]


def test_without_it_nothing_is_chosen_that_never_ends() -> None:
    for calibration in ("ideal", "default"):
        at = study("h100_sxm", "llama3_1_70b", calibration)
        for link in ("scale_up", "scale_out"):
            for kind in COLLECTIVES:
                path = f"calibration.{link}.{kind}"
                assert at.leaves[f"{path}.low_latency"] == at.leaves[f"{path}.direct"] == 0
        laid = group(lay(at.bind({}), (64.0, 1.0)))
        for ways, collective in ((laid.gather, all_gather), (laid.reduce, all_reduce)):
            assert max(sum(way.fixed_s) for way in ways) >= NEVER_S
            assert np.all(sum(collective(laid, SIZES).seconds) < 1.0)


@pytest.mark.parametrize("batch", [1.0, 16.0, 4096.0])
def test_a_step_on_eight_chips_by_hand(batch: float) -> None:
    """Llama 70B, two all-reduces a layer, as an engine with kernels of its own does them."""
    numbers = {"efficiency": 0.75, "launch_s": 1.5e-6, "step_s": 2e-7, "staged_s": 2e-5, "own": 0.1}
    fit = fitted("all_reduce", direct=1.0, **numbers)
    fit |= {"hardware.fabric.scale_up.in_network_reduction": 0.0}
    row = result(study("h100_sxm", "llama3_1_70b", "ideal"), fit, tp=8.0, batch=batch)
    vector = batch * 8192 * 2
    fixed = 1.5e-6 + 3 * 2e-7
    small = LATENCY + fixed + 7.1 * vector / (0.75 * LINK)
    large = 6 * LATENCY + fixed + 2e-5 + (14 / 8 + 0.1) * vector / (0.75 * LINK)
    assert row["t_scale_up_s"] == pytest.approx(160 * min(small, large), rel=1e-9)
