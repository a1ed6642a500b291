"""The event loop on cases small enough to work out by hand."""

from dataclasses import replace
from math import isnan
from typing import Any

import pytest
from simulation.event_loop import Request, Rules, Run, run

PLENTY = Rules(slots=2, blocks=1000, block=4, budget=1000)


def clock(decoding: int, _context: float, new: int, _attended: float) -> float:
    """A second if anything decodes, and a second for every eight prompt tokens."""
    return (1.0 if decoding else 0.0) + new / 8


def serve(rules: Rules, *requests: tuple[Any, ...]) -> Run:
    return run([Request(*request) for request in requests], rules, clock)


# Policies

THREE = (0.0, 8, 3), (1.5, 16, 2), (1.5, 8, 2)


def test_prefill_first_lets_decoding_wait() -> None:
    # 0 prompt 0; 1 decode; 2 prompt 1; 4 both decode, both done; 5 prompt 2; 6 decode
    found = serve(PLENTY, *THREE)
    assert found.admitted_s == [0.0, 2.0, 5.0]
    assert found.first_s == [1.0, 4.0, 6.0]
    assert found.done_s == [5.0, 5.0, 7.0]
    assert found.busy_s == [7.0] and found.batch_s == [4.0]
    assert found.passes == [6] and found.decode_passes == [3]
    assert found.prompt_tokens == [32]
    # 3 | 3 | 3 standing + 5 | 3 + 5 | 3 | 3 blocks in passes of 1, 1, 2, 1, 1, 1 s
    assert found.blocks_s == [3 + 3 + (3 + 5) * 2 + 8 + 3 + 3]


def test_decode_first_lets_prompts_wait() -> None:
    # 0 prompt 0; 1 and 2 decode, done; 3 prompts 1 and 2 together; 6 both decode
    found = serve(replace(PLENTY, policy="decode_first"), *THREE)
    assert found.admitted_s == [0.0, 3.0, 3.0]
    assert found.first_s == [1.0, 6.0, 6.0]
    assert found.done_s == [3.0, 7.0, 7.0]


def test_chunks_fill_what_decoding_leaves_of_the_budget() -> None:
    calls: list[tuple[float, ...]] = []

    def noted(*asked: float) -> float:
        calls.append(asked)
        return clock(*asked)  # type: ignore[arg-type]

    requests = [Request(*request) for request in THREE]
    found = run(requests, replace(PLENTY, policy="chunked", budget=9), noted)
    assert calls == [
        (0, 0.0, 8, 4.0),
        (1, 8.0, 0, 0.0),
        (1, 9.0, 8, 4.0),  # half of prompt 1
        (0, 0.0, 9, (8 * 12 + 1 * 0.5) / 9),  # the other half, and one token of prompt 2
        (1, 16.0, 7, 4.5),
        (1, 8.0, 0, 0.0),
    ]
    assert found.admitted_s == [0.0, 2.0, 4.0]
    assert found.first_s == [1.0, 5.125, 7.0]
    assert found.done_s == [4.0, 7.0, 8.0]


def test_the_queue_is_strictly_first_come_first_served() -> None:
    # 16 + 8 is past the budget; the 4 behind would fit, and waits
    found = serve(
        Rules(slots=9, blocks=99, budget=20), (0.0, 16, 1), (0.0, 8, 1), (0.0, 4, 1), (0.0, 99, 1)
    )
    assert found.admitted_s == [0.0, 2.0, 2.0, 3.5]
    assert found.prompt_tokens == [127], "a prompt longer than the budget goes alone"


def test_a_cached_prefix_is_not_computed_but_attended() -> None:
    calls = []

    def noted(*asked: float) -> float:
        calls.append(asked)
        return 1.0

    run([Request(0.0, 12, 1, cached=8), Request(0.0, 4, 1)], PLENTY, noted)
    assert calls == [(0, 0.0, 8, (4 * 10 + 4 * 2) / 8)]


def test_a_decode_pass_may_gain_a_fraction_of_tokens() -> None:
    calls = []

    def noted(*asked: float) -> float:
        calls.append(asked[1])
        return 1.0

    found = run([Request(0.0, 8, 11, passes=4)], PLENTY, noted)
    assert calls == [0.0, 8.0, 10.5, 13.0, 15.5]
    assert found.first_s == [1.0] and found.done_s == [5.0]


# Blocks


