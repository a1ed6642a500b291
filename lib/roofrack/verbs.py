"""The verbs that take words of their own instead of overrides: each prints its answer.

What they need is imported when one of them is run.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from roofrack import arguments, caching
from roofrack.errors import InputError

EXPORTS = ("png", "svg", "csv")
FORMATS = ("table", "json")


class Verb(NamedTuple):
    """What a verb does, in a line; how it is called (empty: it says so itself); its function."""

    says: str
    usage: str
    run: Callable[[list[str]], None]


def run(verb: str, words: list[str]) -> None:
    """Run one of VERBS, or say how it is called."""
    if VERBS[verb].usage and ("--help" in words or "-h" in words):
        does = VERBS[verb].says.partition(": roofrack")[0]
        print(f"usage: roofrack {verb} {VERBS[verb].usage}\n\n{does}")
    else:
        VERBS[verb].run(words)


def advise(flags: argparse.Namespace) -> int:
    """Print what to change about one scenario; return the exit status. Nothing is written."""
    caching.keep_compiled()  # what other machines are composed of
    from roofrack import config

    own = [word for word in flags.overrides if word.startswith("machines=")]
    overrides = [word for word in flags.overrides if word not in own]
    jobs = config.jobs(overrides, flags.config_dir, study=False)
    if len(jobs) > 1:
        raise InputError(f"advise: {len(jobs)} scenarios; give one value of each group")
    form = arguments.one_of("format", config.compose(jobs[0], flags.config_dir)["format"], FORMATS)
    named = own[-1].removeprefix("machines=").strip("[]") if own else "all"
    machines = {"all": None, "none": []}.get(named, [m for m in named.split(",") if m])

    from roofrack.advice import advise
    from roofrack.advice.advised import text

    found = advise(jobs[0], flags.config_dir, machines)
    print(json.dumps(found.json(), indent=2, allow_nan=False) if form == "json" else text(found))
    return 0


def _import(words: list[str]) -> None:
    """Print a Hugging Face configuration as a file of conf/model."""
    files, chosen = arguments.given(words, ("name",))
    if len(files) != 1:
        raise InputError(f"import takes one file, a config.json; given: {len(files)}")

    from roofrack.importing import import_model

    print(import_model(files[0], chosen.get("name")), end="")


def _calibrate(words: list[str]) -> None:
    """Fit a calibration to measurements, write it, and print what it is worth."""
    flags = arguments.parse(words)
    from roofrack.fitting import command

    if flags.help:
        print(command.USAGE)
        return
    _overrides_only("calibrate", flags)
    print(command.run(flags.overrides, flags.config_dir))


def _validate(words: list[str]) -> None:
    """Predict measured runs, write tables and a page, and print the errors."""
    keys = ("rows", "calibration", "export", "out")
    others, chosen = arguments.given(words, keys)
    if others:
        raise arguments.unknown(others[0], keys)
    export = _exports(chosen)
    folder = Path(chosen.get("out") or time.strftime("outputs/validate/%Y-%m-%d_%H-%M-%S"))

    from roofrack import api
    from roofrack.report.validation_text import text

    rows, calibration = chosen.get("rows", "all"), chosen.get("calibration", "auto")
    print(text(api.validate(rows, calibration, folder, export)))
    print(f"\n{arguments.shown(folder / 'report.html')}")


def _search(words: list[str]) -> None:
    """Evaluate every plan and setting, and print what is best and why."""
    flags = arguments.parse(words)
    if flags.help or not flags.overrides:
        print(SEARCH_USAGE)
        return
    _overrides_only("search", flags)
    caching.keep_compiled()
    from roofrack.report.search_text import text
    from roofrack.searching import answer

    print(text(answer(flags.overrides, flags.config_dir)))


def _simulate(words: list[str]) -> None:
    """Play traffic on deployments, write tables and a page, and print what came of it."""
    flags = arguments.parse(words)
    if flags.help or not flags.overrides:
        print(SIMULATE_USAGE)
        return
    _overrides_only("simulate", flags)
    given = [word for word in flags.overrides if not word.startswith("out=")]
    named = [word for word in flags.overrides if word.startswith("out=")]
    default = time.strftime("outputs/simulate/%Y-%m-%d_%H-%M-%S")
    folder = Path(named[-1].removeprefix("out=") if named else default)
    caching.keep_compiled()
    from roofrack import api
    from roofrack.report.simulation_text import text

    print(text(api.simulate(given, flags.config_dir, folder)))
    print(f"\n{arguments.shown(folder / 'report.html')}")


def _plan(words: list[str]) -> None:
    """Simulate until a question about machines and traffic is answered, and print the answer."""
    flags = arguments.parse(words)
    if flags.help or not flags.overrides:
        print(PLAN_USAGE)
        return
    _overrides_only("plan", flags)
    caching.keep_compiled()
    from roofrack import api
    from roofrack.report.plan_text import text

    print(text(api.plan(flags.overrides, flags.config_dir)))


def _report(words: list[str]) -> None:
    """Make the report of a finished sweep again, and write its charts and tables if asked to."""
    folders, chosen = arguments.given(words, ("export",))
    export = _exports(chosen)
    if len(folders) != 1:
        raise InputError(f"report takes one folder, the one a sweep wrote; given: {len(folders)}")
    folder = Path(folders[0])
    if not folder.is_dir():
        raise InputError(f"report {folder}: no such folder; give the one a sweep wrote")

    from roofrack import api

    print(arguments.shown(api.report(folder, export=export)))


def _site(words: list[str]) -> None:
    """Ask all questions, and write a folder of pages."""
    flags = arguments.parse(words)
    if flags.help:
        print(SITE_USAGE)
        return
    _overrides_only("site", flags)
    keys = ("questions", "out", "export")
    own = {k: v for k, _, v in (w.partition("=") for w in flags.overrides) if k in keys}
    overrides = [word for word in flags.overrides if word.partition("=")[0] not in keys]
    folder = Path(own.get("out") or time.strftime("outputs/site/%Y-%m-%d_%H-%M-%S"))
    caching.keep_compiled()
    from roofrack import api

    built = api.site(
        *overrides,
        out=folder,
        questions=own.get("questions"),
        export=_exports(own),
        config_dir=flags.config_dir,
        tell=lambda text: print(text, file=sys.stderr),
    )
    print(
        f"{len(built.pages)} pages, {built.size / 1e6:.1f} MB, {built.seconds:.0f} s\n"
        f"{arguments.shown(folder / 'index.html')}"
    )


def _timeline(words: list[str]) -> None:
    """Write one training step as a trace, and print what it shows."""
    flags = arguments.parse(words)
    _overrides_only("timeline", flags)
    if not flags.overrides or "=" in flags.overrides[0]:
        raise InputError(f"timeline takes the file to write first: timeline {TIMELINE_USAGE}")
    path, *overrides = flags.overrides
    from roofrack import timelines
    from roofrack.report.timeline_text import text

    timelines.check(Path(path))
    found = timelines.timeline(overrides, flags.config_dir)
    timelines.write(Path(path), found.trace)
    print(text(found.summary))
    print(f"\n{arguments.shown(Path(path))}: open it in ui.perfetto.dev or chrome://tracing")


def _overrides_only(verb: str, flags: argparse.Namespace) -> None:
    """Raise InputError for flags that are Hydra's, in a verb that does not start it."""
    if flags.show or flags.shell_completion or flags.multirun:
        raise InputError(f"{verb} takes the flags --help and --config-dir only")


