"""What the schedule of a training pipeline costs: idle time, activations held. MODEL section 6.

Symbols: P stages, m micro-batches of a step, v virtual stages; for one micro-batch on one whole
stage f forward, b whole backward, w its part for the gradient of the weights (so i = b - w for that
of the inputs), fb a forward and a backward overlapped; all stages alike. Every formula here is
exact for the orders of `roofrack.schedules`, whose simulation tests it. `schedule` is an index into
`tables.SCHEDULES`, held as a float; all arguments broadcast.

Where f = i and w <= f, and m is large enough, the formulas are those that the authors print:
GPipe arXiv:1811.06965, 1F1B and interleaved arXiv:2104.04473, ZB-H1 and ZB-H2 arXiv:2401.10241
(table 1), DualPipe arXiv:2412.19437 (table 2).
"""

import numpy as np

from roofrack.arithmetic import Number, ceil, choose, floor, least, look_up, most, whole
from roofrack.tables import SCHEDULES

INDEX = {name: float(index) for index, name in enumerate(SCHEDULES)}
"""The index of a schedule by name."""

REASONS = (
    "the micro-batches of a step are not a whole number, at least 1",
    "virtual stages without schedule=interleaved",
    "the stages do not divide the micro-batches under schedule=interleaved",
    "an odd number of stages under schedule=dualpipe",
    "micro-batches odd, or fewer than twice the stages, under schedule=dualpipe",
)
"""Why a schedule cannot run, in the order of `invalid`."""


def _is(schedule: Number, name: str) -> Number:
    return schedule == INDEX[name]


def bubble_s(
    schedule: Number,
    pp: Number,
    microbatches: Number,
    virtual_stages: Number,
    f: Number,
    b: Number,
    w: Number,
    fb: Number,
    hop_s: Number = 0.0,
) -> Number:
    """Return the idle seconds per step of the stage that waits longest; 0 on one stage.

    GPipe, 1F1B: (P-1)(f+b), any m; interleaved: 1/v of that, any m that P divides; the others: see
    `_h1`, `_h2` and `_dualpipe`. Steps follow each other without a barrier, as the authors of ZB-H2
    count; `barrier_s` is what one adds.

    `hop_s` seconds pass until a message is there, while its sender works on. GPipe and interleaved
    stages wait for it once at each boundary, there and back; 1F1B, which has no micro-batch in
    reserve, about twice for every micro-batch besides (`_turns`). Exact for any latency under GPipe
    and 1F1B, up to min(f,b)/v interleaved, w/2 ZB-H1, (f+i)/2 ZB-H2, min(f,i,w) DualPipe (with a
    barrier after the step); a lower bound beyond.
    """
    parts = _parts(schedule, virtual_stages)
    crossed = 2.0 * (pp * parts - 1.0)  # boundaries, there and back
    reserve = _is(schedule, "gpipe") | (parts > 1.0)
    waits = crossed + choose(reserve, 0.0, 2.0 * _turns(pp, microbatches))
    found = {
        "zb_h1": _h1(pp, microbatches, f, b, w, hop_s),
        "zb_h2": _h2(pp, microbatches, f, b, w, hop_s),
        "dualpipe": _dualpipe(pp, microbatches, f, b, w, fb, hop_s),
    }
    idle = (pp - 1.0) * (f + b) / parts + waits * hop_s
    for name, own in found.items():
        idle = choose(_is(schedule, name), own, idle)
    return choose(pp > 1.0, idle, 0.0)


def _parts(schedule: Number, virtual_stages: Number) -> Number:
    """Return in how many parts the layers of a stage are cut."""
    return choose(_is(schedule, "interleaved"), virtual_stages, 1.0)


def _turns(pp: Number, microbatches: Number) -> Number:
    """Return how many micro-batches wait for a message and its answer: all but one in P."""
    others = microbatches - 1.0
    return others - ceil(others / pp)


