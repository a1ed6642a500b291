"""Write peers.csv and the tables of peers.md of roofrack.validation from runs of the peers.

    python tests/peers/publish.py FILE.csv ...

Runs in the environment of the project. Copies of a run, as the project's rules see them, are left
out, and so are refusals, which the tables count.
"""

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path

import polars as pl
import rows

from roofrack.validation.silicon import silicon_rows

HOME = Path(__file__).resolve().parents[2] / "lib/roofrack/validation"
MARK = "<!-- tables: written by tests/peers/publish.py -->"
LIMIT_BYTES = 600_000
FIRST = "aiconfigurator"
PRINTED = (FIRST, "aiconfigurator_sol", "genz")
"""The tools of peers.csv. Others are variants, for the tables only."""
TRIMMED = "aiconfigurator_sol"
"""The tool whose rows are cut to a fair sample where the file would be too large."""


def measured() -> pl.DataFrame:
    """The measured rows that are no copies, in fair order, with what was measured in ms."""
    order = pl.DataFrame(
        [{"id": row["id"], "turn": k} for k, row in enumerate(rows.fair_order(rows.sample()))]
    )
    frame = silicon_rows().filter(pl.col("excluded").fill_null("") != "duplicate")
    kept = frame.select(
        "id", "mode", "model", "backend", "hardware", "excluded", "ttft_usable",
        ttft=1e3 * pl.col("ttft_s"), tpot=1e3 * pl.col("tpot_s"),
    )  # fmt: skip
    return kept.join(order, on="id", validate="1:1", maintain_order="left").sort("turn")


def compare_layouts() -> None:
    """Leave if the peers were asked for another layout than the project predicts."""
    ours = silicon_rows().filter((pl.col("mode") == "aggregated") & pl.col("excluded").is_null())
    theirs = {row["id"]: rows.layout(row) for row in rows.sample()}
    for row in ours.iter_rows(named=True):
        asked = theirs[row["id"]]
        wanted = (row["tp"], row["attention_dp"], row["expert_tp"], row["ep"])
        if asked is None or asked[: 4 if asked.moe_ep else 2] != wanted[: 4 if asked.moe_ep else 2]:
            sys.exit(f"{row['id']}: {asked} is not the project's {wanted}; see rows.layout")


def trim(table: pl.DataFrame) -> pl.DataFrame:
    """The table within LIMIT_BYTES: the last rows of TRIMMED in fair order are left out."""
    table = table.sort("tool", "turn")
    size = pl.sum_horizontal(pl.col(name).str.len_bytes() for name in rows.FIELDS)
    sizes = table.with_columns(size=size + len(rows.FIELDS))
    room = LIMIT_BYTES - 100 - sizes.filter(pl.col("tool") != TRIMMED)["size"].sum()
    fits = (pl.col("tool") != TRIMMED) | (pl.col("size").cum_sum().over("tool") < room)
    return sizes.filter(fits)


def summary() -> list[pl.Expr]:
    """Rows and errors in percent."""
    share = {q: (pl.col(f"{q}_ms") / pl.col(q) - 1).abs() * 100 for q in ("tpot", "ttft")}
    share["ttft"] = share["ttft"].filter("ttft_usable")
    return [
        pl.len().alias("rows"),
        *(share[q].median().alias(f"{q.upper()} median") for q in share),
        *(share[q].mean().alias(f"{q.upper()} mean") for q in share),
        (pl.col("tpot_ms") / pl.col("tpot")).median().alias("TPOT ratio"),
        ((share["tpot"] <= 20).mean() * 100).alias("within 20 %"),
    ]


