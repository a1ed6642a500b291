"""Write a Hugging Face config.json as a file of conf/model, or say what stands in the way."""

import dataclasses
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from roofrack.errors import InputError, nearest
from roofrack.fields import leaf_of
from roofrack.importing.families import BY_NAME, FAMILIES, Family
from roofrack.importing.parts import CONTEXT, LAYERS, WIDTH
from roofrack.importing.reader import ENCODERS, PREDICTION, Fields, short
from roofrack.model import Model, count

__all__ = ["as_yaml", "import_model"]

LARGEST = 4 * 2**20
"""Bytes of a file that is still taken for a configuration."""

NESTED = ("text_config", "language_config", "llm_config")
"""Where a multimodal model keeps the part that decodes text."""


def import_model(path: str | Path, name: str | None = None) -> str:
    """Return the conf/model file, as YAML, of a Hugging Face config.json.

    `name` is the display name; without one, the model's or the file's own. Raises InputError, in
    one line, for a file that cannot be read, an architecture or a field that is not known, and a
    value that is missing or cannot be.
    """
    path = Path(path)
    stem = path.stem if path.stem != "config" else ""
    return as_yaml(_load(path), path.name, name or None, stem)


def as_yaml(
    config: Mapping[str, Any], origin: str, name: str | None = None, fallback: str = ""
) -> str:
    """Return the conf/model file of a configuration that was read from `origin`."""
    architecture, family = _family(config, origin)
    fields = Fields(_flat(config, family), origin)
    leaves = _leaves(fields, family)
    model = Model(**leaves)
    counts = count(model)
    path = str(fields.tree.get("_name_or_path") or "").strip("/").rpartition("/")[2]
    header = [
        f"Imported from {origin} ({architecture}): {counts.total:,.0f} parameters counted,",
        f"{counts.active:,.0f} of them active for a token (with the head, without the input "
        "embedding); norms and biases are left out.",
        *_remarks(config, fields),
    ]
    body: dict[str, Any] = {"name": name or path or fallback or architecture}
    body |= {
        f.name: _plain(f, leaves[f.name]) for f in dataclasses.fields(Model) if f.name in leaves
    }
    version = config.get("transformers_version")
    body["sources"] = {"default": f"{origin}, a Hugging Face configuration of {architecture}"}
    if isinstance(version, str):
        body["sources"]["default"] += f", transformers {version}"
    body["sources"] |= fields.sources
    body["assumed"] = fields.assumed
    plain = ("".join(c if c.isprintable() else " " for c in line) for line in header)
    comments = "".join(f"# {' '.join(line.split())}\n" for line in plain)
    return comments + yaml.safe_dump(body, sort_keys=False, allow_unicode=True, width=1000)


def _load(path: Path) -> Mapping[str, Any]:
    if path.is_dir():
        raise InputError(f"{path}: a folder; give the config.json in it")
    try:
        if path.stat().st_size > LARGEST:
            raise InputError(f"{path}: larger than {LARGEST // 2**20} MiB; not a configuration")
        tree = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path}: not JSON: {' '.join(str(error).split())}") from None
    if not isinstance(tree, dict):
        raise InputError(f"{path}: not a JSON object; a config.json of Hugging Face is needed")
    return tree


