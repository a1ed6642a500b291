"""Fits over the chips of a family: what they recover, and what they say of a chip not seen."""

from importlib.util import find_spec

import numpy as np
import polars as pl
import pytest
from model.cases import CONF, from_file, study

from roofrack.cost import estimate
from roofrack.errors import InputError
from roofrack.fitting import pools
from roofrack.fitting.families import FAMILIES, family
from roofrack.fitting.fit import MOST, Bound
from roofrack.fitting.forms import Form, Subject
from roofrack.fitting.pools import Pool, alone, joint, left_out, missed

FILES = sorted(name for name in FAMILIES if (CONF / "calibration" / f"{name}.yaml").exists())
PEAKS = {"a": 1e14, "b": 3e14, "c": 1e15, "d": 2e15}
BOUNDS = {"compute_efficiency": Bound(0.1, 0.5, 1.0), "launch_s": Bound(1e-7, 1e-6, 1e-3)}
silicon = pytest.mark.skipif(
    find_spec("aiconfigurator_core") is None, reason="needs the package aiconfigurator-core"
)


def law(numbers, columns):
    """A kernel without memory: its work at a share of the peak, and a launch."""
    busy = columns["flops"] / (columns["peak"] * numbers["compute_efficiency"])
    return busy + numbers["launch_s"]


def measured(chip, slower=1.0, rows=400):
    draw = np.random.default_rng(int(PEAKS[chip] / 1e13))
    flops = 10 ** draw.uniform(9, 13, rows)
    columns = {"flops": flops, "peak": np.full(rows, PEAKS[chip])}
    exact = law({"compute_efficiency": 0.6, "launch_s": 5e-6}, columns)
    noise = np.exp(0.02 * draw.standard_normal(rows))
    return pl.DataFrame(
        columns | {"seconds": slower * exact * noise, "backend": "engine", "version": "1"}
    )


@pytest.fixture
def pool(monkeypatch):
    monkeypatch.setattr(
        Subject, "seconds", lambda self, given: lambda numbers, of: law(given | numbers, of)
    )
    calls = {chip: measured(chip, 1.5 if chip == "d" else 1.0) for chip in PEAKS}
    return Pool(Subject("gemm", "bf16"), calls, (Form({"tile": 64.0}, BOUNDS),), {})


def test_chips_of_other_peaks_share_their_numbers(pool):
    found = joint(pool, ["a", "b", "c"])
    assert found.fit.numbers["compute_efficiency"] == pytest.approx(0.6, rel=0.01)
    assert found.fit.numbers["launch_s"] == pytest.approx(5e-6, rel=0.02)
    assert found.chip == "a, b, c"
    assert found.given == {"tile": 64.0}


def test_a_chip_left_out_is_missed_by_what_it_differs(pool):
    errors = left_out(pool, [["a"], ["b"], ["d"]])
    # everything takes 1.5 times as long on d: predicted from a and b, a third is missing
    assert errors["d"].mean == pytest.approx(1 - 1 / 1.5, abs=0.02)
    assert errors["d"].rel_std == pytest.approx(np.log(1.5), abs=0.02)
    assert errors["d"].points == 400
    assert errors["a"].mean > 0.05  # half of what its prediction rests on is d


def test_a_whole_family_is_left_out_at_once(pool):
    pool = pool._replace(calls=pool.calls | {"b": measured("b", 1.5)})
    errors = left_out(pool, [["b", "d", "not measured"], ["a", "c"]])
    assert list(errors) == ["b", "d", "a", "c"]
    for chip in "bd":  # neither saw the other
        assert errors[chip].mean == pytest.approx(1 - 1 / 1.5, abs=0.02)
    for chip in "ac":
        assert errors[chip].mean == pytest.approx(0.5, abs=0.03)
    assert left_out(pool, [["a", "c"]]) == {}


def test_a_long_table_does_not_outweigh_a_short_one(pool):
    # the longer table is of the slower chip: with every call counted it would win
    long = pool._replace(calls={"a": measured("a"), "d": measured("d", 1.5, 40 * MOST)})
    drawn = pools._even(list(long.calls.values()))
    assert drawn.filter(pl.col("peak") == PEAKS["d"]).height < 0.7 * MOST
    assert drawn.filter(pl.col("peak") == PEAKS["a"]).height == 400


