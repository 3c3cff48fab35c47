"""Small files in the place of the mathematics sets, and the real ones where they are."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from harness.problems.text import content_digest
from harness.registry import benchmarks

SEVEN = ("aime24", "aime25", "amc23", "math500", "minerva", "olympiadbench", "gsm8k")


def rows_of(name: str, count: int, length: int = 0) -> list[dict[str, Any]]:
    """``count`` sums with whole-number answers, in texts of at least ``length`` characters."""
    texts = [f"In set {name}, what is ${i}+{i + 2}$?" for i in range(count)]
    return [
        {"id": f"{name}-{i}", "problem": filled(text, length), "answer": str(2 * i + 2)}
        for i, text in enumerate(texts)
    ]


def filled(text: str, length: int) -> str:
    """``text`` behind as many other sums as it needs to have ``length`` characters."""
    before = ""
    for i in range(length):
        if len(before) + len(text) >= length:
            break
        before += f"{i}+{i + 1}={2 * i + 1}; "
    return before + text


def write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def write_sets(folder: Path, names: tuple[str, ...] = SEVEN, count: int = 3, length: int = 0) -> str:
    """A file for every part of the sets; returns the ``accept_data`` with which they are taken."""
    folder.mkdir(parents=True, exist_ok=True)
    accepted = []
    for name in names:
        for split, part in benchmarks.load(name).parts.items():
            rows = rows_of(f"{name}-{split}", count, length)
            write_rows(folder / f"{part.file}.jsonl", rows)
            accepted.append(f"{name}:{content_digest((r['problem'], r['answer']) for r in rows)}")
    return ",".join(accepted)


def real_data() -> Path:
    """The folder with the real sets; skips the test where there is none."""
    beside = Path(__file__).parents[3] / "shared" / "benchmarks"
    folder = Path(os.environ.get("ENTROBENCH_DATA") or beside)
    if not (folder / "aime24.jsonl.gz").exists():
        pytest.skip(f"needs the real sets: ENTROBENCH_DATA is not set and {beside} is not there")
    return folder
