"""How many estimates NVIDIA's aiconfigurator gives a second, model and tables loaded before.

Three calls of its `InferenceSession`: the latency of one decode step, the same with its summary,
and aggregated serving. Every point is new and lies inside its tables (beyond them it extrapolates,
at a tenth of the rate); what it has looked up of an operator it keeps.
"""

import logging
from importlib.metadata import version

import timing
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


def main() -> None:
    """Measure."""
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

    for question, what, call in (
        ("llama_decode", "run_static_latency_only", latency),
        ("llama_decode", "run_static", summary),
        ("llama_serve", "run_agg", serve),
    ):
        for tp in engines:  # its tables are read when they are first asked for
            call(tp, 300, 9000)
        points = timing.shuffled(tuple(engines), range(1, 257), range(512, 4096))
        timing.measure(question, what, about, call, points, chosen.seconds)


if __name__ == "__main__":
    main()
