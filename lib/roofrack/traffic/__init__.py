"""What a service is asked for: requests with their times and lengths, read, drawn or resampled.

>>> from roofrack import traffic
>>> requests = traffic.read("azure_2023_conv")
>>> len(requests), round(requests.rate, 2)
(1500, 4.84)
>>> bursty = traffic.gamma(10.0, 3.0, n=20000, lengths=traffic.lengths_from(requests), seed=1)
>>> 2.8 < bursty.summary().gaps_s.cv < 3.2
True
"""

from roofrack.traffic.arrivals import diurnal, gamma, poisson
from roofrack.traffic.lengths import Lengths, constant, lengths_from, lognormal
from roofrack.traffic.prefixes import Hits, prefix_hits
from roofrack.traffic.reading import SAMPLES, read
from roofrack.traffic.requests import Prefixes, Requests
from roofrack.traffic.speculation import passes
from roofrack.traffic.summary import Spread, Summary

__all__ = [
    "SAMPLES",
    "Hits",
    "Lengths",
    "Prefixes",
    "Requests",
    "Spread",
    "Summary",
    "constant",
    "diurnal",
    "gamma",
    "lengths_from",
    "lognormal",
    "passes",
    "poisson",
    "prefix_hits",
    "read",
]
