"""How many passes and training steps Calculon estimates a second, by the calls of its command.

It has no decode; its inference is the forward pass over whole sequences.
"""

import logging
import sys

import timing

SYSTEM = "systems/h100_80g_nvl8.json"
MODEL = "models/gpt3-175B.json"
PLAN = "examples/3072_t4_p64_d12_mbs4_full.json"
CHIPS, BATCH = 1024, 4096


def main() -> None:
    """Measure."""
    chosen = timing.options()
    sys.path.insert(0, str(chosen.source))
    import calculon
    from calculon.llm import Llm

    read = calculon.io.read_json_file
    app = Llm.Application(read(str(chosen.source / MODEL)))
    system = calculon.System(read(str(chosen.source / SYSTEM)))
    log = logging.getLogger()
    forward = read(str(chosen.source / PLAN)) | {
        "training": False, "datatype": "float8", "activation_recompute": "none",
        "optimizer_sharding": False, "data_par": 1, "tensor_par_net": 0,
        "tensor_par_comm_type": "ar",
    }  # fmt: skip

    def estimate(plan: dict[str, object]) -> object:
        model = Llm(app, log)
        try:
            model.compile(system, Llm.Execution.from_json(plan))
            model.run(system)
        except Llm.Error:  # does not fit: an answer too
            return None
        return model.get_total_time()

    def one(tp: int, pp: int, size: int, micro: int) -> object:
        return estimate(
            forward
            | {
                "num_procs": tp * pp, "tensor_par": tp, "pipeline_par": pp,
                "batch_size": micro * size, "microbatch_size": size,
            }
        )  # fmt: skip

    trained = read(str(chosen.source / PLAN)) | {"num_procs": CHIPS, "batch_size": BATCH}

    def step(tp: int, pp: int, size: int, recompute: str, sharded: bool) -> object:
        return estimate(
            trained
            | {
                "tensor_par": tp, "pipeline_par": pp, "data_par": CHIPS // (tp * pp),
                "microbatch_size": size, "activation_recompute": recompute,
                "optimizer_sharding": sharded,
            }
        )  # fmt: skip

    points = timing.shuffled((1, 2, 4, 8), (1, 2, 4, 8), range(1, 9), range(1, 129))
    timing.measure(
        "gpt3_prefill", "Llm.compile and run", calculon.__version__, one, points, chosen.seconds
    )
    plans = timing.shuffled(
        (1, 2, 4, 8), (1, 2, 4, 8, 16, 32), (1, 2, 4), ("none", "full"), (False, True)
    )
    timing.measure(
        "gpt3_train", "Llm.compile and run, training", calculon.__version__, step, plans,
        chosen.seconds,
    )  # fmt: skip


if __name__ == "__main__":
    main()