@pytest.mark.parametrize(("reserve", "admitted"), [(True, 4.5), (False, 0.0)])
def test_a_reserved_output_keeps_others_out(reserve: bool, admitted: float) -> None:
    rules = replace(PLENTY, blocks=4, reserve=reserve)
    # reserved 3 and 2 blocks; on demand 2, and 1 for the prompt that nothing follows
    found = serve(rules, (0.0, 4, 5), (0.0, 4, 1))
    assert found.admitted_s == [0.0, admitted]
    assert found.preemptions == [0, 0]
    assert found.log[0][0].blocks == 3


@pytest.mark.parametrize("policy", ["prefill_first", "decode_first", "chunked"])
def test_admission_counts_the_first_decode_pass(policy: str) -> None:
    # 2 blocks of prompt each, and 3 with the next token: 5 are not enough for two, 6 are
    pair = [(0.0, 8, 2)] * 2
    for blocks, admitted in ((5, 2.0), (6, 0.0)):
        found = serve(replace(PLENTY, blocks=blocks, policy=policy), *pair)
        assert found.admitted_s == [0.0, admitted] and found.preemptions == [0, 0]


def test_blocks_are_counted_exactly() -> None:
    # In floats the last pass would hold a little more than 12 tokens: a fourth block each.
    assert 5 + 7 / 3 * 2 + 7 / 3 > 12
    pair = [(0.0, 5, 8, 0, 3)] * 2
    assert serve(replace(PLENTY, blocks=6), *pair).preemptions == [0, 0]
    assert serve(replace(PLENTY, blocks=5), *pair).preemptions != [0, 0]


def test_the_last_admitted_is_preempted_and_computed_again() -> None:
    # 0 prompts; 1.625 decode (2 + 2 blocks); 2.625 needs 2 + 3: 1 out, 0 decodes; 3.625 needs
    # 3 + 3 with 1: 0 goes on to its end at 6.625; then the 8 tokens of 1 again, and the two
    # passes that it has left.
    found = serve(replace(PLENTY, blocks=4), (0.0, 6, 6), (0.0, 7, 4))
    assert found.preemptions == [0, 1]
    assert found.admitted_s == [0.0, 0.0]
    assert found.first_s == [1.625, 1.625], "the first token stays the first"
    assert found.done_s == [6.625, 9.625]
    assert found.prompt_tokens == [13 + 8]
    assert [p.decoding for p in found.log[0]] == [
        *((), (0, 1), (0,), (0,), (0,), (0,), (), (1,), (1,))
    ]
    assert [p.blocks for p in found.log[0]] == [4, 4, 2, 3, 3, 3, 3, 3, 3]


def test_preempted_sequences_keep_their_order() -> None:
    # 0 prompts (2 blocks each); 4.5 needs 3 each: 3 and 2 out; 5.5 done 1, prompt 2; 6.5 decode;
    # 7.5 done 2, prompt 3; 8.5 decode; 9.5 done 3; four more passes of 0
    rules = Rules(slots=4, blocks=8, block=4, budget=99)
    found = serve(rules, (0.0, 7, 9), (0.0, 7, 3), (0.0, 7, 3), (0.0, 7, 3))
    assert found.preemptions == [0, 0, 1, 1]
    assert found.done_s == [13.5, 5.5, 7.5, 9.5]
    prompts = [tuple(i for i, _ in p.chunks) for p in found.log[0] if p.chunks]
    assert prompts == [(0, 1, 2, 3), (2,), (3,)]


@pytest.mark.parametrize(
    ("policy", "preemptions", "done_s", "prompts"),
    [
        # 0 prompts; 3.625 needs 9 blocks: 2 out; 4.625 done 1, prompt 2 (in 1 s, or 2 s with a
        # decode pass of 0); 0 and 2 decode until 2 goes past 12 tokens: out; 3 would fit, but is
        # behind it; 11.625 done 0, prompts 2 (12 tokens) and 3; 14 both decode; 16 done 3
        ("prefill_first", [0, 0, 2, 0], [11.625, 4.625, 17.0, 16.0], [(0, 1, 2), (2,), (2, 3)]),
        ("chunked", [0, 0, 2, 0], [11.625, 4.625, 17.0, 16.0], [(0, 1, 2), (2,), (2, 3)]),
        # 4.625 done 1, 0 alone to 10.625; prompts 2 (8 tokens) and 3; 12.5 both decode
        ("decode_first", [0, 0, 1, 0], [10.625, 4.625, 19.5, 14.5], [(0, 1, 2), (2, 3)]),
    ],
)
def test_nobody_passes_a_preempted_sequence(
    policy: str, preemptions: list[int], done_s: list[float], prompts: list[tuple[int, ...]]
) -> None:
    rules = Rules(slots=4, blocks=7, block=4, budget=99, policy=policy)
    found = serve(rules, (0.0, 7, 9), (0.0, 7, 3), (0.0, 7, 9), (0.0, 7, 3))
    assert found.preemptions == preemptions
    assert found.done_s == done_s
    assert [tuple(i for i, _ in p.chunks) for p in found.log[0] if p.chunks] == prompts


