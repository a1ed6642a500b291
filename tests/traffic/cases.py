"""Random requests, with and without prefix blocks."""

from typing import Any

import numpy as np
from hypothesis import strategies as st

from roofrack.traffic import Prefixes, Requests

BLOCK = 4


@st.composite
def requests(draw: Any, most: int = 12) -> Requests:
    """A few requests of any lengths, some at the same time."""
    gaps = draw(st.lists(st.sampled_from([0.0, 0.25, 1.0, 7.5]), min_size=1, max_size=most))
    prompts = [draw(st.integers(1, 50)) for _ in gaps]
    outputs = [draw(st.integers(1, 50)) for _ in gaps]
    cached = [draw(st.integers(0, prompt - 1)) for prompt in prompts]
    return Requests(np.cumsum(gaps), np.array(prompts), np.array(outputs), np.array(cached))


@st.composite
def blocked(draw: Any, most: int = 25) -> Requests:
    """Requests whose prompts are paths in a small tree of blocks, as conversations are.

    Each block's name follows from its whole prefix; the last one may be held in part.
    """
    names: dict[tuple[int, ...], int] = {}
    paths = draw(
        st.lists(
            st.lists(st.integers(0, 2), min_size=1, max_size=6).map(tuple),
            min_size=1,
            max_size=most,
        )
    )
    ids = [
        [names.setdefault(path[: n + 1], len(names)) for n in range(len(path))] for path in paths
    ]
    prompts = [len(path) * BLOCK - draw(st.integers(0, BLOCK - 1)) for path in paths]
    gaps = [draw(st.sampled_from([0.0, 1.0, 30.0])) for _ in paths]
    offsets = np.cumsum([0, *map(len, paths)])
    hashes = Prefixes(offsets, np.array([i for row in ids for i in row], np.int64), BLOCK)
    output = np.array([draw(st.integers(1, 9)) for _ in paths])
    return Requests(np.cumsum(gaps), np.array(prompts), output, hashes=hashes)
