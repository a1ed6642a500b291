"""What a plan is asked: which question, its own keys, and the words of a simulation."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite

from roofrack.arguments import number
from roofrack.errors import InputError, nearest
from roofrack.fields import Leaf
from roofrack.simulation.asked import DRAWN, RATE, Asked, asked

QUESTIONS = ("chips", "own", "tiers", "wait")
TIERS = ("fast", "normal", "slow")
PROMISES = ("ttft_s", "tpot_s", "batch", "wait_s")
KEYS = {
    "chips": ("max_chips",),
    "own": ("max_chips", "price.input", "price.output", "price.cached"),
    "tiers": tuple(f"tiers.{tier}.{name}" for tier in TIERS for name in PROMISES),
    "wait": (),
}
"""Keys of each question that a simulation does not know."""
SEARCHED = {
    "chips": ("parallelism.replicas",),
    "own": ("parallelism.replicas",),
    "tiers": (RATE, "batch", "workload.batch", "workload.wait_s"),
    "wait": (),
}
"""What a question finds itself, and so is not told."""
WAIT = "workload.wait_s"
WAITS = (0.0, 0.05, 0.1, 0.2, 0.5, 1.0)
"""Seconds that requests wait for others, where nothing says so."""
ABOVE, FREE = Leaf("", above=0.0), Leaf("", at_least=0.0)
MAX_CHIPS = 1024
"""Chips that are tried at most, where nothing says so."""


@dataclass(frozen=True)
class Prices:
    """What an API charges, USD per million tokens; cached input tokens as others if not told."""

    input: float
    output: float
    cached: float


@dataclass(frozen=True)
class Plan:
    """A question. `run` is what is simulated; `tiers` promises by tier, as far as told."""

    question: str
    run: Asked
    max_chips: int
    prices: Prices | None
    tiers: Mapping[str, Mapping[str, float]]
    waits: tuple[float, ...]


def plan_asked(words: Sequence[str]) -> Plan:
    """Read the question, its own keys, and words as `simulate` has them; raise InputError."""
    question = _question(words)
    own: dict[str, float] = {}
    waits: tuple[float, ...] = WAITS
    others = []
    for word in words[1:]:
        key, equals, value = word.partition("=")
        bare = key.lstrip("+~")
        if bare in KEYS[question] and equals:
            free = bare == "price.cached"  # some APIs charge nothing for it
            own[bare] = number(bare, FREE if free else ABOVE, value)
        elif question == "wait" and bare == WAIT:
            items = value.strip("[]").split(",")
            waits = tuple(dict.fromkeys((0.0, *sorted(number(WAIT, FREE, one) for one in items))))
        elif bare in SEARCHED[question]:
            raise InputError(f"{word}: `plan {question}` finds it; leave it out")
        elif bare.partition(".")[0] in ("price", "tiers", "max_chips"):
            raise InputError(_unknown(question, bare))
        else:
            others.append(word)
    run = asked(others)
    _check(question, run)
    tiers = {
        tier: {n: own[f"tiers.{tier}.{n}"] for n in PROMISES if f"tiers.{tier}.{n}" in own}
        for tier in TIERS
    }
    return Plan(
        question=question,
        run=run,
        max_chips=_whole("max_chips", own.get("max_chips", MAX_CHIPS)),
        prices=_prices(own) if question == "own" else None,
        tiers={tier: _promises(tier, told) for tier, told in tiers.items()},
        waits=waits,
    )


def _question(words: Sequence[str]) -> str:
    first = words[0] if words else ""
    if first not in QUESTIONS:
        said = f"plan {first}" if first else "plan"
        raise InputError(
            f"{said}: the first word is the question: {', '.join(QUESTIONS)}."
            f"{nearest(first, QUESTIONS)}"
        )
    return first


def _check(question: str, run: Asked) -> None:
    """Raise InputError where a rate or a limit is missing that the answer depends on."""
    if run.auto:
        raise InputError(f"{RATE}=auto: `plan {question}` takes rates, requests per second")
    if run.engine.scale_at:
        raise InputError("engine.scale_at: the machines of a plan do not come and go; leave it out")
    drawn = run.traffic.source in DRAWN
    if question in ("chips", "wait") and drawn and not run.rates:
        raise InputError(f"plan {question}: give {RATE}, requests per second, one or several")
    if question != "wait" and not isfinite(run.limits.ttft_s):
        raise InputError(
            f"plan {question}: give limits.ttft_s, seconds to the first token: without it a queue "
            "that grows without end would break no promise"
        )


def _prices(own: Mapping[str, float]) -> Prices:
    for name in ("input", "output"):
        if f"price.{name}" not in own:
            raise InputError(
                f"plan own: give price.{name}, what the API charges for a million {name} tokens in "
                "USD; none is made up"
            )
    paid = own["price.input"]
    return Prices(paid, own["price.output"], own.get("price.cached", paid))


def _promises(tier: str, told: Mapping[str, float]) -> dict[str, float]:
    if "batch" in told:
        _whole(f"tiers.{tier}.batch", told["batch"])
    return dict(told)


def _whole(key: str, value: float) -> int:
    if not float(value).is_integer():
        raise InputError(f"{key}={value:g}: allowed is a whole number of at least 1")
    return int(value)


def _unknown(question: str, key: str) -> str:
    known = KEYS[question]
    if not known:
        return f"{key}: `plan {question}` has no such key"
    return f"{key}: `plan {question}` knows {', '.join(known)}.{nearest(key, known)}"
