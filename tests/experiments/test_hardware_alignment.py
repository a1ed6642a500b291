"""Machines against models: the map is what sweeps say, and sentences follow it."""

import polars as pl
import pytest
from questions import Asked, check_charts, figures_named, with_config

from roofrack import api, config
from roofrack.conversion import to_study
from roofrack.errors import InputError
from roofrack.experiments import hardware_alignment
from roofrack.experiments.common.columns import COST, SPEED
from roofrack.experiments.common.files import choices
from roofrack.experiments.common.stacks import served
from roofrack.experiments.hardware_alignment.findings import findings
from roofrack.experiments.hardware_alignment.found import Found, gather
from roofrack.experiments.hardware_alignment.rows import reversal, winners
from roofrack.report.page import Finding, Page
from roofrack.report.render import render

PLANS = ("parallelism.tp=[1,8]", "parallelism.dp=[1,8,64]", "parallelism.ep=[1,stage]",
         "batch=[1,64,512,2048]")  # fmt: skip
SMALL = (
    "experiment=hardware_alignment",
    "hardware=gb200_nvl72",
    "model=deepseek_v3",
    "experiment.machines='h100_sxm tpu_v5p'",
    "experiment.models='llama3_1_8b qwen3_235b_a22b'",
    "experiment.domains='8 72'",
    "context=[2048,8192]",
    "workload.dtype.math=[fp8,int8]",
    *PLANS,
)


@pytest.fixture(scope="module")
def found(asked: Asked) -> Found:
    return gather(asked())


def told(found: Found) -> dict[str, Finding]:
    return {f.figure: f for f in findings(found)}


@pytest.mark.parametrize(
    ("machine", "model", "math"),
    [("h100_sxm", "llama3_1_8b", "fp8"), ("tpu_v5p", "qwen3_235b_a22b", "int8")],
)
def test_a_cell_is_what_a_sweep_of_the_pair_says(
    machine: str, model: str, math: str, found: Found
) -> None:
    rows = api.sweep(
        f"hardware={machine}", f"model={model}", "parallelism=single", "workload=decode",
        "dtype=fp8_block", f"workload.dtype.math={math}", "context=8192", *PLANS,
    )  # fmt: skip
    shared = (pl.col("parallelism.ep") != "1") & (model != "llama3_1_8b")
    rows = rows.filter((pl.col("parallelism.dp") == 1) | shared)  # else copies of one machine
    for floor in (0.0, 50.0):
        best = rows.filter(pl.col("valid") & pl.col("fits") & (pl.col(SPEED) >= floor))
        cell = found.facts.at(8192.0, floor).filter(machine=machine, model=model)
        assert cell[COST].item() == pytest.approx(best.collect()[COST].min(), rel=1e-5)


def test_cells_keep_the_speed_and_fit(found: Found) -> None:
    cells = found.facts.cells
    assert (cells[SPEED] >= cells["floor"] * (1 - 1e-6)).all()
    counts = found.facts.counts
    assert (counts["fits"] <= counts["runs"]).all() and (counts["runs"] <= counts["tried"]).all()
    assert counts["fits"].sum() > 0


def test_copies_that_share_nothing_are_tried_once(asked: Asked) -> None:
    run = asked()
    study = to_study(run.jobs[0].config)
    dense = {"model.experts": 0.0, "model.moe_layers": 0.0}
    counts = served(study, [{}, dense]).counts.sort("item")
    # batches x contexts x (tp with dp 1 and ep 1, and tp x dp with the experts spread)
    assert counts["tried"].to_list() == [4 * 2 * (2 + 2 * 3), 4 * 2 * 2]


def test_numbers_given_by_hand_stay_with_their_machine(asked: Asked) -> None:
    run = asked("hardware.usd_per_chip_hour=13.38", "model.layers=30")
    taken = choices(run, run.jobs[0], ["gb200_nvl72", "h100_sxm"], ["deepseek_v3", "llama3_1_8b"])
    price = "hardware.usd_per_chip_hour"
    assert taken.studies["gb200_nvl72"].leaves[price] == 13.38
    assert taken.studies["h100_sxm"].leaves[price] == 2.95
    assert taken.models["deepseek_v3"].leaves["model.layers"] == 30
    assert taken.models["llama3_1_8b"].leaves["model.layers"] == 32


def test_each_machine_has_its_own_losses_unless_one_is_chosen(asked: Asked) -> None:
    names = ["gb200_nvl72", "h100_sxm", "tpu_v5p"]
    for run, wanted in (
        (asked(), ["gb200_nvl72_trtllm", "h100_sxm_trtllm", "default"]),
        (asked("calibration=ideal"), ["ideal"] * 3),
    ):
        taken = choices(run, run.jobs[0], names, ["deepseek_v3"])
        assert [taken.machines[n].config["choices"]["calibration"] for n in names] == wanted


def test_a_file_read_is_the_file_composed(asked: Asked) -> None:
    run = asked()
    taken = choices(run, run.jobs[0], ["tpu_v5p", "h100_sxm"], ["llama3_1_8b"])
    for name in ("tpu_v5p", "h100_sxm"):
        composed = to_study(config.compose([f"hardware={name}", "model=llama3_1_8b"])).leaves
        moved = ("hardware.", "calibration.")
        for path, value in taken.studies[name].leaves.items():
            if path.startswith(moved):
                assert composed[path] == value, path


