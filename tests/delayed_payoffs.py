"""A small run of delayed_payoff, for the tests of its page and of what it simulates."""

from roofrack.experiments.common.studies import Studies
from roofrack.experiments.delayed_payoff.rows import Facts, facts
from roofrack.results.run import Run

SMALL = (
    "experiment=delayed_payoff",
    "experiment.trace_requests=0",
    "experiment.plan_requests=0",
    "batch=64,1024",
    "parallelism.dp=8",
    "workload.arrivals_per_s=0.5,5,20,40",
)


def found(run: Run) -> Facts:
    """Return the tables of a run in which something serves."""
    made = facts(run, Studies(run))
    assert isinstance(made, Facts)
    return made
