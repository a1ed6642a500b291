"""The published training runs: complete, sourced, none twice, and converted as their sources do."""

import math
import re
from collections import Counter
from typing import Any

import pytest

from roofrack.config import conf_dir
from roofrack.errors import InputError
from roofrack.model import Model, count
from roofrack.validation import published, training, training_table
from roofrack.validation.training import shape, training_rows
from roofrack.validation.training_table import FITTED_TO

LINES = {line["id"]: line for line in (*training_table.runs(), *training_table.vtrain())}
ROWS = {row.id: row for row in training_rows()}
PREDICTED = [row for row in ROWS.values() if not row.why_not]


def given(name: str) -> dict[str, str]:
    return dict(text.split("=", 1) for text in ROWS[name].overrides)


def of(group: str) -> list[str]:
    found = [row.id for row in PREDICTED if row.group == group]
    assert found
    return found


# the table


def test_every_line_is_a_row_and_most_are_predicted():
    assert len(ROWS) == len(LINES) == len(training_rows())
    fitted = [row for row in ROWS.values() if row.why_not == FITTED_TO]
    assert len(fitted) == 720 and len(PREDICTED) > 0.9 * (len(ROWS) - len(fitted)) > 1300
    without = [row for row in PREDICTED if not row.group.startswith("vtrain")]
    assert len(without) > 550
    assert len({row.hardware for row in without}) >= 12
    assert len({row.model for row in without}) >= 30


def test_groups_are_all_used_and_say_what_they_count():
    assert {row.group for row in ROWS.values()} == set(training_table.groups())
    for name, group in training_table.groups().items():
        assert set(group) == {"source", "software", "flops", "settings", "settled", "assumed"}, name


def test_every_row_has_a_public_source_and_where_in_it():
    for row in ROWS.values():
        assert re.search(r"arXiv:\d{4}\.\d{5}|\w/[\w.-]+@[0-9a-f]{9,12}", row.source), row.id
        assert LINES[row.id]["where"].strip(), row.id
        assert "/work" not in row.source and row.software


def test_a_row_is_predicted_or_says_why_not():
    for row in ROWS.values():
        assert bool(row.overrides) == (row.measured is not None) == (not row.why_not), row.id
        assert len(row.why_not) == 0 or len(row.why_not) > 15
    needs = {"glam_64b64e_1024", "palm_t3_gopher_280b", "opt_175b_992", "llama3_405b_16384_131072"}
    assert not needs & {row.id for row in PREDICTED}


def test_no_run_is_there_twice():
    same = Counter((row.overrides, row.compared, row.measured, row.software) for row in PREDICTED)
    repeated = [key for key, times in same.items() if times > 1]
    # releases of one software that measured the same to the last digit are runs of their own
    for overrides, compared, measured, software in repeated:
        alike = [
            row
            for row in PREDICTED
            if (row.overrides, row.compared, row.measured) == (overrides, compared, measured)
        ]
        assert len({row.source for row in alike}) == len(alike), (software, alike[0].id)
    assert len(repeated) < 0.02 * len(PREDICTED)


def test_overrides_choose_files_and_set_known_leaves_once():
    leaves = published._keys() | {"hardware.fabric.scale_up.chips"}
    for row in PREDICTED:
        keys = [text.split("=", 1)[0] for text in row.overrides]
        assert len(set(keys)) == len(keys), row.id
        assert set(published.CHOSEN) < set(keys), row.id
        assert set(keys) - set(published.CHOSEN) <= leaves, row.id
        for group, name in given(row.id).items():
            if group in ("hardware", "model", "dtype", "parallelism"):
                assert (conf_dir() / group / f"{name}.yaml").is_file(), row.id