def test_of_a_chip_alone_every_call_is_counted(pool):
    long = pool._replace(calls={"a": measured("a", rows=2 * MOST)})
    assert alone(long, "a").fit.points == 2 * MOST
    assert joint(long, ["a"]).fit.points < 2 * MOST
    assert alone(long, "b") is None


def test_numbers_of_another_table_are_given_not_fitted(pool):
    known = pool._replace(known={"a": {"launch_s": 4e-6}, "b": {"launch_s": 6e-6}})
    found = joint(known, ["a", "b", "c"])
    assert found.given == pytest.approx(
        {"tile": 64.0, "launch_s": 5e-6}
    )  # the mean of those that have it
    assert list(found.fit.numbers) == ["compute_efficiency"]
    assert joint(known, ["c"]).given == {"tile": 64.0}


def test_missing_and_few_calls_are_no_fit(pool):
    assert joint(pool, ["e"]) is None
    assert joint(pool._replace(calls={"a": measured("a", rows=5)}), ["a"]) is None


def test_what_a_fit_misses_of_its_own_calls_is_the_noise(pool):
    own = missed(pool, joint(pool, ["b"]), "b")
    assert own.mean == pytest.approx(0.02 * np.sqrt(2 / np.pi), rel=0.2)


def test_unknown_chips_and_backends_are_named():
    with pytest.raises(InputError, match="chip=h100: allowed"):
        family(["h100"], "trtllm")
    with pytest.raises(InputError, match=r"backend=trt: allowed.*trtllm"):
        family(["h100_sxm"], "trt")


def test_chips_are_pooled_by_the_kernel_that_they_share():
    def table(**counts):
        kernels = [kernel for kernel, count in counts.items() for _ in range(count)]
        shape = {"format": "nvfp4", "tokens": 8.0, "top_k": 8.0, "tp": 1.0, "ep": 1.0}
        return pl.DataFrame({"kernel": kernels}).with_columns(
            pl.lit(value).alias(name) for name, value in shape.items()
        )

    read = {"a": table(small=80, large=20), "b": table(large=100), "c": table(other=10)}
    read["a"] = pl.concat([read["a"], read["c"].with_columns(format=pl.lit("fp8"))])
    found = pools._one_kernel(read, Subject("moe", "fp4"))
    assert {chip: set(t["kernel"]) for chip, t in found.items()} == {
        "a": {"large"}, "b": {"large"}, "c": {"other"},
    }  # fmt: skip


@silicon
def test_a_chip_brings_its_data_sheet():
    pool = pools.gather(Subject("mla_prefill", "bf16"), ["h200_sxm"], "trtllm")
    sheet = from_file("hardware", "h200")
    for column, leaf in (
        ("peak", sheet["flops_per_s"]["bf16"]),
        ("hbm_bytes_per_s", sheet["hbm_bytes_per_s"]),
        ("sms", sheet["sms"]),
    ):
        assert pool.calls["h200_sxm"][column].unique().to_list() == [leaf]


def test_every_family_has_its_file():
    assert FILES == sorted(FAMILIES)


@pytest.mark.parametrize("name", FILES)
def test_a_family_stands_for_a_chip_without_tables(name):
    hardware = {"ampere": "a100_40gb", "hopper": "h20", "ada": "l4", "blackwell": "gb200_superpod"}
    scenario = study(hardware[name], "llama3_1_8b", name).bind({})
    columns = estimate(scenario)
    assert columns["step_s"] > 0
    # wider than no error at all, narrower than knowing nothing
    assert 0.02 < columns["step_s_rel_std"] < 0.6


@pytest.mark.parametrize("name", [n for n in FILES if len(FAMILIES[n]) > 1])
def test_error_bars_of_a_family_are_of_chips_left_out(name):
    tree = from_file("calibration", name)
    for of, noted in tree["fits"].items():
        words = noted.get("left_out", "").split()
        means = [float(word) for word in words[1::2]]
        if not means or of.startswith("scale_up"):
            continue
        group, kind = of.split(".")
        # a deviation is at least the mean absolute error, but for those that are too slow by much
        assert tree["kernel"][group][kind]["rel_std"] > 0.75 * np.mean(means)
        assert set(words[0::2]) <= {c for chips in FAMILIES.values() for c in chips}
