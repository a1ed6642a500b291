"""`roofrack validate` as a whole: on a few rows without the package, and on all with it."""

import importlib.util
import json
from pathlib import Path

import polars as pl
import pytest

from roofrack import cli
from roofrack.report.render import render
from roofrack.report.validation import page
from roofrack.report.validation_text import text
from roofrack.validation import collectives, protocol, published, runs, silicon, verdict
from roofrack.validation.composed import chosen, composed, given
from roofrack.validation.reasons import with_reasons

installed = importlib.util.find_spec("aiconfigurator_core") is not None


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three facts of one machine in place of all: composing each option takes a while."""
    facts = published.load().filter(pl.col("group") == "fastertransformer").head(3)
    monkeypatch.setattr(published, "load", lambda: facts)


def test_published_facts_need_no_package(
    few: None, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(silicon, "find_spec", lambda name: None)
    assert cli.main(["validate", "rows=published", f"out={tmp_path / 'v'}", "export=csv"]) == 0
    out = capsys.readouterr().out
    assert "Published facts" in out
    assert out.rstrip().endswith("report.html")
    rows = pl.read_parquet(tmp_path / "v" / "rows.parquet")
    assert rows.columns[: len(runs.LINES)] == list(runs.LINES)
    assert rows["log_ratio"].null_count() == 0
    facts = [published.predict(published.load()), collectives.predict(collectives.load())]
    assert rows["predicted"].to_list() == [p for table in facts for p in table["predicted"]]
    assert "collectives, dispatch_s" in out
    assert pl.read_csv(tmp_path / "v" / "errors.csv")["rows"].min() > 0
    assert "fastertransformer" in (tmp_path / "v" / "report.html").read_text()
    assert (tmp_path / "v" / "export" / "facts.csv").is_file()


def test_without_the_package_one_line_says_what_to_install(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(silicon, "find_spec", lambda name: None)
    assert cli.main(["validate"]) == 2
    err = capsys.readouterr().err
    assert "rows=published" in err
    assert "pip install" in err and "roofrack[silicon]" in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        ("rows=silicone", "did you mean"),
        ("calibration=h100_vlm", "did you mean"),
        ("export=pngg", "allowed: png, svg, csv"),
        ("row=all", "rows=..."),
        ("all", "rows=..."),
        ("out=", "out=..."),
    ],
)
def test_bad_arguments(argument: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["validate", argument]) == 2
    err = capsys.readouterr().err
    assert said.lower() in err.lower() and err.count("\n") == 1


def test_options_put_together_are_what_compose_makes() -> None:
    from roofrack.config import compose

    table = published.load()
    text = table.filter(pl.col("overrides").str.contains("model.heads"))["overrides"][0]
    assert composed(given(text), chosen([text])) == compose(text.split())


def invented() -> pl.DataFrame:
    """Runs of an invented table in the package's columns, through the project's own reader."""
    rows = []
    for number, (engine, clients, version) in enumerate(
        (e, n, v) for e in ("vllm", "trtllm") for n in (4, 16, 64) for v in ("1", "2")
    ):
        sizes = dict.fromkeys(
            f"{pool}_{size}"
            for pool in ("prefill", "decode")
            for size in ("batch_size", "num_workers", "tp_size", "pp_size", "attention_dp_size")
        )
        sizes |= dict.fromkeys(
            f"{pool}_moe_{size}"
            for pool in ("prefill", "decode")
            for size in ("tp_size", "ep_size")
        )
        rows.append(
            {
                "id": f"invented{number}",
                "silicon_data_source": f"source_file=2099.csv; silicon_concurrency={clients}",
                "backend": engine, "backend_version": version, "precision": "fp8",
                "model_path": "MiniMaxAI/MiniMax-M2.5", "system": "h200_sxm", "mode": "agg",
                "isl": 1000, "osl": 1000, "gemm_quant_mode": "fp8", "moe_quant_mode": "fp8",
                "batch_size": clients, "tp_size": 4, "pp_size": 1, "attention_dp_size": 1,
                "moe_tp_size": 4, "moe_ep_size": 1, **sizes,
                "silicon_ttft_ms": 100.0 + clients, "silicon_tpot_ms": 8.0 + clients / 10 + number,
            }
        )  # fmt: skip
    return pl.DataFrame(rows, infer_schema_length=None)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> verdict.Verdict:
    path = tmp_path_factory.mktemp("invented") / "sample.csv"
    invented().write_csv(path)
    rows = runs.predicted(silicon.silicon_rows(path))
    hosts = protocol.learn_all(rows)
    return verdict.judge("silicon", "auto", with_reasons(runs.lines(rows, hosts)), hosts)


def test_each_run_is_predicted_with_the_calibration_of_its_machine_and_engine(
    found: verdict.Verdict,
) -> None:
    assert set(found.runs["calibration"]) == {"h200_vllm", "h200_trtllm"}
    assert found.runs.height == 24  # TPOT and TTFT of twelve runs
    assert found.runs["log_ratio"].null_count() == 0
    # one setting in two versions of the engine has one prediction
    tpot = found.runs.filter(pl.col("quantity") == "tpot_s")
    assert (
        tpot.group_by("backend", "concurrency")
        .agg(pl.col("predicted").n_unique())["predicted"]
        .to_list()
        == [1] * 6
    )
    assert tpot.group_by("backend").agg(pl.col("half").n_unique())["half"].max() == 1


def test_page_and_text_say_what_was_found(found: verdict.Verdict, tmp_path: Path) -> None:
    printed = text(found)
    assert "MISSED" in printed or " met " in printed
    html = render(page(found))
    for words in ("Likely reasons of large errors", "Rows by rule", "noise"):
        assert words in html
    verdict.write(found, tmp_path)
    told = json.loads((tmp_path / "learnt.json").read_text())
    halves = told["halves"]
    assert not set(halves["learn"]) & set(halves["test"])
    assert sorted(halves["learn"] + halves["test"]) == sorted(set(found.counted["id"]))


@pytest.mark.skipif(
    not installed, reason="needs aiconfigurator-core: pip install roofrack[silicon]"
)
@pytest.mark.slow
def test_all_runs_of_the_package() -> None:
    found = verdict.verdict("silicon")
    assert found.coverage.filter(pl.col("mode") == "both")["share"].item() >= 0.9
    tpot = found.targets.filter(pl.col("target") == "TPOT, aggregated: median error")
    assert tpot["rows"].item() > 2000
    assert tpot["found"].item() < 0.15
