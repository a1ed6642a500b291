"""Evaluations per second of other tools, and of roofrack on the same questions; and their answers.

    python tests/bench_peers.py --install     # into build/peers: 3 GB, and a network
    python tests/bench_peers.py               # measures those that are there
    python tests/bench_peers.py --seconds 0   # answers only
    python tests/bench_peers.py --errors DIR  # from what `roofrack validate out=DIR` wrote

Each peer runs in its own virtual environment (tests/peers/speed_*.py); then roofrack evaluates the
same question: all plans of the same chips, with many batches and lengths, reduced on the fly. What
a peer answers to the questions of experiments/peers/questions.yaml is written down beside.
Writes dated tables and a chart, and the tables once more where the page of experiment=peers reads
them (experiments/peers).
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import bench_grid
import jax
import polars as pl
from polars import selectors as cs

from roofrack import caching, config, searching
from roofrack.conversion import to_study
from roofrack.experiments.peers.questions import PATH as ASKED
from roofrack.experiments.peers.questions import questions
from roofrack.searching import Choice
from roofrack.searching.found import whole
from roofrack.searching.scan import Pass, scan
from roofrack.searching.space import space

HOME = Path(__file__).resolve().parents[1]
SCRIPTS = HOME / "tests/peers"
POINTS = 2e8
OURS_S = 3.0
"""Points that roofrack is given on each question, and seconds after which it stops."""
LIMIT_S = 300
"""Seconds that a peer may take in all."""


class Question(NamedTuple):
    """What is asked, and how roofrack is asked the same."""

    text: str
    overrides: tuple[str, ...]
    chips: int
    length: str = bench_grid.CONTEXT
    trains: bool = False


H100 = ("hardware=h100_sxm", "dtype=fp8")
QUESTIONS = {
    "llama_decode": Question(
        "a decode step of Llama-3.1-70B, fp8, up to 8 H100", (*H100, "model=llama3_1_70b"), 8
    ),
    "llama_serve": Question(
        "Llama-3.1-70B served with 500 tokens of output, fp8, up to 8 H100",
        (*H100, "model=llama3_1_70b", "workload=chat", "workload.output=500"),
        8,
        "workload.prompt",
    ),
    "opt_decode": Question(
        "a decode step of OPT-175B, fp8, up to 8 H100", (*H100, "model=opt_175b"), 8
    ),
    "gpt3_prefill": Question(
        "a forward pass of GPT-3 175B, fp8, up to 32 H100",
        (*H100, "model=gpt3_175b", "workload=prefill"),
        32,
        "workload.prompt",
    ),
    "gpt3_train": Question(
        "a training step of GPT-3 175B, fp16, on 1,024 H100",
        (
            "hardware=h100_sxm",
            "dtype=fp16",
            "model=gpt3_175b",
            "workload=train",
            "workload.global_batch=4096",
            "workload.sequence=2048",
        ),
        1024,
        trains=True,
    ),
    "deepseek_decode": Question(
        "a decode step of DeepSeek-V3, fp8, up to 64 H100", (*H100, "model=deepseek_v3"), 64
    ),
    "one_chip": Question(
        "a decode step of Llama-3.1-8B, bf16, one H100",
        ("hardware=h100_sxm", "dtype=bf16", "model=llama3_1_8b"),
        1,
    ),
}


class Peer(NamedTuple):
    """A tool: its packages, and where its source is if it is none itself."""

    name: str
    packages: tuple[str, ...]
    source: str = ""
    commit: str = ""

    def home(self, folder: Path) -> Path:
        """Return where it is installed."""
        return folder / self.name

    def python(self, folder: Path) -> Path:
        """Return its interpreter."""
        return self.home(folder) / "bin" / "python"


PEERS = (
    Peer("aiconfigurator", ("aiconfigurator==0.12.0",)),
    Peer("genz", ("genz-llm==0.0.16",)),
    Peer("llm_analysis", ("llm-analysis==0.2.2",)),
    Peer("mlsysim", ("mlsysim==0.3.0",)),
    Peer(
        "calculon",
        ("numpy", "pandas", "psutil"),
        "https://github.com/calculon-ai/calculon",
        "caa4b11f8fe1fee3ba57adaacb7590d7deabd053",
    ),
    Peer(
        "epoch",
        ("numpy", "pandas", "statsmodels", "matplotlib", "scipy", "sympy", "tqdm"),
        "https://github.com/YafahEdelman/inference-economics",
        "c8808fb73d65e8656a458fcf184fce35704ba3e7",
    ),
)


class Row(NamedTuple):
    """A line of the table; rates are None and `skipped` says why where there are none."""

    peer: str
    version: str
    question: str
    what: str
    evaluations_per_s: float | None
    roofrack_per_s: float | None
    ratio: float | None
    skipped: str
    machine: str


class Answer(NamedTuple):
    """What a tool says to a point of a question, in SI units, or why it says nothing."""

    tool: str
    version: str
    question: str
    point: str
    what: str
    answer: float | None
    refused: str
    not_taken: str


def machine() -> str:
    """Describe this machine: processor, cores, memory, versions."""
    cpu = platform.processor() or platform.machine()
    told = Path("/proc/cpuinfo")
    if told.exists():
        lines = dict(line.split(":", 1) for line in told.read_text().splitlines() if ":" in line)
        about = {name.strip(): value.strip() for name, value in lines.items()}
        family = f"family {about.get('cpu family')} model {about.get('model')}"
        cpu = f"{about.get('model name', cpu)} ({family})"
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    return (
        f"{cpu}, {bench_grid.CORES} cores, {memory:.0f} GB, {jax.default_backend()}; "
        f"Python {platform.python_version()}, JAX {jax.__version__}, NumPy {version('numpy')}"
    )


def install(peer: Peer, folder: Path) -> None:
    """Make the virtual environment of a peer, and clone its source."""
    python = peer.python(folder)
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(peer.home(folder))], check=True)
    quiet = ["-m", "pip", "install", "-q", "--disable-pip-version-check"]
    subprocess.run([str(python), *quiet, *peer.packages], check=True)
    source = peer.home(folder) / "source"
    if peer.source and not source.exists():
        subprocess.run(["git", "clone", "-q", peer.source, str(source)], check=True)
        subprocess.run(["git", "-C", str(source), "checkout", "-q", peer.commit], check=True)


def asked(peer: Peer, folder: Path, seconds: float) -> list[dict[str, Any]] | str:
    """Return what the script of a peer measured, or why it did not."""
    python, source = peer.python(folder), peer.home(folder) / "source"
    if not python.exists() or (peer.source and not source.exists()):
        return "not installed: python tests/bench_peers.py --install"
    command = [str(python.absolute()), str(SCRIPTS / f"speed_{peer.name}.py")]
    command += ["--seconds", str(seconds)]
    command += ["--source", str(source.absolute())] if peer.source else []
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    with tempfile.TemporaryDirectory() as scratch:
        points = Path(scratch) / "points.json"
        points.write_text(json.dumps(to_answer()))
        command += ["--points", str(points)]
        try:
            run = subprocess.run(
                command, capture_output=True, text=True, timeout=LIMIT_S, cwd=scratch,
                env=env | {"MPLBACKEND": "Agg"},
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return f"took more than {LIMIT_S} s"
    if run.returncode:
        return (run.stderr.strip().splitlines() or ["no output"])[-1][:200]
    return [json.loads(line) for line in run.stdout.splitlines() if line.startswith("{")]


def to_answer() -> dict[str, list[dict[str, Any]]]:
    """Return the settings of each point of each question."""
    return {
        key: [{"point": point.name, **point.settings} for point in question.points]
        for key, question in questions().items()
    }


@cache
def ours(question: str) -> float:
    """Return evaluations per second of roofrack on a question, compiled before."""
    of = QUESTIONS[question]
    if of.trains:
        return training(of)
    it = bench_grid.case(
        of.overrides, POINTS, bench_grid.lanes_here(), of.length, chips=of.chips, up_to=True
    )
    run = jax.jit(it.function).lower(it.block()).compile()
    jax.block_until_ready(run(it.block()))
    told = bench_grid.streamed(run, it, OURS_S)
    return told.points / told.seconds


def training(of: Question) -> float:
    """Return evaluations per second of a search through all plans that train on these chips."""
    question = searching.asked((*of.overrides, f"chips={of.chips}"))
    around = space([Choice(to_study(config.compose(question.overrides)))], question)
    columns = ("step_s", "mem_total_bytes", "room", "usd_per_mtok", "why_invalid")
    over = Pass(whole, columns, around.grid)
    for timed in (False, True):
        begin = time.perf_counter()
        best = min(
            float(block.columns["step_s"].min()) for block in scan({0: around.cases[0]}, over)
        )
        spent = time.perf_counter() - begin
        assert timed or best > 0
    return around.plans * len(around.grid) / spent


def rows(peer: Peer, folder: Path, seconds: float, here: str) -> tuple[list[Row], list[Answer]]:
    """Measure a peer, and roofrack on the same questions; return the peer's answers too."""
    found = asked(peer, folder, seconds)
    if isinstance(found, str):
        return [Row(peer.name, "", "", "", None, None, None, found, here)], []
    answers = [_answer(peer, told) for told in found if "answer" in told]
    made = []
    for told in found:
        if "answer" in told:
            continue
        rate, mine = told["evaluations"] / told["seconds"], ours(told["question"])
        text = QUESTIONS[told["question"]].text
        made.append(
            Row(peer.name, told["version"], text, told["what"], rate, mine, mine / rate, "", here)
        )
    return made, answers


