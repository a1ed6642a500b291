"""How many estimates NVIDIA's aiconfigurator gives a second, and what it answers.

Model and tables loaded before. Three calls of its `InferenceSession`: the latency of one decode
step, the same with its summary, and aggregated serving. Every point is new and lies inside its
tables (beyond them it extrapolates, at a tenth of the rate); what it has looked up of an operator
it keeps. Answers are those of its public `cli_estimate`.
"""

import contextlib
import io
import logging
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

import timing
from aiconfigurator.cli.api import cli_estimate
from aiconfigurator.sdk.backends.factory import get_backend
from aiconfigurator.sdk.common import FMHAQuantMode, GEMMQuantMode, KVCacheQuantMode
from aiconfigurator.sdk.config import ModelConfig, RuntimeConfig
from aiconfigurator.sdk.inference_session import InferenceSession
from aiconfigurator.sdk.models import get_model
from aiconfigurator.sdk.perf_database import get_database, get_latest_database_version

SYSTEM, BACKEND, MODEL = "h100_sxm", "trtllm", "meta-llama/Meta-Llama-3.1-70B"
OUTPUT = 500


def sessions() -> dict[int, InferenceSession]:
    """Return an engine for each degree of tensor parallelism."""
    data = get_database(SYSTEM, BACKEND, get_latest_database_version(SYSTEM, BACKEND))
    found = {}
    for tp in (2, 4, 8):
        layout = ModelConfig(
            tp_size=tp,
            gemm_quant_mode=GEMMQuantMode.fp8,
            kvcache_quant_mode=KVCacheQuantMode.fp8,
            fmha_quant_mode=FMHAQuantMode.bfloat16,
        )
        found[tp] = InferenceSession(get_model(MODEL, layout, BACKEND), data, get_backend(BACKEND))
    return found


MODELS = {
    "llama3_1_70b": MODEL,
    "llama3_1_8b": "meta-llama/Meta-Llama-3.1-8B",
    "deepseek_v3": "deepseek-ai/DeepSeek-V3",
}
MODES = {"SILICON": "measured operators", "SOL": "its speed of light"}
RANKS = 64
"""It has operators of DeepSeek-V3 on H100 for so many ranks at most."""


def estimate(backend: str, data: str, **asked: Any) -> Any:
    """Return its estimate with the data that it chooses by itself for an engine."""
    about = get_latest_database_version(SYSTEM, backend)
    with contextlib.redirect_stdout(io.StringIO()):
        return cli_estimate(
            system_name=SYSTEM, backend_name=backend, backend_version=about, database_mode=data,
            **asked,
        )  # fmt: skip


def served(point: Mapping[str, Any], mode: str) -> float:
    """Return the seconds between tokens of an engine that prefills and decodes."""
    told = estimate(
        BACKEND, mode, model_path=MODELS[point["model"]], tp_size=point.get("tp", 1),
        batch_size=point["batch"], isl=point["prompt"], osl=point["output"],
    )  # fmt: skip
    return told.tpot / 1e3


def decoded(point: Mapping[str, Any], mode: str) -> float:
    """Return tokens per second and chip of attention ranks that decode."""
    told = estimate(
        "sglang", mode, model_path=MODELS[point["model"]], attention_dp_size=RANKS,
        moe_ep_size=RANKS, moe_tp_size=1, batch_size=point["batch"] // point["dp"],
        isl=point["context"], osl=2, mode="static_gen",
    )  # fmt: skip
    return told.tokens_per_second_per_gpu


def answers(chosen: Any, about: str) -> None:
    """Print what it answers, in its two modes."""
    for mode, what in MODES.items():
        for question, point in timing.asked(chosen, "llama70b_serve", "llama8b_serve", "curve"):
            timing.answer(
                question, point, what, about, lambda one=point, mode=mode: served(one, mode),
                "data of TensorRT-LLM 1.3, not of the engine that was measured",
            )  # fmt: skip
        for question, point in timing.asked(chosen, "deepseek_decode"):
            timing.answer(
                question, point, what, about, lambda one=point, mode=mode: decoded(one, mode),
                f"{RANKS} ranks: it has no operators for {point['dp']}; no copies of experts, no"
                " overlap of two batches; data of SGLang 0.5, not of the engine that was measured",
            )  # fmt: skip


def main() -> None:
    """Measure, and answer."""
    logging.disable(logging.WARNING)
    chosen = timing.options()
    engines, about = sessions(), version("aiconfigurator")
    steps = {"mode": "static_gen"}

    def latency(tp: int, batch: int, context: int) -> object:
        run = RuntimeConfig(batch_size=batch, isl=context, osl=2)
        return engines[tp].run_static_latency_only(run, **steps)

    def summary(tp: int, batch: int, context: int) -> object:
        return engines[tp].run_static(RuntimeConfig(batch_size=batch, isl=context, osl=2), **steps)

    def serve(tp: int, batch: int, prompt: int) -> object:
        run = RuntimeConfig(batch_size=batch, isl=prompt, osl=OUTPUT)
        return engines[tp].run_agg(run, ctx_tokens=prompt)

    answers(chosen, about)
    for question, what, call in (
        ("llama_decode", "run_static_latency_only", latency),
        ("llama_decode", "run_static", summary),
        ("llama_serve", "run_agg", serve),
    ):
        if not chosen.seconds:
            continue
        for tp in engines:  # its tables are read when they are first asked for
            call(tp, 300, 9000)
        points = timing.shuffled(tuple(engines), range(1, 257), range(512, 4096))
        timing.measure(question, what, about, call, points, chosen.seconds)


if __name__ == "__main__":
    main()
