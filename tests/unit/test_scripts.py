"""Processes that tests start find the packages of the checkout, whatever pytest has on its own path."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from tests.helpers.scripts import ROOT, run_code, start_python


def test_a_folder_on_the_path_of_pytest_hides_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "tests"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "tests"))
    assert str(ROOT / "tests") in sys.path
    code = "import methods.grpo; print(methods.grpo.__file__)"
    done = run_code(code, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()) == ROOT / "methods" / "grpo.py"
    assert start_python("-c", code, cwd=tmp_path).communicate(timeout=100)[0] == done.stdout


def test_no_test_hands_the_path_of_pytest_on() -> None:
    handed_on = re.compile(r"join\([^)\n]*\bsys\.path\b")
    assert handed_on.search("os.pathsep.join(filter(None, sys.path))")
    found = [p for p in sorted((ROOT / "tests").rglob("*.py")) if p != Path(__file__).resolve()]
    assert len(found) > 200
    assert [str(path) for path in found if handed_on.search(path.read_text(encoding="utf-8"))] == []
