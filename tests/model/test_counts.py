"""Parameter counts: published totals of every file of conf/model, exact where known exactly."""

import dataclasses
import math
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import yaml

from roofrack.api import estimate, scenario
from roofrack.cost import pytrees  # noqa: F401  (registers the nouns)
from roofrack.model import Model, count

CONF = Path(__file__).resolve().parents[2] / "conf" / "model"
FILES = sorted(CONF.glob("*.yaml"))
# attention of one layer, all, and active with the head, without the input embedding
EXACT = {"deepseek_v3": (187_105_280, 671_025_397_760, 36_624_596_992)}
BOOK = Model(
    layers=64, d_model=4096, vocab=32128, tied_embeddings=True, heads=32, kv_heads=8, head_dim=256,
    q_lora=0, kv_lora=0, qk_nope_dim=0, qk_rope_dim=0, v_head_dim=0, window=0, window_layers=0,
    d_ff=16384, ffn_matrices=3, moe_layers=0, experts=0, experts_per_token=0, d_ff_expert=16384,
    shared_experts=0, d_ff_shared=0, node_limit=0, max_context=0, params_total=0, params_active=0,
    kv_bytes_per_token=0,
)  # fmt: skip


def model_of(file: Path) -> Model:
    tree = yaml.safe_load(file.read_text())
    return Model(**{f.name: tree[f.name] for f in dataclasses.fields(Model) if f.name in tree})


NAMES = """gpt3_175b mt_nlg_530b megatron_1t palm_540b llama2_13b llama3_1_8b llama3_1_70b
    llama3_1_405b mixtral_8x7b mixtral_8x22b qwen2_5_72b qwen3_32b qwen3_30b_a3b qwen3_235b_a22b
    deepseek_v2 deepseek_v3 kimi_k2 gpt_oss_20b gpt_oss_120b glm_4_5 llama4_scout llama4_maverick
    gemma3_27b minimax_m2""".split()


def tolerance(published: dict[str, Any], of: str) -> float:
    """1 %, or one unit of the last printed digit where that is more, and never above 5 %."""
    unit = published.get(f"{of}_rounded_to", 0.0)
    figure = published[f"params_{of}"]
    assert unit == 0 or math.log10(unit) % 1 == 0, f"{of}_rounded_to={unit}: a power of ten"
    assert unit == 0 or figure / unit == round(figure / unit), f"{figure} has finer digits"
    return min(0.05, max(0.01, unit / figure))


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.stem)
def test_published(file: Path) -> None:
    """`embeddings_in_*` is the way of counting that comes nearest to the printed figure."""
    published = yaml.safe_load(file.read_text())["published"]
    model = model_of(file)
    counts = count(model)
    both = 0 if model.tied_embeddings else counts.embedding
    without = {"both": 0, "none": -counts.head - both}[published.get("embeddings_in_total", "both")]
    total = counts.total + without + published.get("params_left_out", 0)
    assert total == pytest.approx(published["params_total"], rel=tolerance(published, "total"))
    if "active_not_compared" in published:
        assert "params_active" not in published
        return
    head = {"both": both, "head": 0, "none": -counts.head}[published["embeddings_in_active"]]
    rel = tolerance(published, "active")
    assert counts.active + head == pytest.approx(published["params_active"], rel=rel)


def test_few_figures_are_not_compared() -> None:
    skipped = [f.stem for f in FILES if "active_not_compared" in f.read_text()]
    assert sorted(skipped) == ["grok_1", "qwen3_next_80b_a3b"]


def test_names_of_the_contract() -> None:
    stems = {file.stem for file in FILES}
    assert stems >= {*NAMES, "blackboard"}
    assert len(stems) > 40


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.stem)
def test_kinds_of_layers_fit(file: Path) -> None:
    m = model_of(file)
    assert m.window_layers + m.linear_layers + m.sparse_layers <= m.layers
    assert m.moe_layers <= m.layers
    assert m.shared_kv_layers < m.layers
    assert (m.window_layers > 0) == (m.window > 0)
    assert (m.sparse_layers > 0) == (m.sparse_tokens * m.index_heads * m.index_dim > 0)
    assert (m.linear_layers > 0) == (m.linear_key_dim * m.linear_value_dim > 0)
    assert (m.moe_layers > 0) == (m.experts > 0)
    assert count(m).full_layers >= 0
    if not m.params_total:
        assert m.heads % m.kv_heads == 0
        assert count(m).state_bytes * m.linear_layers < 1e9


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.stem)
def test_a_decode_step_is_finite(file: Path) -> None:
    overrides = (
        f"model={file.stem}", "parallelism=single", "hardware=h100_sxm", "batch=4",
        "context=10000", "hardware.hbm_bytes=1e+14",
    )  # fmt: skip
    row = estimate(scenario(*overrides))
    assert int(row["why_invalid"]) == 0
    assert bool(row["fits"])
    for column in ("step_s", "step_lower_s", "step_upper_s", "mem_total_bytes", "usd_per_mtok"):
        assert math.isfinite(float(row[column]))
        assert float(row[column]) > 0


D, HEADS, V = 2048, 16, 151936  # Qwen3-Next


def matrices(*shapes: tuple[int, ...]) -> int:
    """Parameters of matrices, each told as (times, rows, columns)."""
    return sum(math.prod(shape) for shape in shapes)


