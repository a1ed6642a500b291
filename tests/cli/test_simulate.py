"""`roofrack simulate` and `roofrack plan` from the command line, and the page in a browser."""

import json
from pathlib import Path

import polars as pl
import pytest

from roofrack import cli

WORDS = ("hardware=h100_sxm", "model=llama3_1_8b", "parallelism=single", "batch=32",
         "traffic.requests=200", "limits.ttft_s=0.5", "limits.tpot_s=0.02")  # fmt: skip


def test_a_simulation_prints_writes_and_can_be_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    asked = ["simulate", *WORDS, "traffic=azure_2023_conv", "traffic.speed=0.5,2", "out=one"]
    assert cli.main(asked) == 0
    printed = capsys.readouterr()
    assert printed.err == "" and "one/report.html" in printed.out
    assert "200 requests a run, azure_2023_conv" in printed.out and "Closed forms" in printed.out
    assert cli.main([*asked[:-1], "out=two"]) == 0
    for name in ("rows", "requests", "series", "most"):
        first, second = (pl.read_parquet(tmp_path / f / f"{name}.parquet") for f in ("one", "two"))
        assert first.equals(second) and first.height > 0
    told = json.loads((tmp_path / "one" / "run.json").read_text())
    assert "traffic=azure_2023_conv" in told["asked"] and "out=one" not in told["asked"]
    page = (tmp_path / "one" / "report.html").read_text()
    assert str(tmp_path) not in page and "under load" in page


BAD_TRACES = {
    "no_such.csv": (None, "no_such.csv"),
    "empty.csv": ("", "empty"),
    "head.csv": ("arrival_s,prompt,output\n", "no rows"),
    "names.csv": ("arrival,prompt,output\n0,1,1\n", "arrival_s"),
    "words.csv": ("arrival_s,prompt,output\n0,ten,1\n", "ten"),
    "none.csv": ("arrival_s,prompt,output\n0,0,5\n1,-3,5\n", "prompt"),
    "broken.jsonl": ('{"timestamp": 0,\n', "line"),
    "trace.txt": ("0,1,1\n", ".csv"),
}


@pytest.mark.parametrize("name", BAD_TRACES)
def test_a_bad_trace_is_one_line_and_leaves_nothing(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    content, told = BAD_TRACES[name]
    if content is not None:
        (tmp_path / name).write_text(content)
    assert cli.main(["simulate", *WORDS, f"traffic={name}", "out=bad"]) == 2
    printed = capsys.readouterr()
    assert printed.out == "" and printed.err.count("\n") == 1 and told in printed.err
    assert not (tmp_path / "bad").exists()


def test_rows_that_are_no_requests_are_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trace = tmp_path / "some.csv"
    rows = ["5,100,10", "0,50,0", "1,-4,10", "2,80,nan", "0.5,100,20", "3,70,30"]
    trace.write_text("arrival_s,prompt,output\n" + "\n".join(rows) + "\n")
    out = tmp_path / "run"
    assert cli.main(["simulate", *WORDS, f"traffic={trace}", f"out={out}"]) == 0
    printed = capsys.readouterr().out
    assert "3 requests a run" in printed and "rows left out: " in printed
    assert pl.read_parquet(out / "requests.parquet")["output"].to_list() == [20, 30, 10]


def test_a_plan_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["plan", "chips", *WORDS, "workload.arrivals_per_s=5"]) == 0
    assert "Least machines" in capsys.readouterr().out
    assert cli.main(["plan", "chip", *WORDS]) == 2
    assert "Did you mean 'chips'?" in capsys.readouterr().err


@pytest.mark.slow
def test_the_page_draws_in_a_browser(tmp_path: Path) -> None:
    import browser

    out = tmp_path / "run"
    words = [*WORDS, "workload.arrivals_per_s=2,6,12", "engine.policy=chunked,prefill_first"]
    assert cli.main(["simulate", *words, f"out={out}"]) == 0
    with browser.open_page(out / "report.html") as tab:
        assert tab.evaluate("document.querySelectorAll('.chart svg').length") >= 5
        for width in (400, 1600):
            tab.look(width, dark=width == 400)
            assert tab.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
        assert tab.console == [] and tab.requests == []
