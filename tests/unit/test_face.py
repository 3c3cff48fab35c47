"""The public face: its two lists agree, its names exist where they say, and it loads nothing early."""

from __future__ import annotations

import ast
import importlib
import inspect
import runpy
from pathlib import Path
from typing import Any

import pytest

import entrobench
from tests.helpers.scripts import run_code

ROOT = Path(__file__).parents[2]
FACE = ROOT / "entrobench" / "__init__.py"
HEAVY = (
    "torch",
    "transformers",
    "numpy",
    "pandas",
    "hydra",
    "datasets",
    "harness.stages",
    "methods",
    "benchmarks",
)


def for_type_checkers() -> dict[str, str]:
    """Name -> module, as the block under TYPE_CHECKING imports them."""
    found = {}
    for node in ast.parse(FACE.read_text()).body:
        if isinstance(node, ast.If):
            for line in node.body:
                assert isinstance(line, ast.ImportFrom) and line.module
                for alias in line.names:
                    assert alias.name == alias.asname  # else mypy takes it for private
                    assert alias.name not in found
                    found[alias.name] = line.module
    return found


def test_the_table_and_the_block_for_type_checkers_say_the_same() -> None:
    assert for_type_checkers() == entrobench._EXPORTS
    assert sorted(entrobench.__all__) == sorted(["__version__", *entrobench._EXPORTS]) == dir(entrobench)


@pytest.mark.parametrize("name", entrobench._EXPORTS)
def test_a_name_resolves_and_is_defined_in_its_module(name: str) -> None:
    module = importlib.import_module(entrobench._EXPORTS[name])
    value = getattr(entrobench, name)
    assert value is getattr(module, name)
    if inspect.isclass(value) or inspect.isfunction(value):
        assert value.__module__ == module.__name__
    else:
        bound = [t.id for n in ast.parse(inspect.getsource(module)).body for t in _targets(n)]
        assert name in bound


def _targets(node: ast.stmt) -> list[Any]:
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    return [target for target in targets if isinstance(target, ast.Name)]


def test_another_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'entrobench' has no attribute 'Trainer'"):
        entrobench.Trainer  # noqa: B018


def test_importing_it_loads_nothing_heavy() -> None:
    code = f"import sys, entrobench; print([name for name in {HEAVY!r} if name in sys.modules])"
    done = run_code(code)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"


def test_the_page_of_public_names_is_current_and_whole(capsys: pytest.CaptureFixture[str]) -> None:
    assert runpy.run_path(str(ROOT / "docs" / "api.py"))["main"](["--check"]) == 0, capsys.readouterr().out
    page = (ROOT / "docs" / "api.md").read_text()
    for name in entrobench._EXPORTS:
        assert page.count(f"\n| `{name}` | ") == 1


def test_a_folder_that_shadows_the_methods_is_named(tmp_path: Path) -> None:
    (tmp_path / "methods").mkdir()
    for name in ("__init__.py", "grpo.py"):
        (tmp_path / "methods" / name).write_text("")
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "from harness.registry import methods\n"
        "try:\n    methods.load('grpo')\nexcept Exception as error:\n    print(type(error).__name__, error)\n"
    )
    done = run_code(code)
    assert done.returncode == 0, done.stderr
    assert "UserError" in done.stdout and "stands before it in sys.path" in done.stdout
