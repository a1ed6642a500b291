"""The words of a command line: flags, overrides, and the `key=value` of verbs that have their own.

What is wrong with them is an InputError.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from roofrack.errors import InputError, nearest
from roofrack.fields import Leaf


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        flags = [name for action in self._actions for name in action.option_strings]
        raise InputError(f"{message}; allowed flags: {', '.join(flags)}")


def parse(arguments: list[str]) -> argparse.Namespace:
    """Separate flags from overrides.

    `show` holds the flags that make Hydra show something, `searching` those of its search path.
    """
    parser = _Parser(prog="roofrack", add_help=False, allow_abbrev=False)
    parser.add_argument("--help", "-h", action="store_true")
    parser.add_argument("--hydra-help", action="store_true")
    parser.add_argument("--cfg", "-c", choices=("job", "hydra", "all"))
    parser.add_argument("--resolve", action="store_true")
    parser.add_argument("--package", "-p")
    topics = ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath")
    parser.add_argument("--info", "-i", nargs="?", const="all", choices=topics)
    parser.add_argument("--config-dir", "-cd")
    parser.add_argument("--multirun", "-m", action="store_true")  # what `sweep` does anyway
    parser.add_argument("--shell-completion", "-sc", action="store_true")
    parser.add_argument("overrides", nargs="*")
    flags = parser.parse_intermixed_args(arguments)
    show = [
        f"--{name}" for name in ("help", "hydra-help") if getattr(flags, name.replace("-", "_"))
    ]
    show += [f"--cfg={flags.cfg}"] if flags.cfg else []
    show += [f"--info={flags.info}"] if flags.info else []
    if show:
        show += ["--resolve"] if flags.resolve else []
        show += [f"--package={flags.package}"] if flags.package else []
    flags.show = show
    flags.searching = [f"--config-dir={flags.config_dir}"] if flags.config_dir else []
    return flags


def given(arguments: Sequence[str], keys: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Separate plain words from `key=value`, of which the last of a key counts."""
    words, values = [], {}
    for text in arguments:
        key, equals, value = text.partition("=")
        if not equals:
            words.append(text)
        elif key in keys and value:
            values[key] = value
        else:
            raise unknown(text, keys)
    return words, values


def unknown(text: str, keys: Sequence[str]) -> InputError:
    """Return the error that says which keys there are."""
    allowed = ", ".join(f"{key}=..." for key in keys)
    return InputError(f"{text}: allowed: {allowed}.{nearest(text.partition('=')[0], keys)}")


def one_of(key: str, value: Any, allowed: Sequence[str]) -> str:
    """Return a value that is one of those allowed."""
    if value not in allowed:
        raise InputError(f"{key}={value}: allowed: {', '.join(allowed)}.{nearest(value, allowed)}")
    return str(value)


def number(key: str, leaf: Leaf, text: str) -> float:
    """Return the number that a text is, if a leaf accepts it."""
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    fine = value > leaf.above if leaf.above is not None else value == value
    fine = fine and (leaf.at_least is None or value >= leaf.at_least)
    fine = fine and (leaf.infinite or value <= leaf.ceiling)
    if not fine or (leaf.integer and not value.is_integer()):
        raise InputError(f"{key}={text}: allowed is {leaf.allowed()}")
    return value


def shown(path: Path) -> str:
    """Return a path relative to the current folder where it lies below it."""
    full = path.absolute()
    return str(full.relative_to(Path.cwd()) if full.is_relative_to(Path.cwd()) else full)
