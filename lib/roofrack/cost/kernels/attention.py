"""Attention cores: of decoding tokens and of prompts, grouped-query and latent. MODEL section 10.

All divide a call into blocks for the multiprocessors: a decoding sequence has one query, so its
context is split; a prompt is split into tiles of its queries. Dao 2023 (FlashAttention-2, tiles),
Dao et al. 2023 (Flash-Decoding, splits). A chip whose multiprocessors are not told has no block
terms, and without `quantize` nothing is rounded.
"""

from typing import NamedTuple

from roofrack.arithmetic import Number, choose, divide, least, most, padded, root
from roofrack.calibration import DecodeCore, PrefillCore
from roofrack.cost.roofline import Chip, Work

SPLIT = 128.0
"""Tokens of a context that a decode kernel gives to one block at least."""
TILE = 128.0
"""Queries, and keys, of one step of a prefill kernel."""


class Decoding(NamedTuple):
    """Decoding tokens on one chip, one layer.

    `sequences` that each have `queries` new tokens; `shared` groups of heads that share keys and
    values, of `heads` query heads each; tokens of `context` of which each query meets `seen`;
    `pair_flops` of one query head and one token; bytes of cache and of queries and outputs.
    """

    sequences: Number
    queries: Number
    shared: Number
    heads: Number
    context: Number
    seen: Number
    pair_flops: Number
    kv_bytes: Number
    io_bytes: Number


def decode(
    call: Decoding, chip: Chip, fit: DecodeCore, quantize: Number, read_once: Number = 0.0
) -> Work:
    """Return the work of one decode core; `chip.peak` is that of the cache's format.

    FLOP: `pair_flops` for each pair of a query and a token it meets, query heads that share keys
    padded to `group`. Fixed: launch, then `block_s` for each round of blocks over the
    multiprocessors, then `split_s sqrt(tokens)`: what is left when the number of splits balances
    the walk along one split with the sum over all of them. The context is split, also of a window,
    until there are `blocks_per_sm` blocks for each multiprocessor; a kernel that never `splits`
    takes as long for fewer sequences, one multiprocessor walking along each. Of the tokens beyond a
    window the share `beyond_window` is read all the same. `read_once` is what of `kv_bytes` does
    not grow with that.
    """
    extra = fit.beyond_window * most(call.context - call.seen, 0.0)
    grown = 1.0 + divide(extra, call.seen)
    rows = call.queries * padded(call.heads, fit.group, quantize)
    # heads beyond a group are blocks of their own
    blocks = choose(quantize > 0, most(1.0, padded(call.heads, fit.group, 1.0) / fit.group), 1.0)
    apart = call.sequences * call.shared * blocks
    known = (chip.sms > 0) & (quantize > 0)
    enough = fit.blocks_per_sm * chip.sms
    split = choose(fit.splits > 0, least(apart * most(call.context / SPLIT, 1.0), enough), apart)
    rounds = choose(known, divide(most(apart, split), chip.sms), 0.0)
    idle = choose(known & (fit.splits == 0), most(1.0, divide(enough, apart, 1.0)), 1.0)
    some = choose((apart > 0) & (call.seen > 0), 1.0, 0.0)
    return Work(
        flops=apart / blocks * rows * call.pair_flops * call.seen * grown * idle,
        peak=chip.peak,
        weight_bytes=0.0,
        kv_bytes=(call.kv_bytes - read_once) * grown + read_once,
        io_bytes=call.io_bytes,
        fixed_s=some * (fit.launch_s + fit.split_s * root(call.seen)) + fit.block_s * rounds,
        kernel=fit,
    )


class Prompts(NamedTuple):
    """New tokens of prompts on one chip, one layer.

    `sequences` of `new` tokens each, `heads` query heads; a new token meets `seen` tokens in the
    mean, the last one `longest`; without the window it would meet `unbounded`. FLOP of a head per
    pair of tokens, `softmax` FLOP per pair and element of `exponent`.
    """

    sequences: Number
    new: Number
    heads: Number
    seen: Number
    longest: Number
    unbounded: Number
    pair_flops: Number
    kv_bytes: Number
    io_bytes: Number


SOFTMAX_FLOPS = 4.0
"""FLOP for each pair of tokens and element that the exponent counts for."""


def prefill(call: Prompts, chip: Chip, fit: PrefillCore, quantize: Number) -> Work:
    """Return the work of one prefill core: the new tokens attend to all tokens before them.

    FLOP: `pair_flops + 4 exponent` for each pair, `exponent` standing for the softmax; queries and
    keys in tiles of `TILE`, so that a causal triangle has a staircase for its long side and a
    window half a tile at either end. Few tiles leave multiprocessors idle: the last to start is one
    of the longest, `tail` of which counts (Graham 1969: a list schedule takes at most the mean and
    the longest). Fixed: launch, and `block_s` for each round of tiles.
    """
    whole = choose(quantize > 0, TILE / 2.0, 0.0)
    windowed = call.seen < call.unbounded
    keys = least(call.seen + choose(windowed, 2.0, 1.0) * whole, call.unbounded + whole)
    rows = padded(call.new, TILE, quantize)
    apart = call.sequences * call.heads
    known = (chip.sms > 0) & (quantize > 0)
    pair = call.pair_flops + SOFTMAX_FLOPS * fit.exponent
    alone = choose(known, fit.tail * pair * TILE * call.longest * chip.sms, 0.0)
    some = choose((apart > 0) & (call.new > 0), 1.0, 0.0)
    rounds = choose(known, divide(apart * rows / TILE, chip.sms), 0.0)
    return Work(
        flops=pair * apart * rows * keys + some * alone,
        peak=chip.peak,
        weight_bytes=0.0,
        kv_bytes=call.kv_bytes,
        io_bytes=call.io_bytes,
        fixed_s=some * fit.launch_s + fit.block_s * rounds,
        kernel=fit,
    )
