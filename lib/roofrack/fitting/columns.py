"""The columns of a table of measured kernel times, one schema for each kind of kernel.

Times are seconds; sizes are bytes or elements, as the column says. A user's own file has the same.
"""

from typing import NamedTuple


class Column(NamedTuple):
    """One column of a table: what it says, whether it is text, the least number it may hold.

    `default` stands where a user's file leaves the column out; a column without one is required.
    """

    doc: str
    text: bool = False
    least: float = 1.0
    default: float | str | None = None


_FORMAT = {"format": Column("number format of the arithmetic or of what is sent", text=True)}
_KV = {"kv_format": Column("number format of the cache", text=True)}
_SEQUENCES = {
    "batch": Column("sequences"),
    "queries": Column("new tokens of each sequence (1 in decode)"),
    "context": Column("tokens of each sequence after the pass, new ones included"),
    "heads": Column("query heads on the chip"),
}
_GROUPED = _SEQUENCES | {
    "kv_heads": Column("key/value heads on the chip"),
    "head_dim": Column("elements of one head"),
    "window": Column("tokens attended to, 0 for all", least=0.0, default=0.0),
}
_LATENT = _SEQUENCES | {
    "kv_lora": Column("elements of the cached latent", default=512.0),
    "qk_rope_dim": Column("elements of the rotary part of a head", least=0.0, default=64.0),
    "qk_nope_dim": Column("elements of the other part of a head", default=128.0),
    "v_head_dim": Column("elements of a value", default=128.0),
}
_LINEAR = {
    "batch": Column("sequences"),
    "queries": Column("new tokens of each sequence (1 in decode)"),
    "key_heads": Column("heads of queries and keys on the chip"),
    "key_dim": Column("elements of a key: rows of a head's state"),
    "value_heads": Column("heads of values and states on the chip"),
    "value_dim": Column("elements of a value: columns of a head's state"),
    "state_bytes": Column("bytes of one element of the state", default=4.0),
}
_MEMBERS = {"members": Column("chips that take part", least=2.0)}
_NODES = {"nodes": Column("scale-up domains they are in", default=1.0)}
_TOKENS = _MEMBERS | _NODES | {
    "tokens": Column("tokens on each chip"),
    "d_model": Column("elements of a token"),
    "top_k": Column("experts of a token"),
    "experts": Column("experts of all chips"),
    "sms": Column("multiprocessors used, 0 if not bounded", least=0.0, default=0.0),
}  # fmt: skip
_SIZED = _MEMBERS | _NODES

SCHEMA: dict[str, dict[str, Column]] = {
    "gemm": {"m": Column("rows"), "n": Column("columns"), "k": Column("summed over")} | _FORMAT,
    "scale": {"m": Column("rows"), "k": Column("elements of a row")} | _FORMAT,
    "cast": {"m": Column("rows"), "k": Column("elements of a row")} | _FORMAT,
    "attention_prefill": _GROUPED | _FORMAT | _KV,
    "attention_decode": _GROUPED | _FORMAT | _KV,
    "mla_prefill": _LATENT | _FORMAT | _KV,
    "mla_decode": _LATENT | _FORMAT | _KV,
    "linear_prefill": _LINEAR | _FORMAT,
    "linear_decode": _LINEAR | _FORMAT,
    "moe": {
        "tokens": Column("tokens of the whole expert-parallel group"),
        "d_model": Column("elements of a token"),
        "d_ff": Column("hidden elements of one expert, before tensor parallelism"),
        "top_k": Column("experts of a token"),
        "experts": Column("experts of all chips"),
        "tp": Column("chips that share one expert", default=1.0),
        "ep": Column("chips that share the experts", default=1.0),
        "gated": Column("1 with a gate (three matrices), 0 without", least=0.0, default=1.0),
        "distribution": Column("tokens over experts", text=True, default="balanced"),
    }
    | _FORMAT,
    "all_reduce": _SIZED | {"bytes": Column("buffer of each chip")} | _FORMAT,
    "all_gather": _SIZED | {"bytes": Column("what each chip has in the end")} | _FORMAT,
    "reduce_scatter": _SIZED | {"bytes": Column("what each chip has at first")} | _FORMAT,
    "all_to_all": _SIZED | {"bytes": Column("what each chip has, its own part too")} | _FORMAT,
    "dispatch": _TOKENS | _FORMAT,
    "combine": _TOKENS | _FORMAT,
    "p2p": _SIZED | {"bytes": Column("what one chip sends")} | _FORMAT,
}
"""By kind, the columns that make a shape; all tables also have those of `MEASURED`."""

MEASURED: dict[str, Column] = {
    "chip": Column("chip measured", text=True, default=""),
    "backend": Column("serving engine or library", text=True, default=""),
    "version": Column("version of it", text=True, default=""),
    "kernel": Column("kernel that was the fastest for the shape", text=True, default=""),
    "seconds": Column("time of one call", least=0.0),
}
