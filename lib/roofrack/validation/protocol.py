"""What a load generator measures as time to first token, which is not what an idle server needs.

Each of N closed-loop clients sends its next request when the last one has ended, and all begin at
once. Three things come before the first token of a request beside its own prefill `t` (seconds of
one prompt) and the decode step that the engine is in the middle of, or that yields the token:

- **Host.** HTTP, tokenising, scheduling: seconds of a request, and seconds of a prompt token. The
  only two numbers here that are learnt, on one half of the rows of a client.
- **Start burst.** N prompts stand before the server at once; the k-th waits (k - 1) t, on average
  (N - 1) t / 2. Later requests come one by one as others end. A run of W N requests is W waves of
  which the first waits: the mean over the run is (N - 1) t / (2 W), 0.05 (N - 1) t for ten waves.
- **Queue.** In between, requests come at random times N / T, T being the life of a request: a queue
  of one server with constant service, whose mean wait is rho t / (2 (1 - rho)) with rho = N t / T
  (Pollaczek-Khinchine, M/D/1). A closed loop cannot wait for more than the other N - 1 prompts.

N is the clients of one attention rank that prefills. Left out: several prompts in one pass,
waiting for room in the cache, moving the cache between pools.
"""

from typing import NamedTuple

import numpy as np
import polars as pl
from scipy.optimize import minimize


class Client(NamedTuple):
    """A load generator: how often as many requests as clients are sent, and how that is known."""

    waves: float
    known: str


CLIENTS = {
    "inferencex": Client(
        10.0,
        "ten requests for each client: --num-prompts $((CONC * 10)) in the benchmark scripts of"
        " SemiAnalysisAI/InferenceX",
    ),
    "gap_analysis": Client(10.0, "assumed as for InferenceX: not recorded in the package"),
}
"""By origin of the rows."""

BUSIEST = 0.95
"""Most of the time that prefill may take in the queue's formula, which has a pole at 1."""


class Host(NamedTuple):
    """Seconds of the host before the first token: of a request, and of each prompt token."""

    request_s: float
    token_s: float


START = Host(0.03, 1e-5)
"""Where the search starts."""


def waiting_s(
    clients: np.ndarray, own_s: np.ndarray, life_s: np.ndarray, waves: np.ndarray
) -> np.ndarray:
    """Return the mean seconds that a request waits for other prompts; arrays, element by element.

    `clients` of one rank, `own_s` of one prefill, `life_s` of a request between two of its client.
    """
    others = np.maximum(clients - 1.0, 0.0)
    burst = others / (2.0 * waves) * own_s
    busy = np.minimum(clients * own_s / life_s, BUSIEST)
    queue = np.minimum(busy / (2.0 * (1.0 - busy)), others / 2.0) * own_s
    return burst + queue


def unloaded_s(rows: pl.DataFrame) -> np.ndarray:
    """Return the time to first token without the host's share.

    Columns: `own_s`, `step_s`, `rank_clients`, `output_drawn`, `origin`.
    """
    own, step = (rows[c].to_numpy() for c in ("own_s", "step_s"))
    waves = np.array([CLIENTS[name].waves for name in rows["origin"]])
    life = own + rows["output_drawn"].to_numpy() * step
    return own + step + waiting_s(rows["rank_clients"].to_numpy(), own, life, waves)


def first_token_s(rows: pl.DataFrame, hosts: dict[str, Host]) -> np.ndarray:
    """Return the time to first token as the client of each row measures it.

    `hosts` by origin; besides the columns of `unloaded_s`, `prompt_drawn`.
    """
    request = np.array([hosts[name].request_s for name in rows["origin"]])
    token = np.array([hosts[name].token_s for name in rows["origin"]])
    return unloaded_s(rows) + request + token * rows["prompt_drawn"].to_numpy()


LEARNT_ON = (
    pl.col("ttft_usable")
    & pl.col("counted")
    & pl.col("excluded").is_null()
    & (pl.col("mode") == "aggregated")
    & pl.col("backend").is_in(["vllm", "trtllm"])
    & (pl.col("model") != "deepseek_v3")
)
"""Rows that host times are learnt on, of the half that learns: counted ones of engines that prefill
at once. DeepSeek's and SGLang's first tokens come several times later than any prefill explains."""


def learn(rows: pl.DataFrame) -> Host:
    """Return the host times with the least mean |ln(predicted / measured)| over `rows`.

    Besides the columns of `first_token_s`, `ttft_s`. Both are kept positive by their logarithms.
    With fewer than two rows nothing is learnt and START stands.
    """
    if rows.height < 2:
        return START
    base, prompt = unloaded_s(rows), rows["prompt_drawn"].to_numpy()
    measured = rows["ttft_s"].to_numpy()

    def loss(logs: np.ndarray) -> float:
        request, token = np.exp(logs)
        return float(np.mean(np.abs(np.log((base + request + token * prompt) / measured))))

    found = minimize(loss, np.log(START), method="Nelder-Mead", options={"xatol": 1e-3})
    return Host(*(float(value) for value in np.exp(found.x)))


def learn_all(rows: pl.DataFrame) -> dict[str, Host]:
    """Return the host times of each client, learnt on its rows of the half `learn`."""
    chosen = rows.filter(LEARNT_ON, pl.col("half") == "learn")
    return {name: learn(chosen.filter(pl.col("origin") == name)) for name in CLIENTS}
