"""Golden values: a question with the inputs as its source prints them, and the printed answer.

`column` is a column of the result schema or arithmetic on columns; `printed` holds as many digits
as the source gives, and half a unit of the last is the tolerance. `over` asks for the ratio of the
column to its value under other overrides.

Those that need several questions are tests of their own in test_golden.py: fast mode, the two
closed forms of waiting caches, 2-D sharding, the latency-optimal number of chips. DeepEP's
measured dispatches are in test_naive.py, cache bytes implied by a price knee also in
tests/api/test_solve.py.

Where a source is wrong its `source` says so. Of the errata of Erdil 2025 (arXiv:2506.04645)
equation 27, without the square root of equation 42, is what the latency-optimal number of chips
rests on; equation 37, without d_head, is the cache of a grouped-query model (`llama-70b-cache`).

Not yet, with the parts of the tool they belong to: training FLOP, MFU, pipeline bubbles, memory and
iteration times (DeepSeek-V3 pre-training; Narayanan 2021; ZeRO, Rajbhandari 2019; ZB, Qi 2023;
DualPipe; Korthikanti 2022); predictions of other tools.
"""

from typing import NamedTuple


class Golden(NamedTuple):
    """One printed value."""

    id: str
    source: str
    overrides: str
    column: str
    printed: str
    over: str = ""


LECTURE = "Reiner Pope, blackboard lecture, Dwarkesh Podcast 2026-04-29"
BOOK = "How to Scale Your Model (jax-ml/scaling-book)"
DEEPSEEK = "DeepSeek-V3 technical report, arXiv:2412.19437, and config.json"
INSIGHTS = "Insights into DeepSeek-V3, arXiv:2505.09343 section 2.3"
MEGATRON = "Narayanan et al. 2021, arXiv:2104.04473 equation 2 and table 1"
DEEPEP = "deepseek-ai/DeepEP README, low-latency kernels"
SERVICE = "deepseek-ai/open-infra-index 202502OpenSourceWeek day 6, DeepSeek-V3/R1 inference system"

ONE = "parallelism=single calibration=ideal overlap=ideal"
BOARD = "hardware=blackboard model=blackboard calibration=ideal overlap=ideal"
# totals of a dense model: no experts, nothing known of its heads
DENSE = "model=blackboard model.experts=0 model.experts_per_token=0 model.moe_layers=0"

# ---- data sheets: the batch where a dense matmul changes from memory to compute bound


def _ridge(machine: str, chip: str, dtype: str, printed: str) -> Golden:
    overrides = f"{chip} {ONE} dtype={dtype} model=llama2_13b"
    source = f"{BOOK}, gpus and tpus; C b / (2 W)"
    return Golden(f"ridge-{machine}-{dtype}", source, overrides, "critical_batch_dense", printed)


H100 = "hardware=h100_sxm hardware.flops_per_s.bf16=9.89e14 hardware.hbm_bytes_per_s=3.35e12"
B200 = "hardware=b200 hardware.hbm_bytes_per_s=8e12"
FP4 = "workload.dtype.weights=fp4 workload.dtype.math=fp4"
V5E = "hardware=tpu_v5e hardware.hbm_bytes_per_s=8.1e11"
V5P = "hardware=tpu_v4 hardware.flops_per_s.bf16=4.59e14 hardware.hbm_bytes_per_s=2.8e12"

RIDGES = [
    _ridge("h100", H100, "bf16", "295.2"),
    _ridge("h100", H100, "fp8", "295.4"),
    _ridge("b200", B200, "bf16", "281.25"),
    _ridge("b200", B200, "fp8", "281.25"),
    _ridge("b200-fp4", f"{B200} {FP4}", "bf16", "281.25"),
    _ridge("a100", "hardware=a100_80gb hardware.hbm_bytes_per_s=2.039e12", "bf16", "153.0"),
    _ridge("v5e", V5E, "bf16", "243.2"),
    _ridge("v5e", V5E, "int8_weights", "121.6"),
    _ridge("v5p", V5P, "bf16", "163.9"),
    _ridge("v4", "hardware=tpu_v4 hardware.hbm_bytes_per_s=1.2e12", "bf16", "229.2"),
]

# ---- the lecture, asked of its own machine and model

