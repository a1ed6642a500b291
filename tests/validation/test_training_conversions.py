"""The conversions of the published training runs, against what their sources print besides."""

import re

import pytest

from roofrack.errors import InputError
from roofrack.model import Model
from roofrack.validation import training, training_flops, training_table
from roofrack.validation.training import shape, training_rows

LINES = {line["id"]: line for line in (*training_table.runs(), *training_table.vtrain())}
ROWS = {row.id: row for row in training_rows()}
PREDICTED = [row for row in ROWS.values() if not row.why_not]


def flop(name: str, convention: str) -> float:
    """FLOP of a step of a run by a convention."""
    return training_flops.convention(convention)(shape(LINES[name]))


def seconds(name: str) -> float:
    measured = ROWS[name].measured
    assert measured is not None and ROWS[name].compared == "step_s"
    return measured


def printed(name: str, pattern: str) -> float:
    """A figure that the source prints of a run, from its notes."""
    found = re.search(pattern, ROWS[name].notes)
    assert found, f"{name}: {ROWS[name].notes}"
    return float(found[1])


def of(group: str) -> list[str]:
    found = [row.id for row in PREDICTED if row.group == group]
    assert found
    return found


def rounded(value: float, figure: float, digits: int, slack: float = 0.0) -> bool:
    """Whether a value is within half a unit of the last digit, and a share of it, of a figure."""
    return abs(value - figure) <= 0.5000001 * 10.0**-digits + slack * figure


def test_a_convention_that_there_is_not_is_named():
    with pytest.raises(InputError, match=r"flops=palm_2023: no such.*palm_2022"):
        training_flops.convention("palm_2023")
    with pytest.raises(InputError, match="prints no FLOP/s"):
        flop("mt_nlg_2240", "printed_time")


def test_megatron_there_and_back():
    """TFLOP/s of table 1 to seconds by equation 3, and from them its petaFLOP/s of all GPUs."""
    aggregate = [4.4, 8.8, 18.2, 34.6, 70.8, 143.8, 227.1, 297.4, 410.2, 502.0]
    shares = [44, 44, 46, 43, 44, 45, 47, 50, 52, 52]
    names = of("megatron_2021_weak_scaling")
    for name, total, share in zip(names, aggregate, shares, strict=True):
        line = LINES[name]
        s, h, layers = 2048, shape(line).d_model, shape(line).layers
        by_hand = 96 * int(line["global_batch"]) * s * layers * h**2
        by_hand *= 1 + s / (6 * h) + 51200 / (16 * layers * h)
        assert flop(name, "megatron_2021") == pytest.approx(by_hand, rel=1e-12)
        rate = by_hand / seconds(name)
        assert rate / int(line["chips"]) == pytest.approx(line["measured"] * 1e12, rel=1e-12)
        assert rate / 1e15 == pytest.approx(total, rel=0.006)  # the printed TFLOP/s are rounded
        assert rounded(100 * line["measured"] / 312, share, 0, slack=0.01)


def test_megatron_table_2_days():
    """End-to-end days of table 2 are tokens over tokens a second (its equation 4)."""
    for name in (*of("megatron_2021_zero3"), *of("megatron_2021_ptd")):
        line = LINES[name]
        days = 300e9 / (int(line["global_batch"]) * 2048) * seconds(name) / 86400
        assert days == pytest.approx(printed(name, r"^(\d+) days"), rel=0.03, abs=0.6)


@pytest.mark.parametrize(
    ("name", "mfu", "hfu"),
    [
        ("korthikanti_t5_22b_selective", 41.5, 43.7),
        ("korthikanti_t5_175b_selective", 51.4, 52.8),
        ("korthikanti_t5_530b_selective", 56.0, 57.0),
        ("korthikanti_t5_1t_selective", 56.3, 57.0),
        ("korthikanti_530b_2240_selective", 54.2, None),
    ],
)
def test_korthikanti_utilisation(name: str, mfu: float, hfu: float | None):
    """Table 5: model FLOPs, and hardware FLOPs whose attention core counts twice (appendix A)."""
    peak = 312e12 * int(LINES[name]["chips"]) * seconds(name)
    assert rounded(100 * flop(name, "korthikanti_2022") / peak, mfu, 1, slack=0.005)
    if hfu:
        s = shape(LINES[name])
        share = 1 + s.sequence / (3 * s.d_model) + s.vocab / (12 * s.d_model * s.layers)
        hardware = 72 * s.tokens * s.layers * s.d_model**2 * share
        assert rounded(100 * hardware / peak, hfu, 1, slack=0.005)


def test_korthikanti_recomputation_costs_what_its_abstract_says():
    slow, fast = (f"korthikanti_530b_2240_{kind}" for kind in ("full", "selective"))
    assert ROWS[slow].quantity == "mfu"
    assert seconds(slow) / seconds(fast) == pytest.approx(1.29, abs=0.005)  # "29 % faster"


@pytest.mark.parametrize("size", ["22b", "175b", "530b", "1t"])
def test_korthikanti_memory_is_the_equation_of_its_table_2(size: str):
    """Bytes of activations of the first stage, tensor parallel and selective with sequence."""
    none, selective = (f"korthikanti_f1_{size}_{kind}" for kind in ("none", "selective"))
    line = LINES[none]
    s, t = shape(line), int(line["tp"])
    heads = s.d_model / (s.attended / Model(**training._shape_file(line["model"])).heads)
    layer = s.sequence * int(line["micro_batch"]) * s.d_model
    p, v = int(line["pp"]), int(line["virtual_stages"])
    held = s.layers * (1 + (p - 1) / (p * v) if v > 1 else 1)
    scores = 5 * heads * s.sequence / (s.d_model * t)
    assert ROWS[none].measured == pytest.approx(held * layer * (10 + 24 / t + scores), rel=2e-3)
    assert ROWS[selective].measured == pytest.approx(held * layer * 34 / t, rel=1e-2)