def test_gated_delta_net_by_hand() -> None:
    delta_net = matrices(
        (16 + 16, 128, D), (32 + 32, 128, D), (32, 128, D), (2, 32, D)
    )  # q k, v z, out, a b
    attention = matrices((2 * HEADS, 256, D), (2 * 2, 256, D), (HEADS, 256, D))  # q gate, k v, out
    experts = matrices((512 + 1, 3 * 512, D), (1, 512, D))  # routed, shared, router
    total = 36 * delta_net + 12 * attention + 48 * experts + 2 * V * D
    active = total - V * D - 48 * (512 - 10) * 3 * 512 * D
    counts = count(model_of(CONF / "qwen3_next_80b_a3b.yaml"))
    assert (counts.linear, counts.total, counts.active) == (delta_net, total, active)
    assert counts.state_bytes == 32 * 128 * 128 * 4


def test_indexer_by_hand() -> None:
    indexer = matrices((64, 128, 1536), (1, 128, 7168), (1, 64, 7168))  # queries, key, weights
    v3, v32 = (count(model_of(CONF / f"{name}.yaml")) for name in ("deepseek_v3", "deepseek_v3_2"))
    assert v32.total - v3.total == v32.active - v3.active == 61 * indexer
    assert (v32.index_elements, v32.full_layers) == (128, 0)


def test_delta_attention_by_hand() -> None:
    d, wide = 2304, 32 * 128
    kda = matrices(
        (4, wide, d), (2, 128, d), (2, wide, 128), (1, 32, d)
    )  # q k v out, decay and gate, beta
    mla = matrices((32, 192, d), (1, 512 + 64, d), (32, 128 + 128, 512), (32, 128, d))
    moe = matrices((256 + 1, 3 * 1024, d), (1, 256, d))
    total = 20 * kda + 7 * mla + 26 * moe + 3 * 9216 * d + 2 * 163840 * d
    counts = count(model_of(CONF / "kimi_linear_48b_a3b.yaml"))
    assert (counts.linear, counts.attention, counts.total) == (kda, mla, total)
    assert counts.kv_elements == 512 + 64


def test_lightning_attention_by_hand() -> None:
    d, wide = 6144, 64 * 128
    lightning = matrices((3, wide, d), (1, wide, d), (1, wide, d))  # q k v, gate, out
    attention = matrices((2, wide, d), (2, 8 * 128, d))
    moe = matrices((32, 3 * 9216, d), (1, 32, d))
    total = 70 * lightning + 10 * attention + 80 * moe + 2 * 200064 * d
    counts = count(model_of(CONF / "minimax_text_01.yaml"))
    assert (counts.linear, counts.total) == (lightning, total)
    assert counts.state_bytes == 64 * 128 * 128 * 4


def test_mamba_by_hand() -> None:
    d, inner = 2688, 64 * 64
    mamba = matrices((2, inner, d), (2, 8 * 128, d), (1, inner, d))  # x z, B C, out
    attention = matrices((2, 32 * 128, d), (2, 2 * 128, d))
    moe = matrices((128, 2 * 1856, d), (1, 2 * 3712, d), (1, 128, d))
    total = 23 * mamba + 6 * attention + 23 * moe + 2 * 131072 * d
    counts = count(model_of(CONF / "nemotron_3_nano.yaml"))
    assert (counts.linear, counts.total) == (mamba, total)


def test_low_rank_queries_by_hand() -> None:
    d = 7168
    attention = matrices((1, 2048, d), (64, 256, 2048), (2, 256, d), (64, 256, d))
    moe = matrices((48 + 1, 3 * 5120, d), (1, 48, d))
    total = 61 * attention + 56 * moe + 5 * 3 * 18432 * d + 2 * 128815 * d
    counts = count(model_of(CONF / "step3.yaml"))
    assert (counts.attention, counts.total) == (attention, total)
    assert counts.kv_elements == 2 * 256


def test_shared_cache_by_hand() -> None:
    d = 6400
    layers = matrices((64 * 2, 80 * 80, d), (32 * 2, 8 * 80, d))  # only half project keys, values
    moe = matrices((16 + 1, 3 * 18304, d), (1, 16, d))
    counts = count(model_of(CONF / "hunyuan_large.yaml"))
    assert counts.total == layers + 64 * moe + 128512 * d


@pytest.mark.parametrize("name", EXACT)
def test_exact(name: str) -> None:
    counts = count(model_of(CONF / f"{name}.yaml"))
    assert (counts.attention, counts.total, counts.active) == EXACT[name]


def test_worked_problem_of_the_scaling_book() -> None:
    assert count(BOOK).total == 18_385_207_296
    sparse = dataclasses.replace(BOOK, moe_layers=64, experts=16, experts_per_token=2)
    counts = count(sparse)
    routers = 64 * counts.router
    assert counts.total - routers == 211_658_735_616
    assert counts.active - routers == 31_270_109_184


def test_mla_without_query_compression() -> None:
    model = dataclasses.replace(
        BOOK, kv_heads=32, head_dim=0, kv_lora=512, qk_nope_dim=128, qk_rope_dim=64, v_head_dim=96
    )
    by_hand = 4096 * 32 * 192 + 4096 * (512 + 64) + 512 * 32 * (128 + 96) + 32 * 96 * 4096
    assert count(model).attention == by_hand
    assert count(model).kv_elements == 512 + 64


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.stem)
def test_traced_in_single_precision(file: Path) -> None:
    model = model_of(file)
    traced = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), model)
    np.testing.assert_allclose(count(traced), np.asarray(count(model), np.float64), rtol=1e-6)
