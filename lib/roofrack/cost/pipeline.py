"""What a pipeline adds to a pass: the hops between stages. MODEL section 6.

A token meets every stage in turn, so TPOT = P (t_stage + hop): depth saves weight memory, never
latency. The layers of all stages are counted in the blocks; here are only the hops.
"""

from roofrack.arithmetic import Number, choose, most, round_up
from roofrack.cost.collectives import wires
from roofrack.cost.layout import Layout
from roofrack.cost.shares import Share
from roofrack.nouns import Scenario


def hops(s: Scenario, plan: Layout, mine: Share, decode: bool) -> Number:
    """Return seconds of all hops of one pass.

    P - 1 boundaries; in decode one more, back to the first stage, since the next token waits for
    it. A boundary between racks uses the outer level. Every chip sends the tokens it alone holds.
    """
    stride = most(plan.tp * plan.cp, plan.expert_span)
    laid = wires(s.hardware, s.calibration, plan.pp, stride)
    size_bytes = mine.own_tokens * s.model.d_model * mine.b_activations
    seconds: Number = 0.0
    boundaries = plan.pp
    above_idle: Number = 1.0
    counted: list[Number] = []
    for wire in laid:  # boundaries between domains of a level are those not inside one
        domains = round_up(plan.pp / wire.reach, wire.quantize)
        counted.append(boundaries - domains)
        boundaries = domains
    for wire, crossings in zip(reversed(laid), reversed(counted), strict=True):
        busy = choose(wire.members > 1.0, 1.0, 0.0)
        back = busy * above_idle if decode else 0.0  # the way back crosses the outermost level used
        hop = size_bytes / wire.hop_bytes_per_s + wire.latency_s + wire.launch_s
        seconds = seconds + (crossings + back) * busy * hop
        above_idle = above_idle * (1.0 - busy)
    return seconds
