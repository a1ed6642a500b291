"""What the first page of a site says, as data: the answers, the words used, and what to doubt."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from typing import NamedTuple

from roofrack.report.page import Finding

ABOUT = (
    "A roofline model computes each number here from the data sheets of chips, the shapes of models"
    " and a few fitted efficiencies: nothing was run to get it. Every page says where its numbers"
    " come from, how far off such predictions have been, and how to repeat it with other chips,"
    " models and traffic. Sliders move charts in the browser; an address keeps where they stand."
)
LIMITS = (
    "What a model answers is not judged: formats, sparsity and shapes change its quality, and no"
    " page knows by how much unless it says so.",
    "Software is taken to be as good as what the efficiencies were fitted to; a kernel that is not"
    " written yet, a bad driver or a slow host are not in them.",
    "Chips do not fail, and networks carry nothing else.",
    "Prices are dated and change by the month; costs follow them in proportion.",
)


class Word(NamedTuple):
    """A term of the field, and what it means here."""

    term: str
    says: str


class Entry(NamedTuple):
    """What the index tells of a page: its first findings, and what it rests on."""

    title: str
    file: str
    answer: str
    findings: tuple[Finding, ...]
    stated: int
    figures: int
    limits: tuple[str, ...] = ()
    assumptions: tuple[tuple[str, str], ...] = ()
    sources: tuple[tuple[str, str], ...] = ()
    versions: Mapping[str, str] = {}


@dataclass(frozen=True)
class Index:
    """The first page of a site. `refused`: questions that could not be asked, and why."""

    title: str
    question: str
    entries: tuple[Entry, ...]
    refused: tuple[tuple[str, str], ...]
    glossary: tuple[Word, ...]
    command: str
    facts: Mapping[str, str] = field(default_factory=dict)
    about: str = ABOUT

    @property
    def limits(self) -> tuple[str, ...]:
        """What holds for all pages, then what at least two of them say."""
        told = [limit for entry in self.entries for limit in dict.fromkeys(entry.limits)]
        shared = [limit for limit in dict.fromkeys(told) if told.count(limit) > 1]
        return (*LIMITS, *shared)

    @property
    def assumptions(self) -> tuple[tuple[str, str], ...]:
        """What any page assumes, once."""
        return tuple(dict.fromkeys(pair for entry in self.entries for pair in entry.assumptions))

    @property
    def sources(self) -> tuple[tuple[str, str], ...]:
        """What any page rests on, once."""
        return tuple(dict.fromkeys(pair for entry in self.entries for pair in entry.sources))


def glossary() -> tuple[Word, ...]:
    """Return the words that the pages use, by the alphabet."""
    text = files("roofrack.report").joinpath("static/glossary.txt").read_text(encoding="utf-8")
    lines = (line.partition(": ") for line in text.splitlines() if line.strip())
    return tuple(sorted((Word(term, says) for term, _, says in lines), key=lambda w: w[0].lower()))
