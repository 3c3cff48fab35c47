"""The mathematics sets: read from files and from the hub, checked, cleaned, split, judged."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path
from typing import Any

import pytest

from harness.problem_sets.math_set import VALIDATION_SHARE, MathSet
from harness.problem_sets.rows import Hub, Part, ProblemRow
from harness.problems.text import content_digest, normal_text, text_hash
from harness.registry import benchmarks as registry
from harness.util.errors import UserError
from tests.helpers.math_files import SEVEN, real_data, rows_of, write_rows, write_sets

ALL = (*SEVEN, "amc22_23", "math-l3to5", "dapo-math-17k")


def aime(folder: Path | None, accept: str = "") -> Any:
    return registry.load_from("aime24", str(folder) if folder else None, accept)


@pytest.fixture(autouse=True)
def _no_data_of_the_user(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    if "real" not in request.node.name:
        monkeypatch.delenv("ENTROBENCH_DATA", raising=False)
    monkeypatch.delenv("ENTROBENCH_ACCEPT_DATA", raising=False)
    monkeypatch.setenv("ENTROBENCH_CACHE", "/nowhere")


def test_a_folder_a_file_and_the_environment_give_the_same_problems(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    accept = write_sets(tmp_path, ("aime24",))
    first = aime(tmp_path, accept).problems("test")
    assert [p.id for p in first] == ["aime24-test-0", "aime24-test-1", "aime24-test-2"]
    assert first[1].answer == "4" and first[1].meta["question"] == "In set aime24-test, what is $1+3$?"
    assert "\\boxed{}" in first[1].prompt and first[1].meta["question"] in first[1].prompt
    file = tmp_path / "aime24.jsonl"
    assert aime(file, accept).problems("test") == first
    (tmp_path / "packed").mkdir()
    with gzip.open(tmp_path / "packed" / "aime24.jsonl.gz", "wt") as handle:
        handle.write(file.read_text())
    assert aime(tmp_path / "packed", accept).problems("test") == first
    monkeypatch.setenv("ENTROBENCH_DATA", str(tmp_path))
    monkeypatch.setenv("ENTROBENCH_ACCEPT_DATA", accept)
    assert aime(None, accept).problems("test") == first


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            '{"id": "a", "question": "1+1", "answer": "2"}',
            "line 2 has no column 'problem'; it has: id, question",
        ),
        ('{"id": "a", "problem": "1+1", "answer": " "}', "line 2 has an empty answer; fill it in or remove"),
        ('{"id": "a", "problem": "1+1", "answer": null}', "line 2 has an empty answer"),
        ('{"id": "a", "problem": "1+1", "answer": []}', "line 2 has an empty answer"),
        (
            '{"id": "a", "problem": "1+1", "answer": false}',
            "line 2: answer is false; write text, a number, or",
        ),
        (
            '{"id": "a", "problem": "1+1", "answer": {"value": 2}}',
            'line 2: answer is {"value": 2}; write text',
        ),
        ('{"id": "a", "problem": "1+1", "answer": ["2", null]}', 'line 2: answer is ["2", null]; write text'),
        ('{"id": "a", "problem": "1+1", "answer": [[2]]}', "line 2: answer is [[2]]; write text"),
        ('{"id": "a", "problem": "1+1", "answer": NaN}', "line 2: answer is NaN; write text"),
        ('{"id": "a", "problem": ["1+1"], "answer": "2"}', 'line 2: problem is ["1+1"]; write text'),
        ('{"id": [1], "problem": "1+1", "answer": "2"}', "line 2: id is [1]; write text"),
        ('{"id": "a", "problem": "1+1", "answer"', "line 2 is not JSON"),
        ('["a"]', "line 2 is not an object"),
        ('{"id": "aime24-0", "problem": "1+1", "answer": "2"}', "id 'aime24-0' comes twice"),
    ],
)
def test_a_bad_line_is_named(line: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "aime24.jsonl"
    file.write_text(json.dumps(rows_of("aime24", 1)[0]) + "\n" + line + "\n")
    with pytest.raises(UserError, match=re.escape(message)):
        aime(tmp_path).problems("test")


@pytest.mark.parametrize(
    ("value", "answer"), [(["3", "4"], "3, 4"), ([5], "5"), ([0.5, "x"], "0.5, x"), (7, "7"), (2.5, "2.5")]
)
def test_an_answer_may_be_a_number_or_a_list(value: Any, answer: str, tmp_path: Path) -> None:
    row = rows_of("aime24", 1)[0] | {"answer": value}
    (tmp_path / "aime24.jsonl").write_text(json.dumps(row) + "\n")
    digest = content_digest([(row["problem"], answer)])
    (problem,) = aime(tmp_path, f"aime24:{digest}").problems("test")
    assert problem.answer == answer


def test_missing_and_broken_files_name_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match="no aime24.jsonl or aime24.jsonl.gz in data_dir=.*leave data_dir out"
    ):
        aime(tmp_path).problems("test")
    (tmp_path / "aime24.jsonl.gz").write_bytes(gzip.compress(b'{"id"' * 1000)[:40])
    with pytest.raises(UserError, match="cannot read .*aime24.jsonl.gz"):
        aime(tmp_path).problems("test")


def test_other_content_is_refused_unless_it_is_named(tmp_path: Path) -> None:
    rows = rows_of("aime24", 4)
    write_rows(tmp_path / "aime24.jsonl", rows)
    with pytest.raises(UserError, match="4 rows instead of 30") as refusal:
        aime(tmp_path).problems("test")
    accept = re.search(r"accept_data=(aime24:[0-9a-f]{16})", str(refusal.value))
    assert accept
    accepted = aime(tmp_path, accept[1])
    assert len(accepted.problems("test")) == 4
    assert accepted.fingerprint() != aime(None).fingerprint()  # a run on other content is another run
    write_rows(tmp_path / "aime24.jsonl", [*rows[:3], rows[3] | {"answer": "7"}])
    with pytest.raises(UserError, match="is not the set that the harness knows"):
        aime(tmp_path, accept[1]).problems("test")


def test_the_digest_ignores_what_copies_differ_in_and_nothing_else() -> None:
    pairs = [("What is $\\dfrac{1}{2}$ of $4$?", "2"), ("Find  x.", "$3$")]
    assert content_digest(pairs) == content_digest([("find x", "3"), ("What is \\frac12 of 4", "2")])
    assert content_digest(pairs) != content_digest([("find x", "3"), ("What is \\frac12 of -4", "2")])
    assert content_digest(pairs) != content_digest([("find x", "4"), ("What is \\frac12 of 4", "2")])
    assert normal_text("\\left( x+1 \\right)") == normal_text("$(x + 1)$") != normal_text("(x-1)")


def fake_hub(monkeypatch: pytest.MonkeyPatch, rows: list[dict[str, Any]]) -> list[tuple[Any, Any]]:
    import datasets

    asked = []

    def load_dataset(*args: Any, **options: Any) -> list[dict[str, Any]]:
        asked.append((args, options))
        return rows

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    return asked


HUB_ROWS: dict[str, tuple[dict[str, Any], str]] = {
    "aime24": ({"problem": "Q", "answer": "033"}, "33"),
    "amc22_23": ({"problem": "Q", "answer": 27.0}, "27"),
    "minerva": ({"question": "Q", "answer": "1.85e5"}, "1.85e5"),
    "olympiadbench": ({"question": "Q", "final_answer": ["$2$", "3"]}, "$2$, 3"),
    "gsm8k": ({"question": "Q", "answer": "so 1+1\n#### 1,234"}, "1234"),
    "dapo-math-17k": ({"prompt": "Q", "solution": "34"}, "34"),
    "math-l3to5": ({"extra_info": {"question": "Q"}, "reward_model": {"ground_truth": "x"}}, "x"),
}


@pytest.mark.parametrize("name", HUB_ROWS)
def test_rows_of_the_hub(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    row, answer = HUB_ROWS[name]
    benchmark = registry.load_from(name, None, f"{name}:{content_digest([('Q', answer)])}")
    part = next(iter(benchmark.parts))
    asked = fake_hub(monkeypatch, [row])
    loaded = benchmark.loaded(part)
    assert [(r.problem, r.answer) for r in loaded.rows] == [("Q", answer)]
    assert loaded.rows[0].id == f"{name}-{text_hash('Q')}"  # does not depend on the order of the copy
    hub = benchmark.parts[part].hub
    ((args, options),) = asked
    assert args == (hub.id, hub.config) and options["split"] == hub.split and options["revision"] == "main"
    assert loaded.source.startswith(f"hub:{hub.id}/")


def test_bad_rows_of_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_hub(monkeypatch, [{"text": "Q", "answer": "1"}])
    with pytest.raises(UserError, match="row 0 has no column 'problem or question'; it has: text, answer"):
        aime(None).problems("test")
    fake_hub(monkeypatch, [{"problem": "Q", "answer": None}])
    with pytest.raises(UserError, match="row 0 has an empty answer"):
        aime(None).problems("test")
    # datasets 5.2.0 reads a column of dates like this, whether it is declared a string or not
    fake_hub(monkeypatch, [{"problem": "Q", "answer": "2024-03-01 00:00:00"}])
    with pytest.raises(UserError, match="datasets makes of '2024-03-01'; for aime24 give data_dir="):
        aime(None).problems("test")
    import datasets

    def fail(*args: Any, **options: Any) -> None:
        raise ConnectionError("no route\nto anywhere")

    monkeypatch.setattr(datasets, "load_dataset", fail)
    with pytest.raises(UserError, match="cannot load aime24 from hub:.*: no route; give data_dir="):
        aime(None).problems("test")


class Sums(MathSet):
    name = "sums"
    parts = {"train": Part("sums", 0, "", Hub("nobody/nothing", "train"))}
    overlapping = frozenset({text_hash("What is 7?")})


def test_training_rows_are_cleaned_and_split() -> None:
    rows = [ProblemRow(str(i), f"What is {i} + {i}?", str(2 * i)) for i in range(3000)]
    rows += [
        ProblemRow("again", "what is 1+1?", "2"), ProblemRow("overlap", "What is $7$?", "7"),
        ProblemRow("other", "What is 9 + 9?", "19"),
        ProblemRow("flagged", "Flagged.", "1", {"overlaps_eval": ["math500"]}),
    ]  # fmt: skip
    ids = {row.id for row in Sums().clean(rows)}
    assert ids == {str(i) for i in range(3000)} - {"9"}  # 9 has two answers; neither is trusted
    benchmark = Sums()
    benchmark._loaded["train"] = type("L", (), {"rows": tuple(rows)})()  # type: ignore[assignment]
    train, validation = benchmark.problems("train"), benchmark.problems("validation")
    assert {p.id for p in train} | {p.id for p in validation} == ids
    assert not {p.id for p in train} & {p.id for p in validation}
    assert len(validation) == pytest.approx(3000 * VALIDATION_SHARE, rel=0.3)
    with pytest.raises(ValueError, match="no split 'test'; choose one of train, validation"):
        benchmark.problems("test")


def test_answers_are_judged_together(tmp_path: Path) -> None:
    benchmark = aime(tmp_path, write_sets(tmp_path, ("aime24",)))
    problems = benchmark.problems("test")
    texts = ["so \\boxed{2}", "so \\boxed{5}", "no answer"]
    statuses = [verdict.status for verdict in benchmark.verify_all(problems, texts)]
    assert statuses == ["right", "wrong", "unparsed"]
    assert benchmark.verify(problems[1], "\\boxed{4}").correct


def test_fingerprints_need_no_data_and_differ() -> None:
    prints = {name: registry.load(name).fingerprint() for name in ALL}
    assert len(set(prints.values())) == len(ALL)


@pytest.mark.parametrize("name", ALL)
def test_real_sets_are_what_their_files_say(name: str) -> None:
    benchmark: Any = registry.load_from(name, str(real_data()), "")
    for part in benchmark.parts:
        loaded = benchmark.loaded(part)
        assert len(loaded.rows) == benchmark.parts[part].rows
        assert loaded.digest == benchmark.parts[part].digest
    for split in benchmark.splits():
        assert len(benchmark.problems(split)) > 0


def test_real_training_sets_hold_no_evaluation_problem(capsys: pytest.CaptureFixture[str]) -> None:
    from harness.cli.overlap import overlap

    assert overlap([f"data_dir={real_data()}", "show=hashes"]) == 0
    out = capsys.readouterr().out
    for name in ("dapo-math-17k", "math-l3to5"):
        hashes = re.search(rf"^{name}: (.*)$", out, re.M)
        assert hashes and frozenset(hashes[1].split()) == registry.load(name).overlapping  # type: ignore[attr-defined]
    # what the data's own page counts by plain text equality is among what is left out
    dapo: Any = registry.load_from("dapo-math-17k", str(real_data()), "")
    flagged = {text_hash(r.problem) for r in dapo.loaded("train").rows if r.extra["overlaps_eval"]}
    assert len(flagged) >= 18 and flagged <= dapo.overlapping
