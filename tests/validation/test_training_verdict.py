"""Training runs of `roofrack validate`: predicted together as alone, and judged from numbers."""

import math
import re
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from roofrack import api, cli, cost
from roofrack.config import compose
from roofrack.conversion import to_study
from roofrack.errors import InputError
from roofrack.report.render import render
from roofrack.report.validation import page
from roofrack.report.validation_text import text
from roofrack.validation import (
    published,
    runs,
    silicon,
    training_runs,
    training_table,
    training_verdict,
    verdict,
)
from roofrack.validation.composed import evaluated
from roofrack.validation.errors import with_errors
from roofrack.validation.intervals import with_intervals
from roofrack.validation.training import TrainingRow, training_rows
from roofrack.validation.training_table import FITTED_TO

ROWS = {row.id: row for row in training_rows()}
ALONE = ("korthikanti_t5_22b_full", "korthikanti_f1_22b_selective", "vtrain_multi_3")
SMALL = ("korthikanti_t5_22b", "korthikanti_f1_22b")
FEW = [
    *(row for row in ROWS.values() if row.id.startswith(SMALL) and not row.why_not),
    *(ROWS[f"vtrain_single_{run}"] for run in range(0, 1440, 60)),
    *(ROWS[f"vtrain_multi_{run}"] for run in range(9)),
]  # fmt: skip
"""Of four files of conf: composing each takes a while."""


@pytest.fixture(scope="module")
def lines() -> pl.DataFrame:
    return training_runs.training_lines(rows=FEW)


def of(found: pl.DataFrame, name: str) -> dict[str, object]:
    return found.filter(pl.col("id") == name).row(0, named=True)


# predictions


def estimated(row: TrainingRow) -> dict[str, float]:
    """What `roofrack point` would say of a run: composed and evaluated by itself."""
    with np.errstate(all="ignore"):
        columns = cost.estimate(to_study(compose(list(row.overrides))).grid())
    return {name: float(np.squeeze(value)) for name, value in columns.items()}


@pytest.mark.parametrize("name", ALONE)
def test_a_run_predicted_among_others_is_as_alone(lines: pl.DataFrame, name: str) -> None:
    row, line = ROWS[name], of(lines, name)
    alone = estimated(row)
    expected = alone[{"step_s": "step_s", "activation_bytes": "mem_activation_bytes"}[row.compared]]
    assert line["predicted"] == pytest.approx(expected, rel=1e-12)
    assert line["measured"] == row.measured
    assert line["error"] == pytest.approx(expected / row.measured - 1)
    assert line["log_ratio"] == pytest.approx(math.log(expected / row.measured))
    assert line["fits"] == (alone["fits"] > 0)
    assert line["chips"] == alone["chips"]
    if row.compared == "step_s":
        assert line["rel_std"] == pytest.approx(alone["step_s_rel_std"])
        # work done does not change with the speed at which it was done
        implied = alone["mfu"] * expected / row.measured
        assert line["flops_share"] == pytest.approx(implied)


def test_order_and_company_of_rows_do_not_matter(lines: pl.DataFrame) -> None:
    some = pl.DataFrame(
        [
            {"id": row.id, "overrides": " ".join(row.overrides)}
            for row in FEW[::-1]
            if row.group == "vtrain_multi"
        ]
    )
    found = evaluated(some)
    again = dict(zip(some["id"], found["step_s"], strict=True))
    for name, step in again.items():
        assert of(lines, name)["predicted"] == step
    assert len(set(again.values())) == len(again)


def test_a_run_that_lacks_something_stays_with_its_reason() -> None:
    kept, lacking = ROWS["korthikanti_t5_22b_full"], ROWS["opt_175b_992"]
    # 48 layers on one stage make no five virtual stages
    odd = kept._replace(
        id="odd",
        overrides=tuple(
            {"parallelism.virtual_stages=1": "parallelism.virtual_stages=5"}.get(o, o)
            for o in kept.overrides
        ),
    )
    found = training_runs.training_lines(rows=[lacking, kept, odd])
    assert found["id"].to_list() == [lacking.id, kept.id, "odd"]
    first, second, third = found.iter_rows(named=True)
    assert first["predicted"] is None and first["excluded"] == lacking.why_not
    assert second["predicted"] > 0 and second["excluded"] is None and second["counted"]
    assert third["predicted"] is None and "virtual stages" in third["excluded"]
    assert not first["counted"] and not third["counted"]
    told = training_verdict.left_out(found)
    assert told["rows"].sum() == 2 and set(told["group"]) == {lacking.group, kept.group}


