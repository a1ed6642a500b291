"""The golden values, through Python, the command line and a process of its own."""

import json
import subprocess
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from decimal import Decimal
from functools import cache
from io import StringIO

import pytest
from golden.asking import Row, ask
from golden.values import BOOK, DENSE, GOLDEN, Golden

from roofrack import cli
from roofrack.cost import money

IN_A_PROCESS = ("critical-batch", "two-racks-time", "v3-total", "v3-pass-2400", "70b-step")


def near(printed: str) -> object:
    """What rounds to the digits printed: half a unit of the last one to either side."""
    digits = Decimal(printed)
    half = 0.5 * 10.0 ** int(digits.as_tuple().exponent)
    return pytest.approx(float(digits), rel=1e-12, abs=half)


def answer(golden: Golden, asked: Callable[[str], Row]) -> float:
    """Return what the tool says to a golden question."""
    names = {"__builtins__": {}, "max": max}
    value = eval(golden.column, names, asked(golden.overrides))
    return value / eval(golden.column, names, asked(golden.over)) if golden.over else value


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
    assert answer(golden, ask) == near(golden.printed), golden.source


@by_id(GOLDEN[::6])  # it prints the same rows
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
    assert 0.013 <= ask(f"hardware={chip} parallelism=single")["hbm_drain_s"] <= 0.040


# one layer of width 6,144, a plain FFN four times as wide, on a 3-D torus that closes
TORUS = (
    f"hardware=blackboard {DENSE} parallelism=single calibration=ideal dtype=bf16 batch=1024 "
    "model.layers=1 model.d_model=6144 model.ffn_matrices=2 "
    "hardware.fabric.scale_up.topology=torus_3d hardware.fabric.scale_up.latency_s=0 "
    "hardware.fabric.scale_up.bytes_per_s=2.7e11 hardware.fabric.scale_up.chips=4096"
)


@pytest.mark.parametrize(("chips", "rows"), [(32, 2), (72, 3), (128, 4)])
def test_two_dimensional_sharding_pays_from_72_chips(chips: int, rows: int) -> None:
    """Scaling Book, inference, problem 7: 128 (3/4)^2 is 72 chips; its 81 is wrong.

    Rows (X) of the best division, sqrt(chips / 8). The book leaves out (g - 1)/g of every
    collective, so they are taken off one by one; with them 2-D pays earlier.
    """
    # attention and FFN are all-reduced alike
    one = ask(f"{TORUS} parallelism.tp={chips} model.d_ff=0")["t_scale_up_s"] / 2
    two = f"{TORUS} parallelism.tp={chips} parallelism.tp_rows={rows}"
    outer = ask(f"{two} model.d_ff=0")["t_scale_up_s"] - one
    inner = ask(f"{two} model.d_ff={4 * 6144}")["t_scale_up_s"] - one - outer
    columns = chips / rows
    by_book_one = one * chips / (chips - 1)
    by_book_two = outer * columns / (columns - 1) + inner * rows / (rows - 1)
    # 4 BD/(3 W), and 2 BD/(X W) + 4 BF/(YZ W)
    assert by_book_one == pytest.approx(4 * 1024 * 6144 / 3 / 9e10, rel=1e-9)
    expected = (2 / rows + 16 / columns) * 1024 * 6144 / 9e10
    assert by_book_two == pytest.approx(expected, rel=1e-9)
    if chips == 72:
        assert by_book_two == pytest.approx(by_book_one, rel=1e-9), BOOK
    else:
        assert (by_book_two < by_book_one) == (chips > 72), BOOK


# Llama 70B in 16 bit: the weights are read, and 4 collectives a layer run over lines of a square
SQUARE = (
    f"hardware=blackboard {DENSE} parallelism=single calibration=ideal overlap=none dtype=bf16 "
    "batch=1 context=0 model.layers=80 model.params_total=70e9 model.params_active=70e9 "
    "model.kv_bytes_per_token=1 hardware.hbm_bytes_per_s=3.3e12 hardware.flops_per_s.bf16=1e24 "
    "hardware.fabric.scale_up.topology=torus_2d hardware.fabric.scale_up.chips=1000 "
    "hardware.fabric.scale_up.bytes_per_s=1e24 hardware.fabric.scale_up.latency_s=1e-6 "
    "++hardware.fabric.scale_up.ring_closes_at=1000000"
)


def test_latency_optimal_number_of_chips() -> None:
    """Erdil 2025, arXiv:2506.04645: 2 a (sqrt(n) - 1) + r/n is least at (r/a)^(2/3) = 26.0 chips.

    a is 80 layers of 4 collectives at 1 us a hop, r the time of one chip. The square root is that
    of equation 42; equation 27 lacks it, which is wrong.
    """
    times = {n: ask(f"{SQUARE} parallelism.tp={n}")["step_s"] for n in (16, 25, 26, 27, 36)}
    assert min(times, key=times.__getitem__) == 26
    assert times[26] == near("4.255e-3")
    a, r = 80 * 4 * 1e-6, 2 * 70e9 / 3.3e12
    assert (r / a) ** (2 / 3) == near("26.0")
    for n, t in times.items():
        assert t == pytest.approx(2 * a * (n**0.5 - 1) + r / n, rel=1e-9)