def _answer(peer: Peer, told: Mapping[str, Any]) -> Answer:
    value = told["answer"]
    given = {name: told[name] for name in Answer._fields if name in told and name != "answer"}
    return Answer(tool=peer.name, answer=value and float(f"{value:.6g}"), **given)


def of_grid(told: Mapping[str, Any], here: str) -> list[Row]:
    """Return the rows of NumPy on roofrack's own formulas, as bench_grid measured them."""
    made = []
    for overlap, one in told.items():
        mine = one["points"] / one["seconds"]
        text = f"decode of DeepSeek-V3, fp8, up to 72 GB200, {one['points']:,} points, {overlap}"
        for kind in ("flat", "broadcast"):
            rate = one[f"numpy_{kind}"]
            what = f"the same formulas, {kind}, {overlap}"
            made.append(
                Row("numpy", version("numpy"), text, what, rate, mine, mine / rate, "", here)
            )
    return made


def chart(table: pl.DataFrame) -> Any:
    """Return the chart of a table: both rates of each line, on a logarithmic axis."""
    import altair as alt

    named = table.drop_nulls("ratio").with_columns(
        name=pl.col("peer") + ": " + pl.col("what"),
    )
    order = named.sort("evaluations_per_s")["name"].to_list()
    long = pl.concat(
        [
            named.select("name", "question", rate=pl.col(column), tool=pl.lit(tool))
            for column, tool in (("evaluations_per_s", "peer"), ("roofrack_per_s", "roofrack"))
        ]
    )
    decades = [10.0**n for n in range(10)]
    return (
        alt.Chart(alt.Data(values=long.to_dicts()), height=alt.Step(18))
        .mark_point(filled=True, size=70)
        .encode(
            x=alt.X("rate:Q")
            .scale(type="log")
            .title("evaluations per second")
            .axis(format="~s", values=decades),
            y=alt.Y("name:N").sort(order).title(None).axis(labelLimit=420),
            color=alt.Color("tool:N").title(None),
        )
    )


