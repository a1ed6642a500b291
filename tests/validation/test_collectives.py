"""Published times of single collectives: the table, and predictions of them computed by hand."""

from pathlib import Path

import polars as pl
import pytest

from roofrack.errors import InputError
from roofrack.validation import collectives, published, runs

IDEAL = ["calibration=ideal"]


@pytest.fixture(scope="module")
def table() -> pl.DataFrame:
    return collectives.load()


def test_bytes_are_those_of_the_copies(table: pl.DataFrame) -> None:
    width = pl.when(pl.col("operation") == "combine").then(2.0).otherwise(1 + 4 / 128)
    sent = pl.col("tokens") * pl.col("topk") * pl.col("hidden") * width
    assert table.filter(pl.col("bytes") != sent).is_empty()
    # over one InfiniBand port of 50 GB/s, once most copies leave the node
    many = table.filter(pl.col("ranks") >= 64)
    assert (many["bytes"] / many["microseconds"] / 1e3 < 50).all()


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("ranks", 0, r"row deepep_.*: ranks=0: give a positive number"),
        ("operation", "send", r"operation=send: allowed: dispatch, combine"),
        ("hardware", "h80", r"hardware=h80: allowed: .* Did you mean 'h800'"),
    ],
)
def test_a_tampered_row_is_refused(
    table: pl.DataFrame, tmp_path: Path, column: str, value: object, message: str
) -> None:
    table.with_columns(pl.lit(value).alias(column)).write_csv(tmp_path / "table.csv")
    with pytest.raises(InputError, match=message):
        collectives.load(tmp_path / "table.csv")


def test_by_hand(table: pl.DataFrame) -> None:
    """H800: 8 chips at 200 GB/s and 1 us, then 50 GB/s and 5 us (conf/hardware/h800.yaml)."""
    found = collectives.predict(table, IDEAL)
    by_ranks = {
        (row["operation"], row["ranks"]): row["predicted"] for row in found.iter_rows(named=True)
    }
    for operation, token in (("dispatch", 7168 * (1 + 4 / 128)), ("combine", 7168 * 2)):
        # one of eight copies stays on its chip, the others go over NVLink
        inside = 128 * 7 * token / 200e9 + 1e-6
        assert by_ranks[operation, 8] == pytest.approx(inside)
        # of 64 ranks 56 are in other nodes, as are seven of eight copies
        across = 128 * 8 * 56 / 64 * token / 50e9 + 5e-6
        assert by_ranks[operation, 64] == pytest.approx(across)


def test_rows_keep_their_order_and_their_machine(table: pl.DataFrame) -> None:
    other = table.with_columns(pl.col("id") + "_h100", pl.lit("h100_sxm").alias("hardware"))
    mixed = pl.concat([table, other]).sort("microseconds", "id")
    found = collectives.predict(mixed, IDEAL)
    assert found.drop("predicted").equals(mixed)
    of = {machine: rows.sort("id") for (machine,), rows in found.group_by("hardware")}
    assert of["h800"]["predicted"].equals(collectives.predict(table.sort("id"), IDEAL)["predicted"])
    # twice the NVLink: fewer seconds within a node
    within = pl.col("ranks") == 8
    fast, slow = (of[m].filter(within)["predicted"].to_list() for m in ("h100_sxm", "h800"))
    assert all(a < b for a, b in zip(fast, slow, strict=True))


def test_predictions_are_near_what_was_measured(
    table: pl.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = published.load().filter(pl.col("group") == "fastertransformer").head(1)
    monkeypatch.setattr(published, "load", lambda: one)
    lines = runs.published_lines()
    assert lines.height == 1 + table.height
    single = lines.filter(pl.col("origin") == "collectives")
    assert set(single["quantity"]) == {"dispatch_s", "combine_s"}
    assert single["measured"].is_between(50e-6, 500e-6).all()
    assert (single["log_ratio"].abs() < 0.3).all()
