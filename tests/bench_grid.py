"""Points per second of the grid engine, reduced on the fly, beside NumPy on the same points.

    python tests/bench_grid.py [--points 1e9] [--overlap smooth|ideal] [--lanes 512] [--json FILE]

An evaluation is one of valid plans x batches x contexts, all of them different, no two that follow
each other of one plan; step, memory, fit, cost and bound of each are consumed. Each reading runs in
a process of its own: once with an empty compile cache, for the cold start, then with a warm one.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import islice, product
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import roofrack
from roofrack import arithmetic
from roofrack.cost import estimate, pytrees  # noqa: F401
from roofrack.cost.forward import Parts
from roofrack.grid.factored import evaluator
from roofrack.grid.parts import take_apart
from roofrack.grid.reductions import ALL, Allowed, Best, Several, Tally
from roofrack.leaves import plain, put
from roofrack.planning import Plans, plans
from roofrack.planning.candidates import with_plans

COLUMNS = ("step_s", "mem_total_bytes", "fits", "usd_per_mtok", "bound")
QUESTION = ("hardware=gb200_nvl72", "model=deepseek_v3", "dtype=fp8")
CALIBRATION = "calibration=gb200_nvl72_trtllm"
CHIPS = 72
WITHIN = {"overlap_batches": [1, 2], "redundant_experts": [0, 32]}
OVERLAPS = ("smooth", "ideal")
BATCH, CONTEXT = "workload.batch", "workload.context"
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
BOUNDS = len(Parts._fields)
REDUCTION = Several(
    (
        Best("usd_per_mtok", allowed=Allowed(("fits",), {"step_s": 0.05})),
        Best("mem_total_bytes", largest=True),
        Tally("bound", BOUNDS, ALL),
    )
)
"""The cheapest point of each lane that fits and keeps to 50 ms, the fullest that fits, and how
often each resource is the bound."""


def plan_leaves(found: Plans) -> dict[str, np.ndarray]:
    """Return the leaves of plans by the paths that a scenario has them at."""
    return {f"parallelism.{name}": column for name, column in found.columns.items()}


LENGTHS = 128
BATCHES, WIDE = 64, 1024
"""Batches of a block; where they are the lanes instead of plans."""
FEW = 32
"""Fewer plans than this fill no vector registers."""


def lanes_here() -> int:
    """Plans evaluated side by side: what a core's cache holds, or what fills an accelerator."""
    return 512 if jax.default_backend() == "cpu" else 1 << 15


class Case(NamedTuple):
    """A compiled evaluation and what it is given: blocks of so many plans and so many batches."""

    scenario: Any
    function: Callable[[Mapping[str, Any]], Any]
    found: Plans
    batches: np.ndarray
    lengths: np.ndarray
    length: str
    size: tuple[int, int]
    by_plan: bool

    @property
    def blocks(self) -> list[tuple[int, int]]:
        """The first plan and the first batch of each block."""
        ranges = zip((len(self.found), len(self.batches)), self.size, strict=True)
        return list(product(*(range(0, count, size) for count, size in ranges)))

    @property
    def steps(self) -> int:
        """Points of each plan."""
        return len(self.batches) * len(self.lengths)

    def real(self, plan: int) -> int:
        """Return how many plans of a block are no repetition of the last one."""
        return min(self.size[0], len(self.found) - plan)

    def block(self, plan: int = 0, batch: int = 0) -> dict[str, np.ndarray]:
        """Return the numbers of a block, the last plan repeated where there are no more."""
        rows = np.minimum(np.arange(plan, plan + self.size[0]), len(self.found) - 1)
        batches = self.batches[batch : batch + self.size[1]]
        values = {**plan_leaves(self.found.take(rows)), BATCH: batches, self.length: self.lengths}
        return {name: np.asarray(value, np.float32) for name, value in values.items()}

    def exactly(self, plan: int, batch: int, lane: int, step: int) -> float:
        """Return the cost of one point of a block in double precision, in NumPy."""
        outer, length = divmod(step, len(self.lengths))
        row, column = (lane, outer) if self.by_plan else (outer, lane)
        values = {**plan_leaves(self.found.take([plan + row])), BATCH: self.batches[batch + column]}
        with np.errstate(all="ignore"):
            found = estimate(put(self.scenario, values | {self.length: self.lengths[length]}))
        return float(np.ravel(found["usd_per_mtok"])[0])