def _exports(chosen: dict[str, str]) -> tuple[str, ...]:
    kinds = chosen["export"].strip("[]").split(",") if "export" in chosen else ()
    return tuple(arguments.one_of("export", kind, EXPORTS) for kind in kinds)


SEARCH_USAGE = """usage: roofrack search chips=N [KEY=VALUE ...] [--config-dir DIR]

The best plan, batch and setting of a whole space, every point of it evaluated.

  chips=N              the most chips that one instance, or all instances of two pools, may have
  minimise=COLUMN      the goal, usd_per_mtok if not given; or maximise=COLUMN
  limits.COLUMN=X      a limit on the side that is worse: limits.tpot_s=0.03
  top=N                how many plans to print (5)
  launch=ENGINE        how to start the best plan: vllm, sglang, trtllm, or several
  parallelism.tp=...   a leaf of the plan: auto (all its values), one, or several (1,2,4)
  batch=...            auto (eight sizes for each doubling), one, or several
  workload.serving=... auto (aggregated, disaggregated and afd), one, or several
  workload.prefill_batch=auto        prompts computed together: 1, 2, 4 ... 64
  prefill.parallelism.tp=...         a leaf of the plan of the pool that prefills
  hardware=NAME ...    any other override, as of `roofrack point`; several machines, models or
                       formats compete; a list of numbers is one more axis"""

