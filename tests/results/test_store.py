"""Results on disk: whole, reproducible, and saying what they are."""

import json
from pathlib import Path

import polars as pl
import pytest

from roofrack import config
from roofrack.conversion import Study, to_study
from roofrack.errors import InputError
from roofrack.grid import stream
from roofrack.point import point
from roofrack.results import run, store
from roofrack.results.frame import frame
from roofrack.results.schema import COLUMNS, RESULTS

AXES = ["batch", "parallelism.tp", "workload.dtype.math"]
OVERRIDES = ["batch=[1,64,4096]", "parallelism.tp=[8,3]", "workload.dtype.math=[bf16,fp4]"]


@pytest.fixture(scope="module")
def asked() -> dict:
    return config.compose(OVERRIDES)


@pytest.fixture(scope="module")
def study(asked: dict) -> Study:
    return to_study(asked)


@pytest.fixture
def job(asked: dict, study: Study, tmp_path: Path) -> Path:
    assert store.write_job(study, asked, OVERRIDES, tmp_path / "0") == 12
    return tmp_path / "0"


def test_a_job_says_what_it_is(job: Path, asked: dict) -> None:
    about = store.about(job)
    assert about["axes"] == ["batch", "parallelism.tp", "workload.dtype.math"]
    assert about["overrides"] == OVERRIDES
    assert about["points"] == 12
    assert about["units"]["step_s"] == "s"
    assert about["config"] == asked
    assert set(about["versions"]) >= {"roofrack", "jax", "polars"}
    assert json.loads((job / "run.json").read_text())["points"] == 12


def test_columns_are_the_schema_after_the_axes(job: Path) -> None:
    names = store.scan(job).collect_schema().names()
    assert [n for n in names if n not in COLUMNS] == AXES
    assert names[16:19] == AXES
    assert [n for n in names if n in COLUMNS] == list(COLUMNS)


def test_the_same_study_gives_the_same_bytes(
    job: Path, asked: dict, study: Study, tmp_path: Path
) -> None:
    store.write_job(study, asked, OVERRIDES, tmp_path / "again")
    shard = store.SHARD.format(0)
    assert (job / shard).read_bytes() == (tmp_path / "again" / shard).read_bytes()


def test_what_cannot_run_is_null_and_says_why(job: Path) -> None:
    rows = store.scan(job).collect()
    bad = rows.filter(~pl.col("valid"))
    assert bad.height == 12 - 3  # only tp=8 in bf16 runs on this chip
    blank = [n for n in RESULTS if n not in ("valid", "why_invalid")]
    assert bad.select(pl.all_horizontal(pl.col(blank).is_null()).all()).item()
    assert set(
        bad.filter(pl.col("parallelism.tp") == 3)["why_invalid"].str.split(";").list.first()
    ) == {"tp does not divide the query heads"}
    assert rows.filter("valid")["why_invalid"].null_count() == 3


def test_no_nan_is_stored(job: Path) -> None:
    rows = store.scan(job).collect()
    assert not any(rows[n].is_nan().any() for n in rows.columns if rows[n].dtype.is_float())


def test_rows_equal_points(job: Path, asked: dict) -> None:
    rows = store.scan(job).collect().to_dicts()
    for row, expected in zip(rows, point(asked), strict=True):
        for name, value in expected.items():
            if isinstance(value, float):
                assert row[name] == pytest.approx(value, rel=1e-5), name
            else:
                assert row[name] == value, name


def test_blocks_change_nothing(study: Study) -> None:
    whole = pl.concat(frame(study, block) for block in stream(study))
    parts = pl.concat(frame(study, block) for block in stream(study, block=5))
    assert whole.equals(parts)


def test_an_interrupted_job_is_told_apart(job: Path) -> None:
    table = store.scan(job).collect()
    about = pl.read_parquet_metadata(job / store.SHARD.format(0))
    kept = {k: v for k, v in about.items() if k.startswith("roofrack.")}
    (job / "run.json").unlink()
    table.head(5).write_parquet(job / store.SHARD.format(0), metadata=kept)
    with pytest.raises(InputError, match=r"5 of 12 points: the run was interrupted.*resume="):
        store.check(job)


def test_a_damaged_file_is_one_line(job: Path) -> None:
    (job / store.SHARD.format(0)).write_bytes(b"not parquet")
    with pytest.raises(InputError, match="cannot be read") as error:
        run.load(job)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", ["missing", "empty"])
def test_a_folder_without_results_is_named(tmp_path: Path, text: str) -> None:
    if text == "empty":
        (tmp_path / text).mkdir()
    with pytest.raises(InputError, match=text):
        store.jobs(tmp_path / text)


def test_the_hash_is_of_the_question_not_of_the_way_it_was_asked() -> None:
    by_alias, again = config.compose(["batch=8"]), config.compose(["batch=8", "format=json"])
    assert store.config_hash(by_alias) == store.config_hash(again)
    assert store.config_hash(by_alias) != store.config_hash(config.compose(["batch=9"]))
