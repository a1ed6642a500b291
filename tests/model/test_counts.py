"""Parameter counts: published totals of every file of conf/model, exact where known exactly."""

import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import yaml

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


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.stem)
def test_published_within_one_percent(file: Path) -> None:
    published = yaml.safe_load(file.read_text())["published"]
    model = model_of(file)
    counts = count(model)
    embedding = {
        "both": 0 if model.tied_embeddings else counts.embedding,
        "head": 0,
        "none": -counts.head,
    }[published["embeddings_in_active"]]
    assert counts.total == pytest.approx(published["params_total"], rel=0.01)
    assert counts.active + embedding == pytest.approx(published["params_active"], rel=0.01)


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
