"""The command line: `roofrack VERB [key=value ...]`.

Stdout carries only the answer, logs go to stderr. Exit status: 0 answered, 1 no feasible answer,
2 bad input. Whatever needs Hydra, JAX, Polars or Altair is imported when a verb needs it.
"""

import argparse
import io
import json
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from roofrack import arguments, caching, verbs
from roofrack.errors import InputError, nearest

ANSWERED, INFEASIBLE, BAD_INPUT, BUG, INTERRUPTED, CLOSED_PIPE = 0, 1, 2, 70, 130, 141

PRECISIONS = ("float32", "float64")

VERBS = {
    "point": "one scenario, or a list of them: what it costs, and why",
    "sweep": "many scenarios at once; experiment=NAME asks a question; writes results and a report",
    "advise": "what to change about one scenario, ranked by money, each claim evaluated again",
} | {name: verb.says for name, verb in verbs.VERBS.items()}

USAGE = """\
usage: roofrack VERB [key=value ...] [flags]

What a large language model costs on given hardware, why, and what to change.

verbs
{verbs}

examples
  roofrack point hardware=h100_sxm model=llama3_1_70b batch=64
  roofrack point batch=1,8,64 format=json
  roofrack sweep hardware=h100_sxm,b200 'batch=range(1,257)'
  roofrack sweep experiment=fast_mode

A list of values is an axis. `roofrack VERB --help` lists every group and key.
Flags: --help, --version, --cfg job, --info, --config-dir DIR, --shell-completion install=bash\
"""


