"""Which prompts begin with what a replica still holds: an LRU cache of prefix blocks.

Hits are counted in order of arrival, before anything is timed: a block can be found again as soon
as the request that brings it has arrived, and generated tokens are not kept. The first makes it an
upper bound, the second a lower one where an answer is part of the next prompt.
"""

import math
from collections import OrderedDict, defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from roofrack.errors import InputError, nearest
from roofrack.traffic.requests import Prefixes, Requests, Whole

ROUTINGS = ("round_robin", "prefix")


class Hits(NamedTuple):
    """Of each request: prompt tokens found in the cache, and the replica it is sent to."""

    cached: Whole
    replica: Whole


def prefix_hits(
    requests: Requests,
    capacity_tokens: float = math.inf,
    replicas: int = 1,
    routing: str = "round_robin",
    *,
    imbalance: float = 1.5,
    recent_s: float = 60.0,
) -> Hits:
    """Return what each request finds cached, and where it is sent.

    Each replica keeps whole blocks of `capacity_tokens` tokens in all; the block not asked for
    longest goes first, and of one prompt its end goes before its beginning. Only an unbroken prefix
    is found, and a request always computes one token itself.

    round_robin: request i is sent to replica i modulo `replicas`. prefix: to the replica that holds
    the longest prefix of it, among equals to the least loaded; but to the least loaded of all if
    the load of the former is over `imbalance` times what the latter's would be with this request.
    The load is the tokens assigned (computed and generated), forgotten with a time constant of
    `recent_s` (inf: never). SGLang's cache-aware router does alike, with requests in flight: it
    leaves prefixes aside where the most and the least loaded replica differ by more than a factor
    and a number (--balance-rel-threshold and --balance-abs-threshold; sgl-project/sglang).

    Linear in blocks, and in requests times replicas. Raises InputError without prefix blocks.
    """
    hashes = _checked(requests, capacity_tokens, replicas, routing, imbalance, recent_s)
    caches = Caches(int(replicas), capacity_tokens / hashes.block_tokens)
    loads = Loads(int(replicas), imbalance, recent_s) if routing == "prefix" else None
    rows = zip(
        requests.arrival_s.tolist(),
        requests.prompt.tolist(),
        requests.output.tolist(),
        hashes.offsets[:-1].tolist(),
        hashes.offsets[1:].tolist(),
        strict=True,
    )
    ids = hashes.ids.tolist()
    cached, chosen = [], []
    for number, (time_s, prompt, output, start, end) in enumerate(rows):
        blocks = ids[start:end]
        if loads is None:
            replica = number % caches.replicas
            found = caches.found(blocks, replica)
        else:
            longest, holders = caches.longest(blocks)
            replica = loads.choose(time_s, holders, prompt + output)
            found = longest if holders >> replica & 1 else caches.found(blocks, replica)
        hit = min(found * hashes.block_tokens, prompt - 1)
        if loads is not None:
            loads.add(replica, prompt - hit + output)
        caches.use(blocks, replica)
        cached.append(hit)
        chosen.append(replica)
    return Hits(np.array(cached, np.int64), np.array(chosen, np.int64))


def _checked(
    requests: Requests,
    capacity_tokens: float,
    replicas: int,
    routing: str,
    imbalance: float,
    recent_s: float,
) -> Prefixes:
    hashes = requests.hashes
    if hashes is None:
        raise InputError("prefix_hits: these requests have no prefix blocks (hash_ids)")
    if routing not in ROUTINGS:
        hint = nearest(routing, ROUTINGS)
        raise InputError(f"routing={routing}: {' or '.join(ROUTINGS)} is needed.{hint}")
    if not (replicas >= 1 and replicas == int(replicas)):
        raise InputError(f"replicas={replicas}: a whole number, at least 1, is needed")
    for name, value, least in (
        ("capacity_tokens", capacity_tokens, 0.0),
        ("imbalance", imbalance, 1.0),
    ):
        if not value >= least:
            raise InputError(f"{name}={value}: {least:g} or more is needed")
    if not recent_s > 0:
        raise InputError(f"recent_s={recent_s}: a number above 0 is needed")
    return hashes


class Caches:
    """The blocks that each replica holds, least recently used first, and who holds each block."""

    def __init__(self, replicas: int, blocks: float) -> None:
        """Begin with empty caches of this many blocks each."""
        self.replicas = replicas
        self.blocks = blocks if math.isinf(blocks) else math.floor(blocks)
        self.held: list[OrderedDict[int, None]] = [OrderedDict() for _ in range(replicas)]
        self.holders: defaultdict[int, int] = defaultdict(int)  # a bit for each replica

    def found(self, blocks: Sequence[int], replica: int) -> int:
        """Return how many of the first blocks a replica holds without a gap."""
        held = self.held[replica]
        for count, block in enumerate(blocks):
            if block not in held:
                return count
        return len(blocks)

    def longest(self, blocks: Sequence[int]) -> tuple[int, int]:
        """Return the longest prefix held anywhere, in blocks, and the replicas that hold it."""
        holders = (1 << self.replicas) - 1
        for count, block in enumerate(blocks):
            still = holders & self.holders.get(block, 0)
            if not still:
                return count, holders
            holders = still
        return len(blocks), holders

    def use(self, blocks: Sequence[int], replica: int) -> None:
        """Keep these blocks as the latest used, the first of them as the very latest."""
        held, bit = self.held[replica], 1 << replica
        kept = blocks if len(blocks) <= self.blocks else blocks[: int(self.blocks)]
        for block in reversed(kept):
            if block in held:
                held.move_to_end(block)
            else:
                held[block] = None
                self.holders[block] |= bit
        while len(held) > self.blocks:
            block, _ = held.popitem(last=False)
            left = self.holders[block] & ~bit
            if left:
                self.holders[block] = left
            else:
                del self.holders[block]


class Loads:
    """Tokens lately assigned to each replica."""

    def __init__(self, replicas: int, imbalance: float, recent_s: float) -> None:
        """Begin with none."""
        self.tokens = [0.0] * replicas
        self.imbalance, self.recent_s = imbalance, recent_s
        self.time_s = 0.0

    def choose(self, time_s: float, holders: int, tokens: int) -> int:
        """Return the replica for a request of these tokens; `holders` hold its prefix."""
        faded = math.exp((self.time_s - time_s) / self.recent_s)
        self.time_s = time_s
        if faded < 1.0:
            self.tokens = [load * faded for load in self.tokens]
        everywhere = range(len(self.tokens))
        least = min(everywhere, key=self.tokens.__getitem__)
        best = min((r for r in everywhere if holders >> r & 1), key=self.tokens.__getitem__)
        limit = self.imbalance * (self.tokens[least] + tokens)
        return best if self.tokens[best] <= limit else least

    def add(self, replica: int, tokens: int) -> None:
        """Count tokens assigned."""
        self.tokens[replica] += tokens
