"""Which tests a change may reach: never fewer than can be told, near ones first."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.changed import changed_files, chosen, questioned
from tests.helpers.imports import Imports

ROOT = Path(__file__).parents[2]
FILES = {
    "entrobench/__init__.py": '_EXPORTS = {"Loss": "harness.loss", "hp": "harness.fields"}',
    "harness/__init__.py": "",
    "harness/loss.py": "class Loss: pass",
    "harness/fields.py": "def hp(): pass",
    "harness/late.py": "def f():\n    from harness import fields",
    "harness/commands.py": 'COMMANDS = {"late": "harness.late:f"}',
    "harness/registry/methods.py": "",
    "methods/__init__.py": "",
    "methods/two_words.py": "from entrobench import Loss",
    "methods/two_words.md": "",
    "tests/unit/test_late.py": "import harness.late",
    "tests/unit/test_command.py": "from harness.commands import COMMANDS",
    "tests/unit/test_process.py": 'COMMAND = ("python", "-m", "harness.late")',
    "tests/unit/test_entry.py": 'METHOD = "method=two-words"',
    "tests/unit/test_all_entries.py": "from harness.registry import methods",
    "tests/unit/test_relative.py": "from ..helpers import two",
    "tests/helpers/__init__.py": "",
    "tests/helpers/two.py": 'PAGE = "page.css"',
}
ALL = {"late", "command", "process", "entry", "all_entries", "relative"}


@pytest.fixture
def graph(tmp_path: Path) -> Imports:
    for name, text in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return Imports(tmp_path)


def reached(graph: Imports, *changed: str) -> set[str]:
    steps, _ = questioned(changed, graph)
    return {Path(file).stem.removeprefix("test_") for file in steps}


def test_a_change_reaches_what_needs_it_by_import_string_or_name(graph: Imports) -> None:
    assert reached(graph, "harness/fields.py") == {"late", "command", "process"}
    assert reached(graph, "harness/commands.py") == {"command"}
    assert reached(graph, "harness/loss.py") == {"entry", "all_entries"}
    assert reached(graph, "methods/two_words.py") == {"entry", "all_entries"}
    assert reached(graph, "tests/helpers/two.py") == {"relative"}
    assert reached(graph, "tests/unit/test_late.py", "tests/unit/test_entry.py") == {"late", "entry"}


def test_a_file_that_is_not_python_reaches_what_stands_beside_it_or_names_it(graph: Imports) -> None:
    assert reached(graph, "methods/two_words.md") == {"entry", "all_entries"}
    assert reached(graph, "somewhere/page.css") == {"relative"}


def test_a_module_that_is_gone_reaches_what_still_names_it(graph: Imports, tmp_path: Path) -> None:
    (tmp_path / "harness" / "late.py").unlink()
    assert reached(Imports(tmp_path), "harness/late.py") == {"late", "process", "command"}


def test_where_a_change_cannot_be_followed_all_tests_are_in_question(graph: Imports) -> None:
    for path in ("pyproject.toml", "tests/conftest.py", "data.bin"):
        steps, lost = questioned([path, "harness/commands.py"], graph)
        assert len(steps) == len(ALL) and lost == [path]
        assert min(steps, key=lambda file: steps[file]) == "tests/unit/test_command.py"


def test_near_files_come_first_and_changed_ones_always() -> None:
    steps = {"changed": 0, "near": 1, "long": 1, "far": 2, "farther": 3}
    known = {"changed": 50.0, "near": 5.0, "long": 30.0, "far": 4.0, "farther": 4.0}
    assert chosen(steps, known, 60.0) == ["changed", "near", "far"]
    assert chosen(steps, known, 10.0) == ["changed"]
    assert chosen(steps, known, 500.0) == ["changed", "near", "long", "far", "farther"]
    assert chosen(steps, {}, 10.0) == ["changed", "long", "near"]  # 3 s each


def test_what_changed_is_taken_from_git(tmp_path: Path) -> None:
    def git(*words: str) -> None:
        who = ("-c", "user.name=a", "-c", "user.email=a@b")
        subprocess.run(("git", *who, *words), cwd=tmp_path, check=True, capture_output=True)

    def commit(name: str) -> None:
        (tmp_path / name).write_text(name)
        git("add", "-A")
        git("commit", "-m", name)

    git("init", "-b", "main")
    commit("first")
    commit("second")
    assert changed_files(tmp_path) == (["second"], "the commit before")
    git("checkout", "-b", "work")
    commit("third")
    (tmp_path / "fourth").write_text("")
    (tmp_path / "first").write_text("changed")
    files, base = changed_files(tmp_path)
    assert files == ["first", "fourth", "third"] and base.startswith("main (")


def test_every_test_file_of_the_project_is_known_and_reached_by_what_all_use() -> None:
    graph = Imports(ROOT)
    assert "tests/unit/test_changed.py" in graph.tests
    steps, lost = questioned(["tests/helpers/imports.py"], graph)
    assert "tests/unit/test_changed.py" in steps and not lost
    steps, lost = questioned(["harness/util/errors.py"], graph)
    assert len(steps) > 0.8 * len(graph.tests) and not lost
