"""The conformance cases pass, the command says so, and it can fail."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import pytest

from harness.cli import checks, main
from harness.grading import conformance
from harness.grading.grader import CPU_S, Grader
from harness.util.errors import UserError

Capture = pytest.CaptureFixture[str]
GOLDEN = Path(__file__).parents[2] / "golden" / "grading"


def write(path: Path, *rows: dict[str, object]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def case(**changes: object) -> dict[str, object]:
    row: dict[str, object] = {
        "id": "a",
        "kind": "standard",
        "gold": "5",
        "response": r"\boxed{5}",
        "expected": True,
        "format": "boxed",
        "tags": ["easy"],
    }
    return row | changes


@pytest.fixture(scope="module")
def grader() -> Iterator[Grader]:
    """One for all: to start its processes takes two seconds.

    Its limit is half of the usual one, which all but bombs keep to: each of those uses it up.
    """
    with Grader(workers=2, cpu_s=CPU_S / 2) as made:
        yield made


@pytest.fixture
def command_grades_with_it(grader: Grader, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command takes the grader that is there; others let it start its own."""

    def opened(name: str, *, workers: int) -> AbstractContextManager[Grader]:
        assert name == grader.name
        return nullcontext(grader)

    monkeypatch.setattr(checks, "Grader", opened)


@pytest.fixture(scope="module")
def outcomes(grader: Grader) -> list[conformance.ConformanceOutcome]:
    """Bombs would use up any limit, so theirs is the least that every other case would do with too."""
    cases = [case for name in ("conformance", "own") for case in conformance.load(GOLDEN / f"{name}.jsonl")]
    bombs = [case for case in cases if "bomb" in case.tags]
    others = [case for case in cases if "bomb" not in case.tags]
    with Grader(workers=2, cpu_s=CPU_S / 8) as impatient:
        return conformance.run(others, grader, threads=2) + conformance.run(bombs, impatient, threads=2)


def share(outcomes: list[conformance.ConformanceOutcome], kind: str, field: str = "right") -> float:
    known = [getattr(o, field) for o in outcomes if o.case.kind == kind and o.right is not None]
    return sum(known) / len(known)


def test_the_first_grader_is_right(outcomes: list[conformance.ConformanceOutcome]) -> None:
    assert len(outcomes) == 688
    assert share(outcomes, "standard") >= 0.99
    assert share(outcomes, "hostile") >= 0.98


def test_the_second_grader_is_right(outcomes: list[conformance.ConformanceOutcome]) -> None:
    assert share(outcomes, "standard", "second_right") >= 0.99
    assert share(outcomes, "hostile", "second_right") >= 0.98


def test_the_graders_agree(outcomes: list[conformance.ConformanceOutcome]) -> None:
    agree = [o.grade is not None and o.grade.verdict.correct == (o.grade.second == "right") for o in outcomes]
    assert sum(agree) / len(agree) >= 0.98


def test_none_is_late_crashes_or_is_executed(outcomes: list[conformance.ConformanceOutcome]) -> None:
    assert [o.case.id for o in outcomes if o.late or o.error] == []
    assert not Path(conformance.MARKER).exists()
    assert conformance.passed(outcomes)


def test_the_command_passes_and_prints_every_tag(tmp_path: Path, capsys: Capture) -> None:
    file = write(
        tmp_path / "c.jsonl", case(), case(id="b", gold="x+1", response=r"\boxed{1+x}", tags=["hard"])
    )
    assert main(["check", "grading", str(file)]) == 0
    out = capsys.readouterr().out
    assert "easy" in out and "hard" in out and "misses: 0" in out and "passed" in out
    assert "standard: 2 of 2 right (100.0 %)" in out and "latest case" in out


@pytest.mark.usefixtures("command_grades_with_it")
def test_the_command_fails_and_names_every_miss(tmp_path: Path, capsys: Capture) -> None:
    rows = [case(id=f"good-{i}") for i in range(98)] + [
        case(id="bad-1", gold="6"),
        case(id="bad-2", gold="7"),
    ]
    assert main(["check", "grading", str(write(tmp_path / "c.jsonl", *rows))]) == 1
    out = capsys.readouterr().out
    assert "bad-1" in out and "bad-2" in out and "  good-" not in out
    assert r"gold '6'  response '\boxed{5}'  expected right, got wrong, second wrong" in out
    assert "98 of 100 right" in out and "FAILED" in out


@pytest.mark.usefixtures("command_grades_with_it")
def test_99_of_100_are_enough(tmp_path: Path) -> None:
    rows = [case(id=str(i)) for i in range(99)] + [case(id="bad", gold="6")]
    assert main(["check", "grading", str(write(tmp_path / "c.jsonl", *rows))]) == 0


@pytest.mark.usefixtures("command_grades_with_it")
def test_a_late_case_fails(tmp_path: Path, capsys: Capture) -> None:
    file = write(
        tmp_path / "c.jsonl", case(gold="x+1", response=r"\boxed{x+1+y}", expected=False, max_seconds=0)
    )
    assert main(["check", "grading", str(file)]) == 1
    assert "late: 1" in capsys.readouterr().out


def test_a_crash_fails() -> None:
    class Broken:
        def grade(self, *, gold: str, pred: str) -> None:
            if gold != "x+1":
                raise OSError("broken on purpose")

    cases = [conformance._case(case())]
    found = conformance.run(cases, Broken())  # type: ignore[arg-type]
    assert not conformance.passed(found)
    assert any("OSError: broken on purpose" in line for line in conformance.report(found))


def test_a_file_left_by_an_executed_answer_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    outcome = conformance.ConformanceOutcome(conformance._case(case(expected=None)), None, 0.0)
    assert conformance.passed([outcome])
    Path(conformance.MARKER).touch()
    assert not conformance.passed([outcome])


def test_a_boxed_only_grader_is_scored_on_boxes_and_says_so(tmp_path: Path, capsys: Capture) -> None:
    rows = [case(), case(id="b", response="The answer is 5", format="plain")]
    file = write(tmp_path / "c.jsonl", *rows)
    assert main(["check", "grading", str(file), "--grader", "math-verify-boxed"]) == 0
    assert "scored on the 1 cases" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no conformance cases"),
        ("{}", "line 1: no conformance case"),
        ("not json", "line 1: no conformance case"),
        (json.dumps(case()) + "\n" + json.dumps(case(kind="odd")), "line 2"),
    ],
)
def test_files_that_are_no_cases(text: str, message: str, tmp_path: Path, capsys: Capture) -> None:
    file = tmp_path / "c.jsonl"
    file.write_text(text)
    assert main(["check", "grading", str(file)]) == 2
    assert message in capsys.readouterr().err


def test_a_missing_file_and_an_unknown_grader(tmp_path: Path, capsys: Capture) -> None:
    assert main(["check", "grading", str(tmp_path / "none.jsonl")]) == 2
    assert "cannot read" in capsys.readouterr().err
    file = write(tmp_path / "c.jsonl", case())
    assert main(["check", "grading", str(file), "--grader", "math-verfy"]) == 2
    assert main(["check", "grading", str(file), "--grader", "math-dapo"]) == 2
    assert "follows a rule of its own" in capsys.readouterr().err


def test_response_parts_are_joined(tmp_path: Path) -> None:
    file = write(tmp_path / "c.jsonl", {**case(), "response": None, "response_parts": [["a", 3], ["b", 1]]})
    assert conformance.load(file)[0].response == "aaab"
    with pytest.raises(UserError):
        conformance.load(tmp_path)
