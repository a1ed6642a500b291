"""The third noun: how the model is laid over the chips."""

from dataclasses import dataclass
from typing import Any

from roofrack.fields import Leaf, amount, declare, flag, name, positive
from roofrack.tables import (
    ATTENTION_KERNELS,
    CONTEXT_PARALLEL,
    DATA_PLACED,
    PLACEMENTS,
    PP_BATCH,
    RECOMPUTE,
    SCHEDULES,
)


def _part(doc: str, default: float = 0.0) -> Any:
    """Declare a share from nothing to all."""
    return declare(Leaf(doc, "", default, at_least=0.0, at_most=1.0))


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Parallel degrees of one instance, n = tp*pp*dp*cp chips (MODEL section 5).

    `ep` is laid over the dp*tp*cp chips of a pipeline stage; 0 stands for all of them. What chips
    `ep` leaves shard each expert, at most tp ways; beyond that the experts are held in copies.
    `racks` > 0 solves dp from n = racks * chips of the innermost fabric level. From `microbatches`
    on the leaves are those of training.
    """

    tp: float = positive("tensor-parallel degree", "", 1, integer=True)
    tp_rows: float = positive(
        "ways of tp that d_model is divided in the dense FFN: 2-D weight-stationary",
        "",
        1,
        integer=True,
    )
    ep: float = amount("expert-parallel degree", "", 1, integer=True, words=(("stage", 0.0),))
    redundant_experts: float = amount("second copies of busy experts", "experts", 0, integer=True)
    pp: float = positive("pipeline stages", "", 1, integer=True)
    dp: float = positive("data-parallel degree", "", 1, integer=True)
    cp: float = positive("context-parallel degree", "", 1, integer=True)
    attention_dp: float = flag("attention is data parallel over the tp chips", False)
    sequence_parallel: float = flag("tokens between blocks are split over tp", False)
    overlap_batches: float = positive(
        "parts of a pass, one computing while another communicates (2: two-batch overlap)",
        "",
        1,
        integer=True,
    )
    placement: float = name("order over the fabric, innermost first", PLACEMENTS, PLACEMENTS[0])
    pp_batch: float = name("what `batch` means under pipelining", PP_BATCH, "grow")
    dedup: float = flag("one copy of a token per remote domain in the experts' dispatch", False)
    replicas: float = positive("copies of the whole instance", "", 1, integer=True)
    racks: float = amount("racks of the instance; 0 = given by the degrees", "racks", 0)
    microbatches: float = amount(
        "micro-batches of a training step and rank", "", 0, integer=True, words=(("single", 0.0),)
    )
    schedule: float = name("order of the micro-batches in a pipeline", SCHEDULES, "1f1b")
    virtual_stages: float = positive(
        "parts of the layers on each stage (interleaved)", "", 1, integer=True
    )
    zero: float = amount(
        "what data-parallel ranks divide: 1 optimiser state, 2 gradients too, 3 weights too",
        "",
        0,
        integer=True,
        at_most=3.0,
    )
    recompute: float = name("what is computed again for the backward pass", RECOMPUTE, "none")
    recompute_layers: float = amount(
        "layers of a stage that full or alternate recomputation takes",
        "layers",
        0,
        integer=True,
        words=(("all", 0.0),),
    )
    flash_attention: float = flag("the core keeps no scores, and skips what is masked", True)
    loss_bytes: float = amount(
        "memory of the loss for each logit: 6 in one kernel of FP32, 14 in separate ones", "byte", 6
    )
    attention_kernel: float = name("which kernel a fused core is", ATTENTION_KERNELS, "best")
    context_parallel: float = name("how cp exchanges keys and values", CONTEXT_PARALLEL, "ring")
    data_placed: float = name(
        "where data-parallel ranks beyond the experts' are laid", DATA_PLACED, "outside"
    )
    overlap_tp: float = flag("the backward pass hides exchanges of tp behind matrix products", True)
    overlap_ep: float = flag(
        "exchanges of experts pass while another micro-batch is computed (dualpipe always does)",
        False,
    )
    overlap_dp: float = flag("gradients and weights travel while layers are computed", True)
    overlap_pp: float = flag("hops between stages pass while another micro-batch is computed", True)
    offload_optimizer: float = _part(
        "share of the optimiser's state kept, and updated, in the host"
    )
    offload_weights: float = _part("share of the weights kept in the host, fetched for each pass")
    offload_activations: float = _part("share of the activations kept in the host")
