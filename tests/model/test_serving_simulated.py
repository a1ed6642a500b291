"""Steady states of serving by simulating passes one by one, never by the formula."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given as forall
from hypothesis import settings
from hypothesis import strategies as st
from model.cases import AFD, DISAGGREGATED, given, result, study

from roofrack.cost import overlap
from roofrack.cost.passes import tokens_per_pass

TIME = ("t_compute_s", "t_weights_s", "t_kv_s", "t_activation_s", "t_overhead_s")
LINEAR = {  # every time is linear in what is done: means over sequences are exact
    "calibration.quantize": 0.0,
    "model.vocab": 0.0,
}


def engine(batch: int, output: int, gained: float, new: int, per_pass: int, steps: int):
    """Run an engine whose slots are always full; return decode and prefill passes, tokens, ages.

    `new` tokens of a prompt are owed for each sequence that ends; a prefill pass (alone or beside
    decoding ones) takes `per_pass` of them as soon as they are owed.
    """
    done = np.linspace(0, output, batch, endpoint=False)  # tokens that each sequence has
    owed, prefills, ages = 0.0, 0, []
    for _ in range(steps):
        ages.append(done.mean())
        done = done + gained
        ended = done >= output
        done[ended] -= output
        owed += new * np.count_nonzero(ended)
        taken = int(owed // per_pass)
        prefills += taken
        owed -= taken * per_pass
    return prefills / steps, batch * gained, np.array(ages)


@pytest.mark.parametrize(("batch", "output", "prompt"), [(64, 100, 900), (32, 400, 2000)])
@pytest.mark.parametrize("drafted", [0, 2])
def test_own_prefill_passes_by_running_an_engine(batch, output, prompt, drafted) -> None:
    """Decode passes at the contexts of the moment, one prompt at a time in between."""
    lengths = {"workload.prompt": float(prompt), "workload.output": float(output)}
    more = {"draft_tokens": float(drafted), "acceptance": 0.5}
    gained = sum(0.5**i for i in range(drafted + 1))
    share, tokens, ages = engine(batch, output, gained, prompt, prompt, 4_000)
    machine = ("h100_sxm", "llama3_1_8b", "ideal")
    serve = result(study(*machine, "serve", "none"), LINEAR | lengths, batch=float(batch), **more)
    decode = result(
        study(*machine, "decode", "none"),
        LINEAR | {"workload.context": prompt + ages},
        batch=float(batch),
        **more,
    )
    prefill = result(study(*machine, "prefill", "none"), LINEAR | lengths, batch=1.0)
    step = decode["step_s"].mean() + share * prefill["step_s"]
    assert serve["prefill_share"] == pytest.approx(share, rel=3e-3)
    assert serve["step_s"] == pytest.approx(step, rel=3e-3)
    assert serve["tokens_per_s"] == pytest.approx(tokens / step, rel=3e-3)
    assert serve["tokens_per_pass"] == gained


@pytest.mark.parametrize(
    "model",
    ["llama3_1_8b", "gemma3_27b", "deepseek_v3", "deepseek_v3_2", "qwen3_next_80b_a3b"],
)
@pytest.mark.parametrize(("prompt", "cached", "chunk"), [(8192, 0, 512), (6000, 2000, 1000)])
def test_chunks_by_computing_each(model: str, prompt: int, cached: int, chunk: int) -> None:
    """The mean mixed pass: a decode pass, and the mean of a prompt's chunks, weights read once.

    Every chunk is a prefill pass behind all that came before it. Exact but for windows: the mean of
    what they keep is taken as the window of the mean, too much while they fill up.
    """
    machine = ("h200", model, "ideal")
    common = LINEAR | {"model.moe_layers": 0.0, "model.d_ff": 8192.0, "parallelism.tp": 1.0}
    lengths = {"workload.prompt": float(prompt), "workload.cached": float(cached)}
    asked = {"batch": 16.0, "output": 500.0, "chunk": float(chunk)}
    serve = result(study(*machine, "serve", "none"), common | lengths, **asked)
    decode = result(
        study(*machine, "decode", "none"), common, batch=16.0, context=float(prompt + 250)
    )
    starts = np.arange(cached, prompt, chunk) * 1.0
    explicit = {"workload.prompt": starts + chunk, "workload.cached": starts}
    each = result(study(*machine, "prefill", "none"), common | explicit, batch=1.0)
    share, _, _ = engine(16, 500, 1.0, prompt - cached, chunk, 20_000)
    assert serve["prefill_share"] == pytest.approx(share, rel=1e-2)
    share = float(serve["prefill_share"])
    window = {"gemma3_27b": 1024.0}.get(model, 0.0)
    for name in TIME:
        mixed = (serve[name] - decode[name] * (1 - share)) / share
        beside = np.mean(each[name])
        if name == "t_weights_s":
            assert mixed == pytest.approx(decode[name])
        elif name == "t_kv_s" and window:
            excess = mixed - decode[name] - beside
            layer = 52 * 2 * 16 * 128 * 2 * window / 4.8e12
            assert -1e-12 <= excess <= layer * window / prompt
        else:
            assert mixed == pytest.approx(decode[name] + beside, rel=1e-9), name


@pytest.mark.parametrize("given_instances", [0.0, 0.25, 4.0])
def test_a_prefill_pool_by_running_two_queues(given_instances: float) -> None:
    """Decode steps at its own pace as long as prompts arrive; else it waits for the pool."""
    lengths = {"workload.prompt": 3_000.0, "workload.output": 100.0}
    machine = ("h100_sxm", "llama3_1_8b", "ideal")
    asked = {"batch": 64.0, "serving": DISAGGREGATED, "prefill_instances": given_instances}
    row = result(study(*machine, "serve", "none"), LINEAR | lengths, **asked)
    decode = result(study(*machine, "decode", "none"), LINEAR, batch=64.0, context=3_050.0)[
        "step_s"
    ]
    prefill = result(study(*machine, "prefill", "none"), LINEAR | lengths, batch=1.0)["step_s"]
    period = max(float(prefill), float(row["kv_transfer_s"]))
    assert row["step_s"] == pytest.approx(decode)
    if given_instances == 0:  # as many as are busy without ever making decode wait
        assert row["prefill_instances"] == pytest.approx(64 / 100 * period / decode)
    instances = float(row["prefill_instances"])
    # prompts leave the pool at `instances / period`; a decode pass needs 0.64 of them
    clock, available, passes = 0.0, 0.0, 4_000
    for _ in range(passes):
        start = clock
        needed = 0.64
        wait = max(0.0, (needed - available) * period / instances)
        clock += wait + float(decode)
        available = min(available + (clock - start) * instances / period - needed, 100.0)
    assert row["tokens_per_s"] == pytest.approx(64 * passes / clock, rel=2e-2)
    assert row["chips_prefill"] == pytest.approx(instances)


@pytest.mark.parametrize("drafted", [0, 1, 2, 5, 8])
@pytest.mark.parametrize("kept", [0.0, 0.3, 0.8, 0.99, 1.0])
def test_drafted_tokens_kept_by_drawing(drafted: int, kept: float) -> None:
    assert tokens_per_pass(float(drafted), kept) == pytest.approx(
        sum(kept**i for i in range(drafted + 1))
    )
    draw, trials = np.random.default_rng(2), 100_000
    good = draw.random((trials, drafted)) < kept
    gained = 1 + np.cumprod(good, axis=1).sum(axis=1)
    error = 5 * gained.std() / np.sqrt(trials) + 1e-12
    assert tokens_per_pass(float(drafted), kept) == pytest.approx(gained.mean(), abs=error)


def play(batches: int, layers: int, times: list[float]) -> float:
    """Return when the last of some batches has gone through all resources in turn, layer by layer.

    Each resource serves one batch at a time, in the order of arrival.
    """
    free = [0.0] * len(times)
    ready = [0.0] * batches
    for _ in range(layers):
        for resource, time in enumerate(times):
            for batch in sorted(range(batches), key=lambda b: ready[b]):
                start = max(ready[batch], free[resource])
                ready[batch] = free[resource] = start + time
    return max(ready)


seconds = st.floats(0.01, 10)


@forall(st.integers(1, 4), seconds, seconds)
@settings(max_examples=100)
def test_alternating_batches_by_playing_them(batches: int, work: float, comm: float) -> None:
    """Work and communication in turn: exact but for filling and draining, a layer of the other."""
    layers = 40
    walked = play(batches, layers, [work / layers, comm / layers])
    steady = max(batches * work, batches * comm, work + comm)
    filling = (batches - 1) * min(work, comm) / layers + min(work, comm) / layers
    assert steady * (1 - 1e-9) <= walked <= (steady + filling) * (1 + 1e-9)


@forall(st.integers(1, 8), seconds, seconds, seconds, seconds)
@settings(max_examples=100)
def test_ping_pong_by_playing_batches(batches: int, near, out, far, back) -> None:
    """Attention, the way there, FFN, the way back: the closed form is the steady state."""
    layers = 40
    walked = play(batches, layers, [x / layers for x in (near, out, far, back)])
    pass_ = SimpleNamespace(
        crossing=SimpleNamespace(out=out, back=back), batches=float(batches), fixed=0.0
    )
    steady = overlap._apart(pass_, [near, far])
    filling = (near + out + far + back) / layers * 2
    assert steady * (1 - 1e-9) <= walked <= steady + filling


@pytest.mark.parametrize("ways", [2, 3])
@pytest.mark.parametrize("hardware", ["h100_sxm", "l40s", "tpu_v5e"])
def test_two_batch_overlap_from_its_parts(hardware: str, ways: int) -> None:
    """A pass in parts: each part's work and communication, played against each other."""
    at = study(hardware, "llama3_1_70b", "default")
    leaves = given(calibration__step_s=0.0, calibration__comm_overlap=0.0, tp=8.0)
    part = result(at, leaves, batch=256.0)
    whole = result(at, leaves, batch=256.0 * ways, overlap_batches=float(ways))
    comm = float(part["t_scale_up_s"] + part["t_scale_out_s"])
    work = float(part["step_s"]) - comm
    walked = play(ways, 80, [work / 80, comm / 80])
    assert whole["step_s"] <= walked * (1 + 1e-9)
    assert whole["step_s"] == pytest.approx(walked, rel=ways / 80)
    assert whole["t_weights_s"] == pytest.approx(ways * part["t_weights_s"])  # read again


