"""``new-method``: files that pass as they are, in a folder of one's own and in a checkout."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from harness.cli import main
from tests.helpers.warm_python import warm_python

ROOT = Path(__file__).parent.parent.parent


def _pytest(path: Path, root: Path, *options: str, python: str = sys.executable) -> list[str]:
    """The lines of pytest's report of ``path``, all of which passes."""
    done = subprocess.run(
        [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(path), *options],
        cwd=root, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.splitlines()


def _files(root: Path) -> dict[Path, bytes]:
    return {
        path.relative_to(root): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def test_outside_the_checkout(tmp_path: Path, capsys: Any) -> None:
    assert main(["new-method", "its_own", "--dir", str(tmp_path)]) == 0
    assert f"entrobench train method={tmp_path / 'its_own.py'}" in capsys.readouterr().out
    assert sorted(p.name for p in tmp_path.iterdir()) == ["its_own.md", "its_own.py", "test_its_own.py"]
    with warm_python() as python:
        _pytest(tmp_path / "test_its_own.py", ROOT, python=python)
    assert main(["methods", "show", str(tmp_path / "its_own.py")]) == 0
    assert "method.strength | 0.1" in capsys.readouterr().out


def test_inside_a_checkout_touches_no_other_file(tmp_path: Path) -> None:
    for package in ("harness", "benchmarks", "tests/helpers", "tests/methods/support", "tests/methods/grpo"):
        shutil.copytree(ROOT / package, tmp_path / package)  # with the bytecode: it is that of the copies too
    (tmp_path / "methods").mkdir()
    shared = [path.relative_to(ROOT) for path in (ROOT / "tests" / "methods").glob("test_*.py")]
    for file in ("pyproject.toml", "methods/__init__.py", "methods/grpo.py", "methods/grpo.md", *shared):
        shutil.copy2(ROOT / file, tmp_path / file)  # a checkout of one method: each makes the tests longer
    before = _files(tmp_path)
    command = [sys.executable, "-m", "entrobench", "new-method", "bold-idea"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    after = _files(tmp_path)
    assert {path: after[path] for path in before} == before
    assert sorted(map(str, set(after) - set(before))) == [
        "methods/bold_idea.md", "methods/bold_idea.py", "tests/methods/bold_idea/cases.py",
        "tests/methods/bold_idea/reading.py", "tests/methods/bold_idea/test_bold_idea.py",
    ]  # fmt: skip
    # its own tests, and those that all methods share, which find it by its cases
    words = "bold-idea or bold_idea or folder or has_a_reading"
    said = _pytest(tmp_path / "tests" / "methods", tmp_path, "-rp", "-k", words)
    assert re.match(r"(\d+) passed", said[-1]) and "skipped" not in said[-1], said
    for file in ("bold_idea/test_bold_idea.py", "test_wiring.py", "test_invariants.py"):
        assert any(line.startswith(f"PASSED tests/methods/{file}::") for line in said), said
    listed = subprocess.run(
        [sys.executable, "-m", "entrobench", "methods"],
        cwd=tmp_path,
        check=True,
        capture_output=True,
        text=True,
    )
    assert "bold-idea" in listed.stdout
    again = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert again.returncode == 2 and "taken" in again.stderr


def test_nothing_is_overwritten(tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "its_own.md").write_text("mine")
    assert main(["new-method", "its_own", "--dir", str(tmp_path)]) == 2
    assert "not overwritten" in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["its_own.md"]


def test_what_is_written_is_tidy(tmp_path: Path) -> None:
    assert main(["new-method", "its_own", "--dir", str(tmp_path)]) == 0
    for name, target in (("reading", "reading.py"), ("cases", "cases.py")):
        text = (ROOT / "harness" / "cli" / "templates" / f"{name}.py.txt").read_text()
        text = text.replace("$title", "Its Own").replace("$name", "its_own")
        (tmp_path / target).write_text(text)
    config = ["--config", str(ROOT / "pyproject.toml"), str(tmp_path)]
    subprocess.run([sys.executable, "-m", "ruff", "check", "--no-cache", *config], check=True)
    subprocess.run([sys.executable, "-m", "ruff", "format", "--check", "--no-cache", *config], check=True)
