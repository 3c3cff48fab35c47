"""Overlap between training and evaluation sets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.cli import main
from harness.evaluation.overlap import Text, TrainingTexts, runs_of
from harness.problems.text import content_digest, text_hash

LONG = "A train leaves the city of Aaa at noon and travels at 40 miles per hour to the city of Bbb. When?"
REWORDED = LONG.replace("When?", "Find the time of its arrival there.")
PHRASE = "The answer can be written as m/n where m and n are relatively prime positive integers find m + n"


def test_equal_texts_near_copies_and_turns_of_phrase() -> None:
    rows = [
        Text("a", "What is $1+1$?", "2"), Text("b", REWORDED, "5"), Text("c", f"Cats. {PHRASE}", "3"),
    ]  # fmt: skip
    problems = [
        Text("equal", "what is 1 + 1?", "2"), Text("near", LONG, "5"), Text("phrase", f"Dogs! {PHRASE}", "9"),
        Text("new", "What is 1 + 3?", "4"),
    ]  # fmt: skip
    found = TrainingTexts("t", rows, [row.problem for row in rows]).compare("e", problems)
    assert found.equal == {text_hash("What is 1+1")} and found.near == {text_hash(REWORDED)}
    assert found.left == ("equal", "near") and found.runs == ("near", "phrase") and found.problems == 4
    cleaned = TrainingTexts("t", rows, [rows[2].problem]).compare("e", problems)
    assert cleaned.equal == found.equal and cleaned.left == () and cleaned.runs == ("phrase",)
    other_answer = [Text("near", LONG, "6")]
    assert TrainingTexts("t", rows, [REWORDED]).compare("e", other_answer).near == frozenset()


def test_runs_have_thirteen_words() -> None:
    assert runs_of("a b c") == set() and len(runs_of(" ".join("abcdefghijklm"))) == 1
    assert len(runs_of(" ".join("abcdefghijklmno"))) == 3
    assert len(runs_of("求满足条件的所有正整数的个数和平均值")) == 6  # every character is a word


def test_the_command_prints_a_table_and_fails_on_overlap(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    def write(file: str, pairs: list[tuple[str, str]]) -> str:
        rows = [{"id": f"{file}-{i}", "problem": p, "answer": a} for i, (p, a) in enumerate(pairs)]
        (tmp_path / f"{file}.jsonl").write_text("\n".join(map(json.dumps, rows)))
        return content_digest(pairs)

    train = write("gsm8k_train", [("One and one?", "2"), (LONG, "5"), ("Two and two?", "4")])
    test = write("gsm8k_test", [("one and one", "2"), ("Three?", "3")])
    accept = f"accept_data=gsm8k:{train},gsm8k:{test}"
    words = ["check", "overlap", "training=gsm8k", "benchmark=gsm8k", f"data_dir={tmp_path}", accept]
    assert main([*words, "show=hashes"]) == 1
    out = capsys.readouterr().out
    assert out.splitlines()[1].split() == ["gsm8k", "gsm8k", "1", "0", "1", "0", "2"]
    assert f"gsm8k: {text_hash('One and one')}" in out
    for word, message in (
        ("training=gsm9k", "unknown training set 'gsm9k'; did you mean gsm8k"),
        ("training=aime24", "unknown training set 'aime24'"),
        ("trainin=gsm8k", "unknown setting 'trainin'; did you mean training"),
        ("show=all", "unknown show 'all'"),
        ("gsm8k", "'gsm8k' is not a setting"),
    ):
        assert main(["check", "overlap", word]) == 2
        assert message in capsys.readouterr().err
