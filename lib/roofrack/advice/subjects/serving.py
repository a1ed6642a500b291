"""How a service is run: pools, chunks, prompts at once, drafted and cached tokens."""

from collections.abc import Iterator

from roofrack.advice.case import Case, Change
from roofrack.advice.words import counted, same
from roofrack.report.format import percent
from roofrack.tables import SERVING

DRAFTED = (0.0, 1.0, 2.0, 3.0, 4.0, 6.0, 8.0)
CHUNKS = (0.0, 256.0, 512.0, 1024.0, 2048.0, 4096.0, 8192.0)
PROMPTS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)
FOUND = 0.5
"""Share of a prompt that is taken to be found in a cache, where nothing is said of it."""


def propose(case: Case) -> Iterator[Change]:
    """Yield other ways to serve the same requests with the same plan."""
    if case.phase in ("decode", "serve"):
        yield from _drafts(case)
    if case.phase in ("prefill", "serve"):
        yield from _cached(case)
    if case.phase == "serve":
        yield from _modes(case)
        yield from _passes(case)


def _drafts(case: Case) -> Iterator[Change]:
    w = case.s.workload
    now, kept = float(w.draft_tokens), float(w.acceptance)
    told = "as told" if now else f"assumed, as is a drafter of {counted(w.draft_layers, 'layer')}"
    for n in DRAFTED:
        if n != now:
            said = f"{counted(n, 'token')} drafted for each pass" if n else "nothing drafted"
            assumes = f"{percent(kept)} of drafted tokens are kept, {told}" if n else ""
            values = {"workload.draft_tokens": n}
            yield Change("speculation", "drafts", values, same(said), assumes=assumes)


def _cached(case: Case) -> Iterator[Change]:
    w = case.s.workload
    if not w.cached and w.prompt >= 2:
        tokens = float(int(w.prompt * FOUND))
        said = f"with {tokens:,.0f} tokens of each prompt found in the cache"
        yield Change(
            "cache",
            "prefix",
            {"workload.cached": tokens},
            same(said),
            assumes=f"that {percent(FOUND)} of a prompt was seen before is an example, no "
            "forecast; keeping it costs memory (workload.hold_s, cache_tier)",
        )


def _modes(case: Case) -> Iterator[Change]:
    now = int(case.s.workload.serving)
    for code, mode in enumerate(SERVING):
        if code == now or (mode == "afd" and not case.s.model.experts):
            continue
        values = {"workload.serving": float(code)}
        if case.now("workload.chunk") and code:
            values["workload.chunk"] = 0.0
        if case.now("workload.prefill_instances") and not code:
            values["workload.prefill_instances"] = 0.0
        said = {
            "aggregated": "prompts and tokens on the same chips",
            "disaggregated": "prompts on a pool of their own",
            "afd": "prompts, attention and experts on three pools",
        }[mode]
        yield Change("serving", mode, values, same(f"{said} (same plan in each)"))


def _passes(case: Case) -> Iterator[Change]:
    w = case.s.workload
    for n in CHUNKS if w.serving == 0 else ():
        if n != w.chunk:
            said = f"prompts in chunks of {n:,g} tokens beside decoding" if n else "no chunks"
            yield Change("serving", "chunk", {"workload.chunk": n}, same(said))
    for n in PROMPTS:
        if n != w.prefill_batch:
            said = f"{counted(n, 'prompt')} at once on each rank"
            yield Change("serving", "prompts", {"workload.prefill_batch": n}, same(said))