def axes(steps: int, piece: int) -> tuple[np.ndarray, np.ndarray]:
    """Return batches and lengths, whole numbers, all different, that make at least so many pairs.

    The number of batches is a multiple of `piece`.
    """
    lengths = np.unique(np.rint(np.geomspace(256, 131072, LENGTHS)))
    many = piece * max(1, -(-steps // (len(lengths) * piece)))
    batches = np.unique(np.rint(np.geomspace(1, 16384, many)))
    while len(batches) < many:  # the small ones meet when they are rounded
        batches = np.unique(np.append(batches, batches[-1] + 1 + np.arange(many - len(batches))))
    return batches, lengths


def case(
    question: Sequence[str], points: float, lanes: int, length: str = CONTEXT, **listed: Any
) -> Case:
    """Return the evaluation of at least so many points of a question.

    `listed` is what `plans` takes, `length` the axis beside plans and batches. The lanes are plans,
    or batches where there are few plans.
    """
    s = plain(roofrack.scenario(*question))
    found = plans(s, **listed)
    s = replace(s, features=with_plans(s, found.columns).features)
    by_plan = len(found) >= FEW
    size = (min(lanes, len(found)), BATCHES if by_plan else WIDE)
    batches, lengths = axes(-(-int(points) // len(found)), size[1])
    depends = {**dict.fromkeys(plan_leaves(found), "plan"), BATCH: "batch", length: "length"}

    def function(values: Mapping[str, Any]) -> dict[str, Any]:
        with arithmetic.apart(), np.errstate(all="ignore"):
            columns = estimate(put(s, values))
        return {name: jnp.asarray(columns[name], jnp.float32) for name in COLUMNS}

    order = ("batch", "length", "plan") if by_plan else ("plan", "length", "batch")
    run = evaluator(take_apart(function, depends, jnp.float32), depends, order, REDUCTION)
    return Case(s, run, found, batches, lengths, length, size, by_plan)


def standard(overlap: str, points: float, lanes: int) -> Case:
    """Return the project's own yardstick: DeepSeek-V3 on up to a rack of GB200."""
    question = (*QUESTION, CALIBRATION, f"overlap={overlap}")
    return case(question, points, lanes, chips=CHIPS, up_to=True, within=WITHIN)


class Streamed(NamedTuple):
    """What a stream of blocks took, and what was kept of it."""

    points: int
    seconds: float
    cheapest: float
    bounds: list[int]


def streamed(
    run: Callable[..., Any], it: Case, limit_s: float = np.inf, workers: int = CORES
) -> Streamed:
    """Evaluate all blocks, a few at a time; what is kept of each joins the whole at once.

    Ends early after `limit_s`. Leaves if the cheapest point costs something else in double
    precision.
    """
    cheapest, where = np.inf, (0, 0, 0, 0)
    bounds, points, waiting = np.zeros(BOUNDS, np.int64), 0, iter(it.blocks)

    def one(block: tuple[int, int]) -> Any:
        return block, jax.device_get(run(it.block(*block)))

    begin = time.perf_counter()
    with ThreadPoolExecutor(workers) as pool:
        while time.perf_counter() - begin < limit_s and (
            some := list(islice(waiting, 4 * workers))
        ):
            for block, (best, _, tally) in pool.map(one, some):
                real = it.real(block[0])
                mine = real if it.by_plan else it.size[1]
                lane = int(best.value[:mine].argmin())
                if best.value[lane] < cheapest:
                    cheapest = float(best.value[lane])
                    where = (*block, lane, int(best.place[lane]))
                bounds += tally[:, :mine].sum(1)
                points += real * it.size[1] * len(it.lengths)
    seconds = time.perf_counter() - begin
    if not np.isclose(it.exactly(*where), cheapest, rtol=1e-3) or bounds.sum() != points:
        raise SystemExit(f"bench_grid: {cheapest} at {where} is {it.exactly(*where)} in NumPy")
    return Streamed(points, seconds, cheapest, bounds.tolist())


def in_numpy(it: Case, *, flat: bool, seconds: float = 2.0) -> float:
    """Return points per second of the same formulas in NumPy, best of a few, nothing reduced.

    Flat: a list of points, each with its own plan, batch and length. Otherwise axes that
    broadcast, plans last, so that what needs one axis is computed over it alone.
    """
    shape = (1, 64, it.size[0]) if flat else (4, 16, it.size[0])
    index = np.ix_(*map(np.arange, shape))
    if flat:
        index = tuple(i.ravel() for i in np.broadcast_arrays(*index))
    place = dict(zip(("batch", "length", "plan"), index, strict=True))
    of = {BATCH: "batch", it.length: "length"}
    values = {}
    for name, given in it.block().items():
        index = place[of.get(name, "plan")]
        values[name] = np.resize(given, index.max() + 1)[index]
    best, begin = np.inf, time.perf_counter()
    while time.perf_counter() - begin < seconds:
        once = time.perf_counter()
        with np.errstate(all="ignore"):
            found = estimate(put(it.scenario, values))
        best = min(best, time.perf_counter() - once)
    points = int(np.prod(shape))
    assert np.broadcast(*(np.asarray(found[name]) for name in COLUMNS)).size == points
    return points / best


def peak_bytes() -> int:
    """Return the largest memory that this process has held."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def child(overlap: str, points: float, lanes: int, *, dry: bool) -> dict[str, Any]:
    """Measure one reading in this process; the first block only, if `dry`."""
    begin = time.perf_counter()
    it = standard(overlap, points, lanes)
    made = time.perf_counter()
    lowered = jax.jit(it.function).lower(it.block())
    traced = time.perf_counter()
    run = lowered.compile()
    compiled = time.perf_counter()
    jax.block_until_ready(run(it.block()))
    told = {
        "backend": jax.default_backend(), "lanes": it.size[0], "plans": len(it.found),
        "steps": it.steps, "made_s": made - begin, "traced_s": traced - made,
        "compiled_s": compiled - traced, "first_s": time.time() - float(os.environ["BEGUN"]),
    }  # fmt: skip
    if not dry:
        told |= streamed(run, it)._asdict()
        told["peak_bytes"] = peak_bytes()  # before NumPy adds its own
        told |= {f"numpy_{n}": in_numpy(it, flat=n == "flat") for n in ("flat", "broadcast")}
    return told


def measured(arguments: Sequence[str], cache: Path) -> dict[str, Any]:
    """Run one reading in a process of its own and return what it told."""
    keep = {
        "JAX_COMPILATION_CACHE_DIR": str(cache),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }
    env = os.environ | keep | {"BEGUN": str(time.time())}
    command = [sys.executable, __file__, "--child", *arguments]
    run = subprocess.run(command, env=env, capture_output=True, text=True)
    if run.returncode:
        raise SystemExit(f"bench_grid {' '.join(arguments)} failed:\n{run.stderr}")
    told: dict[str, Any] = json.loads(run.stdout.splitlines()[-1])
    return told


def reading(overlap: str, points: float, lanes: int) -> dict[str, Any]:
    """Measure one reading: a block with an empty cache, then all points with a warm one."""
    common = ["--overlap", overlap, "--lanes", str(lanes), "--points", str(points)]
    with tempfile.TemporaryDirectory() as cache:
        cold = measured([*common, "--dry"], Path(cache))
        warm = measured(common, Path(cache))
    return warm | {f"cold_{name}": cold[name] for name in ("compiled_s", "first_s")}


def line(overlap: str, told: Mapping[str, Any]) -> str:
    """Return what was measured, in words."""
    rate = told["points"] / told["seconds"]
    beside = (f"{rate / told[f'numpy_{n}']:.0f} times NumPy {n} ({told[f'numpy_{n}']:.3g})"
              for n in ("flat", "broadcast"))  # fmt: skip
    return "\n".join(
        (
            f"{overlap}: {told['points']:,} points in {told['seconds']:.1f} s: "
            f"{rate:.3g} points/s, peak {told['peak_bytes'] / 1e9:.2f} GB",
            f"  {told['plans']:,} plans, each with {told['steps']:,} pairs of batch and context; "
            f"{told['lanes']} plans at a time",
            f"  {', '.join(beside)}",
            f"  compiled in {told['cold_compiled_s']:.1f} s, from the cache "
            f"{told['compiled_s']:.2f} s; plans {told['made_s']:.1f} s, traced "
            f"{told['traced_s']:.1f} s",
            f"  first block after {told['cold_first_s']:.1f} s of a new process, "
            f"{told['first_s']:.1f} s with a warm cache",
            f"  cheapest USD {told['cheapest']:.4g} per million tokens; "
            f"points by bound {told['bounds']}",
        )
    )


def main() -> None:
    """Measure the readings that are asked for, and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--points", type=float, default=1e8)
    parser.add_argument("--overlap", choices=OVERLAPS, help="one reading; both by default")
    parser.add_argument("--lanes", type=int, default=0)
    parser.add_argument("--json", type=Path, help="write what was measured here too")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--dry", action="store_true", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    lanes = chosen.lanes or lanes_here()
    if chosen.child:
        print(json.dumps(child(chosen.overlap, chosen.points, lanes, dry=chosen.dry)))
        return
    print(f"{CORES} cores, {jax.default_backend()}, JAX {jax.__version__}, NumPy {np.__version__}")
    told = {}
    for overlap in (chosen.overlap,) if chosen.overlap else OVERLAPS:
        told[overlap] = reading(overlap, chosen.points, lanes)
        print(line(overlap, told[overlap]), flush=True)
    if chosen.json:
        chosen.json.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
