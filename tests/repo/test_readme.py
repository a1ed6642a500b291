"""The README tells the truth: each `$ roofrack point ...` in it prints what stands below it."""

import re
import shlex
from pathlib import Path

import pytest

from roofrack import cli

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")


def sessions() -> list[tuple[str, str]]:
    """Every command of the README's console blocks with the output that follows it."""
    found = []
    for block in re.findall(r"```console\n(.*?)```", TEXT, flags=re.S):
        for part in re.split(r"^\$ ", block, flags=re.M)[1:]:
            joined = re.sub(r"\\\n\s*", "", part)
            command, _, output = joined.partition("\n")
            found.append((command, output.rstrip()))
    return found


POINTS = [pair for pair in sessions() if pair[0].startswith("roofrack point")]


def test_there_are_questions() -> None:
    assert len(POINTS) >= 5


@pytest.mark.parametrize(("command", "output"), POINTS, ids=[command for command, _ in POINTS])
def test_a_question_prints_what_the_readme_shows(
    command: str, output: str, capsys: pytest.CaptureFixture[str]
) -> None:
    status = cli.main(shlex.split(command)[1:])
    printed = capsys.readouterr()
    assert (status, printed.err) == (0, "")
    shown = [line.rstrip() for line in printed.out.rstrip().splitlines()]
    expected = output.splitlines()
    if expected and expected[-1].strip() == "...":  # a long answer may be cut short
        expected = expected[:-1]
        shown = shown[: len(expected)]
    assert shown == expected


def test_every_verb_is_in_the_readme() -> None:
    for verb in cli.VERBS:
        assert f"roofrack {verb}" in TEXT
