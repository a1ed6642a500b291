"""Points per second of the grid engine, reduced on the fly, beside NumPy on the same points.

An evaluation is one of plans x batches x contexts, no two that follow each other of one plan; step,
memory, fit, cost and bound of each are consumed. `python tests/bench_grid.py [lanes blocks]`.
"""

import os
import resource
import sys
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import roofrack
from roofrack import arithmetic
from roofrack.cost import estimate, pytrees  # noqa: F401
from roofrack.grid.factored import evaluator
from roofrack.grid.parts import take_apart
from roofrack.leaves import plain, put
from roofrack.planning import Plans, plans
from roofrack.planning.candidates import with_plans
from roofrack.searching.space import plan_leaves

COLUMNS = ("step_s", "mem_total_bytes", "fits", "usd_per_mtok", "bound")
BATCHES = np.unique(np.rint(2.0 ** (np.arange(8) * 2)))
CONTEXTS = np.rint(np.geomspace(256, 131072, 64))


class Best:
    """The cheapest point of each lane that fits, and sums that need every other column."""

    columns = COLUMNS

    def start(self, lanes: int, steps: int) -> Any:
        """Start from nothing."""
        zero = jnp.zeros(lanes, jnp.float32)
        return zero + jnp.inf, jnp.zeros(lanes, jnp.int32), zero, zero, zero

    def step(self, so_far: Any, columns: Mapping[str, Any], number: Any) -> Any:
        """Look at one more point of each lane."""
        best, where, slowest, fullest, bounds = so_far
        cost = jnp.where(columns["fits"] > 0, columns["usd_per_mtok"], jnp.inf)
        return (
            jnp.minimum(best, cost),
            jnp.where(cost < best, number.astype(jnp.int32), where),
            jnp.maximum(slowest, columns["step_s"]),
            jnp.maximum(fullest, columns["mem_total_bytes"]),
            bounds + columns["bound"],
        )


def case(overlap: str, lanes: int) -> tuple[Any, list[dict[str, np.ndarray]], Any]:
    """Return the compiled evaluation, the values of each block of plans, and the same in NumPy."""
    s = plain(
        roofrack.scenario(
            "hardware=gb200_nvl72", "model=deepseek_v3", "dtype=fp8", f"overlap={overlap}",
            "calibration=gb200_nvl72_trtllm",
        )
    )  # fmt: skip
    within = {"overlap_batches": [1, 2], "redundant_experts": [0, 32]}
    found = plans(s, 72, up_to=True, within=within)
    s = replace(s, features=with_plans(s, found.columns).features)
    depends = {**dict.fromkeys(plan_leaves(found), "plan"),
               "workload.batch": "batch", "workload.context": "context"}  # fmt: skip

    def function(values: Mapping[str, Any]) -> dict[str, Any]:
        with arithmetic.apart():
            columns = estimate(put(s, values))
        return {name: jnp.asarray(columns[name], jnp.float32) for name in COLUMNS}

    parts = take_apart(function, depends, jnp.float32)
    order = ("batch", "context", "plan")
    run = jax.jit(evaluator(parts, depends, order, Best()))
    other = {"workload.batch": BATCHES, "workload.context": CONTEXTS}
    blocks = [
        {
            name: np.asarray(values, np.float32)
            for name, values in (plan_leaves(_rows(found, first, lanes)) | other).items()
        }
        for first in range(0, len(found), lanes)
    ]
    return run, blocks, s


def _rows(found: Plans, first: int, lanes: int) -> Plans:
    return found.take(np.minimum(np.arange(first, first + lanes), len(found) - 1))


def in_numpy(s: Any, block: Mapping[str, np.ndarray], points: int) -> float:
    """Return points per second of the same formulas in NumPy, on points of the same list."""
    names = list(block)
    lengths = (len(BATCHES), len(CONTEXTS), len(block[names[0]]))
    index = np.unravel_index(np.arange(points) % int(np.prod(lengths)), lengths)
    values = {
        name: np.asarray(
            array[index[{"workload.batch": 0, "workload.context": 1}.get(name, 2)]], np.float32
        )
        for name, array in block.items()
    }
    begin = time.perf_counter()
    with np.errstate(all="ignore"):
        estimate(put(s, values))
    return points / (time.perf_counter() - begin)


def main() -> None:
    """Measure both readings."""
    lanes = int(sys.argv[1]) if len(sys.argv) > 1 else 512
    repeat = int(sys.argv[2]) if len(sys.argv) > 2 else 4
    workers = os.cpu_count() or 1
    print(f"{workers} cores, {lanes} lanes, JAX {jax.__version__}, NumPy {np.__version__}")
    for overlap in ("smooth", "ideal"):
        run, blocks, s = case(overlap, lanes)
        begin = time.perf_counter()
        compiled = run.lower(blocks[0]).compile()
        compile_s = time.perf_counter() - begin
        jax.block_until_ready(compiled(blocks[0]))
        with ThreadPoolExecutor(workers) as pool:
            begin = time.perf_counter()
            for _ in pool.map(lambda b: jax.block_until_ready(compiled(b)), blocks * repeat):  # noqa: B023
                pass
            seconds = time.perf_counter() - begin
        points = len(blocks) * repeat * lanes * len(BATCHES) * len(CONTEXTS)
        numpy = max(in_numpy(s, blocks[i], 1 << 15) for i in range(3))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
        print(
            f"{overlap:8} {points:,} points in {seconds:.1f} s: {points / seconds:.3g} points/s; "
            f"NumPy {numpy:.3g} ({points / seconds / numpy:.0f} times); "
            f"compiled in {compile_s:.1f} s; peak {peak:.2f} GB"
        )


if __name__ == "__main__":
    main()
