"""The Python contract, and what `sweep` and `report` do once configurations are composed."""

import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
import polars as pl

from roofrack import config, cost, derivatives, inverse
from roofrack.answer import Elasticities, Estimate
from roofrack.conversion import to_study
from roofrack.errors import InputError
from roofrack.fitting.calibrated import calibrate as calibrate  # a part of the contract
from roofrack.grid import compiled
from roofrack.inverse import Roots, Target
from roofrack.leaves import Levels
from roofrack.nouns import Scenario
from roofrack.results import store
from roofrack.results.asked import is_double, rows_of
from roofrack.results.run import load as load  # a part of the contract
from roofrack.results.schema import COLUMNS
from roofrack.searching import Found, answer

if TYPE_CHECKING:
    from roofrack.advice import Advised
    from roofrack.simulation.command import Simulated
    from roofrack.simulation.planning import Planned
    from roofrack.site import Built
    from roofrack.timelines import Timeline
    from roofrack.validation.verdict import Verdict


def scenario(*overrides: str, config_dir: str | Path | None = None) -> Scenario:
    """Return the scenario that the overrides compose; a list makes its leaf an axis.

    Axis i of the lists varies along dimension i of the results. Raises InputError for bad input.

    >>> s = scenario("hardware=h100_sxm", "model=llama3_1_70b", "batch=[1,64]")
    >>> s.workload.batch, s.model.layers
    (array([ 1., 64.]), 80.0)
    """
    return to_study(config.compose(overrides, config_dir)).grid()


def estimate(s: Scenario) -> Estimate:
    """Return every result column of a scenario, by name; compiled once per pattern of axes.

    Pure: jit, vmap and grad go through it. Columns that the phase does not have are NaN; where
    `why_invalid` is not 0 the plan cannot run. Precision is JAX's: double with `jax_enable_x64`.
    Units and meanings of the columns: `roofrack.results.schema`. In a notebook it is a table.

    >>> s = scenario("hardware=h100_sxm", "model=llama3_1_70b", "parallelism=tp8", "batch=64")
    >>> columns = estimate(s)
    >>> f"{columns['tokens_per_s_per_chip']:.0f} tokens/s on each of {columns['chips']:.0f} chips"
    '430 tokens/s on each of 8 chips'
    """
    leaves = jax.tree.map(_as_float, s)
    # options of the compiler belong to the outermost jit: inside one it is the function itself
    traced = any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(leaves))
    columns = (cost.estimate if traced else compiled())(leaves)
    order = [name for name in COLUMNS if name in columns]  # JAX sorts the keys of a dict
    return Estimate({name: columns[name] for name in dict.fromkeys([*order, *columns])})


def _flatten(columns: Estimate) -> tuple[tuple[Any, ...], tuple[str, ...]]:
    return tuple(columns.values()), tuple(columns)


def _flatten_with_keys(columns: Estimate) -> tuple[tuple[Any, ...], tuple[str, ...]]:
    keyed = ((jax.tree_util.DictKey(name), value) for name, value in columns.items())
    return tuple(keyed), tuple(columns)


jax.tree_util.register_pytree_with_keys(
    Estimate,
    _flatten_with_keys,
    lambda names, values: Estimate(zip(names, values, strict=True)),
    _flatten,
)


def _as_float(leaf: Any) -> Any:
    if isinstance(leaf, jax.Array):
        return leaf
    dtype = np.float64 if jax.config.jax_enable_x64 else np.float32  # type: ignore[attr-defined]
    return np.asarray(leaf, dtype)


def search(*words: str, config_dir: str | Path | None = None) -> Found:
    """Return the best plans, batch sizes and settings of a whole space, every point evaluated.

    Words as of `roofrack search`: `chips=72`, `limits.tpot_s=0.03`, `minimise=usd_per_mtok`,
    leaves of the plan, and overrides as for `scenario`. Raises InputError for bad input and
    InfeasibleError where no point keeps the limits.

    >>> found = search("hardware=h200", "model=llama3_1_8b", "chips=2", "batch=16,64", "top=1")
    >>> found.points, found.best[0]["tp"], found.best[0]["batch"]
    (14, 1.0, 64)
    """
    return answer(words, config_dir)


def advise(
    *overrides: str,
    config_dir: str | Path | None = None,
    machines: Sequence[str] | None = None,
) -> "Advised":
    """Return what to change about one scenario, ranked by money, every claim evaluated again.

    `advices` hold a sentence each, the overrides that do it, the rows before and after, and the
    error bar of their ratio; `json()` is the answer of `roofrack advise format=json`. `machines`
    are those to compare with, all there are if None (seconds when it is first asked). Raises
    InputError for bad input and for axes, InfeasibleError where the plan cannot run.

    >>> found = advise("hardware=h200", "model=llama3_1_8b", "parallelism=tp8", machines=[])
    >>> max(found.advices, key=lambda one: one.saves_usd_per_mtok) == found.advices[0]
    True
    """
    from roofrack import advice

    return advice.advise(overrides, config_dir, machines)