def test_lines_go_into_one_table_with_published_facts(
    lines: pl.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = published.load().filter(pl.col("group") == "fastertransformer").head(1)
    monkeypatch.setattr(published, "load", lambda: facts)
    both = pl.concat([runs.published_lines(), lines.select(runs.LINES)])
    assert both.filter(pl.col("table") == training_runs.TABLE).height == len(FEW)
    shown = both.with_columns(drafting=pl.lit(False), reason=pl.lit(None, pl.String))
    found = verdict.judge("all", "auto", shown, {})
    assert found.facts.height + found.trained.height == both.height
    # groupings of serving runs and facts know nothing of training
    assert set(found.groups["mode"]) == {"published"}


def test_a_row_that_does_not_compose_is_named() -> None:
    row = ROWS["korthikanti_t5_22b_full"]
    bad = row._replace(id="bad", overrides=(*row.overrides, "workload.sequences=1"))
    with pytest.raises(InputError, match="bad"):
        training_runs.training_lines(rows=[bad])


# errors and targets, on made-up numbers


def made(rows: list[tuple[str, str, str, float]]) -> pl.DataFrame:
    """Return lines of (id, group, quantity, error), measured 2 each."""
    table = pl.DataFrame(
        [
            {"id": i, "origin": g, "quantity": q, "measured": 2.0, "predicted": 2.0 * (1 + e),
             "rel_std": None, "fits": e < 0.5, "excluded": None, "counted": True}
            for i, g, q, e in rows
        ],
        schema_overrides={"rel_std": pl.Float64, "excluded": pl.String},
    )  # fmt: skip
    return with_intervals(with_errors(table))


EIGHT = [
    (f"korthikanti_t5_{i}", "korthikanti_2022", "step_s", e)
    for i, e in enumerate([0.01, -0.02, 0.03, -0.04, 0.05, -0.06, 0.07, -0.08])
]
BIG = [(f"vtrain_single_{i}", "vtrain_single", "step_s", -0.5 + i / 1000) for i in range(21)]
OTHER = [("korthikanti_2240", "korthikanti_2022", "step_s", 0.9)]
MEMORY = [("a", "torchtitan", "peak_memory_bytes", 0.04), ("b", "x", "peak_memory_bytes", -0.06)]


def test_targets_are_judged_from_numbers() -> None:
    found = training_verdict.targets(made([*EIGHT, *BIG, *OTHER, *MEMORY]))
    told = {(r["target"].split(":")[0], r["target"].split(": ")[1]): r for r in found.to_dicts()}
    mean = told["Step time, eight runs of Korthikanti et al.", "mean error"]
    assert mean["rows"] == 8 and mean["found"] == pytest.approx(0.045)
    assert mean["met"] is False and mean["over"] == pytest.approx(0.01)
    assert mean["which"].startswith("korthikanti_t5_7 -8.0%") and "more" in mean["which"]
    worst = told["Step time, eight runs of Korthikanti et al.", "largest error"]
    assert worst["found"] == pytest.approx(0.08)
    every = told["Step time, all runs", "median error"]
    assert every["rows"] == 30 and every["found"] == pytest.approx(0.4865, abs=1e-3)
    assert every["which"].startswith("vtrain_single 49.0% of 21 too low")
    without = told["Step time, all runs but vTrain's on one node", "median error"]
    assert without["rows"] == 9 and without["found"] == pytest.approx(0.05)
    assert without["met"] is True and without["over"] is None and without["which"] == ""
    peak = told["Peak memory, measured", "largest error"]
    assert peak["found"] == pytest.approx(0.06) and peak["met"] is False
    counts = told["Activations, as Korthikanti et al. count them", "largest error"]
    assert counts["found"] is None and counts["met"] is None and counts["rows"] == 0


def test_the_limit_itself_is_met_and_the_sign_does_not_help() -> None:
    at = [(i, g, q, math.copysign(0.03, e)) for i, g, q, e in EIGHT]
    found = training_verdict.targets(made(at)).head(2)
    assert found["met"].to_list() == [True, True]
    assert found["found"].to_list() == pytest.approx([0.03, 0.03])
    farther = [*at[:7], ("korthikanti_t5_7", "korthikanti_2022", "step_s", -0.0801)]
    assert training_verdict.targets(made(farther))["met"].to_list()[:2] == [False, False]


def test_errors_tell_time_and_memory_and_groups_apart() -> None:
    found = training_verdict.errors(made([*EIGHT, *BIG, *OTHER, *MEMORY]))
    every = found.filter(pl.col("quantity") == "step_s", pl.col("group") == "all").row(
        0, named=True
    )
    assert every["rows"] == 30 and every["worst"] == pytest.approx(0.9)
    assert every["worst_id"] == "korthikanti_2240" and every["too_large"] == 1
    assert every["within"] == pytest.approx(8 / 30)
    sizes = found.filter(pl.col("by") == "group", pl.col("quantity") == "step_s")
    assert dict(sizes.select("group", "rows").iter_rows()) == {
        "korthikanti_2022": 9, "vtrain_single": 21
    }  # fmt: skip
    assert sizes["rows"].sum() == every["rows"]
    memory = found.filter(pl.col("quantity") == "peak_memory_bytes")
    assert set(memory["group"]) == {"all", "torchtitan", "x"}  # vTrain has no memory to leave out
    counted = training_verdict.errors(made([("c", "k", "activation_bytes", 0.9)]))
    assert counted["too_large"].to_list() == [None, None]


def test_peers_are_set_beside_the_same_runs_only() -> None:
    found = training_verdict.peers(made([*EIGHT, *BIG, *OTHER, *MEMORY]))
    rows = {(r["tool"], r["set"], r["quantity"]): r for r in found.to_dicts()}
    calculon = rows["Calculon", "korthikanti", "step_s"]
    assert (calculon["mean"], calculon["worst"]) == (0.0365, 0.0887)
    assert calculon["rows_ours"] == 8 and calculon["mean_ours"] == pytest.approx(0.045)
    assert calculon["worst_ours"] == pytest.approx(0.08)
    assert rows["vTrain", "vtrain_single", "step_s"]["rows_ours"] == 21
    assert rows["SimuMax 1.2", None, "step_s"]["mean_ours"] is None
    for row in rows.values():
        assert row["set"] is None or row["set"] in training_verdict.SETS
        assert re.search(r"arXiv:|doi:|@[0-9a-f]{12}", row["source"]) and row["notes"]


def test_sets_are_named_and_the_eight_are_eight() -> None:
    assert set(training_verdict.SETS) == set(training_verdict.SET_WORDS)
    table = pl.DataFrame([{"id": row.id, "origin": row.group} for row in ROWS.values()])
    assert table.filter(training_verdict.SETS["korthikanti"]).height == 8
    apart = [table.filter(training_verdict.SETS[n]).height for n in list(training_verdict.SETS)[:3]]
    assert apart[0] == apart[1] + apart[2] == len(ROWS)


# the verb


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    lacking = [ROWS["opt_175b_992"]]
    monkeypatch.setattr(training_runs, "training_rows", lambda: [*FEW, *lacking])


def test_training_needs_no_package(
    few: None, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(silicon, "find_spec", lambda name: None)
    assert cli.main(["validate", "rows=training", f"out={tmp_path / 'v'}", "export=csv"]) == 0
    out = capsys.readouterr().out
    for words in ("Training runs: targets", "MISSED by", "SimuMax", "opt 2022", "overlap_pp=False"):
        assert words in out
    assert "TPOT" not in out and "Published facts" not in out
    stored = pl.read_parquet(tmp_path / "v" / "rows.parquet")
    assert stored.height == len(FEW) + 1 and set(stored["table"]) == {training_runs.TABLE}
    errors = pl.read_csv(tmp_path / "v" / "training_errors.csv")
    eight = stored.filter(pl.col("origin") == "korthikanti_2022")["error"].abs()
    row = errors.filter(pl.col("group") == "korthikanti_2022").row(0, named=True)
    assert (row["rows"], row["mean_abs"], row["worst"]) == pytest.approx(
        (2, eight.mean(), eight.max())
    )
    for name in training_verdict.Training._fields:
        assert (tmp_path / "v" / f"training_{name}.csv").is_file()
    assert (tmp_path / "v" / "export" / "training-parity.csv").is_file()


def test_page_and_text_say_what_was_found(lines: pl.DataFrame) -> None:
    shown = lines.select(runs.LINES).with_columns(
        drafting=pl.lit(False), reason=pl.lit(None, pl.String)
    )
    found = verdict.judge("training", "auto", shown, {})
    assert found.runs.is_empty() and found.facts.is_empty() and found.groups.is_empty()
    html = render(page(found))
    for words in ("every run of every group", "activations of Korthikanti", "What was assumed"):
        assert words in html
    made_page = page(found)
    assert len([f for f in made_page.findings if f.verdict == "contradicts"]) >= 1
    parity = next(f for s in made_page.sections for f in s.figures if f.key == "training-parity")
    axes = str(parity.chart.to_dict())
    assert "Measured step time (s, log)" in axes and "Predicted step time (s, log)" in axes
    assert set(parity.table["shown"]) == {"korthikanti 2022", "vtrain multi"}
    assert "Training runs: time of a step" in text(found)


def test_groups_without_assumptions_are_told_too() -> None:
    told = training_verdict.assumed(made([("a", "megatron_2021_zero3", "step_s", 0.1), *EIGHT]))
    zero3 = told.filter(pl.col("group") == "megatron_2021_zero3")
    assert zero3["key"].to_list() == [""] and zero3["why"].to_list() == ["nothing is assumed"]
    keys = told.filter(pl.col("group") == "korthikanti_2022")["key"].to_list()
    assert keys == list(training_table.groups()["korthikanti_2022"]["assumed"])


def test_rows_that_there_are_not_say_which_there_are() -> None:
    with pytest.raises(InputError, match="Did you mean 'training'"):
        api.validate("trainings")


@pytest.mark.slow
def test_every_published_run_is_predicted_or_says_why() -> None:
    found = verdict.verdict("training")
    assert found.trained.height == len(ROWS)
    assert found.trained["predicted"].is_null().to_list() == [
        why is not None for why in found.trained["excluded"]
    ]
    # half of vTrain's runs on one node are those that the pace of the host was fitted to
    fitted = (found.trained["excluded"] == FITTED_TO).sum()
    assert fitted == 720 and found.trained["predicted"].is_not_null().sum() > 2100 - fitted
