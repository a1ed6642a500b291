"""roofrack: what a large language model costs on given hardware, why, and what to change.

The Python contract: `scenario`, `estimate`, `sweep`, `load`, `search`, `advise`, `elasticities`,
`solve`, `simulate`, `calibrate`, `timeline`, `validate`. Loaded on first use, so that
`import roofrack` costs nothing.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from roofrack.api import (
        advise,
        calibrate,
        elasticities,
        estimate,
        load,
        scenario,
        search,
        simulate,
        solve,
        sweep,
        timeline,
        validate,
    )

__all__ = [
    "advise",
    "calibrate",
    "elasticities",
    "estimate",
    "load",
    "scenario",
    "search",
    "simulate",
    "solve",
    "sweep",
    "timeline",
    "validate",
]

# The questions lie beside lib/ in a checkout and inside the package once it is installed.
_checkout = Path(__file__).resolve().parents[2]
if (_checkout / "experiments" / "__init__.py").is_file():
    __path__.append(str(_checkout))


def __getattr__(name: str) -> Any:
    """Import the public functions when they are first asked for."""
    if name not in __all__:
        raise AttributeError(f"module 'roofrack' has no attribute '{name}'")
    from roofrack import api

    return getattr(api, name)
