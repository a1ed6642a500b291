"""What the event loop of serving is asked, what it keeps and what it answers."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import inf, isfinite, nan

POLICIES = ("prefill_first", "decode_first", "chunked")
ROUTINGS = ("round_robin", "least_loaded", "assigned")

PassSeconds = Callable[[int, float, int, float], float]


@dataclass(frozen=True)
class Request:
    """What a client asks; without `passes` each decode pass gains one token."""

    arrival_s: float
    prompt: int
    output: int
    cached: int = 0
    passes: int | None = None


@dataclass(frozen=True)
class Rules:
    """How the replicas of one lane serve; `assigned` has a replica for every request.

    `scale_at` is the requests for each replica that autoscaling aims at; 0: all are always on.
    """

    slots: int
    blocks: int
    block: int = 16
    budget: int = 8192
    each: int = 1  # tokens of the budget that a decoding sequence takes beside prompts
    policy: str = "prefill_first"
    reserve: bool = False
    wait_s: float = 0.0
    replicas: int = 1
    routing: str = "round_robin"
    assigned: tuple[int, ...] = ()
    prefilled: bool = False
    scale_at: float = 0.0
    least: int = 1
    start_s: float = 0.0
    idle_s: float = 0.0


@dataclass
class Served:
    """One accepted request in its replica."""

    index: int
    request: Request
    passes: int  # all that it needs
    gained: int  # tokens that these passes gain together; 0 without passes
    target: int  # tokens whose cache must be there before it decodes
    computed: int  # of these, how many are
    done: int = 0  # passes
    preemptions: int = 0
    replica: int = -1
    admitted_s: float = nan
    first_s: float = nan
    done_s: float = nan

    def held(self) -> float:
        """Tokens in its cache while it decodes, before the pass."""
        return self.request.prompt + self.gained * self.done / max(self.passes, 1)

    def held_ceil(self, passes: int, block: int = 1) -> int:
        """Blocks of the tokens in its cache after so many passes, rounded up."""
        whole = max(self.passes, 1)
        return ceil_div(self.request.prompt * whole + self.gained * passes, whole * block)

    def needs(self, block: int) -> int:
        """Blocks until its first decode pass after admission is made."""
        whole = max(self.passes, 1)
        return ceil_div(self.target * whole + self.gained, whole * block)

    @property
    def decodes(self) -> bool:
        return self.computed == self.target


@dataclass(frozen=True)
class Pass:
    """What happened in one pass; sequences by the index of their request."""

    replica: int
    start_s: float
    seconds: float
    running: tuple[int, ...]  # all that hold a slot, in order of admission
    decoding: tuple[int, ...]
    chunks: tuple[tuple[int, int], ...]  # request, prompt tokens computed
    blocks: int  # of all running


@dataclass
class Replica:
    """The state of one replica at its boundary `t`."""

    number: int
    t: float = 0.0
    waiting: list[Served] = field(default_factory=list)
    running: list[Served] = field(default_factory=list)
    leaving: int = 0  # ended with the last pass
    boundaries: int = 0
    log: list[Pass] = field(default_factory=list)


@dataclass(frozen=True)
class Run:
    """Lists by request (NaN and -1 where rejected), then by replica, then all passes."""

    first_s: list[float]
    done_s: list[float]
    admitted_s: list[float]
    preemptions: list[int]
    replica: list[int]
    rejected: list[bool]
    busy_s: list[float]
    batch_s: list[float]  # decoding sequences, integrated over the passes
    blocks_s: list[float]  # blocks held, integrated over the passes
    passes: list[int]
    decode_passes: list[int]  # those with at least one decoding sequence
    prompt_tokens: list[int]
    paid_s: list[float]
    log: list[list[Pass]]


def check(requests: Sequence[Request], rules: Rules) -> None:
    """Refuse what the rules do not define."""
    if rules.policy not in POLICIES or rules.routing not in ROUTINGS:
        raise ValueError(f"unknown policy {rules.policy!r} or routing {rules.routing!r}")
    if min(rules.slots, rules.blocks, rules.block, rules.budget, rules.replicas) < 1:
        raise ValueError("slots, blocks, block, budget and replicas are at least 1")
    decoding = rules.slots * rules.each
    if rules.policy == "chunked" and not rules.prefilled and rules.budget <= decoding:
        raise ValueError(f"budget={rules.budget} must exceed slots * each={decoding} under chunked")
    if not (rules.wait_s >= 0.0 and isfinite(rules.wait_s)):
        raise ValueError(f"wait_s={rules.wait_s} must be finite and not negative")
    if rules.routing == "assigned" and (
        len(rules.assigned) != len(requests)
        or not all(0 <= number < rules.replicas for number in rules.assigned)
    ):
        raise ValueError("assigned must give one of the replicas for each request")
    check_scaling(rules)
    before = 0.0
    for request in requests:
        if not (before <= request.arrival_s < inf):
            raise ValueError("arrivals must be sorted, finite and not negative")
        before = request.arrival_s
        if not (0 <= request.cached < request.prompt and request.output >= 1):
            raise ValueError(f"lengths are wrong in {request}")
        if rules.prefilled and request.output == 1:
            raise ValueError(f"nothing is left to decode of prefilled {request}")
        if request.passes is not None and not (
            min(request.output - 1, 1) <= request.passes <= request.output - 1
        ):
            raise ValueError(f"passes are wrong in {request}")


def check_scaling(rules: Rules) -> None:
    """Refuse what autoscaling does not define."""
    for name in ("scale_at", "start_s", "idle_s"):
        value = getattr(rules, name)
        if not (value >= 0.0 and isfinite(value)):
            raise ValueError(f"{name}={value} must be finite and not negative")
    if not (1 <= rules.least <= rules.replicas):
        raise ValueError(f"least={rules.least} must be 1 to replicas={rules.replicas}")
    if rules.scale_at and rules.routing == "assigned":
        raise ValueError("assigned routing is not allowed with autoscaling")


def report(
    count: int, accepted: dict[int, Served], replicas: list[Replica], paid_s: list[float]
) -> Run:
    """Collect the times of the requests and the sums over the passes."""
    served = [accepted.get(index) for index in range(count)]
    logs = [replica.log for replica in replicas]
    return Run(
        first_s=[s.first_s if s else nan for s in served],
        done_s=[s.done_s if s else nan for s in served],
        admitted_s=[s.admitted_s if s else nan for s in served],
        preemptions=[s.preemptions if s else 0 for s in served],
        replica=[s.replica if s else -1 for s in served],
        rejected=[s is None for s in served],
        busy_s=[sum(p.seconds for p in log) for log in logs],
        batch_s=[sum(len(p.decoding) * p.seconds for p in log) for log in logs],
        blocks_s=[sum(p.blocks * p.seconds for p in log) for log in logs],
        passes=[len(log) for log in logs],
        decode_passes=[sum(1 for p in log if p.decoding) for log in logs],
        prompt_tokens=[sum(n for p in log for _, n in p.chunks) for log in logs],
        paid_s=paid_s,
        log=logs,
    )


def ceil_div(part: int, whole: int) -> int:
    """Integer division, rounded up."""
    return -(-part // whole)
