"""What fits into one rack: sequences by context, and how large the model could be."""

from pathlib import Path

import polars as pl
import yaml

from roofrack import config
from roofrack.errors import InputError

from ..common.overrides import axis
from ..common.studies import Studies
from .rows import Facts, Machine, copies, spread

CONTEXTS = tuple(1024 * 2**i for i in range(0, 11, 2))
"""Contexts asked: 1,024 to 1,048,576 tokens."""
APART = 64  # sequences on each chip at the further of the two points of a line


def room(facts: Facts, studies: Studies, held: float) -> pl.DataFrame:
    """Return for each domain and context what one rack holds.

    Columns `domain`, `label`, `chips` (in use), `context`, `sequences` (in the whole rack; 0 where
    not one fits a chip), `params` (of the largest such model with `held` sequences on each chip:
    weights grown evenly), `params_total`, `weights` (bytes in the rack), `capacity`. Memory is
    linear in the sequences of a chip: two points give the rest.
    """
    contexts = sorted({*CONTEXTS, int(max(1, facts.machine.context))})
    found = [
        rows for d in facts.domains if (rows := _domain(facts, studies, d, contexts)) is not None
    ]
    if not found:
        return pl.DataFrame()
    each = pl.col("far") / (APART - 1) - pl.col("near") / (APART - 1)
    fixed = pl.col("near") - each
    own = fixed - pl.col("weights_chip") + each * held
    free = (pl.col("room_chip") - own).clip(lower_bound=0.0)
    per_chip = ((pl.col("room_chip") - fixed) / each).floor().clip(lower_bound=0.0)
    return pl.concat(found).select(
        "domain",
        "label",
        "chips",
        "context",
        sequences=per_chip * pl.col("copies_of_attention"),
        params=pl.col("params_total") * free / pl.col("weights_chip"),
        params_total=pl.col("params_total"),
        weights=pl.col("weights_chip") * pl.col("chips"),
        capacity=pl.col("room_chip") * pl.col("chips"),
    )


def _domain(
    facts: Facts, studies: Studies, domain: int, contexts: list[int]
) -> pl.DataFrame | None:
    """Ask for the memory of a chip at 1 and at APART sequences; None where no plan can run."""
    machine = facts.machine
    row = facts.row(facts.fastest, domain)
    tp = 1 if machine.experts or row is None else int(row["tp"])
    dp = max(1, spread(machine.experts, domain) // tp)
    try:
        rows = studies.rows(
            f"one rack of {domain}",
            "workload=decode",
            "parallelism=rack",
            f"hardware.fabric.{machine.inner}.chips={domain}",
            f"parallelism.tp={tp}",
            f"parallelism.dp={dp}",
            f"parallelism.redundant_experts={copies(machine.experts, dp * tp) or 0}",
            axis("batch", (dp, APART * dp)),
            axis("context", contexts),
        ).filter("valid")
    except InputError:  # a fabric whose levels cannot be so large
        return None
    if rows.is_empty():
        return None
    low = pl.col("batch") == dp
    total = pl.col("mem_total_bytes").cast(pl.Float64)
    return rows.group_by("context", maintain_order=True).agg(
        near=total.filter(low).first(),
        far=total.filter(~low).first(),
        weights_chip=pl.col("mem_weights_bytes").first().cast(pl.Float64),
        room_chip=pl.col("mem_capacity_bytes").first().cast(pl.Float64),
        params_total=pl.col("params_total").first().cast(pl.Float64),
        domain=pl.lit(domain),
        label=pl.lit(f"{domain} chips"),
        chips=pl.lit(float(dp * tp)),
        copies_of_attention=pl.lit(float(dp)),
    ).with_columns(pl.col("context").cast(pl.Float64))  # fmt: skip


FACTS = {
    "chips": "",
    "power_w": "W",
    "weight_kg": "kg",
    "cables": "",
    "cable_m": "m",
    "cooling": "",
}
"""Facts about a system that a hardware file may publish, and their units."""


def systems(machine: Machine) -> pl.DataFrame:
    """Return what is published about systems, the reader's own machine first.

    Columns: `name`, those of FACTS, `power_per_chip`, `weight_per_chip`, `source`. Empty where no
    file says anything.
    """
    own = machine.config["hardware"]
    found = {str(own["name"]): own}
    for path in sorted((config.conf_dir() / "hardware").glob("*.yaml")):
        content = _content(path)
        found.setdefault(str(content.get("name")), content)
    rows = [
        {"name": name, **{key: system.get(key) for key in (*FACTS, "source")}}
        for name, content in found.items()
        if (system := (content.get("published") or {}).get("system"))
    ]
    table = pl.DataFrame(
        rows,
        schema={"name": pl.String}
        | {key: pl.String if key == "cooling" else pl.Float64 for key in FACTS}
        | {"source": pl.String},
    )
    return table.with_columns(
        power_per_chip=pl.col("power_w") / pl.col("chips"),
        weight_per_chip=pl.col("weight_kg") / pl.col("chips"),
    )


def _content(path: Path) -> dict[str, object]:
    found = yaml.safe_load(path.read_text(encoding="utf-8"))
    return found if isinstance(found, dict) else {}
