"""Ask all questions, in as many processes as there are cores, and write their pages and an index.

What is written is whole or not there: everything is made in a folder beside, which then takes the
name asked for.
"""

import multiprocessing
import os
import shlex
import shutil
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import NamedTuple

from roofrack import caching
from roofrack.errors import InputError
from roofrack.report import runtime
from roofrack.report.index import Entry, Index, glossary
from roofrack.report.page import Page
from roofrack.report.render import Link, render, render_index
from roofrack.results import store
from roofrack.site import questions
from roofrack.site.questions import Question

INDEX = "index.html"
TITLE = "What large language models cost, and why"
HEADLINES = 2
"""Findings of each page that the index tells."""
Tell = Callable[[str], None]


class Built(NamedTuple):
    """A site: its folder, its pages, what could not be asked and why, bytes, seconds."""

    folder: Path
    pages: tuple[Entry, ...]
    refused: tuple[tuple[str, str], ...]
    size: int
    seconds: float


def build(
    overrides: Sequence[str] = (),
    folder: str | Path = "site",
    config_dir: str | None = None,
    *,
    only: str | None = None,
    export: Sequence[str] = (),
    processes: int | None = None,
    tell: Tell = lambda text: None,
) -> Built:
    """Write the site of what the overrides say into a new folder.

    `only` names questions, separated by commas. A question that cannot be asked of what is given is
    left out, and the index says why; if none can, the first reason is raised. `tell` is called with
    a line for each page. Raises InputError.
    """
    started = time.monotonic()
    place = Path(folder)
    if place.exists() and (not place.is_dir() or any(place.iterdir())):
        raise InputError(f"out={place}: is there already; name a new folder")
    names, refused = questions.chosen(only), {}
    found: list[Question] = []
    for name in names:
        try:
            found.append(questions.asked(name, overrides, config_dir))
        except InputError as error:
            refused[name] = error
    if not [question for question in found if question.words] and refused:
        raise next(iter(refused.values()))
    part = place.with_name(f"{place.name}.part-{os.getpid()}")
    try:
        entries = _pages(found, part, config_dir, export, processes or _cores(), tell, refused)
        if not entries:
            raise next(iter(refused.values()))
        whys = tuple((name, str(error)) for name, error in refused.items())
        store.write_text(part / INDEX, _index(entries, whys, overrides, only, found))
        if place.exists():
            place.rmdir()
        part.replace(place)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    size = sum(file.stat().st_size for file in place.rglob("*") if file.is_file())
    return Built(place, entries, whys, size, time.monotonic() - started)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _pages(
    found: Sequence[Question],
    part: Path,
    config_dir: str | None,
    export: Sequence[str],
    processes: int,
    tell: Tell,
    refused: dict[str, InputError],
) -> tuple[Entry, ...]:
    """Make the pages; those that turn out not to be askable join `refused`."""
    part.mkdir(parents=True)
    runtime.bundle()  # made once, for all processes
    links = [(TITLE, INDEX), *((question.title, question.file) for question in found)]
    made: dict[str, Entry] = {}
    # forked processes would share locks of JAX and Polars
    context = multiprocessing.get_context("spawn")
    count = max(1, min(processes, len(found)))
    with ProcessPoolExecutor(count, context, caching.keep_compiled) as pool:
        # the slowest is the one that no sweep makes: it begins first
        order = sorted(found, key=lambda question: bool(question.words))
        waiting: dict[Future[Entry], Question] = {
            pool.submit(_page, question, part, config_dir, tuple(export), tuple(links)): question
            for question in order
        }
        try:
            for future in as_completed(waiting):
                question = waiting[future]
                try:
                    made[question.name] = future.result()
                    tell(f"{question.file}: {question.title}")
                except InputError as error:
                    refused[question.name] = error
                    tell(f"{question.name}: not asked: {error}")
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return tuple(made[question.name] for question in found if question.name in made)


def _page(
    question: Question,
    part: Path,
    config_dir: str | None,
    export: tuple[str, ...],
    links: tuple[tuple[str, str], ...],
) -> Entry:
    """Make one page (in a process of its own); return what the index tells of it."""
    page = questions.answered(question, config_dir, part / "data" / question.name)
    site = [Link(title, file, file == question.file) for title, file in links]
    store.write_text(part / question.file, render(page, site))
    if export:
        from roofrack.report import export as exporting

        exporting.export(page, part / "export" / question.name, export)
    return _entry(question, page)


def _entry(question: Question, page: Page) -> Entry:
    return Entry(
        title=page.title,
        file=question.file,
        answer=page.answer,
        findings=page.findings[:HEADLINES],
        stated=len(page.findings),
        figures=sum(len(section.figures) for section in page.sections),
        limits=page.limits,
        assumptions=page.provenance.assumptions,
        sources=page.provenance.sources,
        versions=dict(page.provenance.versions),
    )


def _index(
    entries: Sequence[Entry],
    refused: Sequence[tuple[str, str]],
    overrides: Sequence[str],
    only: str | None,
    found: Sequence[Question],
) -> str:
    chosen = [f"questions={only}"] if only else []
    index = Index(
        title=TITLE,
        question="The same model can cost a thousand times more per token, or answer three times"
        " faster, by how it is laid over chips and how many users share a step. What does it cost"
        " here, why, and what would change it?",
        entries=tuple(entries),
        refused=tuple(refused),
        glossary=glossary(),
        command=" ".join(["roofrack site", *map(shlex.quote, (*chosen, *overrides))]),
        facts={"pages": str(len(entries)), **entries[0].versions},
    )
    links = [Link(TITLE, INDEX, True), *(Link(question.title, question.file) for question in found)]
    return render_index(index, links)
