"""Serving, one pass after the other: slow, plain, and what the fast simulation is tested against.

Times are seconds, lengths tokens. A sequence waits, has its prompt computed, then decodes.
`boundary` builds the next pass of one replica, `run_pass` makes it. Blocks are counted in exact
integers: tokens per pass may be a fraction, and a rounded sum can ask for one block too many.
"""

from collections.abc import Sequence
from math import inf

from simulation.lane import (
    Pass,
    PassSeconds,
    Replica,
    Request,
    Rules,
    Run,
    Served,
    ceil_div,
    check,
    report,
)
from simulation.routing import open_fleet, paid_s, route

__all__ = ["Pass", "Request", "Rules", "Run", "run"]


def run(
    requests: Sequence[Request],
    rules: Rules,
    pass_s: PassSeconds,
    most_boundaries: int = 1_000_000,
) -> Run:
    """Serve `requests`, sorted by arrival.

    `pass_s(B, context, new, attended)` gives the seconds of a pass. Raises ValueError where the
    input is outside the rules, RuntimeError where a replica goes past `most_boundaries`.
    """
    check(requests, rules)
    fleet = open_fleet(rules)
    accepted: dict[int, Served] = {}
    for index, request in enumerate(requests):
        if rejected(request, rules):
            continue
        for replica in fleet.replicas:
            advance(replica, request.arrival_s, rules, pass_s, most_boundaries)
        chosen = route(fleet, rules, index, len(accepted), request.arrival_s)
        accepted[index] = enter(chosen, index, request, rules)
    for replica in fleet.replicas:
        advance(replica, inf, rules, pass_s, most_boundaries)
    end_s = max((served.done_s for served in accepted.values()), default=0.0)
    return report(len(requests), accepted, fleet.replicas, paid_s(fleet, end_s))


# Rejection and the queues


def rejected(request: Request, rules: Rules) -> bool:
    """Would it not fit a replica even alone?"""
    return ceil_div(request.prompt + request.output, rules.block) > rules.blocks


def enter(replica: Replica, index: int, request: Request, rules: Rules) -> Served:
    """Queue an accepted request (paragraph 1)."""
    gained = request.output - 1
    passes = gained if request.passes is None else request.passes
    there = request.prompt if rules.prefilled else request.cached
    served = Served(index, request, passes, gained, request.prompt, there, replica=replica.number)
    if rules.prefilled:
        served.first_s = request.arrival_s
    replica.waiting.append(served)
    return served


# One replica


def advance(replica: Replica, until: float, rules: Rules, pass_s: PassSeconds, most: int) -> None:
    """Make all passes that start before `until`, the next arrival of the lane."""
    while replica.t < until:
        replica.boundaries += 1
        if replica.boundaries > most:
            raise RuntimeError(
                f"replica {replica.number} is past {most} boundaries at t={replica.t}: "
                f"{len(replica.running)} running, {len(replica.waiting)} waiting"
            )
        decoding, chunks = boundary(replica, rules)
        if decoding or chunks:
            run_pass(replica, decoding, chunks, rules, pass_s)
        elif replica.waiting or until < inf:
            replica.t = next_change(replica, until, rules)
        else:
            return


def boundary(replica: Replica, rules: Rules) -> tuple[list[Served], list[tuple[Served, int]]]:
    """Return the next pass: the sequences that decode, and the prompts with their new tokens."""
    make_room(replica, rules)
    if rules.prefilled:
        return prefilled(replica, rules), []
    if rules.policy == "chunked":
        return chunked(replica, rules)
    if rules.policy == "prefill_first" or not replica.running:
        chunks = whole_prompts(replica, rules)
        if chunks:
            return [], chunks
    return list(replica.running), []


def held_blocks(served: Served, rules: Rules) -> int:
    """Blocks that one running sequence counts for, the tokens of its next decode pass included."""
    if rules.reserve:
        return reserved(served, rules)
    if not served.decodes:
        return served.needs(rules.block)
    return served.held_ceil(served.done + 1, rules.block)


def reserved(served: Served, rules: Rules) -> int:
    """Blocks of the prompt and the whole output."""
    return ceil_div(served.request.prompt + served.request.output, rules.block)


def all_blocks(replica: Replica, rules: Rules) -> int:
    """Blocks of all that run."""
    return sum(held_blocks(served, rules) for served in replica.running)


def make_room(replica: Replica, rules: Rules) -> None:
    """Preempt until the blocks suffice (paragraph 3).

    The head of the queue is then who was preempted, and has no room: nobody is admitted at once.
    """
    while all_blocks(replica, rules) > rules.blocks and len(replica.running) > 1:
        preempt(replica, rules)


