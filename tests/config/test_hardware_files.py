"""The machines of conf/hardware: every file evaluates, and no number is off by a factor of two.

What a data sheet may get wrong in copying: a 2:4 sparse peak for a dense one, both directions of a
link for one, a node's or superchip's figure for a chip's, GB for TB.
"""

import math
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

import roofrack
from roofrack import config, schema
from roofrack.conversion import DEPTH
from roofrack.tables import MATH_UNITS, TOPOLOGIES

CONF = Path(__file__).resolve().parents[2] / "conf"
FILES = sorted(path.stem for path in (CONF / "hardware").glob("*.yaml"))
ABSTRACT = {"blackboard"}  # a lecture's round numbers, no machine
MACHINES = [name for name in FILES if name not in ABSTRACT]
PROMISED = set(
    "a100_80gb h100_sxm h800 h200 b200 b300 gb200_nvl72 gb300_nvl72 rubin_nvl72 mi300x mi325x"
    " mi355x tpu_v4 tpu_v5e tpu_v5p tpu_v6e tpu_v7".split()
)
"""Names that users and other files rely on."""

# Rows of public tables, read apart from the files: (dense 16-bit peak in TFLOP/s, memory in GB,
# TB/s of memory, GB/s of one chip's scale-up links in one direction).
# stas00/ml-engineering compute/accelerator and network READMEs, 2026; H20: alibaba/InferSim.
TABLE = {
    "a100_80gb": (312, 80, 2.0, 300),
    "h100_sxm": (989, 80, 3.35, 450),
    "h100_pcie": (756, 80, 2.0, None),
    "h200": (989, 141, 4.8, 450),
    "gh200": (989, 96, 4.0, 450),
    "h20": (148, 96, 4.0, 450),
    "b200": (2250, 180, 8.0, 900),
    "b300": (2250, 288, 8.0, 900),
    "gb200_nvl72": (2500, 186, 8.0, 900),
    "gb300_nvl72": (2500, None, 8.0, 900),
    "rubin_nvl72": (4000, 288, 22.0, 1800),
    "mi300x": (1300, 192, 5.3, 448),
    "mi325x": (1300, 256, 6.0, 448),
    "mi355x": (2500, 288, 8.0, 535.5),
    "gaudi2": (432, 96, 2.46, None),
    "gaudi3": (1677, 128, 3.7, None),
    "l40s": (362, 48, 0.86, 31),
    "trainium2": (667, 96, 2.9, None),
    "tpu_v4": (275, 32, 1.2, None),
    "tpu_v5e": (197, 16, 0.82, None),
    "tpu_v5p": (459, 95, 2.76, None),
    "tpu_v7": (2307, None, None, 600),
}

each_file = pytest.mark.parametrize("name", FILES)
each_machine = pytest.mark.parametrize("name", MACHINES)


@cache
def machine(name: str) -> dict[str, Any]:
    return config.compose([f"hardware={name}"])["hardware"]


def test_the_promised_machines_are_there_and_enough_others():
    assert set(FILES) >= PROMISED | ABSTRACT
    assert len(MACHINES) >= 24


@pytest.mark.slow
def test_machines_have_names_of_their_own():
    names = [machine(name)["name"] for name in FILES]
    assert all(isinstance(name, str) and name for name in names)
    assert len(set(names)) == len(names)


@each_file
def test_a_decode_step_is_finite_on_units_the_chip_has(name: str):
    units = machine(name)["flops_per_s"]
    dtype = next(unit for unit in ("bf16", "fp16") if units[unit] > 0)
    small = "llama3_1_8b" if (CONF / "model" / "llama3_1_8b.yaml").is_file() else "llama2_13b"
    chosen = (f"hardware={name}", f"model={small}", "parallelism=single", f"dtype={dtype}")
    answer = roofrack.estimate(roofrack.scenario(*chosen))
    assert math.isfinite(answer["step_s"]) and answer["step_s"] > 0
    # one chip cannot read the weights faster than its memory delivers them
    read = answer["mem_weights_bytes"] / machine(name)["hbm_bytes_per_s"]
    assert read < answer["step_s"] < 100 * read
    assert answer["t_scale_up_s"] == answer["t_scale_out_s"] == 0


@each_file
def test_prices_are_ordered_and_dated(name: str):
    chip = machine(name)
    low, typical, high = (chip[f"usd_per_chip_hour{end}"] for end in ("_low", "", "_high"))
    assert 0 < low <= typical <= high
    assert isinstance(chip["price_date"], str) and chip["price_date"].strip()


@each_machine
def test_peaks_are_dense(name: str):
    """A unit for half as wide a format is as fast, or 2 to 5 times: a sparse peak stands out."""
    peaks = machine(name)["flops_per_s"]
    assert set(peaks) == set(MATH_UNITS)
    half = peaks["bf16"] or peaks["fp16"]
    assert half > 0
    if peaks["bf16"] and peaks["fp16"] and not name.startswith("gaudi"):
        assert peaks["bf16"] == peaks["fp16"]
    assert peaks["fp32"] <= half
    assert peaks["tf32"] <= 0.51 * half or name.startswith("trainium")
    if peaks["fp8"]:
        assert 0.99 * half <= peaks["fp8"] <= 4.5 * half
    if peaks["fp4"]:
        assert 1.99 * peaks["fp8"] <= peaks["fp4"] <= 3.1 * peaks["fp8"]
    if peaks["int8"] >= half:  # Blackwell Ultra has next to none
        assert peaks["int8"] <= 2.05 * half