# racks large enough that what a chip keeps for itself does not show; each chip has 64 tokens
RACK = f"{BOARD} parallelism=rack hardware.fabric.scale_up.chips=100000"
EIGHT_RACKS = f"{RACK} racks=8 batch=1000"
# one layer in each stage, each stage a rack
STAGES = f"{RACK} racks=4 pp=4 model.layers=4 model.moe_layers=4 dtype=bf16 batch=6400000"
PIPELINE = (
    f"{BOARD} dtype=fp8 parallelism=single parallelism.dp=64 parallelism.ep=stage "
    "model.params_total=1e12 batch=2400 context=100000 model.kv_bytes_per_token=2048"
)
KNEE = "parallelism=single calibration=ideal model=blackboard model.params_active=1e11"

LECTURES = [
    Golden("critical-batch", LECTURE, f"{BOARD} {ONE} dtype=fp8", "critical_batch", "5441"),
    Golden(
        "critical-experts", LECTURE, f"{BOARD} {ONE} dtype=fp8", "critical_batch_experts", "9600"
    ),
    Golden("hbm-drain", LECTURE, f"{BOARD} {ONE}", "hbm_drain_s", "14.4e-3"),
    Golden("two-racks-leaving", LECTURE, f"{RACK} racks=2", "scale_out_fraction", "0.5000"),
    Golden(
        "two-racks-time", LECTURE,
        f"{RACK} racks=2 batch=12800000", "max(t_scale_up_s, t_scale_out_s)", "4.000",
        over=f"{RACK} racks=1 batch=6400000",
    ),
    Golden(
        "four-racks-time", LECTURE,
        f"{RACK} racks=4 batch=25600000", "max(t_scale_up_s, t_scale_out_s)", "6.000",
        over=f"{RACK} racks=1 batch=6400000",
    ),
    Golden(
        "racks-touched", "arXiv:2412.19437 section 3.2.2, uniform routing: M (1 - (1 - 1/M)^k)",
        f"{EIGHT_RACKS} parallelism.dedup=true", "domains_touched", "5.25",
    ),
    Golden(
        "copies-leaving", "the same, (R - 1)/R of them",
        f"{EIGHT_RACKS} parallelism.dedup=true", "copies_leaving", "4.59",
    ),
    Golden(
        "racks-touched-limit-4", "the same with the node limit of DeepSeek-V3",
        f"{EIGHT_RACKS} parallelism.dedup=true model.node_limit=4", "domains_touched", "3.60",
    ),
    Golden(
        "copies-leaving-limit-4", "the same with the node limit of DeepSeek-V3",
        f"{EIGHT_RACKS} parallelism.dedup=true model.node_limit=4", "copies_leaving", "3.15",
    ),
    Golden(
        "scale-up-over-hop", f"{LECTURE}: 2 k layers / ratio", STAGES,
        "t_scale_up_s / t_pipeline_s", "2.000",
    ),
    *(
        Golden(f"weights-pp{p}", LECTURE, f"{PIPELINE} pp={p}", "mem_weights_bytes", weights)
        for p, weights in ((1, "15.6e9"), (2, "7.8e9"), (4, "3.9e9"))
    ),
    *(
        Golden(f"cache-grow-pp{p}", LECTURE, f"{PIPELINE} pp={p}", "mem_kv_bytes", "7.68e9")
        for p in (1, 2, 4)
    ),
    *(
        Golden(
            f"cache-fixed-pp{p}", LECTURE, f"{PIPELINE} pp={p} parallelism.pp_batch=fixed",
            "mem_kv_bytes", cache,
        )
        for p, cache in ((1, "7.68e9"), (2, "3.84e9"), (4, "1.92e9"))
    ),
    Golden(
        "knee-lecture", LECTURE,
        f"{KNEE} hardware=blackboard dtype=fp8 model.kv_bytes_per_token=1667",
        "context_knee_tokens", "2.00e5",
    ),
    Golden(
        "knee-h100-bf16", f"{LECTURE}, on an H100", f"{KNEE} {H100} model.kv_bytes_per_token=3387",
        "context_knee_tokens", "2.000e5",
    ),
    Golden(
        "knee-h100-fp8", f"{LECTURE}, on an H100",
        f"{KNEE} {H100} dtype=fp8 model.kv_bytes_per_token=1693", "context_knee_tokens", "2.000e5",
    ),
]  # fmt: skip

