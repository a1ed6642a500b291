"""Overrides as the user wrote them, made into jobs and axes.

One rule: a list is an axis. A sweep over a number, a truth value or a name that can be vectorised
becomes a list inside one job; a sweep over a configuration group, or over a static argument of the
compiled function, becomes jobs.
"""

import itertools
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, QuotedString, RangeSweep, Transformer
from hydra.errors import OverrideParseException

from roofrack.config.resolvers import FORMS
from roofrack.errors import InputError
from roofrack.schema import ALIASES

STATIC = ("workload.phase", "overlap")
"""Leaves that are static arguments of the compiled function: a list of them is a list of jobs."""

LONGEST = 1000
"""Most elements a list may have when it is spelled out: Hydra's parser is quadratic in them."""

Options = Callable[[str], Sequence[str]]
"""From a key to the options of the configuration group of that name; empty if it is no group."""


def parse(overrides: Sequence[str]) -> list[Override]:
    """Parse overrides, refusing what is too long to parse before the parser sees it."""
    for text in overrides:
        _refuse_unparsable(text)
    parser = OverridesParser.create()
    try:
        return parser.parse_overrides(list(overrides))
    except OverrideParseException as error:
        raise InputError(_grammar(error.override, error.message)) from error


@lru_cache(maxsize=4096)
def parsed(text: str) -> Override:
    """Parse one override, once: jobs share most of theirs. The result is not to be changed."""
    return parse([text])[0]


def lift(overrides: Sequence[str], options: Options) -> list[str]:
    """Rewrite overrides so that only what makes jobs is still a sweep; axes become lists."""
    return [_lift(override, options) for override in parse(overrides)]


def cross(lifted: Sequence[Override]) -> list[list[str]]:
    """Return the overrides of each job: the sweeps `lift` left, crossed, the last fastest.

    Of a key given twice the later value counts. What is no sweep stays as it was written: a record
    keeps `${geom:1,65536,17}`.
    """
    dimensions: dict[str, list[str]] = {}
    for override in lifted:
        key = override.get_key_element()
        if override.is_sweep_override():
            values = [_text(value) for value in override.sweep_iterator()]
            dimensions[key] = [f"{key}={value}" for value in values]
        else:
            dimensions[key] = [override.input_line or ""]
    return [list(job) for job in itertools.product(*dimensions.values())]


def with_study(params: Mapping[str, Any], overrides: Sequence[str]) -> list[str]:
    """Put the sweep of a study (`hydra.sweeper.params`) before the overrides that change it.

    A key given on the command line, by its alias or by its leaf, takes the place of the study's;
    a parameter set to null is dropped.
    """
    given = {_canonical(text) for text in overrides}
    study = [f"{key}={_written(value)}" for key, value in params.items() if value is not None]
    return [text for text in study if _canonical(text) not in given] + list(overrides)


def _written(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str | int | float):
        return str(value)
    return "[" + ",".join(map(_written, value)) + "]"


def _canonical(text: str) -> str:
    key = text.split("=", 1)[0].lstrip("+~")
    return ALIASES.get(key, key)


def _refuse_unparsable(text: str) -> None:
    key, equals, value = text.partition("=")
    if not key or (not equals and not key.startswith("~")):
        raise InputError(f"{text or repr(text)}: not an override; write key=value")
    if equals and not value:
        raise InputError(f"{text}: no value; write {key}=null for none")
    count = value.count(",") + 1
    if count > LONGEST:
        raise InputError(
            f"{key}={value[:20]}...: {count} values spelled out; allowed: {LONGEST};"
            f" write a longer axis as {FORMS}"
        )


def _grammar(text: str, message: str) -> str:
    """Say what is wrong with an override that Hydra's grammar does not know."""
    key, _, value = text.partition("=")
    name = value.partition("(")[0]
    if name in ("geom", "linear"):
        return f"{text}: not an override; write '{key}=${{{name}:{value[len(name) + 1 : -1]}}}'"
    reason = message.splitlines()[0] if message else "syntax error"
    return f"{text}: not a legal override ({reason}); quote a value that holds spaces or brackets"


def _lift(override: Override, options: Options) -> str:
    text, key = override.input_line or "", override.get_key_element()
    if override.is_hydra_override() or override.is_delete():
        return text
    group = _group(override, options)
    value = override.value()
    if group and value is None and override.key_or_group != "experiment":
        names = ", ".join(options(override.key_or_group))
        raise InputError(f"{text}: one file of this group is needed; allowed: {names}")
    if not override.is_sweep_override():
        if not isinstance(value, list):
            return text
        if not value:
            raise InputError(f"{text}: an axis has at least one value")
        # a list of groups or of static names is a list of jobs
        return _choice(key, value) if group or _static(override) else text
    _refuse_random(override, text)
    if isinstance(value, RangeSweep):
        if group or _static(override):
            raise InputError(f"{text}: a range of numbers cannot choose {override.key_or_group}")
        return f"{key}=${{range:{value.start},{value.stop},{value.step}}}"
    values = _values(override, options, text)
    if group or _static(override) or not all(map(_is_plain, values)):
        return _choice(key, values)
    return f"{key}=[{','.join(map(_text, values))}]"


def _group(override: Override, options: Options) -> bool:
    return override.package is not None or bool(options(override.key_or_group))


def _static(override: Override) -> bool:
    key = override.key_or_group
    return key in (*STATIC, "precision", "format") or key.startswith("experiment.")


def _is_plain(value: Any) -> bool:
    """Tell whether a value can be one element of an axis: no null, no list, no interpolation."""
    if isinstance(value, QuotedString):
        value = value.text
    if isinstance(value, str):
        return "${" not in value
    return isinstance(value, bool | int | float)


def _refuse_random(override: Override, text: str) -> None:
    if override.is_interval_sweep():
        raise InputError(f"{text}: an interval has no values to evaluate; write {FORMS}")
    if getattr(override.value(), "shuffle", False):
        raise InputError(f"{text}: a shuffled sweep cannot be reproduced; leave shuffle() out")


def _values(override: Override, options: Options, text: str) -> list[Any]:
    override.config_loader = _Loader(options)  # type: ignore[assignment]
    values = list(override.sweep_iterator())
    if not values:
        names = options(override.key_or_group)
        if not names:
            raise InputError(f"{text}: glob() chooses among the files of a group; this is a value")
        raise InputError(f"{text}: matches nothing; allowed: {', '.join(names)}")
    return values


def _choice(key: str, values: Any) -> str:
    return f"{key}={','.join(map(_text, values))}"


def _text(value: Any) -> str:
    """Write a parsed value the way an override has it."""
    return str(value).lower() if isinstance(value, bool) else str(Transformer.str(value))


class _Loader:
    """What `glob()` asks of a config loader, with the caller's search path taken into account."""

    def __init__(self, options: Options) -> None:
        self._options = options

    def get_group_options(self, group_name: str, results_filter: Any = None) -> list[str]:
        return list(self._options(group_name))
