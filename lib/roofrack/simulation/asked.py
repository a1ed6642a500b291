"""What a simulation is asked: traffic, the engine, limits, and the overrides of a scenario."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from roofrack.arguments import number
from roofrack.errors import InputError, nearest
from roofrack.fields import Leaf

POLICIES = ("prefill_first", "decode_first", "chunked")
ROUTINGS = ("round_robin", "least_loaded", "prefix")
STEADY = ("poisson", "gamma")
"""Traffic whose rate does not change: only in its runs do later requests say what comes after."""
DRAWN = (*STEADY, "diurnal")
AUTO = "auto"


def _leaf(doc: str, unit: str = "", default: Any = None, **rule: Any) -> Any:
    """Declare a key; several values are one run for each, where `several`."""
    several = rule.pop("several", False)
    leaf = Leaf(doc, unit, default, **rule)
    return dataclasses.field(default=default, metadata={"leaf": leaf, "several": several})


@dataclass(frozen=True)
class Traffic:
    """Who comes when, and asks for how much. Lengths not told are those of the workload."""

    source: str = "poisson"
    requests: float = _leaf("requests drawn, or taken of a trace", "requests", 0.0, at_least=0,
                            integer=True, at_most=1e7)  # fmt: skip
    duration_s: float = _leaf("time that they come in; 0 = all", "s", 0.0, at_least=0)
    lengths: str = ""
    peak_over_mean: float = _leaf("of a diurnal rate", "", 1.8, at_least=1, at_most=2)
    period_s: float = _leaf("of a diurnal rate", "s", 86400.0, above=0)
    seeds: float = _leaf("runs with other random numbers", "", 1.0, at_least=1, integer=True,
                         at_most=1000)  # fmt: skip
    seed: float = _leaf("of the first run", "", 0.0, at_least=0, integer=True)
    speed: tuple[float, ...] = _leaf(
        "how much faster than the trace", "", (1.0,), above=0, several=True
    )
    warmup: float = _leaf(
        "share of requests, the first ones, left out of percentiles", "", -1.0, at_least=0,
        at_most=0.9,
    )  # fmt: skip


@dataclass(frozen=True)
class Engine:
    """How an instance works; 0 stands for what the scenario or its memory says."""

    policy: tuple[str, ...] = _leaf("order of prompts and decoding", "", (AUTO,),
                                    choices=(*POLICIES, AUTO), several=True)  # fmt: skip
    budget: float = _leaf(
        "tokens of a pass, decoding and drafted ones included; 0 = as many prompt tokens as "
        "workload.chunk says, beside them",
        "tokens", 0.0, at_least=0, integer=True,
    )  # fmt: skip
    block: float = _leaf("tokens of a block of the KV cache", "tokens", 16.0, at_least=1,
                         integer=True, at_most=65536)  # fmt: skip
    cache_tokens: float = _leaf("tokens that the KV cache of an instance holds", "tokens", 0.0,
                                at_least=0)  # fmt: skip
    reserve: bool = _leaf("room for the whole output is taken on admission", "", False, flag=True)
    routing: tuple[str, ...] = _leaf("to which replica a request goes", "", ("round_robin",),
                                     choices=ROUTINGS, several=True)  # fmt: skip
    prefix_tokens: float = _leaf(
        "tokens of prompts that an instance keeps for their next use; 0 = as many as its cache "
        "holds, inf = all",
        "tokens", 0.0, at_least=0, infinite=True,
    )  # fmt: skip
    scale_at: float = _leaf(
        "requests for each replica, beyond which another is started; 0 = all are always on",
        "requests", 0.0, at_least=0,
    )  # fmt: skip
    least: float = _leaf("replicas that are always on", "", 1.0, at_least=1, integer=True)
    start_s: float = _leaf("time to start a replica, paid for", "s", 60.0, at_least=0)
    idle_s: float = _leaf("least time between stopping two", "s", 300.0, at_least=0)


@dataclass(frozen=True)
class Limits:
    """What a request is promised, and the share of requests that has to have it."""

    ttft_s: float = _leaf("longest time to first token", "s", float("inf"), above=0)
    tpot_s: float = _leaf("longest time per output token", "s", float("inf"), above=0)
    share: float = _leaf("requests that keep both", "", 0.95, above=0, at_most=1)


@dataclass(frozen=True)
class Asked:
    """A question. `rates` are requests per second; none: as the trace has them, or `auto`."""

    traffic: Traffic
    engine: Engine
    limits: Limits
    rates: tuple[float, ...]
    auto: bool
    overrides: tuple[str, ...]


SECTIONS: dict[str, type] = {"traffic": Traffic, "engine": Engine, "limits": Limits}
RATE = "workload.arrivals_per_s"
SERVED = "workload=chat"
"""What is served if nothing says so; `roofrack point` decodes."""


def asked(words: Sequence[str]) -> Asked:
    """Read `key=value` words: `traffic=`, the keys of SECTIONS, the rate, and overrides.

    Raises InputError for what there is not.
    """
    given: dict[str, dict[str, Any]] = {section: {} for section in SECTIONS}
    others: list[str] = []
    rates: tuple[float, ...] = ()
    auto = False
    for word in words:
        key, equals, value = word.partition("=")
        section, dot, name = key.partition(".")
        if not equals:
            raise InputError(f"{word}: expected key=value")
        if key == "traffic":
            given["traffic"]["source"] = value
        elif dot and section in SECTIONS:
            given[section][name] = _value(section, name, value)
        elif key == RATE and value == AUTO:
            auto = True
        elif key == RATE:
            rates = tuple(number(key, Leaf("", above=0.0), item) for item in _items(value))
        else:
            others.append(word)
    if not any(word.startswith(("workload=", "workload.phase=")) for word in others):
        others.insert(0, SERVED)
    return Asked(
        **{name: kind(**given[name]) for name, kind in SECTIONS.items()},
        rates=rates,
        auto=auto,
        overrides=tuple(others),
    )


def _value(section: str, name: str, text: str) -> Any:
    fields = {field.name: field for field in dataclasses.fields(SECTIONS[section])}
    key = f"{section}.{name}"
    if name not in fields or name == "source":
        known = [one for one in fields if one != "source"]
        raise InputError(
            f"{key}: no such key; {section} has {', '.join(known)}.{nearest(name, known)}"
        )
    leaf = fields[name].metadata.get("leaf")
    if leaf is None:
        return text
    items = _items(text)
    if not fields[name].metadata["several"]:
        if len(items) != 1:
            raise InputError(f"{key}={text}: one value; allowed is {leaf.allowed()}")
        return _one(key, leaf, items[0])
    return tuple(_one(key, leaf, item) for item in items)


def _items(text: str) -> list[str]:
    return [item.strip() for item in text.strip().removeprefix("[").removesuffix("]").split(",")]


def _one(key: str, leaf: Leaf, text: str) -> Any:
    if leaf.choices:
        if text not in leaf.choices:
            allowed = f"allowed is {leaf.allowed()}.{nearest(text, leaf.choices)}"
            raise InputError(f"{key}={text}: {allowed}")
        return text
    if leaf.flag:
        if text.lower() not in ("true", "false"):
            raise InputError(f"{key}={text}: allowed is true or false")
        return text.lower() == "true"
    return number(key, leaf, text)
