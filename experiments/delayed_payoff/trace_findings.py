"""What a real trace says of trains: when they leave, who waits, how full they are, the cost."""

from roofrack.report.format import number, percent, quantity, times, usd
from roofrack.report.page import Finding, Verdict

from .found import NEAR, Found, bar, rate
from .rows import Row

ONE_PASS = 0.9
"""Share of the requests that have to catch the next train for the lecture to be right."""


def departing(found: Found) -> Finding | None:
    """Say how often passes leave on the trace, beside the lecture's cadence."""
    played = found.played
    if played is None:
        return None
    lecture = found.facts.settings.train_s
    own, busy = played.own, played.busy
    fits = [1 / NEAR <= row["gap_p50_s"] / lecture <= NEAR for row in (own, busy)]
    verdict: Verdict = "agrees" if all(fits) else "contradicts"

    def told(row: Row) -> str:
        return (
            f"every {quantity(row['gap_p50_s'], 's')}{bar(found.facts.error)} in the median, for"
            f" 5 % of riders below {quantity(row['gap_p5_s'], 's')}, for 5 % above"
            f" {quantity(row['gap_p95_s'], 's')}, for 1 % above {quantity(row['gap_p99_s'], 's')}"
        )

    text = (
        f"{played.name}, a real trace, played as it came, {rate(own['arrivals_per_s'])}: a pass"
        f" leaves {told(own)}."
    )
    if busy["lane"] != own["lane"]:
        text += f" {times(busy['speed'])} as fast, {rate(busy['arrivals_per_s'])}: {told(busy)}."
    text += f" The lecture: every {quantity(lecture, 's')}."
    if verdict == "contradicts":
        text += (
            " There is no timetable: a pass leaves when the one before is done, sooner with few on"
            " board and later with many and their prompts."
        )
    return Finding(
        text, verdict, "roofrack simulate with the trace; tpot_s of its requests", "gaps"
    )


def riding(found: Found) -> Finding | None:
    """Say how long requests of the trace wait for a pass to take them."""
    played = found.played
    if played is None:
        return None
    own, busy = played.own, played.busy
    verdict: Verdict = "agrees" if busy["within"] >= ONE_PASS else "contradicts"
    parts = []
    for row in [own] + [busy] * (busy["lane"] != own["lane"]):
        parts.append(
            f"at {rate(row['arrivals_per_s'])} {quantity(row['wait_mean_s'], 's')} on average,"
            f" {quantity(row['wait_p50_s'], 's')} in the median, {quantity(row['wait_p95_s'], 's')}"
            f" for 95 %, {quantity(row['wait_p99_s'], 's')} for 99 %, at most"
            f" {quantity(row['wait_most_s'], 's')}; {percent(row['within'])} no longer than the"
            " time between two passes of their ride"
        )
    text = (
        f"Who misses a train takes the next, the lecture says. On {played.name} requests wait until"
        f" a pass takes their prompt on: {'. '.join(p[0].upper() + p[1:] for p in parts)}."
    )
    if verdict == "contradicts":
        text += (
            " The others met a pass that took longer than those of their ride, or one whose room"
            " for prompts was taken."
        )
    return Finding(text, verdict, "admitted_s less arrival_s of the trace's requests", "on_trace")


def filling_up(found: Found) -> Finding | None:
    """Say how full passes are on the trace."""
    played = found.played
    if played is None:
        return None
    critical = found.facts.full["critical_batch"]
    told = []
    for row in played.rows.iter_rows(named=True):
        told.append(
            f"{number(row['batch_at_load'])} at {rate(row['arrivals_per_s'])}"
            f" ({percent(row['batch_at_load'] / critical)})"
        )
    text = (
        f"On board of a pass are on average, while any runs: {', '.join(told)}; in brackets over"
        f" the critical batch of {number(critical)}. The cap is {number(found.facts.cap)}."
    )
    return Finding(text, "neutral", "batch_at_load of the played trace; critical_batch", "aboard")


def paying(found: Found) -> Finding | None:
    """Say what a token of the trace costs at its own pace and faster, and for which percentiles."""
    played = found.played
    if played is None or played.rows.height < 2:
        return None
    own, busy, wishes = played.own, played.busy, found.facts.settings
    cheaper = own["usd_per_mtok_at_load"] / busy["usd_per_mtok_at_load"]
    inside = busy["goodput"] >= 0.95
    text = (
        f"{played.name} as it came pays {usd(own['usd_per_mtok_at_load'])} per million tokens, at"
        f" {rate(busy['arrivals_per_s'])} {usd(busy['usd_per_mtok_at_load'])}, {times(cheaper)}"
        f" less; first tokens of 95 % then come within {quantity(busy['ttft_p95_s'], 's')} instead"
        f" of {quantity(own['ttft_p95_s'], 's')} (99 %: {quantity(busy['ttft_p99_s'], 's')}, not"
        f" {quantity(own['ttft_p99_s'], 's')}), further ones every"
        f" {quantity(busy['tpot_p95_s'], 's')} instead of {quantity(own['tpot_p95_s'], 's')}"
        f"{bar(found.facts.error)}. {percent(busy['goodput'])} of requests get what is promised"
        f" ({quantity(wishes.ttft_limit_s, 's')} and {quantity(wishes.tpot_limit_s, 's')}), so the"
        f" load is {'kept' if inside else 'more than its bursts and lengths allow'}."
    )
    return Finding(text, "neutral", "usd_per_mtok_at_load, ttft and tpot of the trace", "on_trace")


def check(found: Found) -> Finding | None:
    """Say how far closed forms are from a played trace, and which to trust."""
    if found.traced is not None and found.traced.why_not:
        text = f"{found.traced.name} was not played: {found.traced.why_not}."
        return Finding(text, "neutral", "roofrack simulate with the trace")
    played = found.played
    rows = [] if played is None else [
        row for row in played.rows.iter_rows(named=True) if row["closed_tpot_p95_s"] is not None
        and row["closed_ttft_p95_s"] is not None
    ]  # fmt: skip
    if played is None or not rows:
        return None
    row = rows[-1]
    first = row["closed_ttft_p95_s"] / row["ttft_p95_s"]
    next_ = row["closed_tpot_p95_s"] / row["tpot_p95_s"]
    text = (
        f"The curves of the page are closed forms, checked by {played.told}, at"
        f" {rate(row['arrivals_per_s'])}: played one by one, first tokens within"
        f" {quantity(row['ttft_p95_s'], 's')} and further ones every"
        f" {quantity(row['tpot_p95_s'], 's')} for 95 %; the closed forms say"
        f" {quantity(row['closed_ttft_p95_s'], 's')} and {quantity(row['closed_tpot_p95_s'], 's')},"
        f" {times(first)} and {times(next_)} that. To trust: {row['trust']}."
    )
    return Finding(text, "neutral", "roofrack simulate with the trace; closed_*, trust", "on_trace")
