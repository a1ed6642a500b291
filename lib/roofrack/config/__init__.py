"""The configuration: composed by Hydra, handed on as plain dicts.

With the command line and the sweeper plugin this package is the only place that knows Hydra and
OmegaConf. Nothing here imports JAX.
"""

from roofrack.config.complaints import explain
from roofrack.config.composition import (
    VERSION_BASE,
    as_yaml,
    calibrated,
    command_line_dir,
    compose,
    covering,
    jobs,
    register,
    resolved,
)
from roofrack.config.launching import SweepLoader
from roofrack.config.loading import PRIMARY, conf_dir, options_of
from roofrack.config.overrides import STATIC, cross, lift, parse, with_study

__all__ = [
    "PRIMARY",
    "STATIC",
    "VERSION_BASE",
    "SweepLoader",
    "as_yaml",
    "calibrated",
    "command_line_dir",
    "compose",
    "conf_dir",
    "covering",
    "cross",
    "explain",
    "jobs",
    "lift",
    "options_of",
    "parse",
    "register",
    "resolved",
    "with_study",
]
