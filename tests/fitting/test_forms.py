"""The forms of attention cores and of exchanges, against values counted or worked out by hand."""

from types import SimpleNamespace

import numpy as np
import pytest

from roofrack.calibration import Link, Links
from roofrack.cost.collectives import all_reduce
from roofrack.cost.fabric import Trunk, wires
from roofrack.cost.kernels import attention
from roofrack.cost.roofline import Chip, block_time
from roofrack.cost.routing import all_to_all, route
from roofrack.cost.ways import group
from roofrack.fitting import links

CHIP = Chip(peak=1e15, hbm_bytes_per_s=4e12, sms=100.0)


def core(**other):
    """Numbers of a core that reaches everything and starts at once."""
    return SimpleNamespace(**{
        "compute_efficiency": 1.0, "hbm_efficiency": 1.0, "sharpness": np.inf, "launch_s": 0.0,
        "block_s": 0.0, "blocks_per_sm": 4.0, "split_s": 0.0, "beyond_window": 0.0, "splits": 1.0,
        "group": 16.0, "tail": 0.0, "exponent": 0.0,
    } | other)  # fmt: skip


def taken(work):
    time = block_time(work, CHIP.hbm_bytes_per_s)
    return time.busy + time.launch


def decoding(sequences, context=1000.0, **other):
    """Decoding tokens of 8 groups of 4 heads, 128 elements each, two bytes."""
    seen = other.get("seen", context)
    return attention.Decoding(**{
        "sequences": sequences, "queries": 1.0, "shared": 8.0, "heads": 4.0, "context": context,
        "seen": seen, "pair_flops": 4.0 * 128.0, "kv_bytes": sequences * 8.0 * seen * 512.0,
        "io_bytes": 0.0,
    } | other)  # fmt: skip


def test_a_decode_core_reads_the_cache_once_and_pads_its_groups():
    work = attention.decode(decoding(4.0), CHIP, core(launch_s=1e-5), 1.0)
    assert work.flops == 4 * 4 * (8 * 16) * 1000 * 128  # four query heads a group fill a tile of 16
    assert taken(work) == pytest.approx(1e-5 + 4 * 8 * 1000 * 512 / 4e12)


def test_a_window_bounds_the_bytes_but_not_the_blocks_that_look_for_it():
    fit = core(block_s=1e-6)
    long = attention.decode(decoding(4.0, 4096.0, seen=128.0), CHIP, fit, 1.0)
    short = attention.decode(decoding(4.0, 128.0), CHIP, fit, 1.0)
    assert long.kv_bytes == short.kv_bytes
    # 32 pairs of sequence and group, 32 splits each, but 4 blocks a multiprocessor are enough
    assert short.fixed_s == pytest.approx(1e-6 * 32 / 100)
    assert long.fixed_s == pytest.approx(1e-6 * 400 / 100)


def test_a_core_that_never_splits_takes_as_long_for_fewer_sequences():
    fit = core(splits=0.0, blocks_per_sm=1.0, compute_efficiency=1e-3)
    few, more, many = (
        taken(attention.decode(decoding(b, 4096.0), CHIP, fit, 1.0)) for b in (1.0, 12.0, 25.0)
    )
    assert few == pytest.approx(more)
    assert many == pytest.approx(2.0 * more)  # 200 pairs on 100 multiprocessors


def prompt(sequences, new, context, window=0, heads=1.0):
    """Prompts of one head of 128 elements; what each new token meets is counted."""
    meets = np.arange(context - new + 1, context + 1)
    bounded = np.minimum(meets, window) if window else meets
    return attention.Prompts(
        sequences=sequences, new=new, heads=heads, seen=bounded.mean(), longest=bounded.max(),
        unbounded=meets.mean(), pair_flops=4.0 * 128.0, kv_bytes=0.0, io_bytes=0.0,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("new", "context", "window"),
    [(128, 128, 0), (1024, 1024, 0), (512, 2048, 0), (4096, 4096, 128), (4096, 4096, 1024)],
)
def test_keys_of_tiles_are_those_counted(new, context, window):
    tile = int(attention.TILE)
    last = np.arange(context - new + tile, context + 1, tile)  # keys that a tile of queries sees
    first = np.maximum(0, (last - tile - window + 1) // tile * tile) if window else 0 * last
    work = attention.prefill(prompt(1.0, new, context, window), CHIP, core(), 1.0)
    assert work.flops / (4.0 * 128.0 * new) == pytest.approx((last - first).mean(), rel=0.03)


def test_few_tiles_wait_for_the_longest():
    work = attention.prefill(prompt(1.0, 128, 8192), CHIP, core(tail=1.0), 1.0)
    alone = 4 * 128 * 128 * 8192 / (1e15 / 100)  # one tile on one multiprocessor
    assert taken(work) == pytest.approx(alone, rel=0.02)


def one_level(**other):
    """A switched level of 8 chips with 400 GB/s each, and links that reach all of it at once."""
    numbers = {"efficiency": 1.0, "launch_s": 0.0} | other
    of = Links(**{n: Link(**numbers) for n in links.NAMES})
    return Trunk(8.0, 4e11, 4e11, 0.0, of, 0.0, 0.0, 0.0, 0.0)


def reduced_s(members, size, **other):
    laid = wires([one_level(**other)], 1.0, (members, 1.0))
    return sum(all_reduce(group(laid), size).seconds)


def test_an_all_reduce_sends_directly_while_that_is_faster():
    for size in (1e3, 1e5, 1e8):
        direct = 1e-6 + 7.0 * size / 4e11  # every chip reads the buffers of the 7 others
        staged = 1e-6 + 2e-5 + 2.0 * 7.0 / 8.0 * size / 4e11
        found = reduced_s(8.0, size, launch_s=1e-6, staged_s=2e-5, direct=1.0)
        assert found == pytest.approx(min(direct, staged))


def test_small_messages_send_more_and_wait_less():
    low = {"launch_s": 1e-6, "staged_s": 2e-5, "low_latency": 2.0, "own": 0.5}
    for size in (1e3, 1e8):
        once = 2.0 * 7.0 / 8.0 + 0.5
        small, large = 1e-6 + 2.0 * once * size / 4e11, 2.1e-5 + once * size / 4e11
        assert reduced_s(8.0, size, **low) == pytest.approx(min(small, large))


def test_each_doubling_of_the_members_waits_longer():
    taken = [reduced_s(n, 0.0, launch_s=1e-6, step_s=5e-7) for n in (1.0, 2.0, 4.0, 8.0)]
    assert taken == pytest.approx([0.0, 1.5e-6, 2e-6, 2.5e-6])


def test_tokens_go_to_their_experts_by_the_fastest_kernel():
    laid = wires([one_level(launch_s=1e-5, row_s=1e-9, expert_s=1e-7)], 1.0, (8.0, 1.0))
    way = route(laid, 8.0, 1.0, 0.0, 0.0)
    found = all_to_all(laid, way, 7168.0, 128.0, ("dispatch",), 32.0)
    rows = 128.0 * 8.0 * 7.0 / 8.0  # an eighth stays at home
    expected = 1e-5 + 32e-7 + rows * (1e-9 + 7168.0 / 4e11)
    assert found.longest == pytest.approx(expected)
    assert all_to_all(laid, way, 7168.0, 128.0, ("dispatch", "combine")).longest <= found.longest
