"""A sweep seen from the process that started it: what to resume, how far it is, what it was.

Jobs may run in other processes or on other machines, so progress is read from the sweep's folder,
where all of them write.
"""

import argparse
import logging
import math
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from roofrack import arguments
from roofrack.errors import InputError, nearest
from roofrack.results import books

KEY = "resume="
_EVERY_S = 0.5
_AHEAD = 64
"""Jobs without a folder after which the rest is taken not to have begun."""


def resumed(flags: argparse.Namespace) -> Path | None:
    """Make of `resume=FOLDER` the words that began the sweep there; return the folder.

    Overrides given beside it have to ask for the same jobs (the sweeper compares them); settings of
    Hydra's, such as the launcher, may be others.
    """
    asked = [word for word in flags.overrides if word.startswith(KEY)]
    if not asked:
        return None
    folder = Path(asked[-1].removeprefix(KEY))
    begun = books.read_sweep(folder)
    if begun is None:
        raise InputError(f"{asked[-1]}: no sweep began there; give a folder of `roofrack sweep`")
    given = [word for word in flags.overrides if not word.startswith(KEY)]
    hydra = [word for word in given if word.startswith(("hydra.", "hydra/"))]
    task = [word for word in given if word not in hydra]
    flags.config_dir = flags.config_dir or begun.config_dir
    flags.searching = [f"--config-dir={flags.config_dir}"] if flags.config_dir else []
    flags.overrides = [
        *(task or begun.overrides),
        *(hydra or begun.hydra),
        f"hydra.sweep.dir={_quoted(folder)}",
        "hydra.sweeper.resume=true",
    ]
    return folder


def _quoted(folder: Path) -> str:
    escaped = str(folder).replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def checkable(flags: argparse.Namespace) -> tuple[list[str], str | None]:
    """Return the overrides that say what the jobs are before any of them runs, and their folder.

    A sweeper that chooses values by the results so far (`hydra/sweeper=optuna`) has its own way of
    writing what may be chosen, which only it understands.
    """
    sweepers = [w for w in flags.overrides if w.startswith("hydra/sweeper=")]
    if not sweepers or sweepers[-1].endswith(("=grid", "=basic")):
        return flags.overrides, flags.config_dir

    from roofrack import config

    fixed = (o for o in config.parse(flags.overrides) if not o.is_hydra_override())
    return [o.input_line or "" for o in fixed if not o.is_sweep_override()], flags.config_dir


def objective(job: Path, columns: Any, direction: Any) -> float | list[float]:
    """Return what an optimising sweeper is to know of a job: its `columns` (usd_per_mtok if null).

    Of several points the best one; with several columns there has to be one point. A job no point
    of which can run and fits is infinitely bad. Raises InputError.
    """
    from roofrack.results import store

    names = [columns] if isinstance(columns, str) else list(columns or ["usd_per_mtok"])
    alone = isinstance(direction, str) or hasattr(direction, "name")
    ways = [getattr(way, "name", way) for way in ([direction] if alone else direction)]
    if len(names) != len(ways):
        raise InputError(
            f"hydra.sweeper.direction={','.join(ways)}: as many are needed as columns="
            f"{','.join(names)}"
        )
    rows = store.scan(job).filter("valid", "fits").collect()
    if unknown := [name for name in names if name not in rows.columns]:
        raise InputError(
            f"columns={unknown[0]}: no such column.{nearest(unknown[0], rows.columns)}"
        )
    if len(names) > 1 and rows.height > 1:
        raise InputError(f"columns={','.join(names)}: one point a job; this one has {rows.height}")
    found = []
    for name, way in zip(names, ways, strict=True):
        least = way == "minimize"
        best: Any = rows[name].min() if least else rows[name].max()
        found.append((math.inf if least else -math.inf) if best is None else float(best))
    return found[0] if alone else found