def _h1(pp: Number, microbatches: Number, f: Number, b: Number, w: Number, hop_s: Number) -> Number:
    """Return the idle time of ZB-H1, with M = min(m, P) micro-batches under way.

    The first stage waits for its first backward, (P-1)i + (P-M)f; or for its last, (P-1)(f+i) less
    the M-1 gradients of weights that it has meanwhile. For m >= P and f >= w this is the published
    (P-1)(f+b-2w).
    """
    i, deep, last = b - w, least(microbatches, pp), pp - 1.0
    turns = least(_turns(pp, microbatches), last)
    first_back = last * (i + 2.0 * hop_s) + (pp - deep) * f
    last_back = last * (f + i + 2.0 * hop_s) - (deep - 1.0) * w + 2.0 * turns * hop_s
    return most(first_back, last_back)


def _h2(pp: Number, microbatches: Number, f: Number, b: Number, w: Number, hop_s: Number) -> Number:
    """Return the idle time of ZB-H2, with M = min(m, 2P-1) micro-batches under way.

    As in ZB-H1; or what fewer than 2P-1 micro-batches leave empty. For m >= 2P-1 this is the
    published (P-1)(f+b-3w) where that is neither below 0 nor below (P-1)(i-f).
    """
    i, last = b - w, pp - 1.0
    deep = least(microbatches, 2.0 * pp - 1.0)
    first_back = last * (i + 2.0 * hop_s) + (pp - deep) * f
    last_back = last * (f + i + 2.0 * hop_s) - (deep - 1.0) * w
    empty = _empty(pp, deep, f + hop_s, i + hop_s, least(f, w))
    return most(most(first_back, last_back), empty)


def _empty(pp: Number, deep: Number, f: Number, i: Number, spared: Number) -> Number:
    """Return what ZB-H2 waits because 2P-1 - M micro-batches lack to fill it; else 0.

    e(f+i), with e half of what lacks, rounded up; less `spared` if it was rounded.
    """
    lacking = 2.0 * pp - 1.0 - deep
    rounds = ceil(lacking / 2.0)
    return rounds * (f + i) - (2.0 * rounds - lacking) * spared


def _dualpipe(
    pp: Number, microbatches: Number, f: Number, b: Number, w: Number, fb: Number, hop_s: Number
) -> Number:
    """Return the idle time of DualPipe's two middle stages, whose work is overlapped most.

    With h = P/2: (h-1)(fb-w) - f + max(0, h f - (h-1) min(i,w), (h-1)(i-w)), for
    max(f,b) <= fb <= f+b. Where f = i >= w this is the published (h-1)(fb+b-3w).
    """
    i, half = b - w, pp / 2.0
    inner = half - 1.0
    waits = 3.0 * inner + microbatches - 1.0 - floor((microbatches / 2.0 - 2.0) / half)
    # the four longest ways through the order, from the one that both ends have in common
    more = inner * hop_s
    ahead = most(half * f - inner * w, half * f - inner * i - more)
    late = most(ahead, inner * (i - w) + more)
    return inner * (fb - w) - f + most(0.0, late) + waits * hop_s


def busy_s(
    schedule: Number, pp: Number, microbatches: Number, f: Number, b: Number, fb: Number
) -> Number:
    """Return the seconds per step that the stage of `bubble_s` works: m (f + b).

    DualPipe overlaps all but P + 1 forwards with a backward: (m-P-1) fb + (P+1)(f+b).
    """
    apart = least(pp + 1.0, microbatches)
    overlapped = (microbatches - apart) * fb + apart * (f + b)
    dual = _is(schedule, "dualpipe") & (pp > 1.0)
    return choose(dual, overlapped, microbatches * (f + b))


def pipeline_s(
    schedule: Number,
    pp: Number,
    microbatches: Number,
    virtual_stages: Number,
    f: Number,
    b: Number,
    w: Number,
    fb: Number,
    hop_s: Number = 0.0,
) -> Number:
    """Return the seconds per step of the forward and backward passes: work and bubble."""
    idle = bubble_s(schedule, pp, microbatches, virtual_stages, f, b, w, fb, hop_s)
    return busy_s(schedule, pp, microbatches, f, b, fb) + idle


