"""The pace of the host: the one number of training that was fitted to runs, half of vTrain's."""

import numpy as np
import pytest

from roofrack.validation.training import _row, training_rows
from roofrack.validation.training_runs import training_lines
from roofrack.validation.training_table import FITTED_TO, vtrain

LEAF = "calibration.host_s"


def test_half_of_the_runs_on_one_node_are_left_out() -> None:
    fitted = {row.id for row in training_rows() if row.why_not == FITTED_TO}
    single = [row.id for row in training_rows() if row.group == "vtrain_single"]
    assert len(fitted) == len(single) / 2
    assert all(int(name.rsplit("_", 1)[1]) % 2 for name in fitted)
    assert fitted <= set(single)


@pytest.mark.slow
def test_it_is_that_of_the_runs_that_are_left_out() -> None:
    rows = [_row({**line, "why_not": ""}) for line in vtrain() if line["why_not"] == FITTED_TO]
    (given,) = {float(dict(w.split("=", 1) for w in row.overrides)[LEAF]) for row in rows}

    def median(factor: float) -> float:
        asked = [
            row._replace(overrides=(*row.overrides, f"{LEAF}={given * factor}")) for row in rows
        ]
        lines = training_lines(rows=asked)
        return float(np.abs(lines["predicted"] / lines["measured"] - 1.0).median())

    assert median(1.0) <= min(median(0.92), median(1.08))