def preempt(replica: Replica, rules: Rules) -> None:
    """Send the sequence that was admitted last to the front of the queue, without its cache."""
    served = replica.running.pop()
    if served.decodes:
        served.target = served.held_ceil(served.done)
    served.computed = served.target if rules.prefilled else served.request.cached
    served.preemptions += 1
    replica.waiting.insert(0, served)


def gate_open(replica: Replica, rules: Rules) -> bool:
    """May the queue be admitted at this boundary (paragraph 4)?"""
    if not replica.waiting:
        return False
    head = replica.waiting[0]
    return (
        rules.wait_s == 0.0
        or replica.t >= head.request.arrival_s + rules.wait_s
        or head.preemptions > 0
        or len(replica.running) + len(replica.waiting) >= rules.slots
    )


def admissible(replica: Replica, rules: Rules) -> bool:
    """Is there a slot, and are there blocks, for the head of the queue (paragraph 5)?"""
    if not replica.waiting or len(replica.running) >= rules.slots:
        return False
    head = replica.waiting[0]
    need = reserved(head, rules) if rules.reserve else head.needs(rules.block)
    return all_blocks(replica, rules) + need <= rules.blocks


def admit(replica: Replica) -> Served:
    """Move the head of the queue to the running sequences."""
    served = replica.waiting.pop(0)
    replica.running.append(served)
    if served.admitted_s != served.admitted_s:  # NaN: the first time
        served.admitted_s = replica.t
    return served


def whole_prompts(replica: Replica, rules: Rules) -> list[tuple[Served, int]]:
    """Admit prompts while the budget has room for them; the first however long (paragraph 5)."""
    chunks: list[tuple[Served, int]] = []
    tokens = 0
    if gate_open(replica, rules):
        while admissible(replica, rules):
            head = replica.waiting[0]
            new = head.target - head.computed
            if chunks and tokens + new > rules.budget:
                break
            chunks.append((admit(replica), new))
            tokens += new
    return chunks


def chunked(replica: Replica, rules: Rules) -> tuple[list[Served], list[tuple[Served, int]]]:
    """All decode, and the rest of the budget is filled with prompts, cut where it ends."""
    decoding = [served for served in replica.running if served.decodes]
    left = max(rules.budget - rules.each * len(decoding), 0)
    chunks: list[tuple[Served, int]] = []
    for served in replica.running:
        if not served.decodes:  # one at most
            chunks.append((served, min(left, served.target - served.computed)))
            left -= chunks[-1][1]
    if gate_open(replica, rules):
        while left > 0 and admissible(replica, rules):
            served = admit(replica)
            chunks.append((served, min(left, served.target - served.computed)))
            left -= chunks[-1][1]
    return decoding, chunks


def prefilled(replica: Replica, rules: Rules) -> list[Served]:
    """Admit sequences that decode at once, their prompt computed elsewhere (paragraph 5)."""
    if gate_open(replica, rules):
        while admissible(replica, rules):
            admit(replica)
    return list(replica.running)


def run_pass(
    replica: Replica,
    decoding: list[Served],
    chunks: list[tuple[Served, int]],
    rules: Rules,
    pass_s: PassSeconds,
) -> None:
    """Make the pass: time, tokens and who is done (paragraph 6), who then leaves (paragraph 2)."""
    context = sum(served.held() for served in decoding) / max(len(decoding), 1)
    new = sum(tokens for _, tokens in chunks)
    attended = sum(n * (served.computed + n / 2) for served, n in chunks) / max(new, 1)
    seconds = pass_s(len(decoding), context, new, attended)
    if not (0.0 <= seconds < inf):
        raise ValueError(f"a pass of {seconds} s")
    replica.log.append(
        Pass(
            replica.number,
            replica.t,
            seconds,
            tuple(served.index for served in replica.running),
            tuple(served.index for served in decoding),
            tuple((served.index, tokens) for served, tokens in chunks),
            all_blocks(replica, rules),
        )
    )
    replica.t += seconds
    for served in decoding:
        served.done += 1
        if served.done == served.passes:
            served.done_s = replica.t
    for served, tokens in chunks:
        served.computed += tokens
        if not served.decodes:
            continue
        if served.first_s != served.first_s:  # NaN: not recomputed after preemption
            served.first_s = replica.t
        if served.done == served.passes:
            served.done_s = replica.t
    stay = [served for served in replica.running if served.done_s != served.done_s]
    replica.leaving = len(replica.running) - len(stay)
    replica.running = stay


def next_change(replica: Replica, until: float, rules: Rules) -> float:
    """Return when an empty replica looks again: the next arrival or the opening of its gate."""
    if not replica.waiting:
        return until
    if gate_open(replica, rules):
        raise RuntimeError(f"an empty replica admits nobody at t={replica.t}")
    return min(until, replica.waiting[0].request.arrival_s + rules.wait_s)