def test_tokens_to_compute_again_are_whole() -> None:
    # 2 gains 1.5 tokens a pass. 0 decode (2 + 1 + 3 blocks); 1 needs 3 + 1 + 3: 2 out with 7.5
    # tokens, 8 to fetch again, so it needs 4 blocks for 9.5 beside the 3 of 0: it waits for the
    # end of 0 at 4. It then holds 7.5 as before: 3 blocks for 9.
    rules = Rules(slots=3, blocks=6, block=3, prefilled=True)
    found = serve(rules, (0.0, 5, 5), (0.0, 1, 3), (0.0, 6, 4, 0, 2))
    assert found.preemptions == [0, 0, 1]
    assert found.done_s == [4.0, 2.0, 5.0]
    assert [p.blocks for p in found.log[0]] == [6, 4, 3, 3, 3]


def test_preemption_of_half_a_prompt_starts_it_over() -> None:
    # 0 decodes beside 3 tokens of prompt 1 a pass, until its fifth pass needs a third block.
    rules = replace(PLENTY, blocks=6, budget=4, policy="chunked")
    found = serve(rules, (0.0, 4, 10), (0.0, 14, 1))
    assert found.admitted_s == [0.0, 0.5]
    assert found.preemptions == [0, 1]
    assert found.done_s == [0.5 + 4 * 1.375 + 5.0, 12.75]
    assert found.prompt_tokens == [4 + 12 + 14]


def test_the_cached_prefix_is_found_again_after_preemption() -> None:
    found = serve(replace(PLENTY, blocks=4), (0.0, 6, 6), (0.0, 7, 4, 4))
    assert found.prompt_tokens == [6 + 3 + (8 - 4)]


def test_what_can_never_fit_is_rejected_and_takes_no_turn() -> None:
    rules = replace(PLENTY, blocks=2, replicas=2)
    found = serve(rules, (0.0, 6, 2), (0.0, 6, 3), (0.0, 1, 1), (0.0, 1, 1))
    assert found.rejected == [False, True, False, False]
    assert found.replica == [0, -1, 1, 0]
    assert all(isnan(times[1]) for times in (found.first_s, found.done_s, found.admitted_s))


# The gate


def test_the_gate_opens_when_the_head_has_waited() -> None:
    rules = replace(PLENTY, slots=3, wait_s=5.0)
    found = serve(rules, (1.0, 8, 1), (2.0, 8, 1), (6.5, 8, 1))
    assert found.admitted_s == [6.0, 6.0, 11.5], "open for all at this boundary"


def test_the_gate_opens_when_the_slots_can_be_filled() -> None:
    found = serve(replace(PLENTY, wait_s=5.0), (1.0, 8, 2), (2.0, 8, 1), (2.5, 8, 1))
    assert found.admitted_s == [2.0, 2.0, 4.0], "one runs, one waits"


def test_decoding_goes_on_behind_a_closed_gate() -> None:
    rules = replace(PLENTY, slots=3, wait_s=2.0)
    found = serve(rules, (0.0, 8, 5), (2.5, 8, 1))
    assert found.admitted_s == [2.0, 5.0]
    assert found.done_s == [8.0, 6.0]


def test_a_preempted_head_opens_the_gate() -> None:
    rules = Rules(slots=3, blocks=5, block=4, budget=99, wait_s=100.0)
    found = serve(rules, (0.0, 1, 1), (0.0, 6, 6), (0.0, 7, 4))
    assert found.preemptions == [0, 0, 1]
    assert found.done_s == [1.75, 6.75, 8.875]


# Pools of disaggregated serving


def test_prefilled_requests_decode_at_once() -> None:
    rules = replace(PLENTY, prefilled=True)
    found = serve(rules, (0.0, 8, 3), (0.5, 8, 2), (0.5, 8, 2))
    assert found.admitted_s == [0.0, 1.0, 2.0]
    assert found.first_s == [0.0, 0.5, 0.5], "there on arrival"
    assert found.done_s == [2.0, 2.0, 3.0]
    assert found.prompt_tokens == [0]


