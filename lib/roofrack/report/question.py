"""From a finished sweep to the page of its question."""

import importlib
from pathlib import Path

from roofrack.errors import InputError
from roofrack.report.page import Page
from roofrack.results.run import load


def page_of(folder: Path) -> Page:
    """Return the page of a finished sweep, made by the module that its question names.

    `experiment.module` is a module of roofrack.experiments, or one of the reader's own by its
    import path; a sweep without a question gets the generic page. Raises InputError.
    """
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