# ---- counting

V3 = f"hardware=h800 model=deepseek_v3 {ONE} dtype=fp8_block"
LLAMA = f"hardware=h100_sxm model=llama3_1_70b {ONE}"
SMALL = (
    f"{LLAMA} model.layers=64 model.d_model=4096 model.d_ff=16384 model.heads=32 model.kv_heads=8 "
    "model.head_dim=256 model.vocab=32128 model.tied_embeddings=true"
)
SPARSE = (
    f"{SMALL} model.moe_layers=64 model.experts=16 model.experts_per_token=2 model.d_ff=0 "
    "model.d_ff_expert=16384"
)
# 51,200 words and 2,048 learned positions
GPT = f"hardware=a100_80gb model=gpt3_175b {ONE} model.vocab=53248"


def _gpt(layers: int, width: int) -> str:
    shape = f"model.d_model={width} model.d_ff={4 * width} model.head_dim={width // 128}"
    return f"{GPT} model.layers={layers} model.heads=128 model.kv_heads=128 {shape}"


COUNTS = [
    Golden("v3-attention", DEEPSEEK, V3, "params_attention / 61", "187105280"),
    Golden("v3-total", DEEPSEEK, V3, "params_total", "671025397760"),
    Golden("v3-active", DEEPSEEK, V3, "params_active", "36.625e9"),
    Golden("v3-active-both", DEEPSEEK, V3, "params_active + 129280 * 7168", "37.551e9"),
    Golden("v3-cache", DEEPSEEK, V3, "kv_bytes_per_token", "70272"),
    Golden("v3-core", DEEPSEEK, V3, "attention_flops_per_context_token", "16990208"),
    Golden(
        "llama-405b-cache", "The Llama 3 Herd of Models, arXiv:2407.21783 table 3",
        f"{LLAMA} model.layers=126 model.d_model=16384 model.d_ff=53248 model.heads=128",
        "kv_bytes_per_token", "516096",
    ),
    Golden(
        "qwen-72b-cache", "Qwen2.5 technical report, arXiv:2412.15115 table 1",
        f"{LLAMA} model.layers=80 model.d_ff=29568 model.vocab=152064",
        "kv_bytes_per_token", "327680",
    ),
    Golden("book-dense-total", f"{BOOK}, transformers", SMALL, "params_total", "18385207296"),
    Golden(
        "book-moe-total", f"{BOOK}, transformers, router left out", SPARSE,
        "params_total - params_router", "211658735616",
    ),
    Golden(
        "book-moe-active", f"{BOOK}, transformers, router left out", SPARSE,
        "params_active - params_router", "31270109184",
    ),
    Golden("megatron-gpt3", MEGATRON, GPT, "params_total", "174.6e9"),
    Golden("megatron-530b", MEGATRON, _gpt(105, 20480), "params_total", "529.6e9"),
    Golden("megatron-1t", MEGATRON, _gpt(128, 25600), "params_total", "1008e9"),
    *(
        Golden(
            f"distinct-experts-{batch}", "E (1 - (1 - k/E)^t), uniform routing",
            f"{V3} batch={batch}", "experts_touched", printed,
        )
        for batch, printed in (
            (1, "8.00"), (4, "30.53"), (16, "101.96"), (64, "222.44"), (256, "255.92")
        )
    ),
]  # fmt: skip

# ---- all-to-all and collectives

# two micro-batches of 32 tokens in flight, the shared expert sent like a ninth routed one
EXPERTS = (
    f"{BOARD} parallelism=rack racks=1 batch=6400000 model.d_model=7000 model.experts_per_token=9 "
    "workload.dtype.dispatch=fp8 workload.dtype.combine=bf16 hardware.fabric.scale_up.chips=100000"
)
EP8 = "hardware=h800 model=deepseek_v3 parallelism=ep8 dtype=fp8_block batch=1024"
# one layer, its two all-reduces over an axis of four chips, both directions of the ring
RING = (
    f"hardware=blackboard {DENSE} calibration=ideal parallelism.tp=4 dtype=bf16 batch=64 "
    "model.layers=1 model.d_model=4096 hardware.fabric.scale_up.topology=ring "
    "hardware.fabric.scale_up.bytes_per_s=9e10 hardware.fabric.scale_up.latency_s=0"
)
# each hop of the ring carries 45,000 bytes to either side
HOP = (
    f"hardware=tpu_v5e {DENSE} calibration=ideal parallelism.tp=2500 batch=1000 "
    "model.layers=1 model.d_model=56250 hardware.fabric.scale_up.chips=2500 "
    "hardware.fabric.scale_up.topology=ring hardware.fabric.scale_up.bytes_per_s=9e10"
)

