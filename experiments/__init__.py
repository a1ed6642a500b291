"""Questions: one small module each. A module turns the rows of a sweep into a page.

`conf/experiment/NAME.yaml` names its module under `experiment.module` and says what is swept; a
question without a module gets the generic page. A module of one's own is named by its import path.
"""

import importlib
from pathlib import Path

from roofrack.errors import InputError
from roofrack.report.page import Page
from roofrack.results.run import load


def page_of(folder: Path) -> Page:
    """Return the page of a finished sweep, made by the module of its question."""
    run = load(folder)
    name = run.experiment.get("module") or "generic"
    path = name if "." in name else f"roofrack.experiments.{name}"
    try:
        module = importlib.import_module(path)
    except ModuleNotFoundError as error:
        if error.name and path.startswith(error.name):
            raise InputError(f"experiment.module={name}: no such module ({error})") from error
        raise
    return module.page(run)
