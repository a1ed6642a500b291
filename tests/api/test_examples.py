"""The examples in the docstrings of the Python contract run and print what they say."""

import doctest

import pytest

import roofrack
from roofrack import api

FINDER = doctest.DocTestFinder(recurse=False)


@pytest.mark.parametrize("name", roofrack.__all__)
def test_examples(name: str) -> None:
    (example,) = FINDER.find(getattr(roofrack, name), name, globs=vars(api).copy())
    assert len(example.examples) >= 1
    report: list[str] = []
    doctest.DocTestRunner(verbose=False).run(example, out=report.append)
    assert not report, "".join(report)
