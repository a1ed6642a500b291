"""Pipeline schedules of training, operation by operation: orders, simulation, charts, traces.

The oracle of the closed forms of `roofrack.cost.schedules`.

>>> run = simulate(schedule("1f1b", stages=8, microbatches=20), Times(f=1.0, b=2.0))
>>> max(run.idle_s), run.held[0]
(21.0, 8.0)
"""

from roofrack.schedules.after import After
from roofrack.schedules.gantt import gantt
from roofrack.schedules.orders import Op, Schedule, schedule
from roofrack.schedules.simulate import Event, Run, Times, simulate
from roofrack.schedules.trace import trace

__all__ = [
    "After",
    "Event",
    "Op",
    "Run",
    "Schedule",
    "Times",
    "gantt",
    "schedule",
    "simulate",
    "trace",
]
