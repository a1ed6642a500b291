"""The tool asked in one line of overrides, and sizes of models counted by hand from their cards."""

from functools import cache
from typing import Any, NamedTuple

from roofrack import config
from roofrack.point import point

Row = dict[str, Any]


@cache
def ask(overrides: str) -> Row:
    """Return the columns of one point that can run."""
    row = point(config.compose(overrides.split()))
    assert isinstance(row, dict)
    return row


class Dense(NamedTuple):
    """A dense model with grouped-query attention and a gated FFN, as its model card prints it."""

    layers: int
    width: int
    heads: int
    kv_heads: int
    head: int
    ffn: int
    vocab: int

    @property
    def body(self) -> int:
        """Parameters that every token meets."""
        attention = 2 * self.width * self.head * (self.heads + self.kv_heads)
        return self.layers * (attention + 3 * self.width * self.ffn)

    @property
    def ends(self) -> int:
        """Parameters of the head, and as many of the input embedding."""
        return self.vocab * self.width

    @property
    def cache(self) -> int:
        """Bytes of keys and values of one token in BF16."""
        return 2 * self.layers * self.kv_heads * self.head * 2

    @property
    def core(self) -> int:
        """FLOP of all attention cores for a token and a token it attends to."""
        return 4 * self.layers * self.heads * self.head


LLAMA_8B = Dense(32, 4096, 32, 8, 128, 14336, 128256)
LLAMA_70B = Dense(80, 8192, 64, 8, 128, 28672, 128256)
