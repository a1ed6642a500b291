"""A whole run: its days and money, what failures cost it, and the model's life after it.

MODEL section 7. Failures come at random, at a constant rate; a checkpoint stops the run while it is
written, and a failure loses what was done since the last one.
"""

from typing import NamedTuple

from roofrack.arithmetic import Number, choose, divide, expm1, root
from roofrack.nouns import Scenario
from roofrack.units import HOUR

CHINCHILLA = 20.0
"""Tokens for each parameter that train a model of given FLOP best (Hoffmann et al. 2022,
arXiv:2203.15556)."""

DAY = 24.0 * HOUR
"""Seconds."""


class Goodput(NamedTuple):
    """Share of a run's time that makes progress; seconds between and of checkpoints."""

    share: Number
    interval_s: Number
    checkpoint_s: Number


def goodput(s: Scenario, chips: Number, checkpoint_bytes: Number) -> Goodput:
    """Return what failures and checkpoints leave of a run on `chips`.

    Daly 2006 (doi:10.1016/j.future.2004.11.016): with M seconds between failures, R to restart and
    d for a checkpoint every t seconds of work, a second of work takes
    M e^(R/M) (e^((t+d)/M) - 1) / t. The best t is near sqrt(2 d M) (Young 1974); to a higher order
    sqrt(2 d M) (1 + sqrt(d/2M)/3 + d/18M) - d, and M where d >= 2M.
    """
    f = s.workload.failures
    fails = f.chip_mtbf_s > 0
    mtbf = choose(fails, f.chip_mtbf_s, 1.0) / chips
    writing = checkpoint_bytes / (chips * f.checkpoint_bytes_per_s)
    half = writing / (2.0 * mtbf)
    best = root(2.0 * writing * mtbf) * (1.0 + root(half) / 3.0 + half / 9.0) - writing
    best = choose(half < 1.0, best, mtbf)
    interval = choose(f.checkpoint_interval_s > 0, f.checkpoint_interval_s, best)
    # t/M e^(-R/M) / (e^x - 1), x = (t + d)/M, in powers that cannot overflow
    x = (interval + writing) / mtbf
    left = interval / mtbf * (1.0 + expm1(-f.restart_s / mtbf - x)) / -expm1(-x)
    alone = divide(interval, interval + writing, 1.0)
    given = choose(f.checkpoint_interval_s > 0, alone, 1.0)
    return Goodput(
        choose(fails, left, given),
        choose(fails | (f.checkpoint_interval_s > 0), interval, float("nan")),
        writing,
    )


class Lifetime(NamedTuple):
    """FLOP by what they are for, as if all were done at the utilisation of training."""

    pretrain: Number
    rl: Number
    serve: Number

    @property
    def total(self) -> Number:
        """All of them together."""
        return self.pretrain + self.rl + self.serve


def lifetime(s: Scenario, params_active: Number) -> Lifetime:
    """Return what a model costs over its life: 6 N D, f N D_rl / e and 2 N D_served / e.

    f FLOP for each parameter and token of reinforcement learning (2 where nothing is learnt from a
    rollout, 6 where all of them are), e the utilisation of decoding over that of training.
    """
    w, life = s.workload, s.workload.lifetime
    return Lifetime(
        6.0 * params_active * w.tokens,
        life.rl_flops * params_active * life.rl_tokens / life.decode_efficiency,
        2.0 * params_active * life.served_tokens / life.decode_efficiency,
    )
