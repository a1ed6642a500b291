"""How long to train, if the model is to be served: a law of loss, and costs for each token.

Costs are those of this machine: of a token trained on with the best plan, and of a token served
with the cheapest one. Both are taken to be proportional to the active parameters.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl

from roofrack.cost.training.run import CHINCHILLA
from roofrack.results.run import Run

from ..common.columns import COST
from ..common.pages import setting
from ..common.studies import Studies
from .facts import Facts, Row

SERVED = np.geomspace(1e11, 1e16, 101)
"""Tokens served over a model's life."""
BATCHES = (1, 4, 16, 64, 256, 512, 1024, 2048, 4096, 8192)
_GRID = 4001


@dataclass(frozen=True)
class Law:
    """Loss above its floor: a / N^alpha + b / D^beta (arXiv:2203.15556, equation 10)."""

    a: float
    alpha: float
    b: float
    beta: float

    def loss(self, params: float, tokens: float) -> float:
        """Return the loss above its floor."""
        return self.a * params**-self.alpha + self.b * tokens**-self.beta

    def tokens(self, params: np.ndarray, loss: float) -> np.ndarray:
        """Return the tokens that reach a loss, inf where so few parameters never do."""
        left = loss - self.a * params**-self.alpha
        with np.errstate(divide="ignore", invalid="ignore"):
            found = np.exp(np.log(self.b / np.where(left > 0, left, np.nan)) / self.beta)
        return np.where(np.isfinite(found), found, np.inf)

    def least_params(self, loss: float) -> float:
        """Return the parameters below which no number of tokens reaches a loss."""
        return float((self.a / loss) ** (1.0 / self.alpha))


def law(run: Run) -> Law:
    """Read the law of the question's file."""
    return Law(*(setting(run, f"law_{name}") for name in ("a", "alpha", "b", "beta")))


@dataclass(frozen=True)
class Life:
    """Costs of a model over its life.

    `row` is the cheapest way to serve (None if there is none, `slow` if not at the speed asked
    for); USD for a token trained on and served; `break_even` tokens whose serving costs what the
    training did; `efficiency` USD for a FLOP of training over that of serving; `optimum` by tokens
    served the cheapest model of equal loss: `served`, `params`, `tokens`, `overtraining`,
    `usd_train`, `usd_serve`.
    """

    row: Row | None
    slow: bool
    usd_trained: float
    usd_served: float
    break_even: float
    efficiency: float
    optimum: pl.DataFrame

    def at(self, served: float) -> Row:
        """Return the optimum nearest to a number of tokens served."""
        near = (pl.col("served").log() - float(np.log(served))).abs()
        return self.optimum.sort(near, "served").row(0, named=True)


def served(found: Facts, studies: Studies) -> tuple[Row | None, bool]:
    """Return the cheapest way to serve the model on this machine, and whether it is too slow."""
    formats = found.run.experiment.get("serve_dtypes") or [found.job.config["choices"]["dtype"]]
    context = setting(found.run, "serve_context")
    rows = studies.rows(
        "serving",
        f"dtype={','.join(map(str, formats))}",
        "workload=decode",
        f"context={context:.0f}",
        f"workload.batch={list(BATCHES)}",
        "parallelism.tp=[1,2,4,8]",
        "parallelism.dp=[1,2,4,8,16,32,64,128]",
        "parallelism.ep=[1,stage]",
        job=found.job,
    ).filter("valid", "fits")
    if rows.is_empty():
        return None, False
    quick = rows.filter(pl.col("tokens_per_s_per_user") >= setting(found.run, "serve_speed"))
    kept = rows if quick.is_empty() else quick
    kept = kept.sort(COST, "chips", "workload.batch", "parallelism.tp", "dtype")
    return kept.row(0, named=True), quick.is_empty()


def life(found: Facts, studies: Studies) -> Life | None:
    """Return what the model costs over its life; None if the run does not say how long it trains.

    Raises InputError for settings that are not numbers.
    """
    if not found.tokens or not found.best["usd_train"]:
        return None
    row, slow = served(found, studies)
    usd_trained = found.best["usd_train"] / found.tokens
    if row is None:
        return Life(None, False, usd_trained, 0.0, 0.0, 0.0, pl.DataFrame())
    usd_served = row[COST] / 1e6
    params = float(found.best["params_active"])
    return Life(
        row=row,
        slow=slow,
        usd_trained=usd_trained,
        usd_served=usd_served,
        break_even=found.best["usd_train"] / usd_served,
        efficiency=usd_trained / 3.0 / usd_served,
        optimum=optimum(
            law(found.run), params, found.tokens, usd_trained / params, usd_served / params
        ),
    )


def optimum(
    of: Law, params: float, tokens: float, train: float, serve: float, demand: np.ndarray = SERVED
) -> pl.DataFrame:
    """Return the cheapest model of the same loss for each demand.

    `train` and `serve` are USD for a token and active parameter. Of all (N, D) with the loss of
    (params, tokens) the one with the least train N D + serve N S.
    """
    loss = of.loss(params, tokens)
    least = of.least_params(loss)
    sizes = np.geomspace(least * (1.0 + 1e-6), max(params, least) * 1e3, _GRID)
    # close to the least size D grows without bound: there steps have to be fine
    sizes = np.unique(
        np.concatenate([sizes, least * (1.0 + np.geomspace(1e-6, 10.0, _GRID)), [params]])
    )
    needed = of.tokens(sizes, loss)
    learning = train * sizes * needed
    serving = serve * sizes[None, :] * demand[:, None]
    place = np.argmin(learning[None, :] + serving, axis=1)
    n, d = sizes[place], needed[place]
    return pl.DataFrame(
        {
            "served": demand,
            "params": n,
            "tokens": d,
            "overtraining": d / (CHINCHILLA * n),
            "usd_train": learning[place],
            "usd_serve": serve * n * demand,
        }
    )
