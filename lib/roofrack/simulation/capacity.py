"""The closed forms of one deployment at a load: `cost.load` with the traffic as it came."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from roofrack.cost import estimate
from roofrack.simulation.deployments import Deployment
from roofrack.tables import FEATURES


def at_load(of: Deployment, **leaves: Any) -> Mapping[str, Any]:
    """Return the estimate of a deployment with leaves of its workload replaced."""
    s = of.scenario
    features = tuple(name for name in FEATURES if name in (*s.features, "load"))
    with np.errstate(all="ignore"):
        return estimate(replace(s, workload=replace(s.workload, **leaves), features=features))


def capacity(of: Deployment, prompt: float, output: float) -> float:
    """Return the requests per second that a deployment can do, of these mean lengths."""
    w = of.scenario.workload
    cached = min(float(w.cached), prompt / 2.0)
    found = at_load(of, arrivals_per_s=1e-6, prompt=prompt, output=output, cached=cached)
    return float(found["capacity_per_s"])
