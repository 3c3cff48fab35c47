"""The table of speed: ratios, their spread, exponents, missing rows, and when a row counts as worse."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from harness.util.errors import UserError
from tests.performance import check
from tests.performance.measures import MEASURES, Measure, Missing, Ratio, chosen, exponent, of_summary
from tests.performance.table import PAGE, origins, page, row_of
from tests.performance.timing import Comparison, middle_half

BY_KEY = {measure.key: measure for measure in MEASURES}
ABOUT = {"date": "2026-01-02", "hardware": "a CPU", "versions": {"torch": "1"}, "load": [0.5, 0.5, 0.5]}


def stored(folder: Path, file: str, content: dict[str, Any]) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / file).write_text(json.dumps(content))
    return folder


def summary(ours: list[float], peer: list[float]) -> dict[str, Any]:
    return Comparison("x", ours, peer).summary()


def test_the_spread_is_the_middle_half_and_of_few_pairs_their_range() -> None:
    assert middle_half([5.0, 1.0, 3.0, 2.0, 4.0]) == (2.0, 4.0)
    assert middle_half([3.0, 1.0, 2.0]) == (1.0, 3.0)
    found = of_summary(summary([1, 2, 3, 4, 50], [10] * 5))
    assert found == Ratio(0.3, 0.2, 0.4, 5)  # one disturbed pair is not the spread
    assert found.text() == "0.30 (0.20-0.40)"


def test_files_that_tell_only_the_range_are_read() -> None:
    old = {"pairs": 5, "ratio_median": 0.5, "ratio_min": 0.4, "ratio_max": 0.7}
    assert of_summary(old) == Ratio(0.5, 0.4, 0.7, 5)


def test_tokens_a_second_are_the_inverse_and_its_ends_change_places(tmp_path: Path) -> None:
    row = summary([2.0, 4.0, 5.0], [10.0, 10.0, 10.0]) | ABOUT
    stored(tmp_path, "sampler.json", {"4x16 float32 vllm": row})
    ratio, _ = BY_KEY["sampler-4x16-fp32-vllm"].stored(tmp_path)
    assert (ratio.median, ratio.low, ratio.high) == pytest.approx((2.5, 2.0, 5.0))


def _settings(problems: str) -> dict[str, Any]:
    return {"settings": {"problems": problems}}


def test_a_row_of_other_problems_is_not_the_row(tmp_path: Path) -> None:
    content = {"time": {"whole step": summary([0.4], [1.0])}, "memory": {"ratio_peak": 0.5}}
    folder = stored(tmp_path / "gsm8k", "trl-smollm2-135m.json", content | _settings("gsm8k"))
    assert BY_KEY["step-real"].stored(folder)[0].median == pytest.approx(0.4)
    folder = stored(tmp_path / "ours", "trl-smollm2-135m.json", content | _settings("word-problems"))
    for key in ("step-real", "memory-real"):
        with pytest.raises(Missing, match="measured with word-problems, not GSM8K: set ENTROBENCH_DATA"):
            BY_KEY[key].stored(folder)


def test_ratios_of_other_problems_are_not_compared(tmp_path: Path) -> None:
    row, folders = summary([2.0], [10.0]) | ABOUT, {}
    for name in ("gsm8k", "word-problems"):
        content = {"64x1 float32 vllm": row | {"problems": name}}
        folders[name] = stored(tmp_path / name, "sampler.json", content)
    measure = BY_KEY["sampler-64x1-fp32-vllm"]
    assert check.verdict(measure, folders["gsm8k"], folders["gsm8k"])[0] == "ok"
    found = check.verdict(measure, folders["word-problems"], folders["gsm8k"])
    assert found[0] == "FAILED" and found[2].startswith(
        "measured with word-problems, the baseline with gsm8k"
    )


@pytest.mark.parametrize(
    ("fresh", "worse"), [(0.45, False), (0.50, False), (0.57, False), (0.58, True), (0.1, False)]
)
def test_less_is_better_and_worse_is_fifteen_percent_beyond_the_spread(fresh: float, worse: bool) -> None:
    base = Ratio(0.45, 0.40, 0.50, 9)
    assert BY_KEY["step-micro"].worse(base, Ratio(fresh, fresh, fresh, 1)) is worse  # 0.50 x 1.15 = 0.575


@pytest.mark.parametrize(
    ("fresh", "worse"), [(6.0, False), (5.0, False), (4.4, False), (4.3, True), (9.0, False)]
)
def test_where_more_is_better_the_lower_end_counts(fresh: float, worse: bool) -> None:
    base = Ratio(6.0, 5.0, 7.0, 4)
    assert BY_KEY["grading"].worse(base, Ratio(fresh, fresh, fresh, 1)) is worse  # 5.0 / 1.15 = 4.35


def test_what_is_wanted_is_met_on_the_right_side() -> None:
    half = Ratio(0.5, 0.5, 0.5, 1)
    assert BY_KEY["memory-real"].reached(half) and not BY_KEY["step-real"].reached(half)
    assert BY_KEY["grading"].reached(Ratio(6.0, 5, 7, 3)) and not BY_KEY["grading"].reached(
        Ratio(5.9, 5, 7, 3)
    )


def test_an_exponent_is_the_slope_of_the_logarithms() -> None:
    assert exponent([1, 2, 4], [3, 6, 12]) == pytest.approx(1)
    assert exponent([10, 100, 1000], [1, 100, 10_000]) == pytest.approx(2)
    assert exponent([1, 2, 4], [5, 5, 5]) == pytest.approx(0)
    for sizes, costs in (([1], [1]), ([1, 2], [0, 1]), ([1, 2], [1])):
        with pytest.raises(ValueError, match="above 0"):
            exponent(sizes, costs)


def test_missing_rows_say_why(tmp_path: Path) -> None:
    said = {"missing": "the processor has no bfloat16 (avx2, no bfloat16)"}
    stored(tmp_path, "sampler.json", {"4x16 bfloat16 vllm": said})
    assert "no bfloat16" in row_of(BY_KEY["sampler-4x16-bf16-vllm"], tmp_path)[3]
    assert "64x1 float32 vllm" in row_of(BY_KEY["sampler-64x1-fp32-vllm"], tmp_path)[3]
    assert row_of(BY_KEY["report"], tmp_path)[3] == "missing: not measured yet"


def test_the_page_has_every_row_with_its_spread_and_no_seconds(tmp_path: Path) -> None:
    stored(tmp_path, "report.json", {"ratio": summary([120.25, 110.5, 130.75], [100.0] * 3), **ABOUT})
    text = page(tmp_path)
    assert all(f"| `{measure.key}` |" in text for measure in MEASURES)
    assert "1.20 (1.10-1.31) | at most 0.9 | no | 3 |" in text
    assert "120.25" not in text and "2026-01-02 | a CPU | torch 1 | 0.5 / 0.5 / 0.5" in text


def test_rows_of_one_file_measured_apart_are_told_apart(tmp_path: Path) -> None:
    later = ABOUT | {"date": "2026-02-03"}
    stored(tmp_path, "sampler.json", {"a": ABOUT, "b": ABOUT, "c": later, "d": {"missing": "x"}})
    assert [row[1] for row in origins(tmp_path)] == ["2026-01-02", "2026-02-03"]


def test_the_page_is_that_of_the_committed_files() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run: python -m tests.performance.table"
    for key in ("step-micro", "grading", "vcpo-micro", "vcpo-152k"):
        ratio, _ = BY_KEY[key].stored()
        assert ratio.low <= ratio.median <= ratio.high and math.isfinite(ratio.high) and ratio.pairs > 1


@pytest.mark.parametrize(
    ("before", "after", "wrong", "verdict"),
    [
        (1.0, 1.1, "", "ok"),
        (1.0, 1.2, "", "WORSE"),
        (None, 1.2, "", "no baseline"),
        (1.0, None, "", "FAILED"),
        (1.0, 1.0, "it broke", "FAILED"),
        (None, None, "", "missing"),
    ],
)
def test_verdicts(
    tmp_path: Path, before: float | None, after: float | None, wrong: str, verdict: str
) -> None:
    for name, value in (("base", before), ("fresh", after)):
        (tmp_path / name).mkdir()
        if value is not None:
            stored(tmp_path / name, "report.json", {"ratio": summary([value] * 4, [1.0] * 4)})
    found = check.verdict(BY_KEY["report"], tmp_path / "fresh", tmp_path / "base", wrong)
    assert found[0] == verdict
    assert not wrong or found[2] == wrong


def test_the_check_runs_each_command_once_and_fails_by_its_exit_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ran: list[tuple[str, ...]] = []
    about = {"memory": {"ratio_peak": 0.5}} | _settings("gsm8k")

    def fake(measures: list[Measure], folder: Path) -> dict[str, str]:
        ran.extend(dict.fromkeys(m.command for m in measures))
        content = about | {"time": {"whole step": summary([3.0] * 4, [1.0] * 4)}}
        stored(folder / "step-real", "trl-smollm2-135m.json", content)
        return {}

    monkeypatch.setattr(check, "measure_anew", fake)
    content = about | {"time": {"whole step": summary([2.0] * 4, [1.0] * 4)}}
    stored(tmp_path, "trl-smollm2-135m.json", content)
    assert check.main(["step-real", "memory-real", "--baseline", str(tmp_path)]) == 1
    out = capsys.readouterr().out
    assert len(ran) == 1 and "| step-real | WORSE | 2.00 (2.00-2.00) | 3.00 (3.00-3.00) |" in out
    assert "| memory-real | ok | 0.50 | 0.50 |" in out
    assert check.main(["memory-real", "step-real", "--baseline", str(tmp_path)]) == 1


def test_a_command_that_fails_is_told_with_its_last_line(tmp_path: Path) -> None:
    broken = Measure(
        "x", "", "", "report.json", BY_KEY["report"].read, ("bench_report", "--records", "no"), 1.0
    )
    assert "invalid int value" in check.measure_anew([broken], tmp_path)["x"]


def test_an_unknown_row_names_those_near_it() -> None:
    with pytest.raises(UserError, match="unknown row 'step-mirco'; did you mean step-micro"):
        chosen(["step-mirco"])
    assert chosen([]) == list(MEASURES) and chosen(["report"]) == [BY_KEY["report"]]
    with pytest.raises(Missing):
        BY_KEY["report"].stored(Path("/nowhere"))
