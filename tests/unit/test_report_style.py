"""Looks of methods: always the same, never two alike, and told apart by colour-blind readers."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from numpy.typing import NDArray

from harness.registry import methods
from harness.report.render.style import COLOURS, styles

# Linear RGB as seen with a missing cone type (Machado, Oliveira and Fernandes 2009, severity 1).
VISION = {
    "normal": [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "tritanopia": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}
LIGHT = np.array([0.2126, 0.7152, 0.0722])


def linear(colour: str) -> NDArray[np.float64]:
    rgb = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


def lab(rgb: NDArray[np.float64]) -> NDArray[np.float64]:
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], LIGHT, [0.0193, 0.1192, 0.9505]])
    xyz = to_xyz @ np.clip(rgb, 0, 1) / np.array([0.95047, 1, 1.08883])
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize(("tone", "background"), [(0, "#ffffff"), (1, "#161b22")])
def test_colours_stay_apart_for_every_kind_of_vision(tone: int, background: str) -> None:
    colours = [pair[tone] for pair in COLOURS]
    for name, matrix in VISION.items():
        seen = [lab(np.array(matrix) @ linear(colour)) for colour in colours]
        least = min(float(np.linalg.norm(a - b)) for a, b in combinations(seen, 2))
        assert least > (12 if name == "tritanopia" else 16), name
    page = float(LIGHT @ linear(background))
    for colour in colours:  # contrast of graphical objects, WCAG 2.1
        light, dark = sorted((float(LIGHT @ linear(colour)), page), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 2.95, colour


def test_sixty_methods_look_different_and_keep_their_looks() -> None:
    names = [f"method-{i}" for i in range(60)]
    looks = styles([*names, "random-reward (control)"], "grpo", {"random-reward (control)"})
    assert len({(look.colour, look.dashes, look.marker) for look in looks.values()}) == 62
    alone = [styles([name], "grpo")[name] for name in names]
    same_colour = [look.colour == looks[name].colour for name, look in zip(names, alone, strict=True)]
    assert all(same_colour)  # whatever stands beside them
    assert sum(look == looks[name] for name, look in zip(names, alone, strict=True)) >= 54


def test_hardly_a_registered_method_has_to_give_way() -> None:
    names = sorted(methods.entries())
    looks = styles(names, "grpo")
    alone = {name: styles([name], "grpo")[name] for name in names}
    assert all(looks[name].colour == alone[name].colour for name in names)
    assert sum(looks[name] != alone[name] for name in names) <= len(names) / 10
    assert looks["bapo@paper"].colour == looks["bapo@released"].colour
    assert looks["bapo@paper"] != looks["bapo@released"]
