"""What a search is asked: the goal, limits, chips, and what each leaf may be."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import yaml

from roofrack import arguments
from roofrack.errors import InputError, nearest
from roofrack.fields import Leaf
from roofrack.planning import LEAVES
from roofrack.results.directions import LESS, MORE
from roofrack.results.schema import RESULTS
from roofrack.searching.launch import ENGINES
from roofrack.tables import SERVING

AUTO = "auto"
KEYS = ("minimise", "maximise", "chips", "top", "launch")
"""Keys of a search that are no overrides; `limits.COLUMN` besides."""
MOST_CHIPS = 100_000
ABOVE = Leaf("", above=0.0)


class Asked(NamedTuple):
    """A question: the goal (a result, and whether more of it is better), limits, the space.

    `limits` by column, on the side that is worse; `chips` the most of one instance, or of all
    instances of two pools; `within` what leaves of the plan may be, as `planning.plans` has it, and
    `within_prefill` those of the pool that prefills; `serving` modes to compare, none if the
    overrides say it; `top` plans to tell; `launch` engines that the best is to be started on;
    `overrides` all else that was given, `batch` among it if so.
    """

    goal: str
    more: bool
    limits: Mapping[str, float]
    chips: int
    within: Mapping[str, Any]
    within_prefill: Mapping[str, Any]
    serving: tuple[str, ...]
    auto_prefill_batch: bool
    top: int
    launch: tuple[str, ...]
    overrides: tuple[str, ...]

    @property
    def auto_batch(self) -> bool:
        """Whether the search chooses the batch sizes."""
        return not any(_key(o) in ("batch", "workload.batch") for o in self.overrides)


def asked(words: Sequence[str]) -> Asked:
    """Read `key=value` words: those of KEYS, `limits.COLUMN`, leaves of the plan, overrides.

    A leaf of the plan (`parallelism.tp`) is `auto`, a value, or several (`1,2,4`). Raises
    InputError for what there is not.
    """
    own: dict[str, str] = {}
    limits: dict[str, float] = {}
    within: dict[str, Any] = {}
    within_prefill: dict[str, Any] = {}
    serving: tuple[str, ...] = ()
    auto_prefill_batch = False
    others: list[str] = []
    for word in words:
        key, equals, value = word.partition("=")
        leaf = key.removeprefix("parallelism.")
        first = key.removeprefix("prefill.parallelism.")
        if key in KEYS:
            own[key] = value
        elif key.startswith("limits."):
            column = _column("limits", key.removeprefix("limits."))
            limits[column] = arguments.number(key, ABOVE, value)
        elif leaf != key and leaf in LEAVES:
            within[leaf] = "all" if value == AUTO else _values(value)
        elif first != key and first in LEAVES:
            within_prefill[first] = "all" if value == AUTO else _values(value)
        elif key == "workload.serving":
            serving = _modes(value)
        elif key in ("batch", "workload.batch") and value == AUTO:
            continue
        elif key == "workload.prefill_batch" and value == AUTO:
            auto_prefill_batch = True
        elif equals:
            others.append(word)
        else:
            raise InputError(f"{word}: expected key=value; keys of a search: {_allowed()}")
    if "minimise" in own and "maximise" in own:
        raise InputError("minimise and maximise: give one goal")
    how = "maximise" if "maximise" in own else "minimise"
    goal = _column(how, own.get(how, "usd_per_mtok"))
    if goal in (LESS if how == "maximise" else MORE):
        other = "minimise" if how == "maximise" else "maximise"
        raise InputError(f"{how}={goal}: less of it is {'better' if goal in LESS else 'worse'}; "
                         f"say {other}={goal}")  # fmt: skip
    return Asked(
        goal=goal,
        more=how == "maximise",
        limits=limits,
        chips=_whole("chips", own.get("chips"), MOST_CHIPS),
        within=within,
        within_prefill=within_prefill,
        serving=serving,
        auto_prefill_batch=auto_prefill_batch,
        top=_whole("top", own.get("top", "5"), 1000),
        launch=_engines(own.get("launch", "")),
        overrides=tuple(others),
    )


def told_apart(jobs: Sequence[Sequence[str]]) -> list[dict[str, str]]:
    """Return what each of several lists of overrides has that not all of them have."""
    texts = [dict(word.split("=", 1) for word in job if "=" in word) for job in jobs]
    differ = {key for text in texts for key in text if len({t.get(key) for t in texts}) > 1}
    return [{k.rpartition(".")[2]: v for k, v in text.items() if k in differ} for text in texts]


def _modes(text: str) -> tuple[str, ...]:
    if text == AUTO:
        return SERVING
    named = tuple(dict.fromkeys(name for name in text.strip("[]").split(",") if name))
    for name in named:
        if name not in SERVING:
            raise InputError(
                f"workload.serving={name}: allowed: {', '.join((*SERVING, AUTO))}."
                f"{nearest(name, SERVING)}"
            )
    return named


def _engines(text: str) -> tuple[str, ...]:
    named = (name for name in text.strip("[]").split(",") if name)
    return tuple(arguments.one_of("launch", name, tuple(ENGINES)) for name in named)


def _allowed() -> str:
    return ", ".join(f"{key}=..." for key in (*KEYS, "limits.COLUMN"))


def _key(override: str) -> str:
    return override.partition("=")[0].lstrip("+~")


def _column(where: str, name: str) -> str:
    if name not in LESS and name not in MORE:
        known = [column for column in RESULTS if column in LESS or column in MORE]
        raise InputError(
            f"{where}.{name}: allowed is a result of which more is better or worse, such as "
            f"usd_per_mtok, tpot_s, ttft_s, tokens_per_s_per_chip.{nearest(name, known)}"
        )
    return name


def _whole(key: str, text: str | None, most: int) -> int:
    if text is None:
        raise InputError(
            f"{key} is missing: the most chips that one instance may have; give chips=8"
        )
    if not text.isdecimal() or not 1 <= int(text) <= most:
        raise InputError(f"{key}={text}: allowed is a whole number from 1 to {most:,}")
    return int(text)


def _values(text: str) -> Any:
    inner = text.strip().removeprefix("[").removesuffix("]")
    values = [yaml.safe_load(item) for item in inner.split(",")]
    return values if len(values) > 1 or text.strip().startswith("[") else values[0]
