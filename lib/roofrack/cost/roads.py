"""The groups of a plan laid over the fabric of its machine, in the order of its placement."""

from typing import NamedTuple

from roofrack.arithmetic import Number, choose, least, most
from roofrack.calibration import Calibration
from roofrack.cost.fabric import Trunk, Wires, trunks, wires
from roofrack.cost.layout import Layout
from roofrack.cost.ways import Group, group
from roofrack.hardware import Hardware


class Roads(NamedTuple):
    """The groups of a plan over the fabric of its machine.

    `tensor` the chips of tensor parallelism, `columns` and `rows` the two of them that a
    2-D weight-stationary FFN has, `context`, `experts` (all chips that hold the experts once) and
    `pipeline`.
    """

    tensor: Group
    columns: Group | None
    rows: Group | None
    context: Group
    experts: Wires
    pipeline: Wires


def roads(hw: Hardware, cal: Calibration, plan: Layout, with_rows: bool = True) -> Roads:
    """Lay all groups of a plan over the fabric in the order of its placement.

    `columns` and `rows` are None without `with_rows`.
    """
    at, levels, q = plan.strides, trunks(hw, cal), cal.quantize
    columns = plan.tp / plan.tp_rows
    in_tp = least(plan.tp, plan.expert_span)
    in_cp = least(plan.cp, plan.expert_span / in_tp)
    experts = ((in_tp, at.tp), (in_cp, at.cp), (plan.expert_span / in_tp / in_cp, at.ep))
    axes = most(levels[0].torus_axes - 1.0, 1.0)
    return Roads(
        tensor=group(wires(levels, q, (plan.tp, at.tp))),
        columns=group(wires(levels, q, (columns, at.tp), most_axes=axes)) if with_rows else None,
        rows=group(wires(levels, q, (plan.tp_rows, at.tp * columns), most_axes=1.0))
        if with_rows
        else None,
        context=group(wires(levels, q, (plan.cp, at.cp))),
        experts=wires(levels, q, *experts),
        pipeline=wires(levels, q, (plan.pp, at.pp)),
    )


class Path(NamedTuple):
    """The way from one chip to others anywhere within a number of chips."""

    bytes_per_s: Number
    latency_s: Number
    launch_s: Number
    depth: Number


def path(hw: Hardware, cal: Calibration, chips: Number) -> Path:
    """Return the way between chips that lie anywhere among `chips`: the first level to join them.

    Beyond the outermost level it is that level's.
    """
    levels = trunks(hw, cal)
    found = _path(levels[0], 0)
    for depth in range(1, len(levels)):
        inner, outer = levels[depth - 1].chips, levels[depth].chips
        # levels that only fill up the fabric join nothing new
        further = (chips > inner) & (outer > inner)
        more = _path(levels[depth], depth)
        found = Path(*(choose(further, b, a) for a, b in zip(found, more, strict=True)))
    return found


def _path(level: Trunk, depth: int) -> Path:
    via = level.links.all_to_all
    launch = via.launch_s + via.staged_s
    return Path(level.bytes_per_s * via.efficiency, level.latency_s, launch, depth * 1.0)
