"""`roofrack advise` from outside: what it prints, its exit status, and that it writes nothing."""

import json
from pathlib import Path

import pytest

from roofrack import cli

SCENARIO = ("hardware=h100_sxm", "model=llama3_1_70b", "parallelism=pp4_tp8", "machines=none")


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_table_and_json_are_the_same_answer(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    assert cli.main(["advise", *SCENARIO]) == 0
    text = capsys.readouterr()
    assert cli.main(["advise", *SCENARIO, "format=json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert text.err == ""
    assert text.out.startswith("llama3_1_70b on h100_sxm, chips: 32, decode: $2.04/Mtoken")
    for number, one in enumerate(found["advices"], 1):
        assert f"\n{number}. {one['says']}\n" in text.out
        assert " ".join(one["overrides"]) in text.out
    assert "PP=4 is not needed" in text.out
    assert found["runs"] is True
    assert list(tmp_path.iterdir()) == []


def test_what_does_not_fit_is_answered_too(capsys: pytest.CaptureFixture[str]):
    assert cli.main(["advise", "parallelism=single", "machines=none"]) == 0
    assert "DOES NOT FIT" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["batch=1,8"], "roofrack: batch: an axis; advice is for one scenario, give one value"),
        (["hardware=b200,h200"], "roofrack: advise: 2 scenarios; give one value of each group"),
        (["format=jsn"], "format=jsn: allowed: table, json. Did you mean 'json'?"),
        (["machines=h20o"], "machines=h20o: allowed: all, none, "),
        (["parallelism.tp=7"], "this plan cannot run: parallelism.tp=7 does not divide"),
        (["batch=-1"], "batch=-1: "),
    ],
)
def test_bad_input_is_one_line(words: list[str], message: str, capsys: pytest.CaptureFixture[str]):
    assert cli.main(["advise", *words]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert message in said.err
    assert said.err.count("\n") == 1
