"""The third noun: how the model is laid over the chips."""

from dataclasses import dataclass

from roofrack.fields import amount, flag, name, positive
from roofrack.tables import PLACEMENTS, PP_BATCH


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Parallel degrees of one instance, n = tp*pp*dp*cp chips (MODEL section 5).

    `ep` is laid over the dp*tp*cp chips of a pipeline stage; 0 stands for all of them. What chips
    `ep` leaves shard each expert, at most tp ways; beyond that the experts are held in copies.
    `racks` > 0 solves dp from n = racks * chips of the innermost fabric level.
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