def elasticities(
    *given: Scenario | str,
    of: str = "usd_per_mtok",
    within: Sequence[str] = ("hardware", "model"),
    side: str = "up",
    config_dir: str | Path | None = None,
) -> Elasticities:
    """Return d log(of) / d log(leaf) for every numeric leaf of the sections `within`.

    Give a scenario, or overrides as for `scenario`: only those know what fabric levels are called,
    in a scenario they are numbered from the inside. Sections: hardware, model, parallelism,
    workload, economics, calibration. Exact derivatives (automatic differentiation), milliseconds;
    whole numbers as if they were not whole, rounding up with the slope of what is rounded. At the
    kink of a maximum `side` chooses: `up` of a leaf that grows, `down` of one that shrinks, `mean`.
    `overlap=smooth` with a finite `calibration.kernel.gemm.sharpness` has no kink in the roofline.
    Leaves that are 0, names and truth values have none. Raises InputError.

    >>> found = elasticities("hardware=h100_sxm", "model=llama3_1_70b", "batch=64", of="tpot_s")
    >>> round(found["hardware.hbm_bytes_per_s"], 2)
    -0.54

    1 % more memory bandwidth makes a token 0.67 % faster. What to buy next, to save money?

    >>> cost = elasticities("hardware=h100_sxm", "model=llama3_1_70b", "batch=64")
    >>> list(cost.top(4))
    ['hardware.usd_per_chip_hour', 'model.layers', 'model.d_model', 'hardware.hbm_bytes_per_s']
    """
    s, levels = _asked(given, config_dir)
    return Elasticities(of, derivatives.slopes(s, of, within, side, levels))


def solve(
    s: Scenario | str | Sequence[str],
    unknown: str,
    target: Target,
    low: float | None = None,
    high: float | None = None,
    config_dir: str | Path | None = None,
) -> Roots:
    """Return where a number of a scenario has to be for a result to be what is asked for.

    `s` is a scenario or overrides (a list, or one string as on the command line). `unknown` is the
    path of a number or an alias: batch, context, pp, racks, sparsity. `target` is {column: value},
    {column: other column}, or a function of the columns that is 0 at the answer. All crossings
    between `low` and `high` are found (if further apart than 1/400 of the range, in logarithms);
    of a single one `.exact` and `.whole`, the last whole number that keeps the target, are at hand.
    Raises InputError, with the range of the column, if the target is never met.

    How many sequences keep 50 ms per token? Rows come in tiles, so TPOT climbs in steps:

    >>> llama = "hardware=h100_sxm model=llama3_1_70b parallelism=tp8 context=8192"
    >>> solve(llama, "batch", {"tpot_s": 0.05}).whole
    270

    From which context does reading the cache take longer than all arithmetic?

    >>> round(solve(llama, "context", {"t_kv_s": "t_compute_s"}).exact)
    2424

    How many bytes of cache does a token have, if prices change at 200k tokens? (100e9 active
    parameters; without weight reads, by the data sheet: 2 N W / (C S).)

    >>> model = "model=blackboard model.params_active=1e11 calibration=ideal parallelism=single"
    >>> knee = {"context_knee_tokens": 2e5}
    >>> for machine in "blackboard dtype=fp8", "h100_sxm dtype=bf16", "h100_sxm dtype=fp8":
    ...     found = solve(f"{model} hardware={machine}", "model.kv_bytes_per_token", knee)
    ...     print(round(found.exact))
    1667
    3387
    1693
    """
    if isinstance(s, Scenario):
        found, levels = _asked((s,), config_dir)
    else:
        found, levels = _asked(shlex.split(s) if isinstance(s, str) else tuple(s), config_dir)
    return inverse.solve(found, unknown, target, low, high, levels)


def _asked(
    given: Sequence[Scenario | str], config_dir: str | Path | None
) -> tuple[Scenario, Levels | None]:
    """Return a scenario given, or what overrides compose with the names of its fabric levels."""
    texts = [item for item in given if isinstance(item, str)]
    if len(texts) == len(given):
        study = to_study(config.compose(texts, config_dir))
        return study.grid(), study.levels
    if len(given) == 1 and isinstance(given[0], Scenario):
        return given[0], None
    raise InputError("give one scenario, or overrides as text")


def sweep(*overrides: str, config_dir: str | Path | None = None) -> pl.LazyFrame:
    """Return the rows of a sweep: groups and values crossed as on the command line.

    Nothing is written.

    >>> sweep("hardware=h100_sxm,b200", "batch=1,8,64").collect().shape[0]
    6
    """
    return rows_of(overrides, config_dir)


def run_job(container: Mapping[str, Any], overrides: Sequence[str], directory: Path) -> None:
    """Evaluate one job of a sweep into its folder, or what is left to do of it."""
    study = to_study(container)
    store.write_job(study, container, overrides, directory, double=is_double(container))


