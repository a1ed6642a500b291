"""The golden values, through Python, the command line and a process of its own."""

import json
import subprocess
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from decimal import Decimal
from functools import cache
from io import StringIO
from typing import Any

import pytest
from golden.values import GOLDEN, Golden

from roofrack import cli, config
from roofrack.cost import money
from roofrack.point import point

Row = dict[str, Any]
IN_A_PROCESS = ("critical-batch", "two-racks-time", "v3-total", "v3-pass-2400", "70b-step")


def near(printed: str) -> object:
    """What rounds to the digits printed: half a unit of the last one to either side."""
    digits = Decimal(printed)
    half = 0.5 * 10.0 ** int(digits.as_tuple().exponent)
    return pytest.approx(float(digits), rel=1e-12, abs=half)


def answer(golden: Golden, ask: Callable[[str], Row]) -> float:
    """Return what the tool says to a golden question."""
    names = {"__builtins__": {}, "max": max}
    value = eval(golden.column, names, ask(golden.overrides))
    return value / eval(golden.column, names, ask(golden.over)) if golden.over else value


@cache
def through_python(overrides: str) -> Row:
    row = point(config.compose(overrides.split()))
    assert isinstance(row, dict)
    return row


@cache
def through_command_line(overrides: str) -> Row:
    printed = StringIO()
    with redirect_stdout(printed):
        assert cli.main(["point", *overrides.split(), "format=json"]) == cli.ANSWERED
    return json.loads(printed.getvalue())


def through_process(overrides: str) -> Row:
    command = [sys.executable, "-m", "roofrack", "point", *overrides.split(), "format=json"]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def by_id(goldens: list[Golden]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("golden", goldens, ids=[g.id for g in goldens])


@by_id(GOLDEN)
def test_python(golden: Golden) -> None:
    assert answer(golden, through_python) == near(golden.printed), golden.source


@by_id(GOLDEN)
def test_command_line(golden: Golden) -> None:
    assert answer(golden, through_command_line) == near(golden.printed), golden.source


@by_id([g for g in GOLDEN if g.id in IN_A_PROCESS])
def test_process(golden: Golden) -> None:
    assert answer(golden, through_process) == near(golden.printed), golden.source


def test_ids_are_distinct() -> None:
    ids = [g.id for g in GOLDEN]
    assert len(set(ids)) == len(ids) and set(IN_A_PROCESS) <= set(ids)


FAST = money.fast_mode(price_ratio=6.0, speed_ratio=2.5)
FLOPS_PER_BYTE = 989e12 / 3.35e12


@pytest.mark.parametrize(
    ("value", "printed"),
    [
        # the lecture: a mode 6 times as dear and 2.5 times as fast
        (FAST.batch_ratio, "15"),
        (100 * FAST.weight_share_slow, "35.7"),
        (100 * FAST.weight_share_fast, "89.3"),
        # bytes per token of a model of 1e11 active parameters priced higher from 200,000 tokens on;
        # the equation is symmetric in context and bytes
        (money.context_knee(1e11, 600.0, 2e5), "1667"),
        (money.context_knee(1e11, 989e12 / 3.35e12, 2e5), "3387"),
        (money.context_knee(1e11, 1979e12 / 3.35e12, 2e5), "1693"),
        # recomputing against holding in HBM, B200 FP8
        (money.recompute_hold_s(1e11, 4.5e15, 1667.0, 192e9), "5119"),
        (money.drain_s(288e9, 20e12), "14.4e-3"),
    ],
)
def test_closed_form(value: float, printed: str) -> None:
    assert value == near(printed)


CHIPS = "a100_80gb b200 gb200_nvl72 h100_sxm h800 mi300x tpu_v4 tpu_v5e".split()


@pytest.mark.parametrize("chip", CHIPS)
def test_memory_drains_in_13_to_40_ms(chip: str) -> None:
    assert 0.013 <= through_python(f"hardware={chip} parallelism=single")["hbm_drain_s"] <= 0.040
