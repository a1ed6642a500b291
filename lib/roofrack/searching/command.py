"""From the words of a question to its answer."""

from collections.abc import Sequence
from pathlib import Path

from roofrack import config
from roofrack.conversion import to_study
from roofrack.searching.asked import asked, told_apart
from roofrack.searching.found import Found, search
from roofrack.searching.launch import checkpoint
from roofrack.searching.space import Choice


def answer(words: Sequence[str], config_dir: str | Path | None = None) -> Found:
    """Return what a search of these words finds; raise InputError or InfeasibleError.

    Groups with several names and modes of serving are choices: all of them, crossed.
    """
    question = asked(words)
    modes = [[f"workload.serving={mode}"] for mode in question.serving] or [[]]
    jobs = [[*job, *mode] for job in config.jobs(question.overrides, config_dir) for mode in modes]
    choices = []
    for job, shown in zip(jobs, told_apart(jobs), strict=True):
        container = config.compose(job, config_dir)
        sources, model = container["model"].get("sources") or {}, container["choices"]["model"]
        choices.append(Choice(to_study(container), shown, checkpoint(sources, model)))
    return search(choices, question)
