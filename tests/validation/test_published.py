"""The table of published facts: complete, composable, and refused when it is tampered with."""

import numpy as np
import polars as pl
import pytest

from roofrack import config, cost
from roofrack.conversion import to_study
from roofrack.errors import InputError
from roofrack.validation import published

STATIC = "ft_20b_tp4_b8_80_200"


@pytest.fixture(scope="module")
def table():
    return published.load()


@pytest.fixture
def without_compiling(monkeypatch):
    """The cost model on NumPy: the same functions, and nothing to compile."""

    def evaluate(scenario):
        return {name: np.asarray(value) for name, value in cost.estimate(scenario).items()}

    monkeypatch.setattr("roofrack.grid.evaluate", evaluate)


def asked(overrides):
    """What one command says, computed apart from `predict`."""
    return cost.estimate(to_study(config.compose(overrides.split())).bind({}))


def rows(table, *ids):
    found = table.filter(pl.col("id").is_in(ids))
    assert len(found) == len(ids)
    return found


def test_schema(table):
    assert dict(table.schema) == {name: field.dtype() for name, field in published.FIELDS.items()}
    assert not any(table.null_count().row(0))
    assert len(table) >= 150
    assert set(table["group"]) == set(published.GROUPS)
    assert table["id"].is_unique().all()


def test_numbers_are_of_the_size_of_their_unit(table):
    assert (table["measured"] > 0).all() and (table["scale"] > 0).all()
    seconds = table.filter(pl.col("unit") == "s")["measured"]
    assert seconds.min() > 1e-3 and seconds.max() < 200  # type: ignore[operator]
    shares = table.filter(pl.col("unit") == "")
    assert set(shares["column"]) == {"mfu"} and (shares["measured"] < 1).all()


def test_every_row_names_a_public_source(table):
    sources = table["source"]
    assert sources.str.contains(r"@[0-9a-f]{12}:|arXiv:\d{4}\.\d{5}|github\.com").all()
    medium = table.filter(pl.col("confidence") == "medium")
    assert (medium["notes"] != "").all()  # what is derived or assumed has to be said


def test_rows_are_spread_and_none_is_another_once_more(table):
    assert table["hardware"].n_unique() >= 8 and table["model"].n_unique() >= 10
    assert table.select("overrides", "column", "measured").is_unique().all()


def test_every_choice_of_groups_is_a_file_and_every_value_is_plain(table, repo):
    for text in table["overrides"].unique():
        for key, value in (part.split("=") for part in text.split()):
            if key in published.CHOSEN:
                assert (repo / "conf" / key / f"{value}.yaml").is_file()
            else:
                assert key.partition(".")[0] in ("model", "parallelism", "workload")
                assert value in ("fixed", "false") or float(value) >= 0


@pytest.mark.parametrize(
    "name",
    [
        "deepseek_service_decode_ep144",
        "deepseek_service_prefill_ep32",
        "ft_530b_tp8_pp3_b64_60_20",
        "trt_dsr1_b200_mtp3",
        "tpu7x_qwen3_coder_480b_8k_1k",
    ],
)
def test_a_row_is_what_its_command_says(table, name, without_compiling):
    row = rows(table, name)
    found = published.predict(row).row(0, named=True)
    alone = asked(row["overrides"][0])
    assert found["why_invalid"] is None
    expected = float(alone[row["column"][0]]) * row["scale"][0]
    assert found["predicted"] == pytest.approx(expected, rel=1e-12)
    assert published.command(found) == f"roofrack point {row['overrides'][0]}"


def test_rows_evaluated_together_stay_in_their_places(table, without_compiling):
    some = rows(table, "kipply_13b_tp2_decode", "ft_6_7b_tp1_b1_128_8", "ft_6_7b_tp1_b64_128_8")
    found = published.predict(some)
    assert found["id"].to_list() == some["id"].to_list()
    for row in found.iter_rows(named=True):
        alone = float(asked(row["overrides"])[row["column"]]) * row["scale"]
        assert row["predicted"] == pytest.approx(alone, rel=1e-12)


