"""Prefix caches against one written as plainly as can be, and on real conversations."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from traffic.cases import BLOCK, blocked

from roofrack import traffic
from roofrack.errors import InputError
from roofrack.traffic import Prefixes, Requests, prefix_hits

MANY = settings(max_examples=80)


def plain(
    made: Requests, blocks: float, replicas: int, routing: str, imbalance: float, recent_s: float
) -> list[tuple[int, int]]:
    """The same by lists, latest last, and loads summed anew for each request."""
    assert made.hashes is not None
    held: list[list[int]] = [[] for _ in range(replicas)]
    sent: list[tuple[float, int, int]] = []
    told = []
    for i, now in enumerate(made.arrival_s):
        mine = made.hashes.ids[made.hashes.offsets[i] : made.hashes.offsets[i + 1]].tolist()
        match = []
        for cache in held:
            n = 0
            while n < len(mine) and mine[n] in cache:
                n += 1
            match.append(n)
        load = [
            sum(math.exp((t - now) / recent_s) * tokens for t, r, tokens in sent if r == replica)
            for replica in range(replicas)
        ]
        least = min(range(replicas), key=lambda r: load[r])
        best = min(range(replicas), key=lambda r: (-match[r], load[r]))
        wanted = imbalance * (load[least] + made.prompt[i] + made.output[i])
        chosen = (best if load[best] <= wanted else least) if routing == "prefix" else i % replicas
        cached = min(match[chosen] * BLOCK, int(made.prompt[i]) - 1)
        sent.append((now, chosen, int(made.prompt[i]) - cached + int(made.output[i])))
        told.append((cached, chosen))
        for block in mine[::-1]:
            if block in held[chosen]:
                held[chosen].remove(block)
            held[chosen].append(block)
            if len(held[chosen]) > blocks:
                held[chosen].pop(0)
    return told


@MANY
@given(blocked(), st.integers(0, 12) | st.just(math.inf), st.integers(1, 4))
def test_round_robin_is_the_plain_cache(made: Requests, blocks: float, replicas: int) -> None:
    hits = prefix_hits(made, blocks * BLOCK, replicas)
    told = plain(made, blocks, replicas, "round_robin", 1.5, 60.0)
    assert list(zip(hits.cached.tolist(), hits.replica.tolist(), strict=True)) == told


@MANY
@given(
    blocked(),
    st.integers(0, 12) | st.just(math.inf),
    st.integers(1, 4),
    st.sampled_from([1.03, 1.51, 4.07]),
)
def test_prefix_routing_is_the_plain_one(
    made: Requests, blocks: float, replicas: int, imbalance: float
) -> None:
    # all arrive at once: loads are whole numbers, so no tie is settled by rounding
    made = Requests(0.0 * made.arrival_s, made.prompt, made.output, hashes=made.hashes)
    hits = prefix_hits(made, blocks * BLOCK, replicas, "prefix", imbalance=imbalance)
    told = plain(made, blocks, replicas, "prefix", imbalance, 60.0)
    assert list(zip(hits.cached.tolist(), hits.replica.tolist(), strict=True)) == told


@MANY
@given(blocked(), st.integers(0, 12), st.integers(1, 3), st.sampled_from(traffic.prefixes.ROUTINGS))
def test_hits_keep_their_bounds(made: Requests, blocks: int, replicas: int, routing: str) -> None:
    hits = prefix_hits(made, blocks * BLOCK, replicas, routing)
    assert ((hits.cached >= 0) & (hits.cached < made.prompt)).all()
    assert (hits.cached <= blocks * BLOCK).all()
    assert ((hits.replica >= 0) & (hits.replica < replicas)).all()
    assert (prefix_hits(made).cached >= hits.cached).all()
    # what LRU holds of one list grows with its size
    one = prefix_hits(made, blocks * BLOCK).cached
    assert (prefix_hits(made, (blocks + 1) * BLOCK).cached >= one).all()


def chain(times: list[float], rows: list[list[int]]) -> Requests:
    """Requests of full blocks and one generated token."""
    offsets = np.cumsum([0, *map(len, rows)])
    ids = np.array([block for row in rows for block in row])
    lengths = np.array([len(row) * BLOCK for row in rows])
    ones = np.ones(len(rows), np.int64)
    return Requests(np.array(times), lengths, ones, hashes=Prefixes(offsets, ids, BLOCK))


def test_the_end_of_a_prompt_is_forgotten_first() -> None:
    made = chain([0, 1, 2], [[1, 2, 3], [9], [1, 2, 3]])
    assert prefix_hits(made, 3 * BLOCK).cached.tolist() == [0, 0, 2 * BLOCK]
    assert prefix_hits(made, 4 * BLOCK).cached.tolist() == [0, 0, 3 * BLOCK - 1]
    # a prompt longer than the cache leaves its beginning there
    assert prefix_hits(chain([0, 1], [[1, 2, 3]] * 2), 2 * BLOCK).cached.tolist() == [0, 2 * BLOCK]


def test_a_busy_replica_gives_its_prefix_away_until_it_is_forgotten() -> None:
    asked = [[1, 2], *[[1, 2, n] for n in range(3, 9)]]
    far = prefix_hits(chain([1000.0 * n for n in range(7)], asked), replicas=2, routing="prefix")
    assert far.replica.tolist() == [0] * 7
    close = prefix_hits(chain([0.0] * 7, asked), replicas=2, routing="prefix")
    assert 0 < close.replica.sum() < 7
    never = prefix_hits(
        chain([1000.0 * n for n in range(7)], asked),
        replicas=2,
        routing="prefix",
        recent_s=math.inf,
    )
    assert never.replica.tolist() == close.replica.tolist()


@pytest.mark.parametrize(("room", "replica"), [(1.001, 0), (0.999, 1)])
def test_where_a_replica_counts_as_busy(room: float, replica: int) -> None:
    # 6 blocks and a token are there, 2 blocks and a token are asked for
    made = chain([0.0, 0.0], [[1, 2, 3, 4, 5, 6], [1, 7]])
    there, asked = 6 * BLOCK + 1, 2 * BLOCK + 1
    hits = prefix_hits(made, replicas=2, routing="prefix", imbalance=room * there / asked)
    assert hits.replica.tolist() == [0, replica]
    assert hits.cached.tolist() == [0, BLOCK * (1 - replica)]


def test_real_conversations_find_their_replica() -> None:
    made = traffic.read("mooncake_conversation")
    assert made.hashes is not None
    best = prefix_hits(made)
    spread, aware = (prefix_hits(made, replicas=4, routing=r) for r in traffic.prefixes.ROUTINGS)
    # by hand: blocks seen before, in an unbroken row
    seen: set[int] = set()
    for i, cached in enumerate(best.cached.tolist()):
        mine = made.hashes.ids[made.hashes.offsets[i] : made.hashes.offsets[i + 1]].tolist()
        found = next((n for n, block in enumerate(mine) if block not in seen), len(mine))
        assert cached == min(found * 512, made.prompt[i] - 1)
        seen.update(mine)
    assert spread.cached.mean() < aware.cached.mean() <= best.cached.mean()
    work = np.bincount(aware.replica, made.prompt - aware.cached + made.output)
    assert work.max() < 1.2 * work.mean()


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"routing": "prefx"}, "Did you mean 'prefix'"),
        ({"replicas": 0}, "replicas=0"),
        ({"replicas": 1.5}, "replicas=1.5"),
        ({"capacity_tokens": -1}, "capacity_tokens=-1"),
        ({"capacity_tokens": math.nan}, "capacity_tokens=nan"),
        ({"imbalance": 0.5}, "imbalance=0.5"),
        ({"recent_s": 0.0}, "recent_s=0.0"),
    ],
)
def test_what_cannot_be_is_refused(asked: dict[str, float], words: str) -> None:
    with pytest.raises(InputError, match=words):
        prefix_hits(chain([0], [[1]]), **asked)  # type: ignore[arg-type]


def test_requests_without_blocks_have_no_prefixes() -> None:
    with pytest.raises(InputError, match="no prefix blocks"):
        prefix_hits(traffic.read("azure_2023_code"))
