"""A whole calibration of one chip and backend: every class, kind and collective, as a tree."""

from collections.abc import Sequence
from functools import partial
from typing import Any

from roofrack.errors import InputError
from roofrack.fitting import pools
from roofrack.fitting.assemble import NO_TABLE, Choice, Source, Told, assemble
from roofrack.fitting.calibrate import check
from roofrack.fitting.document import record
from roofrack.fitting.forms import Fitted, Subject


def build(chip: str, backend: str) -> dict[str, Any]:
    """Return the tree of a calibration: leaves, `fits` and what is assumed; InputError if no data.

    `rel_std` is the error on shapes of the tables that were held out.
    """
    check([chip], backend)
    tree = assemble(Source("on this chip", partial(_fit, chip), _tell, _undescribed), backend)
    if not tree["fits"]:
        raise InputError(f"chip={chip}: {NO_TABLE}")
    return tree


def _fit(chip: str, of: Subject, backend: str) -> Fitted | None:
    return pools.alone(pools.gather(of, [chip], backend), chip)


def _tell(of: Subject, choice: Choice) -> Told:
    return Told(choice.fitted, record(choice.fitted))


def _undescribed(of: Subject, poor: Sequence[Choice]) -> None:
    """Take none: a table that its form misses by so much is not of such kernels.

    What stands in says that it is assumed; the error bar of a fit would not.
    """
