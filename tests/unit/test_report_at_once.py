"""What a report makes of many values at once is what one by one gives."""

from __future__ import annotations

from operator import itemgetter
from typing import Any

import numpy as np
import pytest

from harness.records.load import _possible
from harness.report.analysis.scores import mean_of, mean_of_rows, means_of
from harness.report.render.text import _csv_texts, _csv_value

NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    "values",
    [
        [0.1234567, None, 3, "plain", -0.0, 1e-9],
        [999_999.7, 1e6, -2_345_678.9, 1.5],
        [NAN, INF, -INF],
        ["with, comma", 1.0],
        ['with "quotes"', None],
        ["two\nlines", "e+"],
        [True, False, 1],
        [None],
    ],
)
def test_cells_are_those_of_each_value(values: list[Any]) -> None:
    assert _csv_texts(values) == ",".join("" if v is None else _csv_value(v) for v in values)


@pytest.mark.parametrize("n", [0, 8, 255, 256, 100_000])
def test_counts_outside_of_0_to_n_are_found(n: int) -> None:
    assert _possible([0, n], n)
    assert not _possible([0, n + 1], n)
    assert not _possible([-1, n], n)


def test_means_of_several_numbers_are_those_of_each() -> None:
    rows = [(0.1, None, 1, [1, 2], NAN), (0.2, 1.0, 2, [2, 5], 0.0), (0.7, 2.0, 4, [0, 1], 1.0)]
    found = means_of(rows, "abcde", lambda row: row)
    assert found == {key: mean_of(rows, itemgetter(at)) for at, key in enumerate("abcde")}
    assert found["a"] == (0.1 + 0.2 + 0.7) / 3 and found["b"] is None and found["e"] is None
    assert found["d"] == pytest.approx((1.5 + 3.5 + 0.5) / 3)
    assert means_of([], "ab", lambda row: row) == {"a": None, "b": None}


@pytest.mark.parametrize("shape", [(5, 32), (1, 3), (12, 1), (40, 7)])
def test_means_over_rows_are_numpys(shape: tuple[int, int]) -> None:
    rows = np.random.default_rng(0).normal(size=shape)
    assert mean_of_rows(rows).tobytes() == rows.mean(axis=0).tobytes()
