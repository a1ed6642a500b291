"""Sentences about the answers, each computed from the answers of this run and the dated tables."""

from collections.abc import Iterator

import polars as pl

from roofrack.report.format import listed, number, percent, quantity, times
from roofrack.report.page import Finding

from . import tables
from .questions import questions
from .rows import MEASURED, Facts, errors
from .tables import IDEAL, OURS


def findings(found: Facts) -> tuple[Finding, ...]:
    """Return the findings, most useful first."""
    made = (_errors(found), _nearer(found), _optimistic(found), *_scenario(found), _rates(),
            _served(), _trained(), _features())  # fmt: skip
    return tuple(made)


def _errors(found: Facts) -> Finding:
    table = errors(found.said).filter(pl.col("tool") != OURS)
    parts = [
        f"{r['label']} {percent(r['mean'])} (roofrack {percent(r['ours'])} on the same"
        f" {_runs(r['runs'])})"
        for r in table.filter(pl.col("runs") > 1).iter_rows(named=True)
    ]
    own = errors(found.said).filter(pl.col("label") == OURS).row(0, named=True)
    return Finding(
        f"Mean error against what was measured: {listed(parts)}. Over all {_runs(own['runs'])}"
        f" roofrack is off by {percent(own['mean'])}.",
        basis="answers of tools: experiments/peers/answers.csv; roofrack: computed for this page",
        figure="errors",
    )


def _runs(count: int) -> str:
    return "run" if count == 1 else f"{number(count)} runs"


def _nearer(found: Facts) -> Finding:
    table = found.said.filter(~pl.col("label").is_in([OURS, IDEAL]))
    own = found.said.filter(pl.col("label") == OURS).select("point", own="ratio")
    both = table.join(own, on="point").with_columns(
        theirs=pl.col("ratio").log().abs(), ours=pl.col("own").log().abs()
    )
    better = both.filter(pl.col("theirs") < pl.col("ours"))
    parts = []
    for (label, title), rows in better.group_by("label", "title", maintain_order=True):
        theirs = float((rows["ratio"] - 1).abs().mean())  # type: ignore[arg-type]
        ours = float((rows["own"] - 1).abs().mean())  # type: ignore[arg-type]
        parts.append(
            f"{label} for {title} ({_runs(rows.height)}: off by {percent(theirs)}, roofrack by"
            f" {percent(ours)})"
        )
    text = (
        f"Another tool is nearer than roofrack in {number(better.height)} of {number(both.height)}"
        f" answers: {listed(parts)}."
        if parts
        else f"In none of {number(both.height)} answers is another tool nearer than roofrack."
    )
    return Finding(text, basis="the same answers, one by one", figure="errors")


def _optimistic(found: Facts) -> Finding:
    """Tell who promises more than was measured; of a rate the larger number is the better one."""
    rates = [q.key for q in questions().values() if q.unit != "s"]
    better = pl.when(pl.col("question").is_in(rates)).then(1 / pl.col("ratio"))
    table = found.said.with_columns(promised=better.otherwise(pl.col("ratio")))
    theirs = table.filter(~pl.col("label").is_in([OURS, IDEAL]))
    ours = table.filter(pl.col("label") == OURS)
    far = ours.sort((pl.col("ratio").log().abs()), descending=True).row(0, named=True)
    points = questions()[far["question"]].points
    source = next(p.source for p in points if p.name == far["point"])
    near = ours.filter((pl.col("ratio") - 1).abs() <= found.near).height
    return Finding(
        f"{number(theirs.filter(pl.col('promised') < 1).height)} of {number(theirs.height)} answers"
        " of other tools promise a faster machine than was measured, and"
        f" {number(ours.filter(pl.col('promised') < 1).height)} of {number(ours.height)} of"
        f" roofrack. Within {percent(found.near)} of the measured number are {number(near)} of"
        f" roofrack's. It is furthest off for {far['title']} ({far['setting']}):"
        f" {times(far['ratio'])} the measured number of {source}.",
        basis="the same answers, one by one",
        figure=f"answers-{far['question']}",
    )


