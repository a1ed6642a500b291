"""Factors fitted to end-to-end runs: planted ones are found, and every bad file says what is wrong.

The "measurements" of these tests are the model's own predictions under a changed calibration.
"""

import math
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import yaml

import roofrack
from roofrack import cli, config
from roofrack.conversion import to_study
from roofrack.cost import estimate
from roofrack.errors import InputError
from roofrack.fitting.factors import FACTORS, changed, widths
from roofrack.fitting.measurements import load
from roofrack.fitting.own import _duals, factors, fit_own
from roofrack.fitting.scenes import predictions, scenes
from roofrack.leaves import plain, put

BASE = "default"
SAMPLE = Path(__file__).resolve().parents[2] / "docs" / "samples" / "serving.csv"
PLANTED = {
    "compute": 0.8, "memory": 0.9, "launch": 1.5, "link": 0.8, "step": 5e-4, "layer": 1.2,
}  # fmt: skip


def runs(sizes=(1, 8, 64, 256), degrees=(1, 8), contexts=(1000, 16000)) -> pl.DataFrame:
    """Decode passes of two models, measured by a model whose factors are those planted."""
    rows = [
        {"model": m, "parallelism.tp": tp, "batch": b, "context": c}
        for m in ("llama3_1_8b", "llama3_1_70b")
        for tp in degrees
        for b in sizes
        for c in contexts
    ]
    frame = pl.DataFrame(rows).with_columns(hardware=pl.lit("h100_sxm"))
    return frame.with_columns(tpot_ms=1e3 * said(frame, PLANTED))


def said(frame: pl.DataFrame, by: dict[str, float]) -> pl.Series:
    """What the model says of the rows under factors."""
    m = load(frame.with_columns(tpot_s=pl.lit(1.0)))
    return pl.Series(predictions(scenes(m, BASE), m.observed, by)[0])


def fitted(frame: pl.DataFrame, **other):
    return fit_own(frame, base=BASE, **other)


@pytest.fixture(scope="module")
def many():
    return fitted(runs())


def test_planted_factors_are_found_within_their_errors(many):
    for name, value in many.factors.items():
        planted = PLANTED[name]
        off = value.value - planted if FACTORS[name].added else math.log(value.value / planted)
        assert abs(off) < 2.5 * value.std, (name, value)
        assert value.std <= value.prior_std * 1.0001
    assert many.errors["before"].abs().median() > 0.1
    assert many.errors["after"].abs().max() < 0.03
    # what the runs tell about is known better than before
    assert many.factors["memory"].std < 0.3 * many.factors["memory"].prior_std
    assert many.factors["step"].std < 0.5 * many.factors["step"].prior_std


def test_noise_is_found_as_scatter_and_left_out_rows_show_it():
    rng = np.random.default_rng(4)
    frame = runs()
    noisy = frame.with_columns(tpot_ms=pl.col("tpot_ms") * np.exp(0.05 * rng.normal(size=32)))
    found = fitted(noisy)
    assert 0.04 < found.scatter < 0.09  # 5 of 37 observations are the prior's 10 %
    inside, outside = (found.errors[n].pow(2).mean() for n in ("after", "left_out"))
    assert outside > inside


def test_leaving_a_row_out_is_what_a_fit_without_it_says():
    rng = np.random.default_rng(5)
    frame = runs(sizes=(1, 64), contexts=(1000,))
    noisy = frame.with_columns(tpot_ms=pl.col("tpot_ms") * np.exp(0.05 * rng.normal(size=8)))
    found = fitted(noisy)
    worst = int(found.errors["left_out"].abs().arg_max())
    rest = fitted(noisy.filter(pl.int_range(8) != worst))
    by = {name: value.value for name, value in rest.factors.items()}
    alone = noisy[worst : worst + 1]
    error = said(alone.drop("tpot_ms"), by)[0] / (alone["tpot_ms"][0] * 1e-3) - 1.0
    assert found.errors["left_out"][worst] == pytest.approx(error, rel=0.3)