def markdown(frame: pl.DataFrame) -> str:
    """A Markdown table; fractions with one digit, ratios with two."""

    def cell(name: str, value: object) -> str:
        if value is None:
            return "–"
        if not isinstance(value, float):
            return str(value)
        return f"{value:.2f}" if name.endswith("ratio") else f"{value:.1f}"

    lines = [frame.columns, ["---"] * frame.width]
    lines += [[cell(k, v) for k, v in row.items()] for row in frame.iter_rows(named=True)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def by(frame: pl.DataFrame, *groups: str) -> str:
    """Errors by group."""
    table = frame.group_by(groups).agg(summary()).sort(groups)
    order = [*groups, "rows", "TPOT median", "TPOT mean", "TPOT ratio", "within 20 %"]
    return markdown(table.select(*order, "TTFT median", "TTFT mean"))


def tables(asked: pl.DataFrame, printed: pl.DataFrame) -> Iterable[str]:
    """The part of peers.md below the mark."""
    yield "## Coverage"
    answered = pl.col("answered") == "true"
    outcome = pl.when(answered).then(pl.lit("answered")).otherwise("reason").alias("outcome")
    counts = asked.with_columns(outcome).group_by("tool", "mode", "outcome").len("rows")
    yield markdown(
        counts.sort("tool", "mode", "rows", "outcome", descending=[False, False, True, False])
    )
    notes = asked.filter(answered).group_by("tool", "reason").len("rows")
    yield "Notes on answered rows (the column `reason`):"
    yield markdown(notes.filter(pl.col("reason") != "").sort("tool", "reason"))
    yield "Rows in peers.csv: " + ", ".join(
        f"{tool} {n}" for tool, n in printed.group_by("tool").len().sort("tool").rows()
    )
    good = asked.filter(answered & pl.col("excluded").is_null())
    one = good.filter(pl.col("mode") == "aggregated")
    yield "## Aggregated rows"
    yield "Absolute error in percent; `TPOT ratio` is the median of predicted / measured."
    yield by(one, "tool")
    yield f"On the rows that {FIRST} answers too, and its own errors on them:"
    yield markdown(beside(one))
    for group in ("hardware", "model", "backend"):
        yield f"### By {group}"
        yield by(one.filter(pl.col("tool").is_in(PRINTED)), "tool", group)
    yield "## Disaggregated rows"
    yield by(good.filter(pl.col("mode") == "disaggregated"), "tool")


def beside(frame: pl.DataFrame) -> pl.DataFrame:
    """Errors of each tool and of FIRST on the rows that both answer."""
    other = frame.filter(pl.col("tool") != FIRST)
    both = frame.filter(pl.col("tool") == FIRST).join(other.select("id", against="tool"), on="id")
    errors = [pl.col("TPOT median", "TPOT mean", "TTFT median", "TTFT mean")]
    first = both.group_by("against").agg(summary()).select("against", *errors)
    its = other.join(both, on="id", how="semi").group_by("tool").agg(summary())
    joined = its.select("tool", "rows", *errors).join(
        first, left_on="tool", right_on="against", suffix=f", {FIRST}"
    )
    return joined.sort("tool")


def main() -> None:
    """Read the runs, write both files."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", type=Path)
    chosen = parser.parse_args()
    compare_layouts()
    text = {name: pl.String for name in rows.FIELDS}
    runs = pl.concat([pl.read_csv(path, schema_overrides=text) for path in chosen.runs])
    numbers = runs.with_columns(pl.col("ttft_ms", "tpot_ms").cast(pl.Float64))
    asked = measured().join(numbers, on="id").with_columns(pl.col("reason").fill_null(""))
    answers = measured().join(runs.filter(pl.col("answered") == "true"), on="id")
    answers = answers.with_columns(pl.col("version").str.split("/").list.first())
    printed = trim(answers.filter(pl.col("tool").is_in(PRINTED)))
    printed.select(rows.FIELDS).write_csv(HOME / "peers.csv")
    page = HOME / "peers.md"
    head, found, _ = page.read_text(encoding="utf-8").partition(MARK)
    if not found:
        sys.exit(f"{page.name} lacks the line {MARK}")
    page.write_text("\n\n".join([head + MARK, *tables(asked, printed)]) + "\n", encoding="utf-8")
    print(f"{printed.height} rows, {(HOME / 'peers.csv').stat().st_size} bytes")


if __name__ == "__main__":
    main()