@pytest.mark.parametrize(("tp", "pp"), [(1, 1), (4, 1), (8, 2), (16, 1)])
def test_a_prompt_moves_between_pools_by_listing_what_chips_hold(tp: int, pp: int) -> None:
    """Each head of each layer has a home on both sides; distinct homes send side by side."""
    tokens = 4_000
    at = study("h100_sxm", "llama3_1_70b", "ideal", "serve")
    row = result(
        at,
        {"workload.prompt": float(tokens), "hardware.fabric.scale_out.latency_s": 0.0},
        tp=float(tp), pp=float(pp), batch=64.0, serving=DISAGGREGATED,
        hardware__fabric__scale_up__latency_s=0.0,
    )  # fmt: skip
    load: dict[tuple[int, int], float] = {}
    for layer in range(80):
        for head in range(8):
            home = (layer * pp // 80, head * min(tp, 8) // 8)
            load[home] = load.get(home, 0.0) + tokens * 2 * 128 * 2
    both = 2 * tp * pp
    speed = 4.5e11 if both <= 8 else 5.0e10
    assert row["kv_transfer_s"] == pytest.approx(max(load.values()) / speed)


def test_afd_costs_what_its_pools_cost() -> None:
    """The same money for the same chips: rent of both pools over the tokens."""
    at = study("h200", "deepseek_v3", "default")
    row = result(at, serving=AFD, dp=8.0, ep=8.0, batch=512.0, overlap_batches=3.0)
    rent = 16 * float(row["usd_per_chip_hour"]) / 3600
    assert (row["chips"], row["chips_ffn"]) == (16, 8)
    expected = rent * float(row["step_s"]) / 512 * 1e6
    assert row["usd_per_mtok"] == pytest.approx(expected)
    together = result(at, dp=8.0, ep=8.0, batch=512.0, overlap_batches=3.0)
    assert row["mem_weights_bytes"] < together["mem_weights_bytes"] / 2