@pytest.mark.parametrize("name", TABLE)
def test_figures_agree_with_a_table_read_apart(name: str):
    chip, (peak, memory, bandwidth, links) = machine(name), TABLE[name]
    assert chip["flops_per_s"]["bf16"] == pytest.approx(peak * 1e12, rel=0.01)
    if memory:  # some vendors' GB are GiB
        assert 0.99 * memory * 1e9 < chip["hbm_bytes"] < 1.01 * memory * 2**30
    if bandwidth:
        assert chip["hbm_bytes_per_s"] == pytest.approx(bandwidth * 1e12, rel=0.04)
    if links:
        scale_up = chip["fabric"]["scale_up"]
        assert scale_up["bytes_per_s"] == pytest.approx(links * 1e9, rel=0.02)


@each_file
def test_memory_drains_in_tens_of_milliseconds(name: str):
    chip = machine(name)
    assert 5e-3 < chip["hbm_bytes"] / chip["hbm_bytes_per_s"] < 120e-3


@each_file
def test_levels_are_named_and_nested(name: str):
    fabric = machine(name)["fabric"]
    levels = list(fabric.values())
    assert list(fabric)[:2] == ["scale_up", "scale_out"]
    assert 2 <= len(levels) <= DEPTH
    for inner, outer in pairwise(levels):
        assert outer["chips"] > inner["chips"]
        assert outer["chips"] % inner["chips"] == 0 or outer["chips"] == 1_000_000
        assert outer["bytes_per_s"] < inner["bytes_per_s"] or inner["topology"] == "switched"
        assert outer["bytes_per_s"] <= inner["bytes_per_s"]
    for level in levels:
        axes = TOPOLOGIES[level["topology"]].axes
        assert not (axes and level.get("in_network_reduction")), "a torus has no switch"
        assert axes > 1 or level["ring_closes_at"] == 0


def test_some_machines_have_the_levels_of_real_clusters():
    deep = [name for name in MACHINES if len(machine(name)["fabric"]) >= 3]
    assert len(deep) >= 2
    over = {
        name: [level.get("oversubscription", 1) for level in machine(name)["fabric"].values()]
        for name in deep
    }
    assert over["h100_llama3"] == [1, 1, 1, 7]
    assert set(over["b200_superpod"]) == set(over["gb200_superpod"]) == {1}


@each_machine
def test_a_tier_holds_more_and_is_slower_than_what_is_before_it(name: str):
    chip = machine(name)
    speed = chip["hbm_bytes_per_s"]
    for tier in (chip["tiers"]["host"], chip["tiers"]["flash"]):
        assert (tier["bytes"] > 0) == (tier["bytes_per_s"] > 0) == (tier["usd_per_hour"] > 0)
        if tier["bytes"]:
            assert tier["bytes_per_s"] < speed / 4
            speed = tier["bytes_per_s"]
            # a gigabyte for five years costs between 5 cents and 20 dollars
            assert 0.05 < tier["usd_per_hour"] * 43_800 / (tier["bytes"] / 1e9) < 20


def test_the_machines_most_asked_for_have_tiers_and_capital():
    for name in ("h100_sxm", "h200", "b200", "gb200_nvl72", "a100_80gb", "mi300x"):
        chip = machine(name)
        assert chip["tiers"]["host"]["bytes"] and chip["tiers"]["flash"]["bytes"]
        assert chip["capex_usd"]
    for name in MACHINES:
        if name.startswith(("tpu", "trainium")):  # not for sale
            assert machine(name)["capex_usd"] == 0


@each_machine
def test_capital_is_worth_the_rent(name: str):
    """The typical rent pays the capital back in one to seven years."""
    chip = machine(name)
    if chip["capex_usd"]:
        years = chip["capex_usd"] / chip["usd_per_chip_hour"] / (365.25 * 24)
        assert 0.5 < years < 7


@pytest.mark.parametrize(
    ("name", "chip"),
    [
        ("b200_superpod", "b200"),
        ("gb200_superpod", "gb200_nvl72"),
        ("h100_llama3", "h100_sxm"),
        ("trainium2_ultra", "trainium2"),
    ],
)
def test_a_cluster_is_made_of_the_chip_it_names(name: str, chip: str):
    ours = {"name", "fabric", *schema.NOTES}
    cluster, single = machine(name), machine(chip)
    assert {k: v for k, v in cluster.items() if k not in ours} == {
        k: v for k, v in single.items() if k not in ours
    }
    assert cluster["fabric"]["scale_up"] == single["fabric"]["scale_up"]


def test_owning_is_a_choice_of_economics():
    terms = config.compose(["economics=own"])["economics"]
    assert terms["basis"] == "own"
    assert 0 < terms["usd_per_kwh"] < 1 and 1 <= terms["life_years"] <= 10
    others = [p.stem for p in (CONF / "economics").glob("*.yaml") if p.stem != "own"]
    assert others
    for name in others:
        assert config.compose([f"economics={name}"])["economics"]["basis"] == "rent"