EXCHANGES = [
    Golden(
        "all-to-all-50GB/s", INSIGHTS, f"{EXPERTS} hardware.fabric.scale_up.bytes_per_s=5e10",
        "t_scale_up_s", "14.76e-3",
    ),
    Golden(
        "all-to-all-900GB/s", INSIGHTS, f"{EXPERTS} hardware.fabric.scale_up.bytes_per_s=9e11",
        "t_scale_up_s", "0.82e-3",
    ),
    Golden("dispatch-bytes", DEEPEP, EP8, "dispatch_bytes", "7569408"),
    Golden("combine-bytes", DEEPEP, EP8, "combine_bytes", "14680064"),
    Golden(
        "all-reduce-v4p",
        f"{BOOK}, sharding, problem 2.3: 4 BD/W, both ways, without (g - 1)/g. The book answers "
        "190 us, which is wrong: the array is divided 16 ways over X and Y", RING,
        "t_scale_up_s / 2 * 4 / 3", "11.65e-6",
    ),
    Golden(
        "latency-bound-hop", f"{BOOK}, applied inference: half of the time below 45 kB per hop",
        HOP, "t_scale_up_s", "2.00", over=f"{HOP} hardware.fabric.scale_up.latency_s=0",
    ),
]  # fmt: skip

# ---- passes and memory

SERVED_70B = (
    f"{V5E} {DENSE} calibration=ideal overlap=ideal dtype=int8 parallelism.tp=8 batch=32 "
    "context=8192 model.params_total=70e9 model.params_active=70e9 model.layers=80 "
    "model.kv_bytes_per_token=163840 model.d_model=8192"
)
# communication left out
SERVED_30B = (
    f"{V5E} {DENSE} calibration=ideal dtype=int8_weights parallelism.tp=16 batch=256 context=8192 "
    "model.params_total=30e9 model.params_active=30e9 model.kv_bytes_per_token=100000 "
    "hardware.fabric.scale_up.bytes_per_s=1e24 hardware.fabric.scale_up.latency_s=0"
)
SERVED_13B = (
    f"hardware=tpu_v5e hardware.hbm_bytes_per_s=8.2e11 {DENSE} calibration=ideal overlap=ideal "
    "dtype=bf16 parallelism.tp=8 context=8192 model.params_total=13e9 model.params_active=13e9 "
    "model.kv_bytes_per_token=817871.09375 hardware.fabric.scale_up.latency_s=0"
)
# 72 B200 as one chip: no plan lays 256 experts over 72 chips
V3_RACK = (
    f"hardware=b200 model=deepseek_v3 {ONE} dtype=fp8_block context=4989 cost.activation_io=false "
    "hardware.flops_per_s.bf16=1.62e17 hardware.flops_per_s.fp8=3.24e17 "
    "hardware.hbm_bytes=1.296e13 hardware.hbm_bytes_per_s=5.76e14"
)
V3_NO_CORE = f"{V3_RACK} cost.attention_core=false"
V3_EMBEDDING = f"{V3_NO_CORE} cost.read_embedding=true"
PASS = f"{DEEPSEEK}; B200 data sheet; max(compute, weights + cache)"