def test_prefilled_requests_are_preempted_without_a_prompt() -> None:
    found = serve(replace(PLENTY, blocks=4, prefilled=True), (0.0, 6, 6), (0.0, 7, 4))
    assert found.preemptions == [0, 1]
    assert found.done_s == [5.0, 7.0]
    assert found.prompt_tokens == [0]


def test_a_pool_of_prompts_is_asked_for_one_token() -> None:
    found = serve(replace(PLENTY, slots=1), (0.0, 8, 1), (0.5, 16, 1))
    assert found.first_s == found.done_s == [1.0, 3.0]
    assert found.batch_s == [0.0]


# Routing


def test_round_robin_and_assigned() -> None:
    requests = [(0.0, 8, 1)] * 4
    assert serve(replace(PLENTY, replicas=3), *requests).replica == [0, 1, 2, 0]
    assigned = replace(PLENTY, replicas=3, routing="assigned", assigned=(2, 2, 0, 2))
    assert serve(assigned, *requests).replica == [2, 2, 0, 2]


def test_least_loaded_counts_who_leaves_with_the_pass_under_way() -> None:
    rules = replace(PLENTY, slots=1, replicas=2, routing="least_loaded")
    found = serve(
        rules,
        (0.0, 16, 1),  # to 0, until 2
        (0.0, 8, 1),  # to 1: a pass that starts on an arrival has not started; until 1
        (1.0, 8, 1),  # 0 is under way, 1 has just ended
        (1.5, 8, 1),  # one each, both under way: ties go to the lowest
        (1.75, 8, 1),  # one under way and one waiting in 0
        (2.0, 8, 1),  # both passes have just ended: one waits in each
    )
    assert found.replica == [0, 1, 1, 0, 1, 0]


# Autoscaling


def test_replicas_are_started_and_stopped_as_requests_come() -> None:
    rules = Rules(slots=1, blocks=1000, replicas=3, routing="least_loaded", scale_at=2.0)
    found = serve(
        replace(rules, start_s=1.0, idle_s=2.0),
        (0.0, 16, 1),
        (0.5, 16, 1),
        (1.0, 8, 1),  # three: 1 is started, and ready at 2
        (1.5, 8, 1),  # it is not yet
        (2.0, 24, 1),  # now it is
        (2.5, 8, 1),  # five: 2 is started, and ready at 3.5
        (4.0, 8, 2),
        (5.0, 8, 1),  # four, for two replicas: 2 is stopped, and decodes from now to 6
        (6.0, 8, 1),  # two, for one replica, a second after the last change: 1 stays
        (7.0, 8, 1),  # one, two seconds after: 1 is stopped
    )
    assert found.replica == [0, 0, 0, 0, 1, 1, 2, 0, 1, 0]
    assert found.done_s == [2.0, 4.0, 5.0, 6.0, 5.0, 6.0, 6.0, 7.0, 7.0, 8.0]
    assert found.paid_s == [8.0, 7.0 - 1.0, (5.0 - 2.5) + 1.0]


def test_a_replica_that_drains_is_started_anew() -> None:
    rules = Rules(slots=1, blocks=1000, replicas=2, routing="least_loaded", scale_at=2.0)
    found = serve(
        replace(rules, start_s=1.0),
        (0.0, 24, 1),
        (0.5, 8, 1),
        (0.5, 8, 1),  # three: 1 is started, and ready at 1.5
        (2.0, 40, 1),  # in 1 until 7
        (5.0, 8, 1),  # two: 1 is stopped
        (5.5, 8, 1),  # three, with the one in 1, which is started again, and ready at 6.5
        (5.5, 8, 1),  # two in 0 and one in 1, which is at work but not ready
        (6.5, 8, 1),  # the same, and it is ready
    )
    assert found.replica == [0, 0, 0, 1, 0, 0, 0, 1]
    assert found.done_s == [3.0, 4.0, 5.0, 7.0, 6.0, 7.0, 8.0, 8.0]
    assert found.paid_s == [8.0, (5.0 - 0.5) + (8.0 - 5.5)]


