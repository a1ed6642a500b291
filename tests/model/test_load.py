"""Serving at a load: the columns against a plain event loop, against limits, and bad input."""

from collections import deque
from typing import NamedTuple

import numpy as np
import pytest

from roofrack import config
from roofrack.conversion import to_study
from roofrack.cost import estimate, load, paces, queues, waits
from roofrack.cost.queues import Demand, Passes
from roofrack.errors import InputError
from roofrack.point import point
from roofrack.report.text import text


class Served(NamedTuple):
    """What requests saw: means in seconds, and the 95th percentiles."""

    ttft: float
    ttft_p95: float
    queue: float
    tpot: float
    tpot_p95: float


PASS_S, EACH_S, TOKEN_S = 0.010, 1e-4, 5e-5
"""Seconds of a pass, of a decoding sequence in it, and of a prompt token."""


def lengths(rng: np.random.Generator, mean: float, cv: float, count: int) -> list[int]:
    deviation = np.sqrt(np.log1p(cv * cv))
    drawn = mean * np.exp(deviation * rng.normal(size=count) - deviation**2 / 2.0)
    return [max(round(x), 1) for x in drawn]


def events(
    per_s: float, prompt: int, output: int, cv: float, slots: int, chunk: int, count: int
) -> Served:
    """Serve requests pass by pass: prompts first and alone, or in chunks beside what decodes."""
    rng = np.random.default_rng(1)
    comes = np.cumsum(rng.exponential(1.0 / per_s, count))
    prompts, outputs = lengths(rng, prompt, cv, count), lengths(rng, output, cv, count)
    admitted, first, done = (np.full(count, np.nan) for _ in range(3))
    queue: deque[int] = deque()
    running: dict[int, int] = {}
    left: dict[int, int] = {}  # of the prompt that is partly computed
    clock, seen = 0.0, 0
    while np.isnan(done).any() and not (seen == count and not queue and not running and not left):
        while seen < count and comes[seen] <= clock:
            queue.append(seen)
            seen += 1
        new, ready, room = 0, [], chunk or 1
        while room > 0 and (left or (queue and len(running) + len(ready) < slots)):
            if not left:
                head = queue.popleft()
                admitted[head] = clock
                left[head] = prompts[head]
            (head,) = left
            taken = min(left[head], room) if chunk else left[head]
            left[head] -= taken
            room, new = room - taken, new + taken
            if left[head] == 0:
                del left[head]
                ready.append(head)
        decodes = bool(running) and (chunk > 0 or not new)
        if not decodes and not new:
            clock = comes[seen]
            continue
        clock += PASS_S + (EACH_S * len(running) if decodes else 0.0) + TOKEN_S * new
        for one in list(running) if decodes else ():
            running[one] -= 1
            if not running[one]:
                del running[one]
                done[one] = clock
        for one in ready:
            first[one] = clock
            if outputs[one] > 1:
                running[one] = outputs[one] - 1
            else:
                done[one] = clock
    steady = slice(count // 7, -count // 20)
    long = np.array(outputs)[steady] > 1
    ttft = (first - comes)[steady]
    tpot = ((done - first) / np.maximum(np.array(outputs) - 1, 1))[steady][long]
    return Served(
        ttft.mean(),
        float(np.percentile(ttft, 95)),
        (admitted - comes)[steady].mean(),
        tpot.mean(),
        float(np.percentile(tpot, 95)),
    )


def closed(per_s: float, prompt: int, output: int, cv: float, slots: int, chunk: int) -> Served:
    nodes = queues.nodes(np.float64(slots), 0)
    passes = Passes(PASS_S + EACH_S * nodes, np.float64(slots))
    token_s, fixed = TOKEN_S * prompt, 0.0 if chunk else PASS_S
    each = fixed + token_s
    by_length = cv * token_s / each
    demand = Demand(np.float64(per_s), output - 1.0, each, 1.0, by_length, cv)
    law = queues.states(demand, passes)
    held = float(np.sum(law.n * law.share) + law.full * slots)
    beside = PASS_S + EACH_S * held if chunk else 0.0
    chunks = prompt / chunk if chunk else 0.0
    numbers = (fixed, token_s, beside, chunks, each + chunks * beside, by_length, cv)
    one = waits.Prompt(*map(np.float64, numbers))
    waiting = waits.waits(demand, law, np.float64(slots), one, np.float64(1.0))
    ttft = waits.ttft_mean(waiting, one, 0)
    left = 0.0 if chunk else per_s * ttft - law.queued
    pace = paces.pace(demand, law, np.float64(slots), np.float64(left))
    return Served(
        ttft,
        waits.ttft_quantiles(waiting, one, 0)["p95"],
        waiting.queue_s,
        paces.pace_mean(pace, 0),
        paces.pace_quantiles(pace, 0)["p95"],
    )


@pytest.mark.parametrize("chunk", [0, 512])
@pytest.mark.parametrize("cv", [0.0, 1.0])
@pytest.mark.parametrize("busy", [0.3, 0.7])
def test_closed_forms_are_near_an_event_loop(busy: float, cv: float, chunk: int) -> None:
    """Means within 10 %, p95 within 20 %, the wait of chunks within 30 %, while slots are free."""
    prompt, output, slots = 400, 60, 32
    each = TOKEN_S * prompt + (0.0 if chunk else PASS_S)
    per_s = busy / (each + (output - 1.0) * (PASS_S + EACH_S * slots) / slots)
    seen = events(per_s, prompt, output, cv, slots, chunk, 6000)
    told = closed(per_s, prompt, output, cv, slots, chunk)
    for name, near in zip(Served._fields, (0.1, 0.2, 0.3 if chunk else 0.1, 0.1, 0.2), strict=True):
        assert getattr(told, name) == pytest.approx(getattr(seen, name), rel=near), name


def asked(*leaves: str) -> dict[str, object]:
    found = point(config.compose(["workload=chat", *leaves]))
    assert isinstance(found, dict)
    return found


def test_without_arrivals_nothing_is_said() -> None:
    row = asked()
    assert all(row[name] is None for name in (*load.COLUMNS, "goodput"))
    assert "load" not in to_study(config.compose(["workload=chat"])).grid().features


def test_at_no_load_a_request_is_alone() -> None:
    same = ("workload.prompt_cv=0", "workload.output_cv=0")
    row = asked("workload.arrivals_per_s=1e-6", "batch=1", *same)
    assert row["ttft_p50_s"] == pytest.approx(row["ttft_s"], rel=0.01)
    alone = point(config.compose(["workload.phase=decode", "batch=1", "context=1260.5"]))
    assert row["tpot_p50_s"] == pytest.approx(alone["tpot_s"], rel=0.01)  # type: ignore[call-overload]
    assert row["queue_s"] == pytest.approx(0.0, abs=1e-4)
    assert row["goodput"] == pytest.approx(1.0, abs=1e-3)


@pytest.mark.parametrize(
    "mode", ["workload.chunk=0", "workload.chunk=512", "workload.serving=disaggregated"]
)
def test_more_arrivals_wait_longer_and_pay_less(mode: str) -> None:
    rates = np.array([0.5, 2.0, 4.0, 6.0, 8.0, 9.0, 300.0])
    study = to_study(config.compose(["workload=chat", "workload.arrivals_per_s=1", mode]))
    with np.errstate(all="ignore"):
        found = estimate(study.bind({"workload.arrivals_per_s": rates}))
    np.testing.assert_allclose(found["utilization"] / rates, found["utilization"][0] / 0.5)
    for name in ("ttft_p95_s", "ttft_p99_s", "tpot_p50_s", "tpot_p95_s", "queue_s"):
        assert np.all(np.diff(found[name][:-1]) > 0), name
        assert np.isnan(found[name][-1]), name
    assert np.all(np.diff(found["usd_per_mtok_at_load"]) < 0)
    assert found["goodput"][-1] == 0.0


def test_long_outputs_take_the_slots_that_memory_has() -> None:
    held = [asked("workload.arrivals_per_s=1", "batch=4096", f"workload.output_cv={cv}")
            for cv in (0, 3)]  # fmt: skip
    slots = [row["slots_at_load"] for row in held]
    assert slots[1] < slots[0] < 4096  # type: ignore[operator]


def test_the_text_has_a_section_for_it() -> None:
    shown = text(asked("workload.arrivals_per_s=2"))
    assert "at the load" in shown and "ttft_p99_s" in shown
    assert "OVERLOADED" in text(asked("workload.arrivals_per_s=200"))


@pytest.mark.parametrize("value", ["-1", "nan", ".inf"])
def test_bad_arrivals_are_one_clear_line(value: str) -> None:
    with pytest.raises(InputError, match=r"workload\.arrivals_per_s") as caught:
        asked(f"workload.arrivals_per_s={value}")
    assert "\n" not in str(caught.value)


def test_arrivals_mean_nothing_where_nothing_is_served() -> None:
    with pytest.raises(InputError, match=r"used only with workload\.phase=serve"):
        point(config.compose(["workload.arrivals_per_s=2"]))