FIGURES = {
    "points": "points", "seconds": "s", "points_per_s": "points/s", "peak_bytes": "bytes",
    "numpy_flat": "points/s", "numpy_broadcast": "points/s", "plans": "plans", "lanes": "plans",
    "made_s": "s", "traced_s": "s", "cold_compiled_s": "s", "compiled_s": "s",
    "cold_first_s": "s", "first_s": "s",
}  # fmt: skip
"""What bench_grid tells of a reading, and its unit."""


def grid_table(told: Mapping[str, Any], here: str) -> pl.DataFrame:
    """Return the figures of roofrack itself, a line each."""
    lines = []
    for overlap, one in told.items():
        rate = {"points_per_s": one["points"] / one["seconds"]}
        lines += [
            (overlap, name, float(f"{(one | rate)[name]:.4g}"), unit, here)
            for name, unit in FIGURES.items()
        ]
    names = ["overlap", "figure", "value", "unit", "machine"]
    return pl.DataFrame(lines, schema=names, orient="row")


def ship(table: pl.DataFrame, name: str, day: str) -> Path:
    """Write a table where the page reads it, with its day; return its path."""
    path = ASKED.with_name(f"{name}.csv")
    table.select(pl.lit(day).alias("date"), pl.all()).write_csv(path)
    return path


