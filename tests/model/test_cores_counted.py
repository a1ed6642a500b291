"""Linear and sparse attention, and uneven experts, by running, listing and drawing."""

import numpy as np
import pytest
from model.cases import given, result, study

from roofrack.model import CHUNK, count

BANDWIDTH, PEAK = 4.8e12, 9.89e14


class Counting:
    """Matrix products that count their multiply-adds as 2 FLOP each."""

    def __init__(self) -> None:
        self.flops = 0

    def times(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        rows, inner = (1, a.shape[0]) if a.ndim == 1 else a.shape
        self.flops += 2 * rows * inner * (1 if b.ndim == 1 else b.shape[1])
        return a @ b

    def outer(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        self.flops += 2 * a.size * b.size  # multiplied and added to what is there
        return np.outer(a, b)


def recurrence(keys: int, values: int, tokens: int) -> tuple[int, int]:
    """Run one head of a gated delta rule token by token; return FLOP and bytes of its state."""
    draw, count_ = np.random.default_rng(0), Counting()
    state = np.zeros((keys, values), np.float32)
    k, q = (draw.standard_normal((tokens, keys)).astype(np.float32) for _ in range(2))
    v = draw.standard_normal((tokens, values)).astype(np.float32)
    k /= np.linalg.norm(k, axis=1, keepdims=True)
    out = np.zeros((tokens, values), np.float32)
    for t in range(tokens):
        found = count_.times(k[t], state)  # what the state says of this key
        state = 0.99 * state + count_.outer(k[t], 0.5 * (v[t] - found))
        out[t] = count_.times(q[t], state)
    assert np.all(np.isfinite(out)) and np.any(out)
    return count_.flops, state.nbytes


@pytest.mark.parametrize(
    ("model", "key_heads", "value_heads", "keys", "values", "layers"),
    [("qwen3_next_80b_a3b", 16, 32, 128, 128, 36), ("qwen3_5_27b", 16, 48, 128, 128, 48)],
)
def test_linear_layers_by_running_the_recurrence(
    model: str, key_heads: int, value_heads: int, keys: int, values: int, layers: int
) -> None:
    """As published: the state of every value head, in FP32, read and written for each token."""
    at = study("h200", model, "ideal", overlap="none")
    flops, state = recurrence(keys, values, tokens=5)
    m = at.bind({}).model
    assert (m.linear_key_heads, m.linear_value_heads, m.linear_layers) == (
        key_heads,
        value_heads,
        layers,
    )
    counts = count(m)
    assert counts.linear_flops * 5 == value_heads * flops
    held = layers * value_heads * state
    batch = 16.0
    row = result(at, batch=batch, context=0.0)
    assert row["state_bytes"] == held
    assert row["mem_kv_bytes"] == pytest.approx(batch * held)
    assert row["t_kv_s"] == pytest.approx(2 * batch * held / BANDWIDTH)
    on, off = (
        result(at, batch=batch, context=0.0, cost__attention_core=x)["t_compute_s"] for x in (1, 0)
    )
    assert (on - off) * PEAK == pytest.approx(batch * layers * value_heads * flops / 5)
    # what is kept of a sequence does not grow with it, but for the layers that attend
    long = result(at, batch=1.0, context=1e5)["mem_kv_bytes"]
    assert long - held == pytest.approx(1e5 * row["kv_bytes_per_token"])


def chunked_products(keys: int, values: int, chunk: int) -> int:
    """Return FLOP of the two products inside a chunk, counted over their causal half."""
    return sum(2 * keys + 2 * values for row in range(chunk) for _ in range(row + 1))


def test_a_chunk_of_a_prompt_adds_two_causal_products() -> None:
    """Queries with keys, and those with values, of the tokens of one chunk that come before."""
    m = study("h200", "qwen3_next_80b_a3b").bind({}).model
    listed = 32 * chunked_products(128, 128, int(CHUNK)) / CHUNK
    # positions as continuous: half a token short
    assert count(m).linear_chunk_flops == pytest.approx(listed, rel=1.01 / CHUNK)


@pytest.mark.parametrize(("prompt", "cached"), [(1000, 0), (6000, 0), (6000, 4000), (3000, 1000)])
def test_sparse_prefill_by_listing_pairs(prompt: int, cached: int) -> None:
    """DeepSeek-V3.2: the indexer looks at all earlier tokens, the core at 2,048 of them."""
    at = study("h200", "deepseek_v3_2", "ideal", "prefill", overlap="none")
    lengths = {"workload.prompt": float(prompt), "workload.cached": float(cached)}
    on, off = (
        result(at, lengths, batch=1.0, cost__attention_core=x)["t_compute_s"] for x in (1, 0)
    )
    positions = np.arange(cached, prompt) + 0.5  # as continuous
    looked_at = positions.sum() * 2 * 64 * 128
    picked = np.minimum(positions, 2048).sum() * 2 * 128 * (2 * 512 + 64)
    fp8 = 1.979e15  # keys of the indexer are FP8, latents and GEMMs BF16
    expected = looked_at / fp8 + picked / PEAK
    assert (on - off) / 61 == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("context", [500, 2048, 50_000])
def test_sparse_decode_by_listing_what_is_read(context: int) -> None:
    at = study("h200", "deepseek_v3_2", "ideal", overlap="none")
    row = result(at, batch=4.0, context=float(context))
    read = 0
    for _ in range(61):
        for _ in range(4):
            read += context * 128 * 1  # an FP8 key of each token
            read += min(context, 2048) * (512 + 64) * 2  # a latent of each pick
    assert row["t_kv_s"] == pytest.approx(read / BANDWIDTH)
    held = 61 * 4 * context * (128 + 576 * 2)
    assert row["mem_kv_bytes"] == pytest.approx(held)


def busiest(
    draw: np.random.Generator, experts: int, copied: int, k: int, ranks: int, tokens: int,
    spread: float, noise: bool, trials: int,
) -> float:  # fmt: skip
    """Return the mean load of the busiest rank over the mean, drawn."""
    found = []
    sigma = np.sqrt(np.log1p(spread**2))
    for _ in range(trials):
        popular = np.exp(sigma * draw.standard_normal(experts) - sigma**2 / 2)
        popular /= popular.mean()
        owner = np.concatenate([np.arange(experts), np.argsort(popular)[experts - copied :]])
        copies = np.bincount(owner, minlength=experts)
        if noise:
            # each token takes k different experts, the popular ones more often
            score = np.log(popular) + draw.gumbel(size=(tokens, experts))
            chosen = np.argpartition(-score, k - 1, axis=1)[:, :k]
            load = np.bincount(chosen.ravel(), minlength=experts).astype(float)
        else:
            load = popular
        slots = (load / copies)[owner]
        dealt = slots[draw.permutation(slots.size)].reshape(ranks, -1).sum(axis=1)
        found.append(dealt.max() / dealt.mean())
    return float(np.mean(found))


@pytest.mark.parametrize(
    ("ranks", "copied", "spread", "noise", "batch"),
    [
        (8, 0, 0.5, 0, 512),
        (32, 0, 0.5, 0, 512),
        (64, 0, 0.3, 0, 512),
        (8, 0, 0.0, 1, 64),
        (32, 0, 0.0, 1, 256),
        (64, 0, 0.0, 1, 64),
        (32, 32, 0.5, 0, 512),
        (8, 64, 0.7, 0, 512),
        (16, 0, 0.4, 1, 256),
        (8, 256, 0.5, 0, 512),
    ],
)
def test_the_busiest_rank_by_drawing(ranks, copied, spread, noise, batch) -> None:
    """DeepSeek-V3's 256 experts of which a token visits 8.

    The closed form takes loads of ranks as normal and independent: a sixth of the excess, and two
    hundredths of the mean besides, is what that costs here; more where ranks hold few slots of very
    uneven experts, whose load has a long tail.
    """
    at = study("b200", "deepseek_v3", "ideal")
    row = result(
        at,
        given(cost__routing_noise=float(noise)),
        ep=float(ranks), dp=float(ranks), batch=float(batch), redundant_experts=float(copied),
        routing_spread=spread,
    )  # fmt: skip
    draw = np.random.default_rng(6)
    drawn = busiest(draw, 256, copied, 8, ranks, batch, spread, bool(noise), 400)
    assert drawn > 1.02
    assert row["expert_skew"] == pytest.approx(drawn, abs=(drawn - 1) / 6 + 0.02)


@pytest.mark.parametrize(("redundant", "tokens"), [(32, 4), (32, 64), (64, 16), (256, 8)])
def test_distinct_slots_by_drawing(redundant: int, tokens: int) -> None:
    """A token that visits a copied expert goes to either copy. The closed form takes all slots as
    alike, up to 3 % too many where experts are visited evenly and few of them have copies."""
    draw, trials, experts, k = np.random.default_rng(7), 1_000, 256, 8
    slots = experts + redundant
    touched = np.zeros((trials, slots), bool)
    for _ in range(tokens):
        chosen = np.argpartition(draw.random((trials, experts)), k, axis=1)[:, :k]
        second = (chosen < redundant) & (draw.random((trials, k)) < 0.5)
        np.put_along_axis(touched, np.where(second, experts + chosen, chosen), True, axis=1)
    row = result(
        study("b200", "deepseek_v3", "ideal"),
        ep=8.0, dp=8.0, batch=float(max(tokens, 8)), redundant_experts=float(redundant),
    )  # fmt: skip
    if tokens >= 8:
        assert row["experts_touched"] == pytest.approx(touched.sum(axis=1).mean(), rel=0.03)
    else:  # ranks without a sequence do not send: no fewer than the tokens there are
        assert row["experts_touched"] >= touched.sum(axis=1).mean() * 0.98