PASSES = [
    Golden(
        "70b-memory", f"{BOOK}, applied inference", SERVED_70B,
        "8 * (mem_weights_bytes + mem_kv_bytes)", "112.95e9",
    ),
    Golden("70b-step", f"{BOOK}, applied inference", SERVED_70B, "step_s", "17.43e-3"),
    Golden(
        "30b-step-matmul", f"{BOOK}, inference", f"{SERVED_30B} overlap=matmul",
        "step_s", "21.05e-3",
    ),
    Golden(
        "30b-step-ideal", f"{BOOK}, inference", f"{SERVED_30B} overlap=ideal", "step_s", "18.50e-3"
    ),
    *(
        Golden(
            f"13b-step-{batch}", f"{BOOK}, inference", f"{SERVED_13B} batch={batch}",
            "step_s", printed,
        )
        for batch, printed in (
            (1, "4.98e-3"), (8, "12.13e-3"), (16, "20.30e-3"), (32, "36.65e-3"), (64, "69.33e-3"),
            (240, "249.1e-3"),
        )
    ),
    Golden(
        "int4-70b",
        f"{BOOK}, applied inference; its table says 45 GB, which is wrong: 70e9 halves of a byte",
        f"hardware=b200 {DENSE} {ONE} dtype=int4_weights model.params_total=70e9",
        "mem_weights_bytes", "35.0e9",
    ),
    Golden("v3-held", PASS, V3_NO_CORE, "mem_weights_bytes", "671.0e9"),
    Golden("v3-weights-32", PASS, f"{V3_NO_CORE} batch=32", "t_weights_s * 5.76e14", "433.35e9"),
    Golden("v3-pass-32", PASS, f"{V3_NO_CORE} batch=32", "step_s", "0.7718e-3"),
    Golden("v3-pass-2400", PASS, f"{V3_NO_CORE} batch=2400", "step_s", "2.6241e-3"),
    Golden("v3-weights-all", PASS, f"{V3_EMBEDDING} batch=32", "t_weights_s * 5.76e14", "434.27e9"),
    Golden("v3-pass-32-all", PASS, f"{V3_EMBEDDING} batch=32", "step_s", "0.7734e-3"),
    Golden("v3-pass-2400-all", PASS, f"{V3_EMBEDDING} batch=2400", "step_s", "2.6258e-3"),
    Golden(
        "v3-never-compute-bound", PASS, f"{V3_NO_CORE} batch=1000000000",
        "t_compute_s < t_weights_s + t_kv_s", "1",
    ),
    Golden(
        "v3-compute-bound-with-core", f"{PASS}, core in BF16", f"{V3_RACK} batch=8300",
        "t_compute_s / (t_weights_s + t_kv_s)", "1.00",
    ),
]  # fmt: skip

# ---- a service, as its operator described it

# a node whose pass takes a second, with as many sequences as tokens were counted in one
SPEED = (
    f"hardware=h800 hardware.usd_per_chip_hour=2 {DENSE} calibration=ideal calibration.step_s=1 "
    "parallelism=tp8 model.params_total=1 model.params_active=1 model.layers=1 model.d_model=8 "
    "model.kv_bytes_per_token=1 context=0"
)
DECODING, PREFILLING = f"{SPEED} batch=14800", f"{SPEED} batch=73700"

SERVICES = [
    Golden(
        "service-day", f"{SERVICE}: 226.75 nodes of 8 at USD 2",
        "hardware=h800 hardware.usd_per_chip_hour=2 model=llama2_13b parallelism=single "
        "parallelism.replicas=1814", "usd_per_hour * 24", "87072",
    ),
    # the speeds are those published, what they cost is computed
    Golden(
        "service-output", f"{SERVICE}: 14.8k output tokens/s a node, 16 USD/h; not a prediction",
        DECODING, "usd_per_mtok", "0.3003",
    ),
    Golden(
        "service-input", f"{SERVICE}: 73.7k input tokens/s a node, hits included; not a prediction",
        PREFILLING, "usd_per_mtok", "0.0603",
    ),
    Golden(
        "service-ratio", f"{SERVICE}: cost of an output token over that of an input token",
        DECODING, "usd_per_mtok", "4.98", over=PREFILLING,
    ),
    # 2 N/C seconds of a chip against kv/M of one, fetching (0.02 s) taken off
    Golden(
        "recompute-hold", f"{LECTURE}, on a B200 in FP8 with 192 GB",
        f"{KNEE} hardware=b200 hardware.hbm_bytes=1.92e11 dtype=fp8 model.kv_bytes_per_token=1667",
        "break_even_hbm_s", "5119",
    ),
]  # fmt: skip

GOLDEN = [*RIDGES, *LECTURES, *COUNTS, *EXCHANGES, *PASSES, *SERVICES]
