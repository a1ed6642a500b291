"""How to start a serving engine so that it realises a plan: commands of vLLM, SGLang, TensorRT-LLM.

Options as in the engines' documentation: vLLM's and TensorRT-LLM's serve commands, SGLang's server
arguments. Not every plan can be had of every engine; then the reason is said.
"""

import math
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

Row = Mapping[str, Any]


class Start(NamedTuple):
    """What is served: the checkpoint, the longest sequence in tokens, whether it has experts."""

    checkpoint: str
    tokens: int
    experts: bool


class Launch(NamedTuple):
    """How an engine is started: commands, or (`refused`) why it cannot run the plan."""

    engine: str
    lines: tuple[str, ...]
    refused: str = ""


def launch(engine: str, row: Row, start: Start) -> Launch:
    """Return how one of ENGINES is started for one row of a search."""
    how = ENGINES[engine]
    pools = _pools(row)
    for role, pool in pools.items():
        if refused := _never(pool) or how.refuses(pool, start):
            told = f"{role}: {refused}" if role else refused
            return Launch(engine, (), told)
    lines: list[str] = []
    for (role, pool), count in zip(pools.items(), row.get("instances", (1,)), strict=True):
        lines += [f"# {count} instance{'s' * (count > 1)} of {role}"] if role else []
        lines += how.lines(pool, start, role)
    return Launch(engine, (*lines, *([how.joined] if len(pools) > 1 else [])))


def _pools(row: Row) -> dict[str, Row]:
    """Return what is started, by its role: one kind of engine ("") or two."""
    if row["prefill"] is None:
        return {"": row}
    first = row["prefill"]
    prompts = row.get("workload.prefill_batch", 1) * _ranks(first) * first["pp"]
    return {"prefill": {**first, "batch": prompts}, "decode": row}


def checkpoint(sources: Mapping[str, str], name: str) -> str:
    """Return the checkpoint that a model's sources name on Hugging Face, else a place for it."""
    for text in sources.values():
        found = re.search(r"Hugging Face ([\w.-]+/[\w.-]+)", text)
        if found:
            return found[1]
    return f"CHECKPOINT_OF_{name}"


def _never(row: Row) -> str:
    """Return why no engine has an option for a plan; empty if they have."""
    if row["cp"] > 1:
        return "context parallelism of its own chips (cp) is no option"
    if row["tp_rows"] > 1:
        return "FFNs divided along both dimensions (tp_rows) are no option"
    if row["overlap_batches"] > 1:
        return "how batches overlap is no option that holds for all its models"
    if row["redundant_experts"] > 0:
        return "copies of experts are placed by its load balancer, not by a fixed number"
    return ""


def _ranks(row: Row) -> int:
    """Return the ranks that attention is data parallel over."""
    return int(row["dp"] * (row["tp"] if row["attention_dp"] else 1))


def _stage(row: Row) -> int:
    return int(row["tp"] * row["dp"])


def _each(row: Row, ranks: int) -> int:
    """Return the sequences of one rank."""
    return math.ceil(row["batch"] / ranks)


def _replicas(row: Row, start: Start) -> bool:
    """Tell whether data parallel ranks share nothing: they are engines of their own."""
    return row["dp"] > 1 and (not start.experts or row["ep"] * row["tp"] <= row["tp"])


def _beside(row: Row, start: Start) -> tuple[str, ...]:
    if not _replicas(row, start):
        return ()
    return (f"# {row['dp']:g} such engines behind a router: its data parallel ranks share nothing",)


def _vllm_refuses(row: Row, start: Start) -> str:
    if start.experts and row["ep"] not in (1, _stage(row)):
        return f"experts are divided over all {_stage(row)} chips of a stage or not at all"
    if row["attention_dp"] and not start.experts:
        return "attention is data parallel on its own only beside experts"
    if row["attention_dp"] and row["ep"] != _stage(row):
        return "with data parallel attention experts are divided over all chips of a stage"
    return ""