def test_a_static_batch_is_a_prefill_and_the_decode_passes_after_it(table, without_compiling):
    """The convention of the module: one command stands for prefill + (output - 1) passes."""
    found = published.predict(rows(table, STATIC)).row(0, named=True)
    given = dict(part.split("=") for part in found["overrides"].split())
    prompt, passes = float(given["workload.prompt"]), float(given["workload.output"])
    assert passes == 199 == found["scale"]
    plain = [p for p in found["overrides"].split() if not p.startswith("workload")]
    shared = " ".join([*plain, f"workload.batch={given['workload.batch']}"])
    prefill = asked(f"{shared} workload=prefill workload.prompt={prompt}")
    decode = asked(f"{shared} workload=decode workload.context={prompt + passes / 2}")
    expected = float(prefill["ttft_s"]) + passes * float(decode["tpot_s"])
    assert found["predicted"] == pytest.approx(expected, rel=1e-9)


def test_overrides_apply_to_every_row(table, without_compiling):
    row = rows(table, "kipply_13b_tp1_decode")
    usual = published.predict(row)["predicted"][0]
    assert published.predict(row, ["calibration=ideal"])["predicted"][0] < usual


def test_a_plan_that_cannot_run_has_a_reason_and_no_number(table, without_compiling):
    row = rows(table, "kipply_13b_tp2_decode")
    row = row.with_columns(pl.col("overrides").str.replace("tp=2", "tp=3"))
    found = published.predict(row).row(0, named=True)
    assert found["predicted"] is None and found["why_invalid"]


def test_a_row_that_does_not_compose_is_named(table, without_compiling):
    both = rows(table, "kipply_13b_tp1_decode", "kipply_13b_tp2_decode")
    bad = both.with_columns(pl.col("overrides").str.replace(r"tp=2", "tp=-2"))
    with pytest.raises(InputError, match=r"^row kipply_13b_tp2_decode: parallelism\.tp=-2"):
        published.predict(bad)


def written(tmp_path, table, name="table.csv"):
    table.write_csv(tmp_path / name)
    return tmp_path / name


@pytest.mark.parametrize(
    ("column", "old", "new", "message"),
    [
        ("hardware", "a100_40gb", "a100_40", r"row kipply.*hardware=a100_40: .*'a100_40gb'"),
        ("model", "gpt3_175b", "gpt3", r"model=gpt3: .*'gpt3_175b'"),
        ("column", "tpot_s", "tpot", r"column=tpot: .*'tpot_s'"),
        ("group", "other", "others", r"group=others: .*'other'"),
        ("unit", "s", "ms", r"unit=ms: tpot_s is in s"),
        ("measured", "0.022", "-1", r"measured=-1: give a positive number"),
        ("measured", "0.022", "inf", r"measured=inf: give a positive number"),
        ("measured", "0.022", "22 ms", r"measured=22 ms: no number"),
        ("scale", "1", "0", r"scale=0: give a positive number"),
        ("source", "Carol.*", " ", r"source is empty"),
        ("how", "read", "guessed", r"how=guessed: allowed: read, digitised, derived"),
        ("confidence", "high", "low", r"confidence=low: allowed: high, medium"),
        ("overrides", "workload.batch", "workload.bacth", r"bacth: no such key.*'workload.batch'"),
        ("overrides", "workload.batch=1", "batch", r"batch: give each override once, as key=value"),
        ("overrides", "dtype=fp16", "", r"dtype=\(nothing\): allowed"),
        ("overrides", "a100_40gb", "h200", r"hardware=h200 in overrides, not a100_40gb"),
    ],
)
def test_a_tampered_row_is_refused(table, tmp_path, column, old, new, message):
    row = rows(table, "kipply_13b_tp1_decode").cast(pl.String)
    row = row.with_columns(pl.lit("1").alias("scale"))
    changed = row.with_columns(pl.col(column).str.replace(f"{old}", new))
    assert not changed.equals(row)
    with pytest.raises(InputError, match=message):
        published.load(written(tmp_path, changed))


def test_a_tampered_file_is_refused(table, tmp_path):
    two = table.head(2)
    with pytest.raises(InputError, match="the id is there twice"):
        published.load(written(tmp_path, pl.concat([two, two])))
    with pytest.raises(InputError, match="columns have to be id,group"):
        published.load(written(tmp_path, two.drop("source")))
    with pytest.raises(InputError, match=r"unknown is sources\. Did you mean 'source'"):
        published.load(written(tmp_path, two.rename({"source": "sources"})))
    with pytest.raises(InputError, match="cannot be read as CSV"):
        published.load(tmp_path / "absent.csv")
    assert published.load(written(tmp_path, two)).equals(two)


@pytest.mark.slow
def test_every_row_is_a_plan_that_runs(table):
    found = published.predict(table)
    assert found.filter(pl.col("why_invalid").is_not_null()).is_empty()
    assert found["predicted"].is_finite().all() and (found["predicted"] > 0).all()
