"""Many numbers at once are rounded and written to the bit as one by one."""

from __future__ import annotations

import json
import math
import random

import numpy as np
import pytest

from harness.report.render.plain_json import json_text
from harness.statistics import each_mean_pass_at_ks, mean_pass_at_ks
from harness.statistics.rounding import all_significant, all_to_digits, significant

EDGES = [
    *(0.0, -0.0, 1.0, 0.5, 0.4203125, 0.1234565, 0.12345649999, 999999.5, 999999.49, 1e6, 1234567.5, 1e22),
    *(9.999995, 9.9999949999, 99999.95, 1e-5, 1e-4, 9.9999e-5, 5e-324, 1.7e308, 123456.5, 2 / 3, 1000.0),
]


def _numbers() -> list[float]:
    draw = random.Random(0)
    wide = [draw.uniform(-1, 1) * 10.0 ** draw.randint(-20, 25) for _ in range(20_000)]
    halves = [draw.randrange(10**7) / 10.0 ** draw.randint(0, 9) for _ in range(20_000)]
    shares = [draw.randrange(1025) / 1024 for _ in range(2_000)]
    return [*EDGES, *(-value for value in EDGES), *wide, *halves, *shares]


def test_rounding_many_is_rounding_each() -> None:
    values = _numbers()
    assert list(map(repr, all_significant(values).tolist())) == [repr(significant(v)) for v in values]
    for digits in (1, 5, 8):
        wanted = [repr(float(f"{value:.{digits}g}")) for value in values]
        assert list(map(repr, all_to_digits(values, digits).tolist())) == wanted


def test_rounding_keeps_the_shape_and_what_is_not_finite() -> None:
    table = all_significant([[0.12345678, math.nan], [math.inf, 2.0]])
    assert table.shape == (2, 2) and table[0, 0] == 0.123457
    assert math.isnan(table[0, 1]) and table[1, 0] == math.inf
    assert significant(None) is None and str(significant(-0.0)) == "-0.0"


def test_numbers_are_written_as_python_writes_them() -> None:
    values = _numbers()
    near = [float(f"{mantissa}e{power}") for mantissa in (1, 1.5, 9.999999) for power in range(-8, 20)]
    for own in ([value] for value in [*values[:4000], *near]):
        assert json_text({"k": own}) == f'{{"k": {json.dumps(own)}}}\n'
        assert json_text({"k": own[0]}) == f'{{"k": {json.dumps(own[0])}}}\n'
    assert json_text({"k": values}) == f'{{\n "k": {json.dumps(values)}\n}}\n'
    assert json_text({"k": [1, None, True]}) == '{"k": [1, null, true]}\n'


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_what_json_has_not_is_refused(bad: float) -> None:
    for value in (bad, [1.0, bad]):
        with pytest.raises(ValueError, match="JSON compliant"):
            json_text({"k": value})


def test_lines_of_json_are_short_and_sorted() -> None:
    data = {"b": {"y": "ü\n", "x": 1}, "a": ["word" * 20, "word" * 20], "c": {}, "d": [], "e": {"z" * 120: 1}}
    word = "word" * 20
    assert json_text(data) == (
        f'{{\n "a": [\n  "{word}",\n  "{word}"\n ],\n "b": {{"x": 1, "y": "ü\\n"}},\n "c": {{}},\n "d": [],\n'
        f' "e": {{\n  "{"z" * 120}": 1\n }}\n}}\n'
    )


def test_scores_of_many_runs_are_those_of_each() -> None:
    counts = np.random.default_rng(0).integers(0, 65, (7, 33))
    each = each_mean_pass_at_ks(64, counts, (1, 2, 32))
    assert each.tolist() == [mean_pass_at_ks(64, own, (1, 2, 32)).tolist() for own in counts]
    assert each[3, 0] == pytest.approx(counts[3].mean() / 64)