def _vllm(row: Row, start: Start, role: str) -> tuple[str, ...]:
    replicas = _replicas(row, start)
    ranks = 1 if replicas else _ranks(row)
    tp = 1 if row["attention_dp"] else row["tp"]
    words = [f"vllm serve {start.checkpoint}", f"--tensor-parallel-size {tp:g}"]
    words += [f"--pipeline-parallel-size {row['pp']:g}"] if row["pp"] > 1 else []
    words += [f"--data-parallel-size {ranks}"] if ranks > 1 else []
    words += ["--enable-expert-parallel"] if start.experts and row["ep"] > 1 else []
    words.append(f"--max-num-seqs {_each(row, _ranks(row))} --max-model-len {start.tokens}")
    transfer = '{"kv_connector": "NixlConnector", "kv_role": "kv_both"}'
    words += [f"--kv-transfer-config '{transfer}'"] if role else []
    return (*_beside(row, start), " ".join(words))


def _sglang_refuses(row: Row, start: Start) -> str:
    if start.experts and row["ep"] > 1 and _stage(row) / row["ep"] > row["tp"]:
        return f"ep={row['ep']:g} leaves copies of the experts within one engine"
    return ""


def _sglang(row: Row, start: Start, role: str) -> tuple[str, ...]:
    alone = _replicas(row, start)
    size = int(row["tp"]) if alone else _stage(row)
    ranks = _ranks(row) // (int(row["dp"]) if alone else 1)
    words = [f"python -m sglang.launch_server --model-path {start.checkpoint}"]
    words.append(f"--tp-size {size}")
    words += [f"--pp-size {row['pp']:g}"] if row["pp"] > 1 else []
    words += [f"--dp-size {ranks} --enable-dp-attention"] if ranks > 1 else []
    words += [f"--ep-size {row['ep']:g}"] if start.experts and row["ep"] > 1 else []
    batch = math.ceil(row["batch"] / (row["dp"] if alone else 1))
    words.append(f"--max-running-requests {batch} --context-length {start.tokens}")
    words += [f"--disaggregation-mode {role}"] if role else []
    return (*_beside(row, start), " ".join(words))


def _trtllm_refuses(row: Row, start: Start) -> str:
    if not _replicas(row, start) and row["dp"] > 1 and row["tp"] > 1 and not row["attention_dp"]:
        return "attention is tensor parallel or data parallel, not both"
    return _sglang_refuses(row, start)


def _trtllm(row: Row, start: Start, role: str) -> tuple[str, ...]:
    alone = _replicas(row, start)
    size = int(row["tp"]) if alone else _stage(row)
    parallel = bool(row["attention_dp"]) or (row["dp"] > 1 and not alone)
    words = [f"trtllm-serve {start.checkpoint} --tp_size {size}"]
    words += [f"--pp_size {row['pp']:g}"] if row["pp"] > 1 else []
    words += [f"--ep_size {row['ep']:g}"] if start.experts and row["ep"] > 1 else []
    words.append(f"--max_batch_size {_each(row, _ranks(row))} --max_seq_len {start.tokens}")
    extra = ["enable_attention_dp: true"] if parallel else []
    extra += ["cache_transceiver_config: {backend: DEFAULT}"] if role else []
    file = f"{role or 'extra'}.yaml"
    words += [f"--extra_llm_api_options {file}"] if extra else []
    written = (
        ("printf '" + "".join(f"{line}\\n" for line in extra) + f"' > {file}",) if extra else ()
    )
    return (*_beside(row, start), *written, " ".join(words))


class _Engine(NamedTuple):
    refuses: Callable[[Row, Start], str]
    lines: Callable[[Row, Start, str], tuple[str, ...]]
    joined: str


ENGINES: dict[str, _Engine] = {
    "vllm": _Engine(
        _vllm_refuses, _vllm, "# requests go to a prefill and then to a decode instance by a proxy"
    ),
    "sglang": _Engine(
        _sglang_refuses,
        _sglang,
        "# in front of them: python -m sglang_router.launch_router "
        "--pd-disaggregation --prefill URL --decode URL",
    ),
    "trtllm": _Engine(
        _trtllm_refuses,
        _trtllm,
        "# in front of them: trtllm-serve disaggregated -c FILE, which "
        "names the URLs as context_servers and generation_servers",
    ),
}
"""By the name that a search takes."""
