"""What a pipeline adds to a pass: the hops between stages. MODEL section 6.

A token meets every stage in turn, so TPOT = P (t_stage + hop): depth saves weight memory, never
latency. The layers of all stages are counted in the blocks; here are only the hops.
"""

from roofrack.arithmetic import Number, choose, round_up
from roofrack.cost.collectives import Transfer
from roofrack.cost.fabric import Wires, link
from roofrack.cost.layout import Layout
from roofrack.cost.shares import Share
from roofrack.nouns import Scenario


def hops(s: Scenario, plan: Layout, laid: Wires, mine: Share, back: Number) -> Transfer:
    """Return all hops of one pass through the stages `laid` over the fabric.

    P - 1 boundaries; one more if the pass goes `back` to the first stage (1 where it decodes, since
    the next token waits for it, else 0). A boundary between racks uses the outer level. Every chip
    sends the tokens it alone holds; of its traffic the mean over stages is told.
    """
    size_bytes = mine.own_tokens * s.model.d_model * mine.b_activations
    boundaries = plan.pp
    counted: list[Number] = []
    for wire in laid:  # boundaries between domains of a level are those not inside one
        domains = round_up(plan.pp / wire.reach, wire.quantize)
        counted.append(boundaries - domains)
        boundaries = domains
    seconds: list[Number] = []
    sent: list[Number] = []
    above_idle: Number = 1.0
    for wire, crossings in zip(reversed(laid), reversed(counted), strict=True):
        busy = choose(wire.members > 1.0, 1.0, 0.0)
        home = busy * above_idle * back  # the way back crosses the outermost level used
        via = link(wire, "all_to_all")
        reached = wire.hop_bytes_per_s * wire.links.all_to_all.efficiency
        hop = size_bytes / reached + wire.latency_s + via.launch_s + via.staged_s
        seconds.insert(0, (crossings + home) * busy * hop)
        sent.insert(0, (crossings + home) * busy * size_bytes / plan.pp)
        above_idle = above_idle * (1.0 - busy)
    return Transfer(seconds, sent)