def test_the_order_of_machines_depends_on_the_model(found: Found) -> None:
    turn = reversal(found.facts)
    if turn is None:
        pytest.fail("no order changes between a dense 8B model and experts over nodes of 8")
    cost = {(r["machine"], r["model"]): r[COST] for r in found.facts.home.iter_rows(named=True)}
    one, other = turn["one"], turn["other"]
    assert cost[other, turn["for_one"]] / cost[one, turn["for_one"]] == pytest.approx(turn["up"])
    assert turn["up"] > 1 and turn["down"] > 1
    assert told(found)["cost"].verdict == "agrees"


def test_winners_are_the_cheapest(found: Found) -> None:
    best = winners(found.facts.home)
    for row in best.iter_rows(named=True):
        same = found.facts.home.filter(pl.col("model") == row["model"])
        assert row[COST] == same[COST].min()


def test_elasticities_follow_a_price_of_one(found: Found) -> None:
    price = found.tornado.filter(pl.col("what") == "price of a chip")["elasticity"]
    assert price.item() == pytest.approx(1.0)
    assert "price" not in " ".join(found.nexts["what"].unique())


def test_what_is_bought_never_costs_more(found: Found) -> None:
    assert (found.bought["saving"] >= -1e-9).all()
    saved = dict(found.bought.select("what", "saving").iter_rows())
    assert saved["memory bandwidth"] > 0.05
    worth = found.bought["worth"] / found.facts.price("gb200_nvl72")
    assert worth.to_list() == pytest.approx((1 / (1 - found.bought["saving"]) - 1).to_list())


def test_small_domains_hurt_many_experts(found: Found) -> None:
    rows = found.domains.filter(pl.col("model") == "deepseek_v3").sort("domain")
    assert rows["over"][0] > rows["over"][-1]
    assert told(found)["domains"].verdict == "agrees"
    assert "256 experts" in told(found)["domains"].text


def test_a_latent_is_not_divided_by_tp(found: Found) -> None:
    rows = found.heads.filter(pl.col("model") == "deepseek_v3", pl.col("tp") == 8)
    assert rows["copies"].item() == 8 and rows["over"].item() > 2
    assert "one latent" in told(found)["heads"].text


def test_a_torus_is_no_switch(found: Found) -> None:
    assert set(found.wired["machine"]) == {"Google TPU v5p"}
    assert (found.wired["over"] > 1).all()
    assert told(found)["wired"].verdict == "agrees"


def test_a_cheaper_machine_changes_the_sentence(asked: Asked, found: Found) -> None:
    other = gather(asked("hardware.usd_per_chip_hour=0.01"))
    assert "GB200" in told(other)["live_cost"].text.partition(";")[0]
    assert told(other)["live_cost"].text != told(found)["live_cost"].text
    assert told(other)["domains"].text == told(found)["domains"].text  # ratios see no price


def test_the_page_is_drawn_and_small(page: Page) -> None:
    assert {f.figure for f in page.findings} <= figures_named(page)
    assert all(table.width <= 12 for table in page.datasets.values())
    check_charts(page)
    assert render(page)
    maps = {job.name: job.overrides for job in page.provenance.jobs}
    assert "hardware=h100_sxm" in maps["map: h100_sxm"]
    assert any("rubin_nvl72" in text for text in page.limits)


ALONE = ("experiment.machines='h100_sxm'", "experiment.models='llama3_1_8b'", "hardware=h100_sxm",
         "model=llama3_1_8b", "context=8192", "batch=32", "parallelism.tp=1", "parallelism.dp=1",
         "parallelism.ep=1", "workload.dtype.math=fp8", "experiment.speeds='0'")  # fmt: skip


def test_one_of_everything_still_makes_a_page(asked: Asked) -> None:
    page = hardware_alignment.page(asked(*ALONE))
    assert "Llama 3.1 8B on NVIDIA H100 SXM: $" in page.answer
    assert render(page)


def test_the_blackboard_and_what_does_not_fit_are_said(asked: Asked) -> None:
    lone = [t for t in ALONE if not t.startswith(("hardware=", "model=", "experiment.m"))]
    board = asked("hardware=blackboard", "model=blackboard", "experiment.machines='l4'",
                 "experiment.models='gpt3_175b'", *lone)  # fmt: skip
    page = hardware_alignment.page(board)
    assert "Not served by any plan tried" in page.findings[-1].text
    assert "GPT-3 175B" in page.findings[-1].text
    assert "Nothing can serve here" in page.answer
    assert render(page)


def test_hostile_names_stay_text(asked: Asked) -> None:
    evil = "</script>\"'{{x}}<b>"
    run = with_config(with_config(asked(), "hardware", name=evil), "model", name=evil)
    html = render(hardware_alignment.page(run))
    assert evil not in html and "</script>\"'" not in html


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("experiment.machines=h100_smx", "h100_smx"),
        ("experiment.models=7", "experiment.models=7"),
        ("experiment.speeds=-1", "experiment.speeds"),
        ("experiment.factor=1", "experiment.factor"),
    ],
)
def test_settings_are_checked(override: str, message: str, asked: Asked) -> None:
    with pytest.raises(InputError, match=message):
        hardware_alignment.page(asked(override))


def test_only_decoding_is_asked(asked: Asked) -> None:
    with pytest.raises(InputError, match="phase=decode"):
        hardware_alignment.page(with_config(asked(), "workload", phase="prefill"))


def test_sources_of_all_machines_and_models_are_told(page: Page) -> None:
    told = {what.split(":")[0] for what, _ in page.provenance.sources}
    machines = [what for what in told if what.startswith("hardware ")]
    models = [what for what in told if what.startswith("model ")]
    assert len(machines) > 1 and len(models) > 1
