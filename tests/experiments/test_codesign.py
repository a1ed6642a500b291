"""Shapes of a model: as many parameters as it has, and sentences that follow the machine."""

import polars as pl
import pytest
from questions import Asked, check_charts, figures_named, with_config

from roofrack import api, config
from roofrack.conversion import to_study
from roofrack.errors import InputError
from roofrack.experiments import codesign
from roofrack.experiments.codesign.findings import findings
from roofrack.experiments.codesign.rows import Facts, dataset, facts
from roofrack.experiments.codesign.shapes import Choice, Family, Rules, kind_words
from roofrack.experiments.common.columns import COST, SPEED
from roofrack.model import count
from roofrack.report.page import Finding, figures_of
from roofrack.report.render import render

PLANS = ("parallelism.tp=[1,8]", "parallelism.dp=[1,8,32]", "parallelism.ep=[1,stage]",
         "batch=[1,64,256,768]")  # fmt: skip
SMALL = (
    "experiment=codesign",
    "hardware=gb200_nvl72",
    "model=qwen3_235b_a22b",
    "experiment.compare=tpu_v5p",
    "experiment.machines='h100_sxm gb200_nvl72'",
    "experiment.depths='0.5 1 2'",
    "experiment.grains='0.5 1 4'",
    "experiment.kv_heads='1 4 8 64'",
    "experiment.formats=fp8_block",
    "context=[2048,8192]",
    "workload.dtype.math=[fp8,int8]",
    *PLANS,
)
RULES = Rules(128.0, 0.02, 0.05)


@pytest.fixture(scope="module")
def found(asked: Asked) -> Facts:
    return facts(asked())


def told(found: Facts) -> dict[str, Finding]:
    return {f.figure: f for f in findings(found)}


def family(model: str, *donors: str) -> Family:
    studies = {m: to_study(config.compose([f"model={m}"])) for m in (model, *donors)}
    leaves = {
        m: {p: v for p, v in s.leaves.items() if p.startswith("model.")} for m, s in studies.items()
    }
    return Family(studies[model], model, leaves, RULES)


@pytest.mark.parametrize("model", ["qwen3_235b_a22b", "deepseek_v3", "llama3_1_70b"])
def test_shapes_keep_the_parameters(model: str) -> None:
    made = family(model, "gemma3_27b")
    base = made.as_it_is()
    layers = base.choice.layers
    asked = [Choice(round(layers * d), 1.0, model) for d in (0.5, 0.7, 1.4, 2)]
    asked.append(Choice(layers, 1.0, "gemma3_27b"))
    for choice in asked:
        shape = made.shape(choice)
        assert shape is not None, choice
        assert shape.total == pytest.approx(base.total, rel=RULES.tolerance)
        assert shape.active == pytest.approx(base.active, rel=RULES.active_tolerance)
        assert shape.leaves["model.layers"] == choice.layers
        assert shape.leaves["model.d_model"] % RULES.step == 0
        hidden = "model.d_ff_expert" if made.is_moe else "model.d_ff"
        assert shape.leaves[hidden] % (RULES.step / 2) == 0
        counts = count(made.study.bind(dict(shape.leaves)).model)  # on plain numbers
        assert float(counts.total) == shape.total and float(counts.active) == shape.active


def test_a_cut_of_the_experts_moves_no_parameters() -> None:
    made = family("qwen3_235b_a22b")
    shape = made.shape(Choice(94.0, 4.0, "qwen3_235b_a22b"))
    assert shape is not None
    assert shape.leaves["model.experts"] == 512 and shape.leaves["model.experts_per_token"] == 32
    assert shape.leaves["model.d_ff_expert"] == 1536 / 4
    assert shape.leaves["model.d_model"] == 4096  # the router grows, hardly more


def test_more_experts_keep_the_active_parameters() -> None:
    made = family("qwen3_235b_a22b")
    shape = made.sparser(2.0)
    assert shape is not None
    router = 94 * 4096 * 128
    assert shape.active - made.active == router
    assert shape.total - made.total == router + 94 * 128 * 3 * 4096 * 1536
    assert made.sparser(1 / 32) is None  # fewer than a token visits
    assert made.sparser(0.3) is None


def test_attention_comes_from_another_model() -> None:
    made = family("qwen3_235b_a22b", "deepseek_v3", "gemma3_27b", "qwen3_next_80b_a3b")
    words = {}
    for kind in made.donors:
        shape = made.shape(Choice(94.0, 1.0, kind))
        assert shape is not None
        words[kind] = kind_words(shape.leaves)
        assert shape.leaves["model.experts"] == 128
        assert shape.leaves["model.heads"] % 8 == 0
    assert words == {
        "qwen3_235b_a22b": "4 KV heads",
        "deepseek_v3": "latent (MLA)",
        "gemma3_27b": "window of 1024 in 79 of 94 layers",
        "qwen3_next_80b_a3b": "linear in 70 of 94 layers",
    }


def test_what_no_width_keeps_is_left_out() -> None:
    made = family("qwen3_235b_a22b")
    assert made.shape(Choice(94.0, 1.0, "qwen3_235b_a22b", kv_heads=4096.0)) is None


def test_a_cell_is_what_a_sweep_of_the_shape_says(found: Facts) -> None:
    place = found.members["depth"][0]
    shape = found.shapes[place]
    assert shape.leaves["model.layers"] == 47
    leaves = [f"{p}={v:g}" for p, v in shape.leaves.items() if v != found.family.base[p]]
    rows = api.sweep(
        "hardware=gb200_nvl72", "model=qwen3_235b_a22b", "parallelism=single", "workload=decode",
        "dtype=fp8_block", "workload.dtype.math=fp8", "context=8192", *PLANS, *leaves,
    ).filter(pl.col("valid") & pl.col("fits") & (pl.col(SPEED) >= 50))  # fmt: skip
    shared = (pl.col("parallelism.dp") == 1) | (pl.col("parallelism.ep") != "1")
    cell = found.home().filter(pl.col("shape") == place)
    assert cell[COST].item() == pytest.approx(rows.filter(shared).collect()[COST].min(), rel=1e-5)