def _scenario(found: Facts) -> Iterator[Finding]:
    """Compare tools where they were asked of the scenario of the run, or say that they were not."""
    own = found.curve.filter(pl.col("label") == OURS)
    if own.is_empty():
        yield Finding(
            f"{listed(found.pairs)}: no plan of this run fits, so there is nothing to compare.",
            basis="rows of this run",
        )
        return
    theirs = found.curve.filter(~pl.col("label").is_in([OURS, MEASURED]))
    keys = ("pair", "tp", "prompt", "sequences")
    both = theirs.join(own.select(*keys, own="value"), on=keys, how="inner")
    if both.is_empty():
        row = own.sort("sequences").row(own.height // 2, named=True)
        yield Finding(
            f"No other tool was asked about {listed(found.pairs)} as this run has it. roofrack"
            f" alone: {quantity(row['value'], 's')} a token at {number(row['sequences'])} sequences"
            f" on {number(row['tp'])} chips.",
            basis="rows of this run",
            figure="curve",
        )
        return
    parts = []
    for (label,), rows in both.group_by("label", maintain_order=True):
        ratio = rows["value"] / rows["own"]
        span = f"{times(float(ratio.min()))} to {times(float(ratio.max()))}"  # type: ignore[arg-type]
        parts.append(f"{label} {span}")
    yield Finding(
        f"{found.shared[0]}, over batch, prompt and chips: time per token over that of roofrack is"
        f" {listed(parts)}.",
        basis="rows of this run beside experiments/peers/answers.csv",
        figure="curve",
    )


def _rates() -> Finding:
    rates = tables.rates().sort("ratio")
    least, most = rates.row(0, named=True), rates.row(-1, named=True)
    slower = rates.filter(pl.col("ratio") < 1).height
    return Finding(
        f"On {number(rates.height)} calls roofrack evaluated {times(least['ratio'])}"
        f" ({least['label']}) to {times(most['ratio'])} ({most['label']}) as many points a second,"
        f" measured side by side on {tables.day(rates)}"
        + (f"; in {number(slower)} it was slower" if slower else "")
        + ". It needs many points at once for that: a single one takes it milliseconds, which"
        f" {number(_quicker(rates))} of these calls do in less than one.",
        basis="experiments/peers/rates.csv",
        figure="speed",
    )


def _quicker(rates: pl.DataFrame) -> int:
    """Return how many calls answer a single point in less than a millisecond."""
    return rates.filter(pl.col("peer") != "epoch", pl.col("evaluations_per_s") > 1e3).height


def _served() -> Finding:
    table = tables.read("errors_served")
    parts = [
        f"{tables.name_of(r['tool'])} {percent(r['median_theirs'])} (roofrack"
        f" {percent(r['median_ours'])}, nearer on {percent(r['closer'], 3)} of {number(r['rows'])})"
        for r in table.filter(
            pl.col("quantity") == "tpot_s", pl.col("mode") == "aggregated"
        ).iter_rows(named=True)
    ]
    return Finding(
        f"On measured serving runs, identical ones, the median error of the time per token is:"
        f" {listed(parts)}.",
        basis=f"experiments/peers/errors_served.csv, {tables.day(table)}",
        figure="served",
    )


def _trained() -> Finding:
    table = tables.read("errors_trained").filter(pl.col("mean_ours").is_not_null())
    parts = []
    for better, words in ((True, "nearer"), (False, "further off")):
        rows = table.filter((pl.col("mean") < pl.col("mean_ours")) == better)
        names = [
            f"{r['tool']} ({percent(r['mean'])} against {percent(r['mean_ours'])} over"
            f" {_runs(r['rows_ours'])})"
            for r in rows.iter_rows(named=True)
        ]
        parts += [f"{words} than roofrack: {listed(names)}"] if names else []
    return Finding(
        f"On measured training runs, by their authors' own accounts, {'; '.join(parts)}.",
        basis=f"experiments/peers/errors_trained.csv, {tables.day(tables.read('errors_trained'))}",
        figure="trained",
    )


def _features() -> Finding:
    table = tables.read("features")
    others = [name for name in table.columns if name not in ("feature", OURS)]
    alone = table.filter(pl.col(OURS) == "yes", *(pl.col(name) == "not found" for name in others))[
        "feature"
    ]
    lacks = [
        f"{row['feature'].lower()} ({listed([n for n in others if row[n] == 'yes']) or 'nobody'})"
        for row in table.filter(pl.col(OURS) == "not found").iter_rows(named=True)
    ]
    return Finding(
        f"Of {number(table.height)} features the {number(len(others))} tools were searched for,"
        f" {number(len(alone))} were found in none of them"
        + (f" ({listed([text.lower() for text in alone])})" if len(alone) else "")
        + (f". roofrack lacks {listed(lacks)}" if lacks else "")
        + ".",
        basis="experiments/peers/features.csv, judged in November 2026; not found is not proved"
        " absent",
        figure="features",
    )


def answered() -> str:
    """Return how many questions each tool answered, in words."""
    table = tables.answers().filter(pl.col("answer").is_not_null(), pl.col("question") != "curve")
    counts = [
        (tables.name_of(tool), rows["question"].n_unique())
        for (tool,), rows in table.group_by("tool", maintain_order=True)
    ]
    asked = len(questions()) - 1
    return f"of {number(asked)} questions " + listed(
        [f"{n} answers {number(c)}" for n, c in counts]
    )
