"""The forms of attention cores and exchanges, against values counted or worked out by hand."""

from types import SimpleNamespace

import numpy as np
import pytest

from roofrack.cost.kernels import attention, exchange
from roofrack.cost.roofline import Chip, block_time

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


def link(**other):
    return SimpleNamespace(**{
        "launch_s": 3e-6, "step_s": 0.0, "staged_s": 5e-6, "low_latency": 2.0, "own": 0.0,
        "direct": 0.0, "crowding": 0.0,
    } | other)  # fmt: skip


def test_an_all_reduce_sends_directly_while_that_is_faster():
    direct, staged = exchange.all_reduce(8.0, link(direct=1.0))
    assert (direct.sent, staged.sent) == (7.0, 2 * 7 / 8)
    meet = 5e-6 * 4e11 / (7.0 - 2 * 7 / 8)
    for size, line in ((0.9 * meet, direct), (1.1 * meet, staged)):
        expected = line.fixed_s + line.sent * size / 4e11
        assert exchange.seconds((direct, staged), size, 4e11) == pytest.approx(expected)


def test_switches_that_add_up_are_used_where_they_send_less():
    sent = [exchange.all_reduce(n, link(), in_network=1.0)[1].sent for n in (2.0, 4.0, 8.0)]
    assert sent == [1.0, 5 / 4, 9 / 8]


def test_one_member_exchanges_nothing():
    lines = (
        *exchange.all_reduce(1.0, link(direct=1.0, own=0.5)),
        *exchange.all_gather(1.0, link()),
    )
    assert all(line == (0.0, 0.0) for line in lines)


def test_copies_for_chips_are_those_of_balanced_routing():
    rng = np.random.default_rng(0)
    draws = rng.random((4000, 256)).argsort(1)[:, :8] // 32  # 8 of 256 experts on 8 chips
    counted = np.mean([len(set(chips)) for chips in draws])
    routed = exchange.Routed(1.0, 8.0, 256.0, 8.0, 7168.0)
    assert exchange.copies(routed, SimpleNamespace(per_chip=1.0)) == pytest.approx(
        counted, rel=0.02
    )
    assert exchange.copies(routed, SimpleNamespace(per_chip=0.0)) == 8.0


def test_an_exchange_is_bounded_by_the_multiprocessors_it_gets():
    fit = SimpleNamespace(
        efficiency=0.5, sharpness=1.0, launch_s=1e-5, step_s=0.0, expert_s=1e-7, row_s=0.0,
        sm_bytes_per_s=1e10, per_chip=0.0,
    )  # fmt: skip
    routed = exchange.Routed(1000.0, 8.0, 256.0, 8.0, 7168.0)
    sent = 1000 * 8 * 7 / 8 * 7168
    free = exchange.expert_exchange(routed, 4e11, fit).seconds
    bound = exchange.expert_exchange(routed._replace(sms=10.0), 4e11, fit).seconds
    assert free == pytest.approx(1e-5 + 32e-7 + sent / 2e11)
    assert bound == pytest.approx(1e-5 + 32e-7 + sent / 1e11)