def test_degrees_make_the_chips_and_micro_batches_the_batch():
    for row in PREDICTED:
        o, line = given(row.id), LINES[row.id]
        n = math.prod(int(o[f"parallelism.{key}"]) for key in ("tp", "pp", "cp", "dp"))
        assert n == int(line["chips"]), row.id
        rank = int(o["parallelism.microbatches"]) * int(o["parallelism.dp"])
        assert int(line["global_batch"]) % rank == 0, row.id
        assert int(o["workload.global_batch"]) >= rank, row.id
        interleaved = o["parallelism.schedule"] == "interleaved"
        assert interleaved == (int(o["parallelism.virtual_stages"]) > 1), row.id
        assert n % int(o["parallelism.ep"]) == 0, row.id


def test_what_is_assumed_is_named_with_its_reason_and_alike_in_a_group():
    for row in PREDICTED:
        assumed = training_table.groups()[row.group]["assumed"]
        assert set(row.assumed) <= set(assumed), row.id
        for key in row.assumed:
            assert len(assumed[key]["why"]) > 10
    for name in of("megatron_2021_weak_scaling"):
        o = given(name)
        assert "micro_batch" in ROWS[name].assumed
        assert int(o["parallelism.microbatches"]) * int(o["parallelism.dp"]) == int(
            o["workload.global_batch"]
        )


@pytest.mark.parametrize(
    ("layers", "stages", "fewest"),
    [(60, 4, 3), (80, 8, 2), (105, 35, 3), (128, 64, 2), (126, 16, 2), (96, 96, 2)],
)
def test_the_fewest_virtual_stages_that_interleave(layers: int, stages: int, fewest: int):
    assert training._fewest(layers, stages) == fewest


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"group": "megatron_2022"}, "row x: group=megatron_2022"),
        ({"quantity": "tflops"}, "row x: quantity=tflops"),
        ({"model": "gpt4"}, "row x: model=gpt4"),
        ({"measured": 0.0}, "row x: measured=0"),
        ({"dp": "3"}, r"row x: chips=8: the degrees make tp\*pp\*cp\*dp = 24"),
        ({"micro_batch": "3"}, "row x: global_batch=4: no multiple of 3 sequences on 1 ranks"),
        ({"micro_batch": ""}, "row x: micro_batch is empty"),
    ],
)
def test_a_line_that_is_tampered_with_is_refused(change: dict[str, Any], message: str):
    line = LINES["korthikanti_t5_22b_full"] | {"id": "x"}
    assert training._row(line).measured == 1.42
    with pytest.raises(InputError, match=message):
        training._row(line | change)


# the models


@pytest.mark.parametrize("name", of("megatron_2021_weak_scaling"))
def test_parameters_of_the_megatron_paper(name: str):
    """Its equation 2, norms, biases and positions included, against billions of its table 1."""
    s = shape(LINES[name])
    h, layers = s.d_model, s.layers
    by_paper = 12 * layers * h**2 * (1 + 13 / (12 * h) + (51200 + 2048) / (12 * layers * h))
    size = float(name.removeprefix("megatron_t1_").removesuffix("b").replace("_", "."))
    assert by_paper / 1e9 == pytest.approx(size, abs=0.0501)  # printed with one digit
    assert s.parameters == pytest.approx(by_paper, rel=0.005)


def test_there_are_enough_models_and_machines():
    assert len(list((conf_dir() / "model").glob("*.yaml"))) >= 60
    assert len(list((conf_dir() / "hardware").glob("*.yaml"))) >= 30


def test_a_multi_head_model_reshaped_keeps_as_many_key_heads():
    name = "vtrain_multi_0"
    o = given(name)
    assert o["model.kv_heads"] == o["model.heads"]
    reshaped = Model(
        **(
            training._shape_file("gpt3_175b")
            | {key.removeprefix("model."): int(o[key]) for key in o if key.startswith("model.")}
        )
    )
    assert float(count(reshaped).total) == shape(LINES[name]).parameters
    assert float(count(reshaped).total) / 1e9 == pytest.approx(3.6, abs=0.1)
