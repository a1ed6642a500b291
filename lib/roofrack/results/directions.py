"""Which way a column of results is better."""

from roofrack.results.schema import COLUMNS, PARTS

MORE = (
    "tokens_per_s", "tokens_per_s_per_chip", "tokens_per_s_per_user", "mfu", "hfu", "mbu",
    "tokens_per_pass",
)  # fmt: skip
"""Columns of which more is better."""

LESS = (
    "step_s", "step_lower_s", "step_upper_s", "ttft_s", "tpot_s", *(f"t_{p}_s" for p in PARTS),
    *(n for n in COLUMNS if n.startswith(("block_", "usd_", "traffic_"))),
    "mem_weights_bytes", "mem_kv_bytes", "mem_activation_bytes", "mem_optimizer_bytes",
    "mem_total_bytes", "joule_per_token", "chips", "racks", "chips_prefill", "chips_ffn", "draft_s",
    "kv_transfer_s", "retrieve_s", "scale_out_fraction", "copies_leaving", "dispatch_bytes",
    "combine_bytes", "expert_skew", "bubble_fraction", "step_s_rel_std",
)  # fmt: skip
"""Columns of which less is better. Of the others the one who asks says it."""