def write_answers(made: Sequence[Answer], folder: Path) -> list[Path]:
    """Write the answers under today's date, and where the page reads them; return the paths."""
    folder.mkdir(parents=True, exist_ok=True)
    table = pl.DataFrame(made, schema=Answer._fields, orient="row", infer_schema_length=None)
    day = time.strftime("%Y-%m-%d")
    path = folder / f"{day}-answers.csv"
    table.write_csv(path)
    return [path, ship(table, "answers", day)]


def write(
    made: Sequence[Row], folder: Path, told: Mapping[str, Any], every: bool = True
) -> list[Path]:
    """Write tables and chart under today's date; return their paths.

    The table of `every` peer is written where the page reads it, too.
    """
    import vl_convert

    from roofrack.report.export import static_spec
    from roofrack.report.specs import VEGA_LITE

    folder.mkdir(parents=True, exist_ok=True)
    table = pl.DataFrame(made, schema=Row._fields, orient="row", infer_schema_length=None)
    floats = pl.col("evaluations_per_s", "roofrack_per_s", "ratio").cast(pl.Float64)
    table = table.with_columns(floats.round_sig_figs(3))
    day = time.strftime("%Y-%m-%d")
    paths = [folder / f"{day}.{kind}" for kind in ("csv", "svg")]
    table.write_csv(paths[0])
    svg = vl_convert.vegalite_to_svg(
        static_spec(chart(table)), vl_version=VEGA_LITE, allowed_base_urls=[]
    )
    paths[1].write_text(svg, encoding="utf-8")
    if told:
        paths.append(paths[0].with_stem(f"{paths[0].stem}-grid"))
        grid_table(told, made[0].machine).write_csv(paths[2])
    return [*paths, ship(table, "rates", day)] if every else paths


def main() -> None:
    """Install or measure, print and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--peers", type=Path, default=HOME / "build/peers", help="where they are")
    parser.add_argument("--only", nargs="+", choices=[peer.name for peer in PEERS])
    parser.add_argument("--install", action="store_true")
    parser.add_argument(
        "--seconds", type=float, default=5.0, help="for each call of a peer; 0: answers only"
    )
    parser.add_argument("--grid", type=Path, help="what bench_grid --json wrote")
    parser.add_argument("--errors", type=Path, help="where `roofrack validate` wrote")
    parser.add_argument("--out", type=Path, default=HOME / "docs/bench")
    chosen = parser.parse_args()
    peers = [peer for peer in PEERS if not chosen.only or peer.name in chosen.only]
    if chosen.install:
        for peer in peers:
            install(peer, chosen.peers)
        return
    if chosen.errors:
        for kind, name in (("peers", "errors_served"), ("training_peers", "errors_trained")):
            table = pl.read_csv(chosen.errors / f"{kind}.csv", infer_schema_length=None)
            shown = table.with_columns(cs.float().round_sig_figs(4))
            print(ship(shown, name, time.strftime("%Y-%m-%d")))
        return
    caching.keep_compiled()  # what a search compiles is found again by the next one
    here = machine()
    print(here)
    told = json.loads(chosen.grid.read_text()) if chosen.grid else {}
    made, answers = of_grid(told, here), list[Answer]()
    for peer in peers:
        measured, said = rows(peer, chosen.peers, chosen.seconds, here)
        made, answers = made + measured, answers + said
    for row in made:
        if row.ratio is None:
            print(f"{row.peer:15} skipped: {row.skipped}")
        else:
            print(
                f"{row.peer:15}{row.what:40}{row.evaluations_per_s:12.3g}/s  roofrack "
                f"{row.roofrack_per_s:9.3g}/s {row.ratio:12,.0f} times  {row.question}"
            )
    if any(row.ratio is not None for row in made):
        print(*write(made, chosen.out, told, every=not chosen.only), sep="\n")
    if answers and not chosen.only:
        print(*write_answers(answers, chosen.out), sep="\n")


if __name__ == "__main__":
    main()
