"""The times a user feels, part of `make bench`. Each command runs in its own process, as by users.

Prints the wall time (best of a few), the peak memory and the limit that the project sets itself.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

# 10 x 50 x 50 x 40 = 10^6 points over numbers only: one job.
MILLION = (
    "sweep hardware=gb200_nvl72 model=deepseek_v3 workload.routing_skew=range(1,11) "
    "hardware.power_w=range(1000,1050) context=range(1024,51224,1004) batch=range(64,2624,64)"
).split()


class Case(NamedTuple):
    """One command and what it may cost."""

    name: str
    arguments: Sequence[str]
    limit_s: float
    runs: int = 3
    limit_bytes: float = 1.5e9
    points: float = 0.0


CASES = (
    Case("--help", ("--help",), 0.6, runs=5),
    Case("point, first in a fresh cache", ("point",), 5.0, runs=1),
    Case("point", ("point",), 3.0),
    Case("sweep of 1,000,000 points", MILLION, 10.0, points=1e6),
)


def measure(arguments: Sequence[str], folder: Path, cache: Path) -> tuple[float, int]:
    """Wall seconds and peak resident bytes of one `roofrack` process."""
    # Both names: a cache that lies in the user's home and one that JAX is told of directly.
    env = os.environ | {"XDG_CACHE_HOME": str(cache), "ROOFRACK_CACHE_DIR": str(cache)}
    begin = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "roofrack", *arguments],
        cwd=folder,
        env=env,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    assert process.stderr
    complaint = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - begin
    if status:
        raise SystemExit(f"roofrack {' '.join(arguments)} failed:\n{complaint.decode()}")
    return wall, usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def main() -> None:
    """Run every case; exit status 1 when one misses its limit."""
    missed = False
    print(f"{'command':32}{'best s':>9}{'limit s':>9}{'peak GB':>9}{'limit GB':>10}")
    with tempfile.TemporaryDirectory() as cache:
        for case in CASES:
            with tempfile.TemporaryDirectory() as folder:
                runs = [
                    measure(case.arguments, Path(folder), Path(cache)) for _ in range(case.runs)
                ]
            wall, peak = min(run[0] for run in runs), max(run[1] for run in runs)
            late = wall > case.limit_s or peak > case.limit_bytes
            missed |= late
            print(
                f"{case.name:32}{wall:9.2f}{case.limit_s:9.2f}{peak / 1e9:9.2f}"
                f"{case.limit_bytes / 1e9:10.2f}{'  missed' if late else ''}"
                f"{f'  {case.points / wall:.3g} points/s written' if case.points else ''}"
            )
    sys.exit(missed)


if __name__ == "__main__":
    main()
