"""What holds of every run of the event loop, whatever the requests and the rules."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from math import ceil, isnan

from hypothesis import given, settings
from hypothesis import strategies as st
from simulation.event_loop import Pass, Request, Rules, Run, run

MANY = settings(max_examples=80)


def clock(decoding: int, context: float, new: int, attended: float) -> float:
    """Seconds that sum without rounding, so that a shift or a scale changes no decision."""
    work = 8 + decoding + round(context) // 4 + 2 * new + round(attended) // 8
    return work / 16


@st.composite
def lanes(draw: st.DrawFn) -> tuple[list[Request], Rules]:
    """Up to twelve requests, often at the same time, some with passes of several tokens."""
    found, pool = [], draw(st.sampled_from(["both", "both", "both", "prompts", "decode"]))
    least, most = {"both": (1, 20), "prompts": (1, 1), "decode": (2, 20)}[pool]
    for arrival in sorted(draw(st.lists(st.integers(0, 24), min_size=2, max_size=12))):
        prompt, output = draw(st.integers(1, 12)), draw(st.integers(least, most))
        passes = draw(st.none() | st.integers(min(output - 1, 1), output - 1))
        cached = draw(st.integers(0, prompt - 1))
        found.append(Request(arrival / 4, prompt, output, cached, passes))
    return found, draw(rules(pool == "decode"))


@st.composite
def rules(draw: st.DrawFn, prefilled: bool) -> Rules:
    """Few slots and few blocks, so that requests are in each other's way."""
    slots, block = draw(st.sampled_from([5, 4, 3, 2, 1])), draw(st.sampled_from([1, 3, 4]))
    replicas, each = draw(st.sampled_from([1, 1, 1, 2, 3, 4])), draw(st.sampled_from([1, 1, 0, 3]))
    return Rules(
        slots=slots,
        blocks=-(-draw(st.integers(20, 60)) // block),
        block=block,
        budget=draw(st.integers(each * slots + 1, 40)),
        each=each,
        policy=draw(st.sampled_from(["prefill_first", "decode_first", "chunked"])),
        reserve=draw(st.sampled_from([False, False, True])),
        wait_s=draw(st.sampled_from([0.0, 0.0, 1.5, 20.0])),
        replicas=replicas,
        routing=draw(st.sampled_from(["round_robin", "least_loaded"])),
        prefilled=prefilled,
        scale_at=draw(st.sampled_from([0.0, 0.5, 1.0, 1.5, 3.0])) if replicas > 1 else 0.0,
        least=draw(st.integers(1, replicas)),
        start_s=draw(st.sampled_from([0.0, 0.75, 2.0])),
        idle_s=draw(st.sampled_from([0.0, 0.0, 1.0])),
    )


def passes(request: Request) -> int:
    return request.output - 1 if request.passes is None else request.passes


def accepted(found: Run) -> list[int]:
    return [index for index, rejected in enumerate(found.rejected) if not rejected]


@MANY
@given(lanes())
def test_everyone_is_served_once(lane: tuple[list[Request], Rules]) -> None:
    requests, rules = lane
    found = run(requests, rules, clock)
    for index, request in enumerate(requests):
        if found.rejected[index]:
            assert request.prompt + request.output > (rules.blocks - 1) * rules.block
            assert isnan(found.done_s[index]) and found.replica[index] == -1
            continue
        assert request.arrival_s <= found.admitted_s[index] <= found.done_s[index]
        assert found.first_s[index] <= found.done_s[index]
        if rules.prefilled:
            assert found.first_s[index] == request.arrival_s
        else:
            assert found.admitted_s[index] < found.first_s[index]


@MANY
@given(lanes())
def test_work_is_conserved(lane: tuple[list[Request], Rules]) -> None:
    requests, rules = lane
    found = run(requests, rules, clock)
    log = [p for replica in found.log for p in replica]
    steps = Counter(index for p in log for index in p.decoding)
    tokens: Counter[int] = Counter()
    for p in log:
        tokens.update(dict(p.chunks))
    for index in accepted(found):
        request = requests[index]
        assert steps[index] == passes(request)
        new = 0 if rules.prefilled else request.prompt - request.cached
        assert tokens[index] == new if not found.preemptions[index] else tokens[index] >= new
    assert sum(found.prompt_tokens) == sum(tokens.values())
    if rules.reserve or all(request.output == 1 for request in requests):
        assert not any(found.preemptions)


def within(p: Pass, rules: Rules) -> bool:
    """Does one pass keep to slots, blocks and budget?"""
    new = sum(tokens for _, tokens in p.chunks)
    if rules.prefilled:
        return not new
    if rules.policy == "chunked":
        return rules.each * len(p.decoding) + new <= rules.budget
    return not (p.decoding and p.chunks) and (new <= rules.budget or len(p.chunks) == 1)


@MANY
@given(lanes())
def test_every_pass_keeps_to_the_rules(lane: tuple[list[Request], Rules]) -> None:
    requests, rules = lane
    found = run(requests, rules, clock)
    for log in found.log:
        for p in log:
            assert 0 < len(p.running) <= rules.slots and p.blocks <= rules.blocks
            assert within(p, rules) and all(tokens > 0 for _, tokens in p.chunks)
            assert p.decoding or p.chunks
            busy = {*p.decoding, *dict(p.chunks)}
            assert busy <= set(p.running) and len(p.running) == len(set(p.running))
            if rules.policy == "decode_first" and p.chunks:
                assert busy == set(p.running), "nobody stands still"
        assert all(p.start_s + p.seconds <= q.start_s for p, q in pairwise(log))


class Audit:
    """Blocks of one replica, followed from what its passes did and not from its state."""

    def __init__(self, requests: list[Request], rules: Rules) -> None:
        self.requests, self.rules = requests, rules
        self.steps: Counter[int] = Counter()
        self.target = {i: request.prompt for i, request in enumerate(requests)}
        self.left = {i: self.new(i) for i in self.target}  # prompt tokens to compute

    def new(self, index: int) -> int:
        return 0 if self.rules.prefilled else self.target[index] - self.requests[index].cached

    def rate(self, index: int) -> Fraction:
        return Fraction(self.requests[index].output - 1, max(passes(self.requests[index]), 1))

    def held(self, index: int) -> Fraction:
        return self.requests[index].prompt + self.rate(index) * self.steps[index]

    def blocks(self, indices: Iterable[int], admitting: int = -1) -> int:
        """Blocks of all that run, and of one that is about to."""
        total = 0
        for i in indices:
            tokens = self.target[i] if self.left[i] or i == admitting else self.held(i)
            tokens += self.rate(i)
            if self.rules.reserve:
                tokens = Fraction(self.requests[i].prompt + self.requests[i].output)
            total += ceil(tokens / self.rules.block)
        return total

    def done(self, index: int) -> bool:
        return not self.left[index] and self.steps[index] == passes(self.requests[index])

    def lose(self, index: int) -> None:
        if not self.left[index]:
            self.target[index] = ceil(self.held(index))
        self.left[index] = self.new(index)


@MANY
@given(lanes())
def test_blocks_decide_who_runs(lane: tuple[list[Request], Rules]) -> None:
    requests, rules = lane
    found = run(requests, rules, clock)
    for log in found.log:
        audit, stay = Audit(requests, rules), []
        for p in log:
            out = [i for i in stay if i not in p.running]
            assert stay[len(stay) - len(out) :] == out, "those who were admitted last"
            kept = stay[: len(stay) - len(out)]
            assert list(p.running[: len(kept)]) == kept
            if out:
                assert p.running == tuple(kept), "nobody is admitted where anybody is preempted"
                assert audit.blocks([*kept, out[0]]) > rules.blocks, "nor one more than need be"
            for i in out:
                audit.lose(i)
            if out:
                assert audit.blocks([*kept, out[0]], out[0]) > rules.blocks
            for place, i in enumerate(p.running[len(kept) :], len(kept)):
                assert audit.blocks(p.running[: place + 1], i) <= rules.blocks
            assert p.blocks == audit.blocks(p.running) <= rules.blocks
            for i, tokens in p.chunks:
                audit.left[i] -= tokens
            audit.steps.update(p.decoding)
            stay = [i for i in p.running if not audit.done(i)]
        assert not stay


@MANY
@given(lanes())
def test_first_come_first_served_and_never_idle(lane: tuple[list[Request], Rules]) -> None:
    requests, rules = lane
    found = run(requests, rules, clock)
    for number, log in enumerate(found.log):
        own = [i for i in accepted(found) if found.replica[i] == number]
        times = [found.admitted_s[i] for i in own]
        assert times == sorted(times)
        assert not any(found.preemptions[i] for i in own[:1]), "the oldest always goes on"
        ends = [0.0, *(p.start_s + p.seconds for p in log)]
        for end, p in zip(ends, log, strict=False):
            inside = [i for i in own if requests[i].arrival_s < p.start_s > end]
            inside = [i for i in inside if found.done_s[i] > end]
            assert rules.wait_s or not inside
            assert all(p.start_s <= requests[i].arrival_s + rules.wait_s for i in inside)


@MANY
@given(lanes())
def test_replicas_do_not_touch_each_other(lane: tuple[list[Request], Rules]) -> None:
    requests, rules = lane
    found = run(requests, rules, clock)
    for number in range(rules.replicas):
        own = [i for i in accepted(found) if found.replica[i] == number]
        one = replace(rules, replicas=1, scale_at=0.0, least=1)
        alone = run([requests[i] for i in own], one, clock)
        assert alone.done_s == [found.done_s[i] for i in own]
        assert alone.first_s == [found.first_s[i] for i in own]
        assert alone.preemptions == [found.preemptions[i] for i in own]
        assert alone.busy_s == found.busy_s[number : number + 1]


@MANY
@given(lanes())
def test_only_differences_of_time_count(lane: tuple[list[Request], Rules]) -> None:
    requests, rules = lane
    found = run(requests, rules, clock)
    later = [replace(request, arrival_s=request.arrival_s + 64.0) for request in requests]
    shifted = run(later, rules, clock)
    slower = [replace(request, arrival_s=request.arrival_s * 2.0) for request in requests]
    doubled = {name: getattr(rules, name) * 2.0 for name in ("wait_s", "start_s", "idle_s")}
    slow = replace(rules, **doubled)
    scaled = run(slower, slow, lambda *asked: 2.0 * clock(*asked))
    for index in accepted(found):
        assert shifted.done_s[index] == found.done_s[index] + 64.0
        assert scaled.done_s[index] == found.done_s[index] * 2.0
    assert shifted.preemptions == scaled.preemptions == found.preemptions
    assert shifted.replica == scaled.replica == found.replica
    if accepted(found):
        always = rules.least if rules.scale_at else rules.replicas
        later_s = [64.0] * always + [0.0] * (rules.replicas - always)
        assert [b - a for a, b in zip(found.paid_s, shifted.paid_s, strict=True)] == later_s
    assert scaled.paid_s == [2.0 * seconds for seconds in found.paid_s]


@MANY
@given(lanes())
def test_enough_of_everything_leaves_nobody_waiting(lane: tuple[list[Request], Rules]) -> None:
    requests, rules = lane
    ample = replace(rules, slots=99, blocks=9999, budget=9999, wait_s=0.0, replicas=1, least=1)
    found = run(requests, ample, clock)
    assert not any(found.rejected) and not any(found.preemptions)
    if ample.policy == "decode_first" and not ample.prefilled:
        return
    starts = [p.start_s for p in found.log[0]]
    for index, request in enumerate(requests):
        assert found.admitted_s[index] == min(s for s in starts if s >= request.arrival_s)


def replicas_on(requests: list[Request], rules: Rules, found: Run) -> list[tuple[float, int]]:
    """How many replicas are on from each accepted arrival, from the times that requests end."""
    steps, on, changed_s = [(0.0, rules.least)], rules.least, 0.0
    here = accepted(found)
    for place, i in enumerate(here):
        now = requests[i].arrival_s
        there = 1 + sum(found.done_s[j] > now for j in here[:place])
        wanted = sorted((rules.least, ceil(there / rules.scale_at), rules.replicas))[1]
        if wanted > on or (wanted < on and now - changed_s >= rules.idle_s):
            on, changed_s = max(wanted, on - 1), now
        steps.append((now, on))
    return steps


@MANY
@given(lanes())
def test_replicas_on_are_paid_and_those_off_by_their_passes(
    lane: tuple[list[Request], Rules],
) -> None:
    requests, rules = lane
    rules = replace(rules, scale_at=rules.scale_at or 1.0)
    found = run(requests, rules, clock)
    steps = replicas_on(requests, rules, found)
    end_s = max((found.done_s[i] for i in accepted(found)), default=0.0)
    spans = list(pairwise([*steps, (end_s, 0)]))
    for number, log in enumerate(found.log):
        paid = sum(t - s for (s, on), (t, _) in spans if number < on)
        for p in log:
            on = [on for s, on in steps if s <= p.start_s][-1]
            paid += p.seconds if number >= on else 0.0
        assert found.paid_s[number] == paid
    for place, i in enumerate(accepted(found), 1):
        off = [k for k, (_, on) in enumerate(steps[: place + 1]) if on <= found.replica[i]]
        if off:
            assert off[-1] < place, "only to one that is on"
            assert steps[place][0] - steps[off[-1] + 1][0] >= rules.start_s, "and ready"


@MANY
@given(lanes())
def test_autoscaling_that_cannot_change_anything_does_not(
    lane: tuple[list[Request], Rules],
) -> None:
    requests, rules = lane
    always = run(requests, replace(rules, scale_at=0.0), clock)
    for least, scale_at in ((rules.replicas, 1.0), (rules.replicas, 99.0)):
        found = run(requests, replace(rules, scale_at=scale_at, least=least), clock)
        assert repr(found) == repr(always)  # NaN is equal to itself as text
    if accepted(found):
        few = run(requests, replace(rules, scale_at=99.0, least=1), clock)
        assert set(few.replica) <= {-1, 0}
        assert few.paid_s[0] > 0.0 and not any(few.paid_s[1:])