def _text(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the part that decodes text, or nothing where it is not set apart."""
    return next((config[n] for n in NESTED if isinstance(config.get(n), Mapping)), {})


def _flat(config: Mapping[str, Any], family: Family) -> dict[str, Any]:
    outer = {k: v for k, v in config.items() if k not in NESTED}
    inner = {k: v for k, v in _text(config).items() if v is not None}
    return {**outer, **inner}


def _family(config: Mapping[str, Any], origin: str) -> tuple[str, Family]:
    """Return the architecture and how to read it: the file's own, then that of its text part."""
    told: list[str] = []
    for tree in (config, _text(config)):
        names = tree.get("architectures")
        told += [n for n in (names if isinstance(names, list) else []) if isinstance(n, str)]
        told += [n for n in (tree.get("model_type"),) if isinstance(n, str)]
    if not told:
        raise InputError(f"{origin}: has neither architectures nor model_type")
    for name in told:
        if name in BY_NAME:
            return name, BY_NAME[name]
    known = [name for family in FAMILIES for name in family.names]
    raise InputError(
        f"{origin}: {told[0]}: no such architecture is known; known are {', '.join(known)}."
        f"{nearest(told[0], known)}"
    )


def _leaves(f: Fields, family: Family) -> dict[str, Any]:
    for name, value in family.defaults.items():
        if f.tree.get(name) is None:
            f.tree = {**f.tree, name: value}
            f.sources[{"vocab_size": "vocab"}.get(name, "max_context")] = (
                f"not in the file: the default of {family.names[0]}'s class in transformers"
            )
    leaves: dict[str, Any] = {}
    blocks = f.tree.get("layers_block_type")
    layers = f.whole(*LAYERS, default=len(blocks) if isinstance(blocks, list) else None)
    leaves |= {"layers": layers, "d_model": f.whole(*WIDTH), "vocab": f.whole("vocab_size")}
    leaves["tied_embeddings"] = f.flag("tie_word_embeddings", family.tied)
    leaves["max_context"] = f.whole(*CONTEXT, default=0)
    projected = f.whole("word_embed_proj_dim", default=leaves["d_model"])
    if projected != leaves["d_model"] and not f.missing:
        raise InputError(f"{f.origin}: word_embed_proj_dim={projected}: not the model's width")
    for part in family.parts:
        try:
            leaves |= part(f, layers)
        except InputError:
            if not f.missing:  # what is missing explains the rest
                raise
    if f.missing:
        raise InputError(f"{f.origin}: missing: {', '.join(dict.fromkeys(f.missing))}")
    if leaves.get("linear_layers") and not leaves.get("linear_value_heads"):
        raise InputError(
            f"{f.origin}: {leaves['linear_layers']} layers are linear, which {family.names[0]} is "
            "not known to have"
        )
    unknown = f.unknown()
    if unknown:
        raise InputError(
            f"{f.origin}: not understood: {', '.join(unknown)}; if none of them changes what is "
            "computed or kept, take them out of the file, else write the model file by hand"
        )
    if leaves.get("window_layers") and 0 < leaves["max_context"] <= leaves["window"]:
        del leaves["window"], leaves["window_layers"]  # never binds
        f.assumed.pop("window", None)
    leaves["ffn_matrices"] = family.matrices
    leaves["biases"] = family.biases
    if family.biases:
        f.sources["biases"] = (
            f"{family.names[0]}'s class in transformers: its linear layers have some"
        )
    return {k: v for k, v in leaves.items() if v or k in ALWAYS}


ALWAYS = ("tied_embeddings", "kv_heads", "d_ff", "moe_layers", "max_context")
"""Leaves that are written though they are 0."""


def _plain(leaf: dataclasses.Field[Any], value: Any) -> Any:
    declared = leaf_of(leaf)
    return bool(value) if declared is not None and declared.flag else value


def _remarks(config: Mapping[str, Any], f: Fields) -> list[str]:
    left = [f"{n}={short(f.tree[n])}" for n in PREDICTION if f.tree.get(n)]
    remarks = []
    if left:
        remarks.append(f"Left out: layers that predict further tokens ({', '.join(left)}).")
    encoders = [n for n in ENCODERS if config.get(n)]
    if encoders:
        remarks.append(f"Left out: {', '.join(encoders)}; this is the part that decodes text.")
    quantized = f.tree.get("quantization_config")
    if isinstance(quantized, Mapping):
        remarks.append(_quantized(quantized))
    return remarks


def _quantized(tree: Mapping[str, Any]) -> str:
    """Say how the weights are published, and the nearest file of conf/dtype."""
    text = json.dumps(tree).lower()
    method = re.sub(r"[^\w.-]", "", str(tree.get("quant_method", ""))) or "how is not said"
    bits = re.search(r'"(?:num_bits|bits|w_bit)": (\d+)', text)
    if "nvfp4" in text:
        dtype = "nvfp4"
    elif "mxfp4" in text:
        dtype = "mxfp4"
    elif "fp8" in text or ('"type": "float"' in text and bits and bits[1] == "8"):
        dtype = "fp8_block" if tree.get("weight_block_size") else "fp8"
    elif bits and bits[1] in ("4", "8"):
        dtype = f"int{bits[1]}_weights"
    else:
        return f"The published weights are quantised ({method}); choose dtype= to match."
    return f"The published weights are quantised ({method}): dtype={dtype} comes nearest."