def test_the_model_as_it_is_is_the_measure(found: Facts) -> None:
    data = dataset(found)
    assert set(data["slice"]) == {"depth", "kv", "kind", "grain", "sparse"}
    for name in ("depth", "kv", "grain"):
        rows = found.sliced(name)
        assert 1.0 in rows["over"].to_list()
    same = data.filter(pl.col("slice") == "kv", pl.col("value") == 4)
    assert same["over"].drop_nulls().to_list() == [1.0] * same.height


def test_depth_costs_latency(found: Facts) -> None:
    steps = dict(found.quick.select("shape", "step_s").iter_rows())
    few, _, many = found.members["depth"]
    assert steps[few] < steps[0] < steps[many]
    finding = told(found)["quick"]
    assert finding.verdict == "agrees" and "µs to the quickest step" in finding.text


def test_without_overheads_depth_costs_less(asked: Asked, found: Facts) -> None:
    bare = facts(asked("calibration=ideal"))

    def each(some: Facts) -> float:
        steps = dict(some.quick.select("shape", "step_s").iter_rows())
        few, _, many = some.members["depth"]
        return steps[many] - steps[few]

    assert each(bare) < 0.2 * each(found)
    assert told(bare)["quick"].text != told(found)["quick"].text


def test_fewer_kv_heads_are_cheaper(found: Facts) -> None:
    rows = found.sliced("kv").sort("over")
    heads = [found.shapes[i].leaves["model.kv_heads"] for i in rows["shape"]]
    assert heads == sorted(heads)
    text = told(found)["kv"].text
    assert "8 KV heads instead of 64 save" in text or "8 KV heads instead of" in text
    assert told(found)["kv"].verdict == "agrees"


def test_the_search_has_every_shape_and_the_best_is_told(found: Facts) -> None:
    rows = found.searched.filter(pl.col("machine") == "gb200_nvl72")
    assert rows["shape"].max() < found.made.equal
    best = rows.sort(COST).row(0, named=True)
    assert best["words"] in told(found)["search"].text
    assert "not modelled" in told(found)["search"].text


def test_another_machine_changes_the_sentences(asked: Asked, found: Facts) -> None:
    other = facts(asked("hardware=tpu_v5p"))
    for figure in ("search", "quick", "kv"):
        assert told(other)[figure].text != told(found)[figure].text
    assert "Google TPU v5p" in told(other)["search"].text


def test_a_dense_model_has_no_experts_to_cut(asked: Asked) -> None:
    page = codesign.page(asked("model=llama3_1_8b", "hardware=h100_sxm"))
    keys = {figure.key for figure in figures_of(page)}
    assert "depth" in keys and "kv" in keys and not keys & {"grain", "sparse"}
    assert render(page)


def test_the_page_is_drawn_and_small(asked: Asked) -> None:
    page = codesign.page(asked("experiment.formats=nvfp4"))
    figures_named(page)
    assert all(table.width <= 12 for table in page.datasets.values())
    check_charts(page)
    assert any("Quality is not modelled" in text for text in page.limits)
    assert any("2001.08361" in text for text in page.limits)
    assert render(page)


ALONE = ("experiment.machines=h100_sxm", "experiment.compare=h100_sxm", "hardware=h100_sxm",
         "model=llama3_1_8b", "context=2048", "batch=32", "parallelism.tp=1", "parallelism.dp=1",
         "parallelism.ep=1", "workload.dtype.math=fp8", "experiment.speeds=0",
         "experiment.depths=1", "experiment.kv_heads=8", "experiment.attention=llama3_1_8b",
         )  # fmt: skip


def test_one_of_everything_still_makes_a_page(asked: Asked) -> None:
    page = codesign.page(asked(*ALONE))
    assert "Llama 3.1 8B on NVIDIA H100 SXM costs $" in page.answer
    assert render(page)


def test_totals_have_no_shape(asked: Asked) -> None:
    page = codesign.page(asked("model=blackboard", "hardware=blackboard"))
    assert "no architecture" in page.findings[0].text and not page.sections
    assert render(page)


def test_what_does_not_fit_is_said(asked: Asked) -> None:
    lone = [t for t in ALONE if not t.startswith(("model=", "hardware=", "experiment.m"))]
    little = ("model=gpt3_175b", "hardware=l4", "experiment.machines=l4", "experiment.compare=l4")
    page = codesign.page(asked(*lone, *little))
    assert "cannot be served on NVIDIA L4" in page.answer and "2,048 tokens" in page.answer
    assert "not served by any plan tried" in page.findings[-1].text
    assert render(page)


def test_hostile_names_stay_text(asked: Asked) -> None:
    evil = "</script>\"'{{x}}<b>"
    run = asked(*ALONE)
    run = with_config(with_config(run, "hardware", name=evil), "model", name=evil)
    html = render(codesign.page(run))
    assert evil not in html and "</script>\"'" not in html


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("experiment.compare=h100_smx", "h100_smx"),
        ("experiment.depths=-1", "experiment.depths"),
        ("experiment.tolerance=0", "experiment.tolerance"),
        ("experiment.formats=3", "experiment.formats"),
    ],
)
def test_settings_are_checked(override: str, message: str, asked: Asked) -> None:
    with pytest.raises(InputError, match=message):
        codesign.page(asked(override))
