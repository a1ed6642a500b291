"""The timeline of one training step: every pass of every micro-batch on every stage.

`stages` times each stage by the cost model, `roofrack.schedules` plays the schedule, `made` puts
both together with what follows the passes, and says how far the closed form is from it; `files`
writes the trace.
"""

from roofrack.timelines.files import check, write
from roofrack.timelines.made import (
    AT_MOST,
    MESSAGES,
    Compared,
    Stage,
    Summary,
    Timeline,
    timeline,
)

__all__ = [
    "AT_MOST",
    "MESSAGES",
    "Compared",
    "Stage",
    "Summary",
    "Timeline",
    "check",
    "timeline",
    "write",
]