def test_palm_utilisation():
    """46.2 % with attention, 45.7 % without (section 4.1)."""
    tokens = 238.3e3
    s = shape(LINES["palm_540b_6144"])
    assert s.tokens / seconds("palm_540b_6144") == pytest.approx(tokens, rel=1e-12)
    peak = 275e12 * 6144
    mfu = flop("palm_540b_6144", "palm_2022") / seconds("palm_540b_6144") / peak
    assert 100 * mfu == pytest.approx(46.2, abs=0.1)
    assert 100 * 6 * s.parameters * tokens / peak == pytest.approx(45.7, abs=0.05)


def test_mt_nlg_prints_times_and_the_flops_of_megatron():
    for name, tflops in (("mt_nlg_2240", 126), ("mt_nlg_2800", 121), ("mt_nlg_3360", 113)):
        rate = flop(name, "megatron_2021") / seconds(name) / int(LINES[name]["chips"])
        assert rate / 1e12 == pytest.approx(tflops, rel=0.01)


def test_megascale_prints_tokens_beside_times():
    tokens = [39.3, 74.1, 103.8, 132.7, 433.6, 851.6, 1027.9, 1466.8]
    for name, thousand in zip(of("megascale_megatron_lm"), tokens, strict=True):
        per_second = shape(LINES[name]).tokens / seconds(name)
        assert per_second / 1e3 == pytest.approx(thousand, rel=0.005)


def test_deepseek_days_for_a_trillion_tokens():
    tokens = shape(LINES["deepseek_v3_2048"]).tokens
    assert tokens == 15360 * 4096
    assert 1e12 / tokens * seconds("deepseek_v3_2048") / 86400 == pytest.approx(3.7, abs=0.05)


def test_llama_3_batches_are_of_16_million_tokens():
    for name in of("llama3_2024"):
        assert shape(LINES[name]).tokens == 2**24
        mfu = 100 * LINES[name]["measured"] / 989
        assert mfu == pytest.approx(printed(name, r"MFU printed: (\d+)"), abs=0.6)


@pytest.mark.parametrize("group", [g for g in training_table.groups() if g.startswith("mosaic")])
def test_mosaic_utilisation(group: str):
    """Every MFU of llm-foundry's tables from its tokens a second, and its numbers of parameters."""
    peak = {"h100_sxm": 989.4e12, "a100_80gb": 312e12, "a100_40gb": 312e12}
    for name in of(group):
        line, s = LINES[name], shape(LINES[name])
        parameters = printed(name, r"NumParams (\d+)")
        positions = s.sequence * s.d_model
        assert s.parameters + positions == pytest.approx(parameters, rel=0.004)
        as_printed = s._replace(parameters=parameters)
        rate = training_flops.mosaic(as_printed) / seconds(name) / int(line["chips"])
        share = 100 * rate / (peak[line["hardware"]] * (2 if group.endswith("fp8") else 1))
        assert share == pytest.approx(printed(name, r"MFU ([\d.]+) %"), rel=0.002)


def test_megatron_bridge_flops_leave_masked_pairs_out():
    """TFLOP/s that the pages print beside tokens a second; those of DeepSeek-V3 have its MTP."""
    worst = 0.0
    for name in of("mbridge_dense"):
        line = LINES[name]
        rate = flop(name, "causal") / seconds(name) / int(line["chips"]) / 1e12
        worst = max(worst, abs(rate / printed(name, r"^([\d.]+) TFLOP/s") - 1))
    assert worst < 0.03
    deepseek = [name for name in of("mbridge_moe") if "deepseek" in name]
    ratios = {"": [], "1": []}
    for name in deepseek:
        s = shape(LINES[name])
        # its heads are 192 wide for scores and 128 for values: 160 on average
        own = s._replace(attended=128 * 160)
        rate = training_flops.causal(own) / seconds(name) / int(LINES[name]["chips"]) / 1e12
        ratios[LINES[name]["mtp"]].append(printed(name, r"^([\d.]+) TFLOP/s") / rate)
    assert ratios[""] and all(0.98 < ratio < 1.02 for ratio in ratios[""])
    assert ratios["1"] and all(1.02 < ratio < 1.08 for ratio in ratios["1"])


def test_maxtext_shapes_flops_and_shares_of_the_peak():
    for version, peak in (("v5e", 197), ("v5p", 459)):
        for name in of(f"maxtext_{version}"):
            line, s = LINES[name], shape(LINES[name])
            size = float(name.split("_")[2].removesuffix("b")) * 1e9
            assert s.parameters == pytest.approx(size, rel=0.025)
            assert seconds(name) * line["measured"] * 1e12 * int(line["chips"]) == pytest.approx(
                s.tokens * 6 * (s.parameters + s.layers * s.attended * s.sequence), rel=1e-12
            )
            share = 100 * line["measured"] / peak
            assert share == pytest.approx(printed(name, r"MFU ([\d.]+) %"), abs=0.8)


def test_megatron_core_counts_the_matrices_of_its_table():
    """Model sizes of the README's table, in billions."""
    for name in of("mcore_h100"):
        size = float(name.removeprefix("mcore_h100_").removesuffix("b").replace("_", ".")) * 1e9
        assert shape(LINES[name]).parameters == pytest.approx(size, rel=0.045)


def test_memory_in_gib_is_in_bytes():
    name = "torchtitan_8b_128_compile_memory"
    assert ROWS[name].compared == "peak_memory_bytes"
    assert ROWS[name].measured == 62.0 * 2**30
    assert ROWS[name].overrides == ROWS[name.removesuffix("_memory")].overrides