def test_draining_is_paid_by_passes_that_start_off() -> None:
    found = serve(
        replace(PLENTY, replicas=3, scale_at=1.0),
        (0.0, 8, 1),
        (0.0, 8, 1),
        (0.0, 8, 4),  # one each; in 2 a prompt to 1, and decode passes to 2, 3 and 4
        (1.25, 24, 1),  # two: 2 is stopped, and this one, the fourth, is for 1 of two
        (2.5, 8, 1),  # three: 2 is started again, and the fifth is for 1 of three
    )
    assert found.replica == [0, 1, 2, 1, 1]
    assert found.done_s == [1.0, 1.0, 4.0, 4.25, 5.25]
    # of 2, the pass under way at 1.25 only until then, the one from 2 to 3 whole
    assert found.paid_s == [5.25, 5.25, 1.25 + 1.0 + (5.25 - 2.5)]


def test_many_start_at_once_and_one_stops_at_a_time() -> None:
    rules = replace(PLENTY, replicas=5, scale_at=0.5)
    found = serve(rules, (0.0, 8, 1), (0.0, 8, 1), (0.0, 8, 1), (2.0, 8, 1), (3.0, 8, 1))
    # 2, 4 and 5 on; then one request at a time, for two replicas: number 3 of 4, and 4 of 3
    assert found.replica == [0, 1, 2, 3, 1]
    assert found.paid_s == [4.0, 4.0, 4.0, 3.0 + 0.0, 2.0]


def test_the_least_replicas_are_ready_from_the_start() -> None:
    rules = replace(PLENTY, replicas=3, scale_at=1.0, least=2, start_s=9.0)
    found = serve(rules, (0.0, 8, 1), (0.0, 8, 1), (0.0, 8, 1), (9.0, 8, 1), (9.0, 8, 1))
    # 2 is started at 0, ready at 9, and stopped then by the fourth, as nothing else is left
    assert found.replica == [0, 1, 0, 1, 0]
    assert found.paid_s == [10.0, 10.0, 9.0]


def test_rejected_requests_do_not_scale() -> None:
    rules = replace(PLENTY, blocks=2, replicas=2, scale_at=1.0)
    found = serve(rules, (0.0, 7, 1), (0.0, 8, 1), (5.0, 7, 1))
    assert found.replica == [0, -1, 0] and found.paid_s == [5.875, 0.0]
    found = serve(rules, (0.0, 7, 1), (0.0, 7, 1), (3.0, 8, 1), (5.0, 7, 1))
    assert found.replica == [0, 1, -1, 0] and found.paid_s == [5.875, 5.0]
    assert serve(rules, (3.0, 8, 1)).paid_s == [0.0, 0.0]


def test_without_autoscaling_all_replicas_are_paid_to_the_end() -> None:
    rules = replace(PLENTY, replicas=3, start_s=4.0)
    assert serve(rules, (1.0, 8, 1), (2.0, 8, 4)).paid_s == [6.0] * 3
    assert serve(replace(rules, blocks=1), (1.0, 8, 1)).paid_s == [0.0] * 3


# Refusals


def test_what_the_rules_do_not_define_is_refused() -> None:
    with pytest.raises(ValueError, match=r"must exceed slots \* each=2"):
        serve(replace(PLENTY, policy="chunked", budget=2), (0.0, 1, 1))
    with pytest.raises(ValueError, match="sorted"):
        serve(PLENTY, (1.0, 1, 1), (0.0, 1, 1))
    with pytest.raises(ValueError, match="passes"):
        serve(PLENTY, (0.0, 1, 3, 0, 0))
    with pytest.raises(ValueError, match="lengths"):
        serve(PLENTY, (0.0, 4, 3, 4))
    with pytest.raises(ValueError, match="assigned"):
        serve(replace(PLENTY, routing="assigned"), (0.0, 4, 3))
    with pytest.raises(ValueError, match="nothing is left to decode"):
        serve(replace(PLENTY, prefilled=True), (0.0, 4, 1))


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"scale_at": 1.0, "routing": "assigned", "assigned": (0,)}, "assigned"),
        ({"least": 0}, "least=0 must be 1 to replicas=2"),
        ({"least": 3}, "least=3 must be 1 to replicas=2"),
        ({"scale_at": -1.0}, "scale_at=-1.0"),
        ({"scale_at": float("nan")}, "scale_at=nan"),
        ({"start_s": float("inf")}, "start_s=inf"),
        ({"idle_s": -1.0}, "idle_s=-1.0"),
    ],
)
def test_what_autoscaling_does_not_define_is_refused(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        serve(replace(PLENTY, replicas=2, **wrong), (0.0, 4, 3))


def test_a_run_without_end_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="past 10 boundaries"):
        run([Request(0.0, 1, 99)], PLENTY, clock, most_boundaries=10)