SIMULATE_USAGE = """usage: roofrack simulate [KEY=VALUE ...] [out=DIR] [--config-dir DIR]

Requests arrive, wait, are computed and leave, pass by pass, with the cost model as the clock.

  traffic=NAME         poisson, gamma (workload.arrival_cv), diurnal, a sample (azure_2023_conv,
                       azure_2023_code, mooncake_conversation), or a .csv or .jsonl file of requests
  workload.arrivals_per_s=1,2,4      requests per second, all replicas; or auto: up to what they
                       can do; of a trace its own if not given, times traffic.speed
  traffic.requests=N   requests drawn, or the first of a trace; or traffic.duration_s=X
  traffic.lengths=NAME prompts and outputs as long as those of a trace; else those of the workload,
                       which workload.prompt_cv and workload.output_cv spread
  traffic.seeds=N      runs of each kind, with other random numbers
  engine.policy=...    prefill_first, decode_first, chunked
  engine.routing=...   round_robin, least_loaded, prefix (parallelism.replicas=N of them)
  engine.KEY=...       budget, block, cache_tokens, reserve, prefix_tokens
  workload.batch=N     most sequences in flight; workload.wait_s: wait for others to join
  limits.ttft_s=X limits.tpot_s=X limits.share=0.95   what requests are promised, and how many
  hardware=NAME ...    any other override, as of `roofrack point`; several values are several runs;
                       workload=chat if none is named

What is simulated, and what is not: docs/simulation.md. Traces: docs/traces.md."""

PLAN_USAGE = """usage: roofrack plan QUESTION [KEY=VALUE ...] [--config-dir DIR]

What to buy for some traffic, answered by simulations: words as of `roofrack simulate`, and

  chips                the least machines that keep the limits, of each deployment at each rate
  own                  from which traffic on machines cost less than an API
  tiers                fast, normal and slow service of the same machines: price, speed, users
  wait                 what waiting for others to join would save, and cost

  limits.ttft_s=X limits.tpot_s=X limits.share=0.95   what requests are promised; all but `wait`
                       need the first
  workload.arrivals_per_s=1,2,4      requests per second; `own` finds some, `tiers` the highest
  max_chips=N          chips, own: the most that may be used (1024)
  price.input=X price.output=X price.cached=X   own: what the API charges, USD per million tokens
  economics=own        any override: here machines are bought, not rented
  tiers.NAME.KEY=X     tiers: tpot_s and ttft_s promised, batch, wait_s of fast, normal, slow
  workload.wait_s=0,0.1,1            wait: seconds to compare
  traffic.seeds=N      show the deviation between runs with other random numbers

A promise is kept if enough requests have it, and the queue does not grow to the end of a run."""

SITE_USAGE = """usage: roofrack site [KEY=VALUE ...] [questions=a,b] [out=DIR] [export=png,svg,csv]
                     [--config-dir DIR]

All questions of conf/experiment, asked of your machine, model and traffic: a folder of pages that
need nothing but themselves, with an index.

  hardware=NAME model=NAME ...       overrides, as of `roofrack sweep`; each question takes those
                       that concern it, and sweeps what it asks about
  questions=NAME,...   only these, of conf/experiment or of your own folder (--config-dir)
  out=DIR              a new folder (outputs/site/DATE)
  export=png,svg,csv   charts and tables as files too

A question that cannot be asked of what is given is left out; the index says why."""

TIMELINE_USAGE = "OUT.json [KEY=VALUE ...] [--config-dir DIR]"

VERBS = {
    "search": Verb(
        "the best plan and batch under limits: roofrack search chips=N limits.tpot_s=X ...",
        "",
        _search,
    ),
    "simulate": Verb(
        "traffic on a deployment, request by request: percentiles and cost against load",
        "",
        _simulate,
    ),
    "plan": Verb(
        "least chips, own or API, tiers, waiting: roofrack plan chips|own|tiers|wait ...",
        "",
        _plan,
    ),
    "import": Verb(
        "a Hugging Face config.json as a conf/model file: roofrack import FILE > NAME.yaml",
        "FILE [name=NAME] > NAME.yaml",
        _import,
    ),
    "calibrate": Verb(
        "fit a calibration to runs or kernels of your own: roofrack calibrate FILE ...",
        "",
        _calibrate,
    ),
    "validate": Verb(
        "predictions against measured runs: roofrack validate [rows=silicon|service|...]",
        "[rows=shipped|silicon|published|training|service|all] [calibration=auto|NAME]"
        " [export=png,svg,csv] [out=DIR]",
        _validate,
    ),
    "site": Verb(
        "all questions as a folder of pages: roofrack site [hardware=NAME] [model=NAME] ...",
        "",
        _site,
    ),
    "timeline": Verb(
        "a training step as a trace for ui.perfetto.dev: roofrack timeline OUT.json ...",
        TIMELINE_USAGE,
        _timeline,
    ),
    "report": Verb(
        "make the report of a finished sweep again: roofrack report DIR [export=png,svg,csv]",
        "DIR [export=png,svg,csv]",
        _report,
    ),
}
"""In the order of the help."""
