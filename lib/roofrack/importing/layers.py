"""How the layers of a configuration mix tokens, and which of them have experts.

A rule gives one name per layer. An explicit list in the file (`layer_types`, `mlp_layer_types`)
wins over what a family's own fields and habits say.
"""

from collections.abc import Callable
from typing import Any

from roofrack.errors import InputError
from roofrack.importing.reader import Fields, short

FULL, WINDOW, CHUNK, LINEAR = (
    "full_attention", "sliding_attention", "chunked_attention", "linear_attention",
)  # fmt: skip
OTHERS = ("attention", "deepseek_sparse_attention")
"""Names that say no more than that a layer attends; what picks the tokens has fields of its own."""
PATTERNS = (
    "sliding_window_pattern", "_sliding_window_pattern", "full_attention_interval",
    "max_window_layers", "use_sliding_window", "no_rope_layers", "no_rope_layer_interval",
    "attn_type_list",
)  # fmt: skip
"""Fields that say in other ways what `layer_types` says."""

Rule = Callable[[Fields, int], list[str]]


def everywhere(f: Fields, layers: int) -> list[str]:
    """All layers attend everything."""
    return [FULL] * layers


def windows(f: Fields, layers: int) -> list[str]:
    """All layers attend the window, if there is one (Mistral, Phi-3)."""
    return [WINDOW if f.raw("sliding_window") else FULL] * layers


def windows_from(f: Fields, layers: int) -> list[str]:
    """Layers from `max_window_layers` on attend the window, if it is used (Qwen)."""
    first = f.whole("max_window_layers", default=0, least=0)
    f.raw("sliding_window")
    used = f.flag("use_sliding_window", default=False)
    return [WINDOW if used and i >= first else FULL for i in range(layers)]


def every(nth: int, other: str, *names: str) -> Rule:
    """Every nth layer attends everything, the others are of another kind; a field may say n."""

    def rule(f: Fields, layers: int) -> list[str]:
        n = f.whole(*names, default=nth) if names else nth
        return [other if (i + 1) % n else FULL for i in range(layers)]

    return rule


def alternating(f: Fields, layers: int) -> list[str]:
    """Start with a window, then alternate (Gemma 2, gpt-oss)."""
    return [FULL if i % 2 else WINDOW for i in range(layers)]


def chunks(f: Fields, layers: int) -> list[str]:
    """Layers with rotary positions attend a chunk, every fourth has none and attends everything."""
    rotary = f.each("no_rope_layers", layers, (0, 1)) if f.raw("no_rope_layers") else None
    if rotary is None:
        n = f.whole("no_rope_layer_interval", default=4)
        rotary = [int((i + 1) % n > 0) for i in range(layers)]
    return [CHUNK if r and f.raw("attention_chunk_size") else FULL for r in rotary]


def lightning(f: Fields, layers: int) -> list[str]:
    """`attn_type_list`: 1 attends, 0 is linear (MiniMax-Text-01)."""
    types = f.each("attn_type_list", layers, (0, 1))
    if types is None:
        f.missing.append("attn_type_list")
    return [FULL if one else LINEAR for one in types or [1] * layers]


def all_ones(f: Fields, layers: int) -> list[str]:
    """`attn_type_list`, if there is one, says that all layers attend (MiniMax-M2)."""
    f.each("attn_type_list", layers, (1,))
    return [FULL] * layers


def numbered(f: Fields, layers: int) -> list[str]:
    """`linear_attn_config` numbers the layers of each kind from 1 (Kimi Linear)."""
    inner = f.inside("linear_attn_config")
    full = inner.numbers("full_attn_layers", layers + 1) or []
    linear = inner.numbers("kda_layers", layers + 1) or []
    if sorted(full + linear) != list(range(1, layers + 1)):
        raise InputError(
            f"{inner.origin}: full_attn_layers and kda_layers must number each of the "
            f"{layers} layers once, from 1"
        )
    return [FULL if i + 1 in full else LINEAR for i in range(layers)]


def kinds(f: Fields, layers: int, rule: Rule) -> dict[str, Any]:
    """Count the layers that attend a window and those that are linear, and read the window."""
    listed = f.each("layer_types", layers, (FULL, WINDOW, CHUNK, LINEAR, *OTHERS))
    if listed:
        f.read.update(PATTERNS)
    types = listed or rule(f, layers)
    near = types.count(WINDOW) + types.count(CHUNK)
    counted: dict[str, Any] = {"linear_layers": types.count(LINEAR)}
    if WINDOW in types and CHUNK in types:
        raise InputError(f"{f.origin}: layer_types: both a window and chunks; one kind is known")
    name = "attention_chunk_size" if CHUNK in types else "sliding_window"
    if near:
        width = f.whole(name)
        counted |= {"window": width, "window_layers": near}
    elif listed:
        f.read.add("sliding_window")
    if CHUNK in types:
        f.assumed["window"] = (
            f"{name}: attention starts anew at each chunk, so that tokens see half of it on "
            "average; counted as a window of that size, an upper bound"
        )
    return counted


def all_layers(f: Fields, layers: int) -> list[bool]:
    """Every layer has experts."""
    return [True] * layers


def after_first(f: Fields, layers: int) -> list[bool]:
    """The first layers are dense, then every `moe_layer_freq`th has experts (DeepSeek)."""
    freq = f.raw("moe_layer_freq")
    if isinstance(freq, list):
        f.read.add("first_k_dense_replace")
        return [bool(x) for x in f.each("moe_layer_freq", layers, (0, 1)) or []]
    first = f.whole("first_k_dense_replace", least=0)
    n = f.whole("moe_layer_freq", default=1)
    return [i >= first and i % n == 0 for i in range(layers)]


def stepped(f: Fields, layers: int) -> list[bool]:
    """Every `decoder_sparse_step`th layer has experts, but for those listed as dense (Qwen)."""
    step = f.whole("decoder_sparse_step", default=1)
    dense = f.numbers("mlp_only_layers", layers) or []
    return [i not in dense and (i + 1) % step == 0 for i in range(layers)]


def interleaved(f: Fields, layers: int) -> list[bool]:
    """Every `interleave_moe_layer_step`th layer has experts, or those in `moe_layers` (Llama 4)."""
    listed = f.numbers("moe_layers", layers)
    step = f.whole("interleave_moe_layer_step", default=1)
    if listed is not None:
        return [i in listed for i in range(layers)]
    return [(i + 1) % step == 0 for i in range(layers)]


def enumerated(f: Fields, layers: int) -> list[bool]:
    """`moe_layers_enum` is a text of numbers (Step-3); without it all but the first."""
    text = f.raw("moe_layers_enum")
    if text is None:
        return [i > 0 for i in range(layers)]
    numbers = str(text).split(",")
    if not all(n.strip().isdecimal() and int(n) < layers for n in numbers):
        raise InputError(f"{f.origin}: moe_layers_enum={short(text)}: numbers of layers are needed")
    return [i in map(int, numbers) for i in range(layers)]


def experts_in(f: Fields, layers: int, rule: Callable[[Fields, int], list[bool]]) -> int:
    """Count the layers with experts."""
    listed = f.each("mlp_layer_types", layers, ("dense", "sparse"))
    told = rule(f, layers) if listed is None else []
    if listed is not None:
        f.read.update(("first_k_dense_replace", "moe_layer_freq", "decoder_sparse_step"))
        return listed.count("sparse")
    return sum(told)
