"""The benchmarks measure what they say: every point once, every peer or why not."""

import json
import sys
from pathlib import Path

import bench_grid
import bench_peers
import numpy as np
import polars as pl
import pytest
from peers import timing

from roofrack.planning import Plans


def case(plans: int, size: tuple[int, int], by_plan: bool) -> bench_grid.Case:
    batches, lengths = bench_grid.axes(300, piece=size[1])
    found = Plans({"tp": np.arange(1.0, plans + 1.0)})
    return bench_grid.Case(
        None, lambda values: None, found, batches, lengths, "workload.context", size, by_plan
    )


@pytest.mark.parametrize(("steps", "piece"), [(1, 64), (32_000, 64), (10**6, 1024)])
def test_batches_and_lengths_are_whole_different_and_enough(steps, piece):
    batches, lengths = bench_grid.axes(steps, piece)
    assert len(batches) % piece == 0 and len(batches) * len(lengths) >= steps
    for values in (batches, lengths):
        assert (np.diff(values) > 0).all() and (values == np.rint(values)).all() and values[0] >= 1


@pytest.mark.parametrize(("plans", "size", "by_plan"), [(10, (4, 3), True), (3, (3, 5), False)])
def test_the_blocks_are_all_points_once(plans, size, by_plan):
    it = case(plans, size, by_plan)
    seen = set()
    for plan, batch in it.blocks:
        block = it.block(plan, batch)
        assert (len(block["parallelism.tp"]), len(block["workload.batch"])) == size
        pairs = [
            (tp, b)
            for tp in block["parallelism.tp"][: it.real(plan)]
            for b in block["workload.batch"]
        ]
        assert not seen.intersection(pairs) and len(set(pairs)) == len(pairs)
        seen.update(pairs)
    assert len(seen) * len(it.lengths) == plans * it.steps


def test_each_call_has_its_point_and_the_first_is_not_timed(capsys):
    called = []
    points = timing.shuffled((1, 2), range(3))
    assert sorted(points) == [(1, 0), (1, 1), (1, 2), (2, 0), (2, 1), (2, 2)]
    timing.measure("q", "call", "1.0", lambda *p: called.append(p), points, 60.0, each=7)
    told = json.loads(capsys.readouterr().out)
    assert called == points
    assert told["evaluations"] == 5 * 7 and (told["question"], told["version"]) == ("q", "1.0")


def test_a_peer_that_is_not_there_is_skipped_with_the_reason(tmp_path: Path):
    peer = bench_peers.PEERS[1]
    [row], answers = bench_peers.rows(peer, tmp_path, 1.0, "here")
    assert answers == []
    assert row.peer == "genz" and row.ratio is None and "--install" in row.skipped
    peer.python(tmp_path).parent.mkdir(parents=True)
    peer.python(tmp_path).symlink_to(sys.executable)
    if not peer.python(tmp_path).exists():
        pytest.skip("no symbolic links")
    assert bench_peers.asked(peer, tmp_path, 1.0) == "ModuleNotFoundError: No module named 'GenZ'"


def test_every_peer_has_its_script_and_every_question_is_known():
    for peer in bench_peers.PEERS:
        script = (bench_peers.SCRIPTS / f"speed_{peer.name}.py").read_text(encoding="utf-8")
        asked = [key for key in bench_peers.QUESTIONS if f'"{key}"' in script]
        assert asked, peer.name


def test_tables_and_chart_are_written(monkeypatch, tmp_path: Path):
    one = dict.fromkeys(bench_peers.FIGURES, 2.0) | {"points": 8, "seconds": 2.0}
    made = bench_peers.of_grid({"smooth": one}, "here")
    made.append(bench_peers.Row("genz", "", "", "", None, None, None, "not there", "here"))
    monkeypatch.setattr(bench_peers, "ship", lambda table, name, day: tmp_path / f"{name}.csv")
    paths = bench_peers.write(made, tmp_path, {"smooth": one})
    table = pl.read_csv(paths[0])
    assert table["ratio"].to_list() == [2.0, 2.0, None]
    assert table["skipped"].to_list() == ["", "", "not there"]
    assert "numpy: the same formulas, flat, smooth" in paths[1].read_text(encoding="utf-8")
    figures = pl.read_csv(paths[2])
    assert figures.filter(figure="points_per_s")["value"].to_list() == [4.0]