def points(some: Sequence[Mapping[str, Any]]) -> int | None:
    """Return the points of each job, of which `some` are composed; None if these differ."""
    from roofrack.conversion import to_study

    each = {to_study(container).points for container in some}
    return each.pop() if len(each) == 1 else None


@contextmanager
def watched(
    jobs: int, each: int | None, begun: Path | None, folder: Callable[[], Path | None]
) -> Iterator[None]:
    """Show a bar on stderr while a sweep runs, if somebody looks at it, and a line at its end.

    `each`: the points of a job, None if they differ; `begun`: the folder of a sweep that goes on;
    `folder`: tells where the sweep writes, once that is known.
    """
    started = time.monotonic()
    there = Progress(begun, jobs, each).points() if begun else 0
    with _bar(jobs, each, there, folder) if sys.stderr.isatty() else nullcontext():
        yield
    place = folder()
    if place is not None:
        print(summary(place, time.monotonic() - started, there), file=sys.stderr)


@contextmanager
def _bar(
    jobs: int, each: int | None, there: int, folder: Callable[[], Path | None]
) -> Iterator[None]:
    ended = threading.Event()
    watcher = threading.Thread(target=_watch, args=(jobs, each, there, folder, ended), daemon=True)
    loggers = [logging.getLogger(name) for name in ("hydra", "hydra_plugins")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:  # a line for each job would tear the bar apart
        logger.setLevel(logging.WARNING)
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join()
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _watch(
    jobs: int,
    each: int | None,
    there: int,
    folder: Callable[[], Path | None],
    ended: threading.Event,
) -> None:
    from tqdm import tqdm

    total = None if each is None else jobs * each
    with tqdm(
        total=total, initial=there, unit=" points", unit_scale=True, dynamic_ncols=True
    ) as bar:
        count = None
        over = False
        while not over:
            over = ended.wait(_EVERY_S)  # one last look when it has ended
            place = folder()
            if place is not None:
                count = count or Progress(place, jobs, each)
                bar.update(count.points() - bar.n)
                bar.set_description(f"{len(count.done):,}/{jobs:,} jobs")


class Progress:
    """Counts what the jobs of a sweep have written; those that are done are looked at once."""

    def __init__(self, folder: Path, jobs: int, each: int | None) -> None:
        """Take the sweep's folder, how many jobs it has, and the points of each if they agree."""
        self.folder, self.jobs, self.each = folder, jobs, each
        self.done: dict[int, int] = {}

    def points(self) -> int:
        """Return the points on disk; of jobs under way whole shards (the last may be short)."""
        under_way = missing = 0
        for number in range(self.jobs):
            if number in self.done:
                continue
            job = self.folder / str(number)
            book = books.read_job(job)
            if book is not None:
                self.done[number] = book.points
            elif job.is_dir():
                shards = sum(1 for _ in job.glob(books.SHARDS))
                most = books.ROWS * max(shards - 1, 0) if self.each is None else self.each
                under_way += min(books.ROWS * shards, most)
                missing = 0
            elif (missing := missing + 1) == _AHEAD:
                break
        return sum(self.done.values()) + under_way


def summary(folder: Path, seconds: float, there: int) -> str:
    """Return a line about a sweep that ended: points, jobs, seconds, rate, bytes, folder.

    `there` are the points that an interrupted run had left, which the rate leaves out.
    """
    found = [books.read_job(job) for job in folder.iterdir() if job.is_dir()]
    done = [book for book in found if book is not None]
    points, size = sum(book.points for book in done), sum(book.size for book in done)
    kept = f" ({there:,} of them from before)" if there else ""
    return (
        f"{points:,} points{kept} in {len(done):,} job{'s' * (len(done) != 1)}, {seconds:.1f} s,"
        f" {(points - there) / max(seconds, 1e-9):,.0f} points/s, {_bytes(size)} in"
        f" {arguments.shown(folder)}"
    )


def _bytes(size: float) -> str:
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} TB"
