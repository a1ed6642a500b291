"""Commands that start an engine on a plan: degrees as the engine counts them, and refusals."""

import pytest

from roofrack.searching.launch import ENGINES, Start, checkpoint, launch

PLAIN = {"tp": 1.0, "pp": 1.0, "dp": 1.0, "cp": 1.0, "ep": 1.0, "attention_dp": 0.0, "tp_rows": 1.0,
         "overlap_batches": 1.0, "redundant_experts": 0.0, "batch": 100.0,
         "prefill": None}  # fmt: skip
DENSE = Start("org/dense", 5000, experts=False)
MOE = Start("org/moe", 5000, experts=True)


def lines(engine, start, **leaves):
    found = launch(engine, PLAIN | leaves, start)
    assert found.refused == "", found.refused
    return found.lines


def refused(engine, start, **leaves):
    found = launch(engine, PLAIN | leaves, start)
    assert found.lines == ()
    return found.refused


def test_tensor_and_pipeline_parallel_dense_models():
    assert lines("vllm", DENSE, tp=4.0, pp=2.0) == (
        "vllm serve org/dense --tensor-parallel-size 4 --pipeline-parallel-size 2 "
        "--max-num-seqs 100 --max-model-len 5000",
    )
    assert lines("sglang", DENSE, tp=4.0) == (
        "python -m sglang.launch_server --model-path org/dense --tp-size 4 "
        "--max-running-requests 100 --context-length 5000",
    )
    assert lines("trtllm", DENSE, tp=2.0, pp=2.0) == (
        "trtllm-serve org/dense --tp_size 2 --pp_size 2 --max_batch_size 100 --max_seq_len 5000",
    )


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("start", [DENSE, MOE])
def test_ranks_that_share_nothing_are_engines_of_their_own(engine, start):
    note, command = lines(engine, start, tp=2.0, dp=4.0)
    assert note.startswith("# 4 such engines")
    assert " 25 " in command + " "  # a quarter of the sequences
    assert "data-parallel" not in command
    assert "dp" not in command


def test_experts_over_all_chips_with_attention_of_their_own():
    wide = {"dp": 8.0, "ep": 8.0}
    (vllm,) = lines("vllm", MOE, **wide)
    assert "--tensor-parallel-size 1 --data-parallel-size 8 --enable-expert-parallel" in vllm
    assert "--max-num-seqs 13 " in vllm
    (sglang,) = lines("sglang", MOE, **wide)
    assert "--tp-size 8 --dp-size 8 --enable-dp-attention --ep-size 8" in sglang
    assert "--max-running-requests 100" in sglang
    extra, trtllm = lines("trtllm", MOE, **wide)
    assert "enable_attention_dp: true" in extra
    assert "--tp_size 8 --ep_size 8 --max_batch_size 13" in trtllm
    # attention data parallel over the chips of tp is the same machine
    for engine in ENGINES:
        other = lines(engine, MOE, tp=8.0, ep=8.0, attention_dp=1.0)
        assert other == lines(engine, MOE, **wide)


def test_attention_both_tensor_and_data_parallel():
    both = {"tp": 4.0, "dp": 2.0, "ep": 8.0}
    (vllm,) = lines("vllm", MOE, **both)
    assert "--tensor-parallel-size 4 --data-parallel-size 2 --enable-expert-parallel" in vllm
    (sglang,) = lines("sglang", MOE, **both)
    assert "--tp-size 8 --dp-size 2 --enable-dp-attention --ep-size 8" in sglang
    assert "not both" in refused("trtllm", MOE, **both)


def test_what_an_engine_has_no_option_for_is_said():
    assert "all 8 chips of a stage or not at all" in refused("vllm", MOE, tp=8.0, ep=4.0)
    (sglang,) = lines("sglang", MOE, tp=8.0, ep=4.0)
    assert "--tp-size 8 --ep-size 4" in sglang
    assert "copies of the experts" in refused("sglang", MOE, dp=8.0, ep=4.0)
    assert "only beside experts" in refused("vllm", DENSE, tp=8.0, attention_dp=1.0)
    for leaf, said in (("cp", "cp"), ("tp_rows", "tp_rows"), ("overlap_batches", "overlap"),
                       ("redundant_experts", "copies of experts")):  # fmt: skip
        for engine in ENGINES:
            assert said in refused(engine, MOE, **{leaf: 2.0})


def test_the_checkpoint_is_read_from_the_sources():
    sources = {"layers": "a paper", "default": "A report; Hugging Face org/Model-1.5B config.json"}
    assert checkpoint(sources, "model") == "org/Model-1.5B"
    assert checkpoint({"default": "a paper"}, "mine") == "CHECKPOINT_OF_mine"


def test_two_pools_are_two_kinds_of_engine():
    first = {name: value for name, value in PLAIN.items() if name not in ("batch", "prefill")}
    apart = {"prefill": first | {"tp": 2.0}, "instances": (3, 1), "tp": 4.0,
             "workload.prefill_batch": 8}  # fmt: skip
    said = lines("sglang", DENSE, **apart)
    assert said[0] == "# 3 instances of prefill"
    assert "--tp-size 2 --max-running-requests 8" in said[1]
    assert "--disaggregation-mode prefill" in said[1]
    assert said[2] == "# 1 instance of decode"
    assert "--tp-size 4 --max-running-requests 100" in said[3]
    assert "--disaggregation-mode decode" in said[3]
    assert said[4].startswith("# in front of them")
    assert "NixlConnector" in lines("vllm", DENSE, **apart)[1]
    trtllm = lines("trtllm", DENSE, **apart)
    assert trtllm[1] == r"printf 'cache_transceiver_config: {backend: DEFAULT}\n' > prefill.yaml"
    assert trtllm[2].endswith("--extra_llm_api_options prefill.yaml")
    assert refused("vllm", DENSE, **apart | {"cp": 2.0}).startswith("decode: context")
    apart["prefill"] = apart["prefill"] | {"cp": 2.0}
    assert refused("vllm", DENSE, **apart).startswith("prefill: context")