def main(words: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    given = list(sys.argv[1:] if words is None else words)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal without "µ" still gets the answer
    if words is None and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        # End at once: an exception would surface inside compiled code, which crashes or drops it.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        status = _command(given)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # the reader went away: nothing is left to say, not even when Python flushes at its end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return CLOSED_PIPE
    except (InputError, OSError) as error:
        if os.environ.get("HYDRA_FULL_ERROR") == "1":
            traceback.print_exc()
        else:
            print(f"roofrack: {' '.join(str(error).split())}", file=sys.stderr)
        return BAD_INPUT
    except Exception:
        traceback.print_exc()
        return BUG
    return status


def _command(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help", "help"):
        print(USAGE.format(verbs="\n".join(f"  {v:<9} {text}" for v, text in VERBS.items())))
        return ANSWERED
    if words[0] == "--version":
        print(f"roofrack {_version()}")
        return ANSWERED
    verb, rest = words[0], words[1:]
    if verb in ("-sc", "--shell-completion"):
        return _completion(rest)
    if verb not in VERBS:
        raise InputError(
            f"{verb}: no such verb; allowed: {', '.join(VERBS)}.{nearest(verb, VERBS)}"
        )
    if verb in verbs.VERBS:
        verbs.run(verb, rest)
        return ANSWERED
    flags = arguments.parse(rest)
    if flags.shell_completion:
        return _completion(flags.overrides)
    if flags.show:
        return _show(flags)
    return {"point": _point, "sweep": _sweep, "advise": verbs.advise}[verb](flags)


def _point(flags: argparse.Namespace) -> int:
    """Evaluate and print; write nothing."""
    from roofrack import config

    containers = _checked(config.jobs(flags.overrides, flags.config_dir, study=False), flags)
    form = arguments.one_of("format", containers[0]["format"], verbs.FORMATS)

    from roofrack.point import point

    answers = [point(container, strict=len(containers) == 1) for container in containers]
    rows = [row for answer in answers for row in (answer if isinstance(answer, list) else [answer])]
    several = len(answers) > 1 or isinstance(answers[0], list)
    if form == "json":
        print(json.dumps(rows if several else rows[0], indent=2, allow_nan=False))
    else:
        from roofrack.report.text import text

        print(text(rows if several else rows[0], containers[0]["columns"]))
    return ANSWERED if any(row.get("valid", True) for row in rows) else INFEASIBLE


def _sweep(flags: argparse.Namespace) -> int:
    """Run a multirun, then make its report and print where it is."""
    from roofrack import config, sweeps

    begun = sweeps.resumed(flags)
    jobs = config.jobs(*sweeps.checkable(flags))
    some = _checked(config.covering(jobs), flags, kept=True)
    caching.keep_compiled()
    _sweep_directories.clear()
    with sweeps.watched(len(jobs), sweeps.points(some), begun, _sweep_directory):
        _hydra(["--multirun", *flags.searching], flags.overrides)

    from roofrack import api

    print(arguments.shown(api.report(_sweep_directories[-1])))
    return ANSWERED


def _show(flags: argparse.Namespace) -> int:
    """Let Hydra show help, a configuration or where it comes from."""
    from roofrack import config

    jobs = config.jobs(flags.overrides, flags.config_dir, study=False)
    for number, job in enumerate(jobs if flags.cfg else jobs[:1]):
        if number:
            print("---")
        tree = config.compose(job, flags.config_dir) if flags.cfg else {}
        if flags.cfg == "job" and flags.resolve:  # Hydra's own cannot resolve to a list
            print(config.as_yaml(tree, flags.package), end="")
        else:
            _hydra([*flags.show, *flags.searching], job)
    return ANSWERED


def _completion(overrides: list[str]) -> int:
    """Complete verbs here, and let Hydra complete everything after the verb."""
    actions = ("install", "uninstall", "query")
    if not any(text.split("=")[0] in actions for text in overrides):
        raise InputError(f"--shell-completion: takes one of {'=bash, '.join(actions)}=bash")
    line = os.environ.get("COMP_LINE", "")
    words = line.split()
    if any(text.startswith("query=") for text in overrides):
        if len(words) < 2 or (len(words) == 2 and not line.endswith(" ")):
            print(" ".join(verb for verb in VERBS if verb.startswith("".join(words[1:2]))))
            return ANSWERED
        if words[1] in verbs.VERBS:
            return ANSWERED
        # Hydra knows no verbs
        os.environ["COMP_LINE"] = line.replace(f" {words[1]}", "", 1)
    _hydra(["--shell-completion"], overrides)
    return ANSWERED


def _checked(
    jobs: Sequence[Sequence[str]], flags: argparse.Namespace, *, kept: bool = False
) -> list[dict[str, Any]]:
    """Compose jobs, so that bad input is found before JAX is imported or Hydra starts anything."""
    from roofrack import config, conversion

    containers = [config.compose(job, flags.config_dir) for job in jobs]
    for container in containers:
        arguments.one_of("precision", container["precision"], PRECISIONS)
        study = conversion.to_study(container)
        if kept:
            study.check_size()
    return containers


def _hydra(flags: Sequence[str], overrides: Sequence[str]) -> None:
    """Run Hydra's own main, with its errors as exceptions."""
    import hydra
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    from roofrack import config

    config.register()
    entry = hydra.main(str(config.conf_dir()), config.PRIMARY, version_base=config.VERSION_BASE)
    with _environment([*flags, *overrides]):
        try:
            entry(_job)()
        except SystemExit as end:  # Hydra has said why
            if end.code:
                raise SystemExit(BAD_INPUT) from end
        except (HydraException, OmegaConfBaseException) as error:
            raise config.explain(error) from error


@contextmanager
def _environment(words: list[str]) -> Iterator[None]:
    """Give Hydra its arguments, and have it raise errors instead of printing them."""
    argv, full = sys.argv, os.environ.get("HYDRA_FULL_ERROR")
    sys.argv = [argv[0], *words]
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        yield
    finally:
        sys.argv = argv
        if full is None:
            del os.environ["HYDRA_FULL_ERROR"]
        else:
            os.environ["HYDRA_FULL_ERROR"] = full


def _job(composed: Any) -> Any:
    """Evaluate one job of a multirun into its folder (Hydra may call it elsewhere).

    Return what a sweeper that optimises, such as Optuna's, wants to know of it.
    """
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import OmegaConf

    from roofrack import config, schema, sweeps

    caching.keep_compiled()  # a worker elsewhere has not heard of it
    from roofrack import api

    hydra = HydraConfig.get()
    container = config.resolved(composed, dict(hydra.runtime.choices))
    # our sweeper names the calibration of each machine; one of Hydra's own leaves it open
    if container["choices"]["calibration"] == schema.AUTO:
        container = config.compose(list(hydra.overrides.task), _command_line_dir(hydra))
    # unresolved, because `batch=${geom:1,65536,17}` is to be recorded as it stands
    overrides = OmegaConf.to_container(hydra.overrides.task, resolve=False)
    folder = Path(hydra.runtime.output_dir)
    api.run_job(container, cast(list[str], overrides), folder)
    if "direction" not in hydra.sweeper:
        return None
    return sweeps.objective(folder, container["columns"], hydra.sweeper.direction)


def _command_line_dir(hydra: Any) -> str | None:
    """Return the folder that --config-dir named."""
    for source in hydra.runtime.config_sources:
        if source.provider == "command-line":
            return str(source.path)
    return None


_sweep_directories: list[Path] = []


def _sweep_directory() -> Path | None:
    return _sweep_directories[-1] if _sweep_directories else None


class SweepDirectory:
    """Hydra callback that remembers where a multirun writes, for the report at its end.

    The report is not made in the callback: Hydra turns what a callback raises into a warning.
    """

    def on_multirun_start(self, config: Any, **kwargs: Any) -> None:
        """Note the folder of the sweep that begins."""
        _sweep_directories.append(Path(config.hydra.sweep.dir))

    def __getattr__(self, name: str) -> Callable[..., None]:
        """Ignore every other event."""
        if not name.startswith("on_"):
            raise AttributeError(name)
        return _ignore


def _ignore(*args: Any, **kwargs: Any) -> None:
    return None


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("roofrack")
    except PackageNotFoundError:  # run from a checkout that is not installed
        return "(not installed)"