def barrier_s(
    schedule: Number, pp: Number, microbatches: Number, f: Number, b: Number, w: Number
) -> Number:
    """Return what a barrier at the end of the step adds to `pipeline_s`, seconds (messages free).

    The zero-bubble schedules let a stage end as much later as it began: (P-1) f for ZB-H2 with
    f = i = w. A norm of all gradients before the optimiser is such a barrier; section 4 of
    arXiv:2401.10241 checks it afterwards instead. In all other schedules the first stage both
    begins first and ends last.
    """
    i = b - w
    sloped = (pp - 1.0) * f
    idle = bubble_s(schedule, pp, microbatches, 1.0, f, b, w, 0.0)
    h1 = sloped + (pp - least(microbatches, pp)) * i
    deep = least(microbatches, 2.0 * pp - 1.0)
    h2 = sloped + _empty(pp, deep, 0.0, i, least(i, least(f, w)))
    with_barrier = choose(_is(schedule, "zb_h1"), h1, h2)
    zero_bubble = _is(schedule, "zb_h1") | _is(schedule, "zb_h2")
    return choose(zero_bubble & (pp > 1.0), most(with_barrier - idle, 0.0), 0.0)


def held(
    schedule: Number, pp: Number, microbatches: Number, virtual_stages: Number, stage: Number
) -> Number:
    """Return the most micro-batches whose activations a stage (from 0) keeps, in whole stages.

    From the start of a forward to the end of its whole backward: GPipe m; 1F1B P - stage;
    interleaved ((v+1)P - 2 stage - 1) / v; ZB-H1 P, ZB-H2 2P-1 and DualPipe P+1 on every stage; at
    most m. What the gradient of the weights still needs is less than all activations, so the
    zero-bubble figures are upper bounds after the first stage. One stage keeps one.
    """
    parts = _parts(schedule, virtual_stages)
    # one virtual stage is 1F1B, which need not run ahead for a second chunk
    chunks = (parts + 1.0) * pp - 2.0 * stage - 1.0
    counts = {
        "1f1b": pp - stage,
        "gpipe": microbatches,
        "interleaved": choose(parts > 1.0, chunks / parts, pp - stage),
        "zb_h1": pp,
        "zb_h2": 2.0 * pp - 1.0,
        "dualpipe": pp + 1.0,
    }
    found: Number = 0.0
    for name, count in counts.items():
        found = choose(_is(schedule, name), count, found)
    return choose(pp > 1.0, least(found, microbatches), 1.0)


def copies(schedule: Number) -> Number:
    """Return how often a chip holds the parameters of a stage: DualPipe serves two directions."""
    table = np.array([2.0 if name == "dualpipe" else 1.0 for name in SCHEDULES])
    return look_up(table, schedule)


def messages(schedule: Number, virtual_stages: Number) -> Number:
    """Return how often a micro-batch crosses a boundary, compared with plain 1F1B.

    Interleaved: v times, and v - 1 times from the last stage back to the first besides.
    """
    return _parts(schedule, virtual_stages)


def invalid(
    schedule: Number, pp: Number, microbatches: Number, virtual_stages: Number
) -> tuple[tuple[Number, str], ...]:
    """Return (condition, reason) pairs: where a condition holds the schedule cannot run."""
    dual, cut = _is(schedule, "dualpipe"), virtual_stages > 1.0
    even = whole(microbatches / 2.0)
    conditions = (
        (microbatches < 1.0) | ~whole(microbatches),
        cut & (schedule != INDEX["interleaved"]),
        cut & _is(schedule, "interleaved") & ~whole(microbatches / pp),
        dual & ~whole(pp / 2.0),
        dual & (~even | (microbatches < 2.0 * pp)),
    )
    return tuple(zip(conditions, REASONS, strict=True))