def report(sweep_dir: Path, export: tuple[str, ...] = ()) -> Path:
    """Write the report of stored results beside them, and its charts and tables as `export`."""
    from roofrack.report import export as exporting
    from roofrack.report.question import page_of
    from roofrack.report.render import render

    page = page_of(sweep_dir)
    path = sweep_dir / "report.html"
    store.write_text(path, render(page))
    if export:
        exporting.export(page, sweep_dir / "export", export)
    return path


def site(
    *overrides: str,
    out: str | Path,
    questions: str | None = None,
    export: Sequence[str] = (),
    config_dir: str | Path | None = None,
    tell: Callable[[str], None] = lambda text: None,
) -> "Built":
    """Ask all questions of what the overrides say; write a folder of pages with an index.

    `out` is a new folder, `questions` names some of them (`"sparsity,racks"`), `tell` is called
    with a line for each page. Raises InputError.
    """
    from roofrack.site import build

    folder = None if config_dir is None else str(config_dir)
    return build(overrides, out, folder, only=questions, export=export, tell=tell)


def timeline(*overrides: str, config_dir: str | Path | None = None) -> "Timeline":
    """Return one training step, pass by pass: `rows` for charts, a `trace`, and a `summary`.

    The schedule is played with the seconds that the cost model gives each stage. `rows` is a Polars
    frame (`roofrack.schedules.gantt`), `trace` what `roofrack timeline` writes, as a dict. Raises
    InputError for bad input, for axes, and for another phase than `train`.

    >>> plan = "parallelism=train_tp8_pp8", "workload.global_batch=16"
    >>> step = timeline("workload=train", "model=llama3_1_70b", *plan)
    >>> step.summary.schedule, step.summary.stages[0].held, step.rows.height
    ('1f1b', 8.0, 272)
    """
    from roofrack import timelines

    return timelines.timeline(overrides, config_dir)


def simulate(
    words: Sequence[str],
    config_dir: str | Path | None = None,
    out: str | Path | None = None,
) -> "Simulated":
    """Play traffic on deployments, request by request; return what came of it, as tables.

    `words` are those of `roofrack simulate`: keys of traffic, engine and limits, and overrides.
    `out`: a folder that tables and a page are written to. Raises InputError for bad input and
    InfeasibleError where no deployment can run.

    >>> found = simulate(["workload=chat", "workload.arrivals_per_s=2", "traffic.requests=200"])
    >>> found.rows["requests"][0], found.rows["rejected"][0]
    (200, 0)
    """
    from roofrack.report.render import render
    from roofrack.report.simulation import page
    from roofrack.simulation import command, files

    if out is not None:
        files.check(Path(out))
    found = command.answer(words, config_dir)
    if out is not None:
        files.write(found, Path(out), words)
        store.write_text(Path(out) / "report.html", render(page(found, words)))
    return found


def plan(words: Sequence[str], config_dir: str | Path | None = None) -> "Planned":
    """Return what to buy for some traffic, found by simulations.

    `words` are those of `roofrack plan`: first the question (`chips`, `own`, `tiers`, `wait`), then
    its keys and those of `simulate`. Raises InputError for bad input and InfeasibleError where no
    deployment can run.

    >>> small = "workload=chat", "workload.arrivals_per_s=2", "traffic.requests=200"
    >>> found = plan(["chips", *small, "limits.ttft_s=1", "limits.tpot_s=0.05"])
    >>> found.answer[0].replicas
    1
    """
    from roofrack.simulation import planning

    return planning.answer(words, config_dir)


def validate(
    rows: str = "all",
    calibration: str = "auto",
    out: str | Path | None = None,
    export: Sequence[str] = (),
) -> "Verdict":
    """Predict measured runs, facts, training runs and services; return what errors are.

    `rows`: `shipped` (all that needs no package), `silicon` (the runs of the package
    aiconfigurator-core), `published` (the facts that ship), `training` (the training runs that
    ship), `service` (published services under a known load) or `all`. `calibration`: `auto`, that
    of the machine and engine of each run, or one name.
    `out`: a folder that tables and a page are written to, and charts as `export`. Raises
    InputError, also where the package is asked for and not installed.

    >>> validate("facts")
    Traceback (most recent call last):
    roofrack.errors.InputError: rows=facts: allowed: all, shipped, silicon, published, training, service.
    """  # noqa: E501
    from roofrack.report import export as exporting
    from roofrack.report.render import render
    from roofrack.report.validation import page
    from roofrack.validation import verdict

    found = verdict.verdict(rows, calibration)
    if out is not None:
        folder = Path(out)
        verdict.write(found, folder)
        made = page(found)
        store.write_text(folder / "report.html", render(made))
        if export:
            exporting.export(made, folder / "export", tuple(export))
    return found
