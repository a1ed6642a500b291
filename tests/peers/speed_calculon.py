"""How many passes and training steps Calculon estimates a second, and what it answers.

By the calls of its command. It has no decode; its inference is the forward pass over whole
sequences.
"""

import logging
import sys

import timing

SYSTEM = "systems/h100_80g_nvl8.json"
MODEL = "models/gpt3-175B.json"
PLAN = "examples/3072_t4_p64_d12_mbs4_full.json"
CHIPS, BATCH = 1024, 4096
MEASURED_SYSTEM = "systems/a100_80g.json"
MEASURED_PLAN = "validation/seqsel/tab5/gpt3-175B_{}.json"
"""The files of its own validation, whose efficiencies its authors fitted to that machine."""
MEASURED = {"full": "full", "selective": "seqsel"}
# The degrees of the checkpoint's own config.json.
BLOOM = {
    "hidden": 14336,
    "feedforward": 57344,
    "attn_heads": 112,
    "attn_size": 128,
    "num_blocks": 70,
}


def main() -> None:
    """Measure, and answer."""
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

    def total(app: object, system: object, plan: dict[str, object]) -> float:
        model = Llm(app, log)
        model.compile(system, Llm.Execution.from_json(plan))
        model.run(system)
        return model.get_total_time()

    def estimate(plan: dict[str, object]) -> object:
        try:
            return total(app, system, plan)
        except Llm.Error:  # does not fit: an answer too
            return None

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

    def prefill(point: dict[str, object]) -> float:
        shape = Llm.Application(BLOOM | {"seq_size": point["prompt"]})
        plan = forward | {
            "num_procs": point["tp"], "tensor_par": point["tp"], "pipeline_par": 1,
            "batch_size": point["batch"], "microbatch_size": point["batch"],
            "datatype": "float16",
        }  # fmt: skip
        return total(shape, system, plan)

    for question, point in timing.asked(chosen, "bloom_prefill"):
        timing.answer(
            question, point, "Llm.compile and run", calculon.__version__,
            lambda one=point: prefill(one), "no vocabulary: neither embedding nor head",
        )  # fmt: skip
    measured = calculon.System(read(str(chosen.source / MEASURED_SYSTEM)))
    for question, point in timing.asked(chosen, "gpt3_train"):
        plan = read(str(chosen.source / MEASURED_PLAN.format(MEASURED[point["recompute"]])))
        timing.answer(
            question, point, "Llm.compile and run, training", calculon.__version__,
            lambda plan=plan: total(app, measured, plan),
            "no vocabulary: neither embedding nor head; efficiencies its authors give this machine",
        )  # fmt: skip


if __name__ == "__main__":
    main()
