"""Two pools looked at one by one are what the cost model says of them together."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from model.cases import AFD, DISAGGREGATED, study

from roofrack.cost import estimate
from roofrack.cost.pools import between_s, decode_side, prefill_side, together
from roofrack.leaves import plain, put
from roofrack.nouns import Pool

MACHINES = (("h100_sxm", "llama3_1_70b"), ("gb200_nvl72", "deepseek_v3"), ("h200", "mixtral_8x7b"))
SAME = ("ttft_s", "tpot_s", "tokens_per_s", "tokens_per_s_per_chip", "usd_per_mtok", "chips")


def of(hardware, model, serving=DISAGGREGATED, **leaves):
    """A scenario with pools, of which the one that prefills has a plan of its own."""
    at = study(hardware, model, phase="serve")
    s = plain(at.bind({"workload.serving": serving, "workload.prompt": 3000.0,
                       "workload.output": 700.0} | leaves))  # fmt: skip
    return replace(s, prefill=Pool(plan=s.plan), ffn=Pool() if serving == AFD else None)


@settings(max_examples=60)
@given(data=st.data())
def test_the_sides_together_are_the_whole(data):
    draw = data.draw
    serving = draw(st.sampled_from([DISAGGREGATED, AFD]))
    s = of(*draw(st.sampled_from(MACHINES)), serving)
    degrees = st.sampled_from([1.0, 2.0, 4.0])
    firsts, mains = draw(st.integers(1, 9)), draw(st.integers(1, 9))
    values = {
        f"{where}.{name}": draw(degrees)
        for where in ("parallelism", "prefill.parallelism")
        for name in ("tp", "pp", "dp", "cp")
    } | {
        "workload.batch": draw(st.sampled_from([1.0, 12.0, 256.0])),
        "workload.prefill_batch": draw(st.sampled_from([1.0, 3.0])),
        "workload.cached": draw(st.sampled_from([0.0, 1000.0])),
        "prefill.parallelism.overlap_batches": draw(st.sampled_from([1.0, 2.0])),
    }  # fmt: skip
    s = put(s, values)
    with np.errstate(all="ignore"):
        first, main, between = prefill_side(s), decode_side(s), between_s(s)
        found = together(s, first, main, between, float(firsts), float(mains))
        whole = estimate(
            put(s, {"workload.prefill_instances": firsts / mains, "parallelism.replicas": mains})
        )
    for name in SAME:
        assert found[name] == pytest.approx(float(whole[name]), rel=1e-12), name
    assert bool((first.room >= 1) & (main.room >= 1)) == bool(whole["fits"])
    assert int(first.why_invalid | main.why_invalid) == int(whole["why_invalid"])


def test_the_batch_that_decodes_does_not_matter_to_a_pool_for_prompts():
    s = put(of("h100_sxm", "llama3_1_70b"),
            {"parallelism.tp": 8.0, "prefill.parallelism.tp": 8.0, "workload.batch": 1.0,
             "prefill.parallelism.overlap_batches": 2.0})  # fmt: skip
    assert int(estimate(s)["why_invalid"]) == 0
    assert int(estimate(put(s, {"parallelism.overlap_batches": 2.0}))["why_invalid"]) != 0
