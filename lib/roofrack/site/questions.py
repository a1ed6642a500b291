"""The questions of the site, in the order in which they are read, and how each becomes a page."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from roofrack import config
from roofrack.conversion import to_study
from roofrack.errors import InputError, nearest
from roofrack.report.page import Page
from roofrack.report.question import page_of
from roofrack.report.validation import TITLE, page
from roofrack.results import books, store
from roofrack.results.asked import is_double
from roofrack.validation import verdict

VALIDATION = "validation"
"""The one page that no sweep makes: it compares with measurements, whatever is configured."""
QUESTIONS = (
    "fast_mode",
    "sparsity",
    "racks",
    "pipeline",
    "hardware_alignment",
    "codesign",
    "context",
    "delayed_payoff",
    "training",
    VALIDATION,
    "peers",
)


class Question(NamedTuple):
    """A page to make: its name (and its file's), its title, and the words that ask it."""

    name: str
    title: str
    words: tuple[str, ...] = ()

    @property
    def file(self) -> str:
        """The page's file."""
        return f"{self.name}.html"


def chosen(text: str | None) -> tuple[str, ...]:
    """Return the questions that `questions=a,b` names, in its order; all of them without it."""
    names = QUESTIONS if text is None else tuple(dict.fromkeys(text.strip("[]").split(",")))
    for name in names:
        if not name.isidentifier():
            raise InputError(
                f"questions={text}: allowed are names of conf/experiment, separated by commas"
                f" ({', '.join(QUESTIONS)}).{nearest(name, QUESTIONS)}"
            )
    return names


def asked(name: str, overrides: Sequence[str], config_dir: str | None) -> Question:
    """Return a question of what the overrides say; raise InputError if it cannot be asked of it."""
    if name == VALIDATION:
        return Question(name, TITLE)
    words = (f"experiment={name}", *overrides)
    first = config.jobs(words, config_dir)[0]
    container = config.compose(first, config_dir)
    to_study(container)  # refuses what the question cannot take
    told = container["experiment"] or {}
    return Question(name, str(told.get("title") or name), words)


def answered(question: Question, config_dir: str | None, folder: Path) -> Page:
    """Return a question's page; its rows are kept in `folder`."""
    if question.name == VALIDATION:
        return page(verdict.verdict("shipped"))
    jobs = config.jobs(question.words, config_dir)
    folder.mkdir(parents=True)
    book = books.SweepBook(
        jobs=len(jobs),
        asked=books.digest(jobs),
        overrides=list(question.words),
        hydra=[],
        config_dir=config_dir,
        versions=books.versions(),
    )
    book.begin(folder)
    for number, job in enumerate(jobs):
        container = config.compose(job, config_dir)
        study, double = to_study(container), is_double(container)
        store.write_job(study, container, job, folder / str(number), double=double)
    return page_of(folder)
