"""`roofrack timeline`: what it prints and writes, and what it refuses to write over."""

import json
import re
from pathlib import Path

import pytest

from roofrack import cli
from roofrack.errors import InputError
from roofrack.timelines import write

STEP = ["workload=train", "model=llama3_1_70b", "parallelism=train_tp8_pp8"]
SMALL = [*STEP, "workload.global_batch=8"]


def ran(*words: str) -> int:
    return cli.main(["timeline", *words])


def test_it_writes_a_trace_and_says_where_to_open_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    old = '{"roofrack":{"made_by":"roofrack timeline"},"traceEvents":[]}'
    (tmp_path / "step.json").write_text(old)  # a trace of its own is replaced
    assert ran("step.json", *SMALL) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    for words in ("1f1b, stages: 8, micro-batches: 8", "idle", "held", "slowest stage: 7"):
        assert words in printed.out
    assert printed.out.splitlines()[-1].startswith("step.json: open it in ui.perfetto.dev")
    assert [path.name for path in tmp_path.iterdir()] == ["step.json"]
    written = (tmp_path / "step.json").read_text()
    assert json.loads(written)["otherData"]["schedule"] == "1f1b"
    assert ran("step.json", *SMALL) == 0
    assert (tmp_path / "step.json").read_text() == written, "the same words, the same bytes"


@pytest.mark.parametrize("content", ["", '{"traceEvents":[]}', "notes"])
def test_no_other_file_is_replaced(
    content: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "mine.json"
    path.write_text(content)
    assert ran(str(path), *SMALL) == 2
    assert f"{path}: is there, and is not a trace" in capsys.readouterr().err
    assert path.read_text() == content


BAD = [
    ([], "timeline takes the file to write first"),
    (STEP, "timeline takes the file to write first"),
    (["step.txt", *STEP], "step.txt: the file to write comes first, and its name ends in .json"),
    (["nowhere/step.json", *STEP], "nowhere/step.json: no such folder: nowhere"),
    (["a.json/step.json", *STEP], "a.json/step.json: no such folder: a.json"),
    (["folder.json", *STEP], "folder.json: is a folder"),
    (["step.json"], "workload.phase=decode: a timeline shows a training step"),
    (["step.json", *STEP, "parallelism.dp=1,2"], "parallelism.dp has 2 values"),
    (["step.json", *STEP, "model=llama3_1_8b,llama3_1_70b"], "2 scenarios; a timeline shows one"),
    (["step.json", *STEP, "modle=x"], "modle=x: no such key"),
    (["step.json", *STEP, "--cfg=job"], "flags --help and --config-dir only"),
]


@pytest.mark.parametrize(("words", "message"), BAD, ids=[m[:40] for _, m in BAD])
def test_bad_input_is_one_line_and_nothing_is_written(
    words: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.json").write_text("x")
    (tmp_path / "folder.json").mkdir()
    assert ran(*words) == 2
    printed = capsys.readouterr()
    assert (printed.out, printed.err.count("\n")) == ("", 1)
    assert message in printed.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.json", "folder.json"]


def test_what_the_system_refuses_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("roofrack.timelines.files.write_text", full)
    with pytest.raises(InputError, match=r"step\.json: cannot be written \(Permission denied\)"):
        write(tmp_path / "step.json", {"traceEvents": []})


def test_help_says_how_it_is_called(capsys: pytest.CaptureFixture[str]) -> None:
    assert ran("--help") == 0
    assert capsys.readouterr().out.startswith("usage: roofrack timeline OUT.json [KEY=VALUE ...]")


def test_the_readme_shows_what_it_prints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    readme = (Path(__file__).resolve().parents[2] / "README.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```console\n\$ roofrack timeline (.*?)```", readme, flags=re.S)
    command, _, output = block.replace("\\\n", " ").partition("\n")
    monkeypatch.chdir(tmp_path)
    assert ran(*command.split()) == 0
    shown = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert shown == output.rstrip().splitlines()
