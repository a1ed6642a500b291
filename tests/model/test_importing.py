"""`import`: every architecture of conf/model, and one line for everything that cannot be read."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from roofrack.api import scenario
from roofrack.config.composition import compose
from roofrack.errors import InputError
from roofrack.importing import as_yaml, import_model
from roofrack.importing.families import BY_NAME, FAMILIES
from roofrack.importing.reader import IGNORED, NEUTRAL
from roofrack.model import Model, count

HERE = Path(__file__).resolve().parent
CONF = HERE.parents[1] / "conf"
CONFIGS = sorted((HERE / "configs").glob("*.json"))
NOT_IN_CONFIG = ("published", "sources", "assumed", "name")
DIFFERS = {
    "gemma3_27b": {"vocab": (262208, 262144)},  # the class pads the vocabulary of the report
    "minimax_text_01": {"max_context": (0, 1000000)},  # the reduced file has no context
}
each_config = pytest.mark.parametrize("file", CONFIGS, ids=lambda f: f.stem)


def leaves(tree: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in tree.items() if k not in NOT_IN_CONFIG and v}


def config(stem: str, **changed: Any) -> dict[str, Any]:
    """A reduced configuration with fields changed; None takes a field out."""
    tree = json.loads((HERE / "configs" / f"{stem}.json").read_text())
    return {k: v for k, v in {**tree, **changed}.items() if v is not None}


def refused(tree: dict[str, Any]) -> str:
    with pytest.raises(InputError) as caught:
        as_yaml(tree, "config.json")
    text = str(caught.value)
    assert "\n" not in text
    assert "config.json" in text
    return text


@each_config
def test_as_the_shipped_file(file: Path) -> None:
    shipped = leaves(yaml.safe_load((CONF / "model" / f"{file.stem}.yaml").read_text()))
    imported = leaves(yaml.safe_load(import_model(file)))
    keys = shipped.keys() | imported.keys()
    found = {
        k: (imported.get(k, 0), shipped.get(k, 0))
        for k in keys
        if imported.get(k, 0) != shipped.get(k, 0)
    }
    assert found == DIFFERS.get(file.stem, {})
    counted = [count(Model(**tree)) for tree in (imported, shipped)]
    assert counted[0].total == pytest.approx(counted[1].total, rel=1e-4)


def test_every_family_is_tested_or_shares_its_parts() -> None:
    used = {json.loads(f.read_text())["architectures"][0] for f in CONFIGS}
    parts = {part for family in FAMILIES if set(family.names) & used for part in family.parts}
    untested = [f.names[0] for f in FAMILIES if set(f.parts) - parts]
    assert untested == []


@pytest.mark.parametrize("stem", ["deepseek_v3_2", "nemotron_3_nano", "gemma3_27b"])
def test_composes(stem: str, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    text = import_model(HERE / "configs" / f"{stem}.json", "My: model # 1")
    (tmp_path / "model" / "mine.yaml").write_text(text)
    tree = compose(["model=mine", "parallelism=single"], tmp_path)
    assert tree["model"]["name"] == "My: model # 1"
    s = scenario("model=mine", "parallelism=single", config_dir=tmp_path)
    assert count(s.model).total > 1e9


def test_sources_and_remarks() -> None:
    text = import_model(HERE / "configs" / "deepseek_v3.json")
    tree = yaml.safe_load(text)
    assert tree["name"] == "deepseek_v3"
    assert tree["sources"]["default"].startswith("deepseek_v3.json")
    assert "DeepseekV3ForCausalLM" in tree["sources"]["default"]
    assert "node_limit" in tree["assumed"]
    assert "671,025,397,760" in text
    assert "num_nextn_predict_layers=1" in text
    assert "dtype=fp8_block" in text
    assert str(HERE) not in text


@pytest.mark.parametrize(
    ("quantization", "dtype"),
    [
        ({"quant_method": "fp8"}, "fp8"),
        ({"quant_method": "fp8", "weight_block_size": [128, 128]}, "fp8_block"),
        ({"quant_method": "mxfp4"}, "mxfp4"),
        ({"quant_method": "modelopt", "quant_algo": "NVFP4"}, "nvfp4"),
        ({"quant_method": "awq", "bits": 4}, "int4_weights"),
        ({"quant_method": "gptq", "bits": 8}, "int8_weights"),
        ({"quant_method": "odd", "bits": 3}, ""),
    ],
)
def test_quantisation_is_a_remark(quantization: dict[str, Any], dtype: str) -> None:
    tree = config("llama3_1_8b", quantization_config=quantization)
    text = as_yaml(tree, "config.json")
    remark = next(line for line in text.splitlines() if "quantised" in line)
    assert (f"dtype={dtype} " in remark) if dtype else ("choose dtype=" in remark)
    assert not dtype or (CONF / "dtype" / f"{dtype}.yaml").is_file()
    assert leaves(yaml.safe_load(text)) == leaves(
        yaml.safe_load(as_yaml(config("llama3_1_8b"), "config.json"))
    )


def test_layer_types_win_and_count() -> None:
    kinds = ["full_attention"] + ["sliding_attention"] * 31
    tree = config("mistral_7b", layer_types=kinds)
    assert yaml.safe_load(as_yaml(tree, "c"))["window_layers"] == 31
    wide = config("mistral_7b", sliding_window=32768)
    assert "window" not in yaml.safe_load(as_yaml(wide, "c")), "a window that never binds"


def test_qwen_window_starts_at_a_layer() -> None:
    tree = config("qwen2_5_7b", use_sliding_window=True, max_window_layers=20, sliding_window=4096)
    read = yaml.safe_load(as_yaml(tree, "c"))
    assert (read["window"], read["window_layers"]) == (4096, 8)


@pytest.mark.parametrize(
    ("fields", "moe"),
    [
        ({"decoder_sparse_step": 2}, 24),
        ({"decoder_sparse_step": 1, "mlp_only_layers": [0, 5]}, 46),
        ({"mlp_layer_types": ["dense"] * 8 + ["sparse"] * 40}, 40),
    ],
)
def test_layouts_of_experts(fields: dict[str, Any], moe: int) -> None:
    read = yaml.safe_load(as_yaml(config("qwen3_30b_a3b", **fields), "c"))
    assert read["moe_layers"] == moe
    assert read["d_ff"] == 6144


def test_frequencies_of_experts() -> None:
    by_two = yaml.safe_load(as_yaml(config("deepseek_v3", moe_layer_freq=2), "c"))
    assert by_two["moe_layers"] == len([i for i in range(61) if i >= 3 and i % 2 == 0])
    listed = yaml.safe_load(as_yaml(config("deepseek_v3", moe_layer_freq=[0] * 11 + [1] * 50), "c"))
    assert listed["moe_layers"] == 50


def test_gpt2_names_and_defaults() -> None:
    tree = {
        "architectures": ["GPT2LMHeadModel"], "model_type": "gpt2", "n_layer": 48, "n_embd": 1600,
        "n_head": 25, "n_positions": 1024, "n_ctx": 1024, "vocab_size": 50257, "n_inner": None,
        "attn_pdrop": 0.1, "summary_type": "cls_index",
    }  # fmt: skip
    read = yaml.safe_load(as_yaml(tree, "c"))
    assert (read["d_ff"], read["tied_embeddings"], read["max_context"]) == (6400, True, 1024)
    counted = 48 * 12 * 1600**2 + 50257 * 1600
    assert count(Model(**leaves(read))).total == counted


def test_a_default_of_the_class_is_told() -> None:
    read = yaml.safe_load(import_model(HERE / "configs" / "gemma3_27b.json"))
    assert "default of Gemma3" in read["sources"]["vocab"]


def test_unknown_fields_are_named_all_at_once() -> None:
    text = refused(config("llama3_1_8b", moe_latent_size=1024, altup_num_inputs=4))
    assert "moe_latent_size=1024" in text
    assert "altup_num_inputs=4" in text
    nested = {"cla": 2, "kv_n_heads": 8}
    assert "attn_config.cla=2" in refused(config("dbrx", attn_config=nested))
    inner = {**config("kimi_linear_48b_a3b")["linear_attn_config"], "use_full_rank_gate": True}
    assert "use_full_rank_gate" in refused(config("kimi_linear_48b_a3b", linear_attn_config=inner))


def test_a_window_of_a_family_without_is_not_ignored() -> None:
    assert "sliding_window=4096" in refused(config("llama3_1_8b", sliding_window=4096))


def test_what_a_model_file_cannot_say() -> None:
    kinds = ["full"] * 30 + ["shared"] * 31
    assert "31 of 61 layers reuse" in refused(config("deepseek_v3_2", indexer_types=kinds))
    pattern = "M-M-M-M*" * 4
    tree = config("nemotron_3_nano", num_hidden_layers=32, hybrid_override_pattern=pattern)
    assert "12 dense FFNs" in refused(tree)
    linear = ["linear_attention"] * 36
    assert "linear" in refused(config("qwen3_8b", layer_types=linear))


def test_missing_fields_are_named_all_at_once() -> None:
    tree = config("mixtral_8x7b", num_local_experts=None, intermediate_size=None)
    text = refused(tree)
    assert "missing" in text
    assert "num_local_experts" in text
    assert "intermediate_size" in text
    assert "hidden_size" in refused({"model_type": "llama", "num_hidden_layers": 2})
    assert "attn_type_list" in refused(config("minimax_text_01", attn_type_list=None))


def test_unknown_architecture_names_the_nearest() -> None:
    text = refused({"architectures": ["DeepseekV9ForCausalLM"]})
    assert "known are LlamaForCausalLM" in text
    assert "Did you mean 'DeepseekV" in text
    assert "neither architectures nor model_type" in refused({"hidden_size": 1})
    assert "neither" in refused({"architectures": "LlamaForCausalLM", "model_type": 7})


BAD = (math.nan, math.inf, -1, 0, 4096.5, True, "4096", [4096, 1], {"a": 1}, 10**12)


@pytest.mark.parametrize("value", BAD, ids=str)
@pytest.mark.parametrize("field", ["hidden_size", "num_hidden_layers", "vocab_size"])
def test_bad_numbers(field: str, value: Any) -> None:
    text = refused(config("llama3_1_8b", **{field: value}))
    assert field in text
    assert "whole number" in text


@pytest.mark.parametrize(
    ("stem", "fields", "says"),
    [
        ("llama3_1_8b", {"tie_word_embeddings": "yes"}, "true or false"),
        ("llama3_1_8b", {"num_key_value_heads": 7}, "do not divide"),
        ("llama3_1_8b", {"num_attention_heads": 33, "num_key_value_heads": 33}, "head_dim"),
        ("llama3_1_8b", {"layer_types": ["full_attention"] * 5}, "5 entries for 32 layers"),
        ("llama3_1_8b", {"layer_types": ["round_attention"] * 32}, "none of"),
        ("mixtral_8x7b", {"num_experts_per_tok": 9}, "9 experts per token of 8"),
        ("gpt_oss_20b", {"experts_per_token": 5}, "disagree"),
        ("qwen3_30b_a3b", {"mlp_only_layers": [99]}, "numbers of layers"),
        ("qwen3_30b_a3b", {"mlp_only_layers": "all"}, "numbers of layers"),
        ("minimax_m2", {"attn_type_list": [0] * 62}, "none of 1"),
        ("minimax_m2", {"shared_intermediate_size": 512}, "shared_intermediate_size=512"),
        ("nemotron_3_nano", {"hybrid_override_pattern": "X" * 52}, "M*E-"),
        ("nemotron_3_nano", {"mamba_ssm_cache_dtype": "fp3"}, "float32"),
        ("kimi_linear_48b_a3b", {"linear_attn_config": {"num_heads": 2, "head_dim": 4}}, "number"),
        ("kimi_linear_48b_a3b", {"linear_attn_config": 3}, "linear_attn_config"),
    ],
)
def test_bad_values(stem: str, fields: dict[str, Any], says: str) -> None:
    assert says in refused(config(stem, **fields))


ODD = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=4,
)


@given(file=st.sampled_from(CONFIGS), value=ODD, data=st.data())
def test_any_value_is_read_or_refused_in_one_line(file: Path, value: Any, data: Any) -> None:
    tree = json.loads(file.read_text())
    inner = tree.get("text_config", tree)
    inner[data.draw(st.sampled_from(sorted(inner)))] = value
    try:
        read = yaml.safe_load(as_yaml(tree, "config.json"))
    except InputError as error:
        assert "\n" not in str(error)
    else:
        assert count(Model(**leaves(read))).total > 0


def test_bad_files(tmp_path: Path) -> None:
    def failing(path: Path) -> str:
        with pytest.raises(InputError) as caught:
            import_model(path)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    file = tmp_path / "config.json"
    assert "cannot be read" in failing(file)
    assert "a folder" in failing(tmp_path)
    for text, says in (
        ("", "not JSON"), ("{,}", "not JSON"), ("[1]", "not a JSON object"),
        ("3", "not a JSON object"), ("[" * 100_000, "not JSON"),
    ):  # fmt: skip
        file.write_text(text)
        assert says in failing(file)
    file.write_bytes(b"\xff\xfe\x00")
    assert "not JSON" in failing(file)
    file.write_text('{"a": "' + "x" * 5_000_000 + '"}')
    assert "larger than 4 MiB" in failing(file)


def test_text_from_the_file_cannot_leave_its_comment() -> None:
    tree = config("llama3_1_8b", _name_or_path="someone/a: b\nlayers: 1")
    tree["transformers_version"] = "4\nlayers: 2"
    tree["quantization_config"] = {"quant_method": "fp8\nlayers: 3"}
    read = yaml.safe_load(as_yaml(tree, "c\nlayers: 4"))
    assert read["layers"] == 32
    assert read["name"] == "a: b\nlayers: 1"
    assert "someone" not in as_yaml(tree, "c")


def test_the_lists_do_not_hide_what_is_read() -> None:
    assert not IGNORED & NEUTRAL.keys()
    for name in ("hidden_size", "intermediate_size", "sliding_window", "index_topk", "n_group"):
        assert name not in IGNORED
    assert len(BY_NAME) == sum(len(f.names) + len(f.types) for f in FAMILIES)
