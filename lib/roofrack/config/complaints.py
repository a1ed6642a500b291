"""What Hydra, OmegaConf and the YAML reader complain about, said in one line."""

from pathlib import Path

import yaml
from hydra.errors import MissingConfigException
from omegaconf.errors import (
    InterpolationKeyError,
    OmegaConfBaseException,
    UnsupportedInterpolationType,
)

from roofrack.config.resolvers import FORMS
from roofrack.errors import InputError, nearest

NOISE = ("See https://", "full_key:", "object_type=", "Search path:", "reference_type=")
"""Starts of lines that help nobody who only wants the next command to work."""


def explain(error: BaseException) -> InputError:
    """Return the error that says what is wrong with the configuration, in one line."""
    for cause in _causes(error):
        if isinstance(cause, InputError):  # raised by a resolver: say for which key
            key = getattr(error, "full_key", None)
            return InputError(f"{key}={cause}") if key else cause
    for cause in _causes(error):
        if isinstance(cause, MissingConfigException):
            return InputError(_option(cause))
        if isinstance(cause, yaml.MarkedYAMLError):
            return InputError(_yaml(cause))
        if isinstance(cause, UnsupportedInterpolationType | InterpolationKeyError):
            return InputError(_interpolation(cause))
    return InputError(one_line("; ".join(_texts(error))))


def one_line(text: str) -> str:
    """Join the lines of a message that say something."""
    lines = [line.strip() for line in text.splitlines()]
    kept = [line for line in lines if line and not line.startswith(NOISE)]
    return "; ".join(kept).replace(":;", ":").replace(".;", ";")


def shown(path: str | Path) -> str:
    """Return a path as the user would type it: relative where it lies below the current folder."""
    try:
        return str(Path(path).relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def _causes(error: BaseException | None) -> list[BaseException]:
    """Return an exception and what it was raised from, outermost first."""
    chain: list[BaseException] = []
    while error is not None and error not in chain:
        chain.append(error)
        error = error.__cause__ or error.__context__
    return chain


def _texts(error: BaseException) -> list[str]:
    texts = [str(error)]
    if isinstance(error.__cause__, OmegaConfBaseException):
        texts.append(str(error.__cause__))
    return [text for text in texts if text] or [type(error).__name__]


def _option(error: MissingConfigException) -> str:
    group, _, name = (error.missing_cfg_file or "").rpartition("/")
    options = sorted(error.options or ())
    if not group or not options:
        return one_line(str(error))
    listed = ", ".join(options)
    return f"{group}={name}: no such {group}; allowed: {listed}.{nearest(name, options)}"


def _yaml(error: yaml.MarkedYAMLError) -> str:
    mark = error.problem_mark or error.context_mark
    place = f"{shown(mark.name)}, line {mark.line + 1}" if mark else "a YAML file"
    reason = one_line(" ".join(filter(None, (error.context, error.problem))))
    return f"{place}: not valid YAML: {reason}"


def _interpolation(error: OmegaConfBaseException) -> str:
    key = f"{error.full_key}: " if error.full_key else ""
    if isinstance(error, UnsupportedInterpolationType):
        return f"{key}{one_line(error.msg or str(error))}; write {FORMS}"
    return f"{key}{one_line(error.msg or str(error))}"
