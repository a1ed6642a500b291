"""The command line from outside: what goes to stdout, what to stderr, and the exit status."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

LIB = Path(__file__).resolve().parents[2] / "lib"


def roofrack(*arguments: str, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join(filter(None, [str(LIB), os.environ.get("PYTHONPATH")]))
    return subprocess.run(
        [sys.executable, "-m", "roofrack", *arguments],
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": path, **env},
        timeout=120,
    )


def test_help_names_the_verbs_that_are_there(tmp_path: Path):
    run = roofrack("--help", cwd=tmp_path)
    assert (run.returncode, run.stderr) == (0, "")
    assert all(
        f"  {verb} " in run.stdout
        for verb in ("point", "sweep", "advise", "simulate", "plan", "report")
    )
    assert roofrack(cwd=tmp_path).stdout == run.stdout


def test_help_imports_neither_hydra_nor_anything_heavy(tmp_path: Path):
    code = (
        "import sys; from roofrack.cli import main; main(['--help']); "
        "print(*(set(sys.modules) & {'hydra', 'omegaconf', 'jax', 'polars', 'altair', 'numpy'}))"
    )
    run = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(LIB)},
        check=True,
    )
    assert run.stdout.splitlines()[-1] == ""


def test_version(tmp_path: Path):
    run = roofrack("--version", cwd=tmp_path)
    assert run.returncode == 0
    assert run.stdout.startswith("roofrack ")


@pytest.mark.parametrize("verb", ["point", "sweep", "advise"])
def test_help_of_a_verb_lists_groups_keys_and_flags(verb: str, tmp_path: Path):
    run = roofrack(verb, "--help", cwd=tmp_path)
    assert (run.returncode, run.stderr) == (0, "")
    assert "hardware: a100_40gb, a100_80gb, " in run.stdout
    assert "hbm_bytes_per_s: " in run.stdout
    assert "--config-dir" in run.stdout
    assert "roofrack_schema" not in run.stdout
    assert list(tmp_path.iterdir()) == []


def test_cfg_shows_the_job_with_axes_as_lists(tmp_path: Path):
    run = roofrack("sweep", "--cfg", "job", "batch=1,2", "racks=range(1,4)", cwd=tmp_path)
    assert (run.returncode, run.stderr) == (0, "")
    assert "batch:\n- 1\n- 2\n" in run.stdout
    assert "racks: ${range:1,4,1}" in run.stdout
    several = roofrack("point", "--cfg", "job", "hardware=b200,h800", cwd=tmp_path)
    assert several.stdout.count("\n---\n") == 1
    resolved = roofrack("point", "batch=range(1,3)", "--cfg=job", "--resolve", cwd=tmp_path)
    assert "batch:\n- 1\n- 2\n" in resolved.stdout


def test_info_shows_where_the_configuration_comes_from(tmp_path: Path):
    run = roofrack("point", "--info", "searchpath", "--config-dir", str(tmp_path), cwd=tmp_path)
    assert run.returncode == 0
    assert f"file://{tmp_path}" in run.stdout


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (
            "roofrack ",
            "point sweep advise search simulate plan import calibrate validate site timeline "
            "report",
        ),
        ("roofrack po", "point"),
        ("roofrack point hardware=h100_s", "hardware=h100_sxm"),
        ("roofrack sweep workload.ph", "workload.phase="),
        ("roofrack advise hardware=h100_s", "hardware=h100_sxm"),
        ("roofrack report ", ""),
    ],
)
def test_shell_completion(line: str, words: str, tmp_path: Path):
    run = roofrack("-sc", "query=bash", cwd=tmp_path, COMP_LINE=line)
    assert (run.returncode, run.stdout.strip()) == (0, words)


LONG = "batch=[" + ",".join(map(str, range(10_000))) + "]"

BAD = [
    (
        ["pont"],
        "pont: no such verb; allowed: point, sweep, advise, search, simulate, plan, import, "
        "calibrate, validate, site, timeline, report. Did you mean 'point'?",
    ),
    (["point", "hardware=h1000_sxm"], "Did you mean 'h100_sxm'?"),
    (["point", "hardwre=b200"], "hardwre=b200: no such key"),
    (["sweep", "hardware.hbm_byte=1,2"], "Did you mean 'hardware.hbm_bytes'?"),
    (["sweep", "hydra/launcher=nothing"], "hydra/launcher=nothing: no such hydra/launcher"),
    (["point", "hydra/launcher=nothing"], "hydra/launcher=nothing: no such hydra/launcher"),
    (["point", LONG], "10000 values spelled out; allowed: 1000; write a longer axis as ${range:"),
    (["sweep", LONG.replace("[", "").replace("]", "")], "${linear:lo,hi,n} or ${geom:lo,hi,n}"),
    (["point", "batch=geom(1,64,7)"], "write 'batch=${geom:1,64,7}'"),
    (["point", "b200"], "b200: not an override; write key=value"),
    (["point", "batch=[1"], "batch=[1: not a legal override"),
    (["point", "format=jsn"], "format=jsn: allowed: table, json. Did you mean 'json'?"),
    (["sweep", "precision=float16"], "precision=float16: allowed: float32, float64."),
    (["point", "overlap=smoth"], "overlap=smoth"),
    (["point", "workload.phase=decod"], "Did you mean 'decode'?"),
    (["point", "batch=-1"], "batch=-1: "),
    (["point", "batch=0"], "batch=0: "),
    (["point", "batch=nan"], "batch=nan: "),
    (["sweep", "batch=1,-1"], "batch=-1: "),
    (["point", "batch=many"], "batch='many': "),
    (["point", "--nope"], "unrecognized arguments: --nope; allowed flags: --help"),
    (["point", "--config-dir", "nowhere"], "--config-dir nowhere: no such folder"),
    (["point", "--cfg", "job", "batch="], "batch=: no value"),
    (["point", "--shell-completion"], "takes one of install=bash"),
    (["sweep", "hydra.sweep.dir=/proc/nowhere"], "/proc/nowhere"),
    (["report"], "report takes one folder"),
    (["report", "nowhere"], "report nowhere: no such folder"),
    (["report", ".", "exprt=png"], "exprt=png: allowed: export=.... Did you mean 'export'?"),
    (["report", ".", "export=pgn"], "export=pgn: allowed: png, svg, csv. Did you mean 'png'?"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD, ids=[" ".join(a)[:40] for a, _ in BAD])
def test_bad_input_is_one_line_and_status_2(arguments: list[str], message: str, tmp_path: Path):
    run = roofrack(*arguments, cwd=tmp_path)
    assert (run.returncode, run.stdout) == (2, "")
    assert run.stderr.startswith("roofrack: ")
    assert run.stderr.count("\n") == 1, run.stderr
    assert message in run.stderr
    assert list(tmp_path.iterdir()) == []


def test_the_traceback_is_there_for_who_asks(tmp_path: Path):
    run = roofrack("point", "hardware=nothing", cwd=tmp_path, HYDRA_FULL_ERROR="1")
    assert run.returncode == 2
    assert "Traceback" in run.stderr


def test_an_interrupt_ends_quietly(tmp_path: Path):
    with subprocess.Popen(
        [sys.executable, "-m", "roofrack", "sweep", "batch=1,2"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(LIB)},
    ) as run:
        assert run.stderr is not None
        run.stderr.readline()  # "Launching 1 jobs locally"
        run.send_signal(signal.SIGINT)
        out, err = run.communicate()
    assert (run.returncode, out) == (-signal.SIGINT, "")  # a shell shows it as 130
    assert "Traceback" not in err and "roofrack:" not in err


def test_a_closed_pipe_ends_quietly(tmp_path: Path):
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as closed:
        run = subprocess.run(
            [sys.executable, "-m", "roofrack", "--help"],
            stdout=closed,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(LIB)},
        )
    assert (run.returncode, run.stderr) == (141, "")