def test_three_rows_stay_near_what_was_known():
    frame = runs(sizes=(8,), degrees=(8,), contexts=(1000,)).with_columns(
        tpot_ms=pl.Series([1.0, 3.0]) * pl.col("tpot_ms")
    )
    found = fit_own(pl.concat([frame, frame[:1]]), base="h100_sxm_trtllm")
    for name, value in found.factors.items():
        off = value.value if FACTORS[name].added else math.log(value.value)
        assert abs(off) < 2.5 * value.prior_std
        assert value.std > 0.3 * value.prior_std


def test_the_order_of_rows_does_not_matter(many):
    again = fitted(runs().sample(fraction=1.0, shuffle=True, seed=1))
    for name, value in again.factors.items():
        assert value.value == pytest.approx(many.factors[name].value, rel=1e-4, abs=1e-8)


def test_milliseconds_and_seconds_agree_and_remarks_are_not_read(many):
    seconds = runs().with_columns(tpot_s=pl.col("tpot_ms") / 1e3, source=pl.lit("here, there"))
    again = fitted(seconds.drop("tpot_ms"))
    for name in FACTORS:
        assert again.factors[name].value == pytest.approx(many.factors[name].value, rel=1e-6)


def test_a_rate_tells_what_a_time_tells(many):
    frame = runs()
    rate = frame.with_columns(tokens_per_s_per_user=1e3 / pl.col("tpot_ms")).drop("tpot_ms")
    again = fitted(rate)
    for name in FACTORS:
        assert again.factors[name].value == pytest.approx(many.factors[name].value, rel=1e-4)


def test_an_outlier_hardly_moves_the_factors(many):
    frame = runs().with_columns(
        tpot_ms=pl.when(pl.int_range(32) == 3).then(9.0).otherwise(1.0) * pl.col("tpot_ms")
    )
    found = fitted(frame)
    for name in ("memory", "compute"):
        off = math.log(found.factors[name].value / many.factors[name].value)
        assert abs(off) < 0.15


def test_derivatives_are_those_of_finite_differences():
    m = load(runs(sizes=(8,), contexts=(1000,)))
    s = scenes(m, BASE)
    width = widths(s.first)
    at = np.array([-0.3, -0.2, 0.4, -0.5, 0.3, 0.2])  # not where an efficiency reaches 1
    _, slope = predictions(s, m.observed, _duals(at, width))
    for i in range(len(FACTORS)):
        step = 1e-5 * np.eye(len(FACTORS))[i]
        up, down = (predictions(s, m.observed, factors(at + d, width))[0] for d in (step, -step))
        np.testing.assert_allclose(slope[:, i], (up - down) / 2e-5, rtol=1e-4, atol=1e-12)


def test_efficiencies_stay_within_1_and_times_above_0():
    scenario = plain(to_study(config.compose([f"calibration={BASE}"])).grid())
    leaves = changed(scenario, dict.fromkeys(FACTORS, 9.0) | {"step": -1.0})
    assert leaves["calibration.step_s"] == 0.0
    for path, value in leaves.items():
        if path.endswith("efficiency"):
            assert value == 1.0
    slower = put(scenario, changed(scenario, PLANTED))
    assert estimate(slower)["step_s"] > estimate(scenario)["step_s"]


def test_the_file_composes_and_gives_the_fitted_predictions(many, tmp_path):
    done = roofrack.calibrate(runs(), name="mine", base=BASE)
    path = done.write(tmp_path)
    assert path == tmp_path / "calibration" / "mine.yaml"
    written = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert written["name"] == "mine"
    assert written["fits"]["own"]["points"] == 32
    assert len(written["fits"]["own"]["covariance"].split()) == 21
    assert not list(tmp_path.rglob("*.part"))
    row = runs()[5]
    overrides = [f"{k}={row[k][0]}" for k in row.columns if k != "tpot_ms"]
    asked = config.compose([*overrides, "calibration=mine"], tmp_path)
    step = float(estimate(to_study(asked).grid())["tpot_s"])
    expected = row["tpot_ms"][0] / 1e3 * (1.0 + many.errors["after"][5])
    assert step == pytest.approx(expected, rel=1e-3)


