"""Random pipelines, and what the closed forms say of them."""

from typing import Any

from hypothesis import strategies as st

from roofrack.cost import schedules
from roofrack.schedules import Run, Times, schedule, simulate
from roofrack.tables import SCHEDULES


@st.composite
def pipelines(draw: Any, names: tuple[str, ...] = SCHEDULES, most: int = 6) -> dict[str, Any]:
    """A schedule with sizes it is defined for."""
    name = draw(st.sampled_from(names))
    stages = draw(st.integers(1, most))
    if name == "dualpipe":
        stages = 2 * draw(st.integers(1, most // 2))
        microbatches = 2 * stages + 2 * draw(st.integers(0, 6))
        return {"name": name, "stages": stages, "microbatches": microbatches, "virtual_stages": 1}
    parts = draw(st.integers(1, 4)) if name == "interleaved" else 1
    microbatches = draw(st.integers(1, 20)) if parts == 1 else stages * draw(st.integers(1, 4))
    return {"name": name, "stages": stages, "microbatches": microbatches, "virtual_stages": parts}


@st.composite
def durations(draw: Any) -> Times:
    """Forward, backward and its parts as uneven as you like; overlapped, something is gained."""
    f, i, w = (draw(st.sampled_from([0.25, 0.5, 1.0, 1.0, 1.5, 2.0, 3.0, 8.0])) for _ in "fiw")
    least = max(f, i + w)
    fb = least + draw(st.sampled_from([0.0, 0.25, 0.5, 1.0])) * (f + i + w - least)
    return Times(f=f, b=i + w, w=w, fb=fb)


def simulated(pipeline: dict[str, Any], times: Times, **how: Any) -> Run:
    return simulate(schedule(**pipeline), times, **how)


def sizes(pipeline: dict[str, Any]) -> tuple[float, float, float, float]:
    """The first arguments of the closed forms."""
    return (
        schedules.INDEX[pipeline["name"]],
        float(pipeline["stages"]),
        float(pipeline["microbatches"]),
        float(pipeline["virtual_stages"]),
    )
