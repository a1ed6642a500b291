"""The palette keeps its promises, and the axis helpers write what they should."""

import altair as alt
import numpy as np
import pytest
from report.pages import SYSTEMS, linked, table

from roofrack.report import theme

# Machado, Oliveira and Fernandes 2009, severity 1.0, in linear RGB.
PROTANOPIA = [
    [0.152286, 1.052583, -0.204868],
    [0.114503, 0.786281, 0.099216],
    [-0.003882, -0.048116, 1.051998],
]
DEUTERANOPIA = [
    [0.367322, 0.860646, -0.227968],
    [0.280085, 0.672501, 0.047413],
    [-0.011820, 0.042940, 0.968881],
]
# Bjoern Ottosson, Oklab (2020).
LMS = [[0.4122214708, 0.5363325363, 0.0514459929], [0.2119034982, 0.6806995451, 0.1073969566],
       [0.0883024619, 0.2817188376, 0.6299787005]]  # fmt: skip
LAB = [[0.2104542553, 0.7936177850, -0.0040720468], [1.9779984951, -2.4285922050, 0.4505937099],
       [0.0259040371, 0.7827717662, -0.8086757660]]  # fmt: skip


def linear(colour: str) -> np.ndarray:
    """Linear RGB of #rrggbb."""
    value = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


def contrast(one: str, other: str) -> float:
    """Contrast ratio of WCAG 2."""
    low, high = sorted(float(linear(c) @ [0.2126, 0.7152, 0.0722]) for c in (one, other))
    return (high + 0.05) / (low + 0.05)


def oklab(rgb: np.ndarray) -> np.ndarray:
    return np.cbrt(np.clip(rgb, 0, None) @ np.transpose(LMS)) @ np.transpose(LAB)


@pytest.mark.parametrize("background", [theme.LIGHT_BACKGROUND, theme.DARK_BACKGROUND])
@pytest.mark.parametrize("colour", theme.PALETTE)
def test_colours_stand_out_from_both_backgrounds(colour: str, background: str) -> None:
    assert contrast(colour, background) >= 3.0


@pytest.mark.parametrize("sight", [np.eye(3), PROTANOPIA, DEUTERANOPIA])
def test_colours_differ_for_colour_blind_readers(sight: np.ndarray) -> None:
    seen = [oklab(np.clip(np.asarray(sight) @ linear(c), 0, 1)) for c in theme.PALETTE]
    apart = [np.linalg.norm(a - b) for i, a in enumerate(seen) for b in seen[:i]]
    assert min(apart) > 0.08


def test_page_and_theme_agree_on_backgrounds() -> None:
    from roofrack.report.render import _static

    style = _static("page.css")
    assert f"--background: {theme.LIGHT_BACKGROUND}" in style
    assert style.count(f"--background: {theme.DARK_BACKGROUND}") == 2


def test_every_colour_has_a_second_channel() -> None:
    assert (
        len(set(theme.PALETTE))
        == len(set(theme.DASHES))
        == len(set(theme.SHAPES))
        == len(theme.PARTS)
        == 8
    )


def test_axis_names_unit_and_scale() -> None:
    axis = theme.axis(alt.Y, "hardware.hbm_bytes", "Memory", "byte", log=True).to_dict()
    assert axis["field"] == r"hardware\.hbm_bytes"
    assert axis["title"] == "Memory (bytes, log)"
    assert axis["scale"] == {"type": "log"}
    assert theme.axis_title("Racks", "1") == "Racks"


def test_series_repeat_after_eight() -> None:
    names = [f"s{i}" for i in range(10)]
    scale = theme.series("hardware", "System", names)["color"].to_dict()["scale"]
    assert scale["range"][8] == scale["range"][0]


def test_charts_are_the_same_each_time() -> None:
    from roofrack.report.specs import to_spec

    first, second = (to_spec(linked(table(), SYSTEMS)) for _ in range(2))
    assert first == second
    assert "param_1" in str(first)