def test_the_error_bar_adds_nothing_where_kernels_state_more_than_the_scatter(many):
    assert many.calibration["step_rel_std"] == 0 < many.scatter


def test_the_sample_that_ships_is_fitted(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["calibrate", str(SAMPLE), f"base={BASE}", "name=mine"]) == 0
    printed = capsys.readouterr().out
    assert "16 measurements of serving.csv, starting from calibration=default" in printed
    assert "roofrack point --config-dir . calibration=mine" in printed
    record = yaml.safe_load((tmp_path / "calibration" / "mine.yaml").read_text())["fits"]["own"]
    assert record["median_left_out"] < record["median_before"]
    head = (tmp_path / "calibration" / "mine.yaml").read_text().splitlines()[1]
    assert head.strip("# ") == f"roofrack calibrate {SAMPLE} base={BASE} name=mine"


GOOD = "hardware,model,batch,tpot_ms\nh100_sxm,llama3_1_70b,8,20\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("hardware,modle,tpot_ms\nh100_sxm,llama3_1_8b,9\n", "'modle' is neither a key nor"),
        ("hardware,modle,tpot_ms\nh100_sxm,llama3_1_8b,9\n", "Did you mean 'model'?"),
        ("batch,tpto_ms\n8,9\n", "Did you mean 'tpot_ms'?"),
        ("batch\n8\n", "no column says what was measured"),
        ("batch,tpot_ms\n", "has a header and no rows"),
        ("", "cannot be read"),
        ("batch,tpot_ms\n8,fast\n", "row 1: tpot_ms is 'fast', not a number"),
        ("batch,tpot_ms\n8,9\n8,-1\n", "row 2: tpot_ms=-1: measured is a number above 0"),
        ("batch,tpot_ms\n8,0\n", "row 1: tpot_ms=0: measured is a number above 0"),
        ("batch,tpot_ms\n8,nan\n", "row 1: tpot_ms=nan: measured"),
        ("batch,tpot_ms\n8,9\n16,\n", "row 2: nothing measured; give tpot_ms"),
        ("batch,tpot_ms\n8,9\nmany,9\n", "row 2: batch='many': allowed is a number of"),
        ("batch,tpot_ms\n8,9\n-8,9\n", "row 2: batch=-8: allowed is a number of at"),
        ('batch,tpot_ms\n"1,8",9\n', "one plain value in a cell"),
        ("batch,model,tpot_ms\n8,llama3_1_8b,9\n8,llama9,9\n", "row 2: model=llama9"),
        ("model,parallelism.tp,tpot_ms\nllama3_1_8b,1,9\nllama3_1_8b,7,9\n", "row 2: this plan"),
        ("batch,tpot_ms,tpot_s\n8,9,0.009\n", "tpot_ms and tpot_s both measure tpot_s"),
        ("batch,workload.batch,tpot_ms\n8,8,9\n", "batch and workload.batch both set"),
        ("batch,ttft_ms\n8,9\n", "row 1: ttft_s was measured, but has no value in"),
        ("batch,workload.phase,workload.prompt,tpot_ms\n8,decode,99,9\n", "has no effect on"),
        ("calibration,tpot_ms\nideal,9\n", "the calibration is what is fitted"),
        ("batch,mem_total_bytes,tpot_ms\n8,1e9,9\n", "nothing a stopwatch shows"),
        ("hardware.fabric.nowhere.chips,tpot_ms\n8,9\n", "nowhere"),
    ],
)
def test_bad_files_are_refused_in_a_line(text, expected, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("own.csv").write_text(text)
    assert cli.main(["calibrate", "own.csv"]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count("\n") == 1
    assert expected in printed.err
    assert [p.name for p in tmp_path.rglob("*")] == ["own.csv"]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["none.csv"], "none.csv: no such file"),
        ([], "takes a file of measurements"),
        (["own.csv", "batch=4"], "both set workload.batch"),
        (["own.csv", "name=a/b"], "letters, digits"),
        (["own.csv", "name=ideal"], "comes with roofrack"),
        (["own.csv", "base=idael"], "ideal"),
        (["own.csv", "own.csv"], "one file of runs at a time"),
        (["own.csv", "name="], "no value"),
        (["own.csv", "kind=gem", "hardware=h100_sxm"], "Did you mean 'gemm'?"),
        (["own.csv", "kind=reduce_scatter", "hardware=h800"], "no number is fitted to it"),
        (["own.csv", "kind=gemm"], "hardware=NAME"),
        (["own.csv", "kind=gemm", "hardwar=h800"], "Did you mean 'hardware'?"),
        (["own.csv", "--cfg", "job"], "--help and --config-dir only"),
        (["silicon", "chip=h20"], "chip=h20: allowed"),
        (["silicon", "chip=h200_sxm", "backend=trt"], "Did you mean 'trtllm'?"),
        (["silicon", "kind=gemm"], "kind=gemm: allowed"),
    ],
)
def test_bad_arguments_are_refused_in_a_line(arguments, expected, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("own.csv").write_text(GOOD)
    assert cli.main(["calibrate", *arguments]) == 2
    printed = capsys.readouterr()
    assert expected in printed.err
    assert (printed.out, printed.err.count("\n")) == ("", 1)
    assert [p.name for p in tmp_path.rglob("*")] == ["own.csv"]


def test_machines_with_calibrations_of_their_own_are_not_mixed(tmp_path):
    for name in ("one", "two"):
        folder = tmp_path / "hardware"
        folder.mkdir(exist_ok=True)
        text = yaml.safe_load((config.conf_dir() / "hardware" / "h100_sxm.yaml").read_text())
        as_name = {"one": "ideal", "two": "default"}[name]
        (folder / f"{name}.yaml").write_text(
            yaml.safe_dump(text | {"name": name, "calibrated_as": as_name}, sort_keys=False)
        )
    frame = pl.DataFrame({"hardware": ["one", "two"], "batch": [8, 8], "tpot_ms": [9.0, 9.0]})
    with pytest.raises(InputError, match=r"row 1 is .* as ideal, row 2 as default: .*base=NAME"):
        fit_own(frame, config_dir=tmp_path)
    assert scenes(load(frame), "default", tmp_path).base == "default"


def test_a_folder_that_cannot_be_written_is_named(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("own.csv").write_text(GOOD)
    Path("taken").write_text("a file")
    assert cli.main(["calibrate", "own.csv", "out=taken"]) == 2
    assert "taken/calibration/own.yaml: cannot be written" in capsys.readouterr().err
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["own.csv", "taken"]


def test_a_frame_that_is_not_a_table_is_refused():
    with pytest.raises(InputError, match="column batch holds List"):
        load(pl.DataFrame({"batch": [[1, 2]], "tpot_ms": [9.0]}))


def test_lengths_say_the_phase():
    def phase(**given):
        frame = pl.DataFrame({"batch": [8], "tpot_ms": [9.0], **{k: [v] for k, v in given.items()}})
        if "workload.output" not in given and given:
            frame = frame.rename({"tpot_ms": "ttft_ms"})
        return scenes(load(frame), BASE).first.workload.phase

    assert phase() == "decode"
    assert phase(**{"workload.prompt": 512}) == "prefill"
    assert phase(**{"workload.prompt": 512, "workload.output": 128}) == "serve"
