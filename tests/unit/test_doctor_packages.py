"""``doctor`` names another distribution that has a package of ours."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import pytest

from harness.cli import main
from harness.cli.doctor import OWN, shadows
from harness.util.environment import ROOT


def distribution(folder: Path, name: str, package: str) -> None:
    """What an installer leaves of ``name``: its metadata and one package."""
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "top_level.txt").write_text(f"{package}\n")
    (folder / package).mkdir()
    (folder / package / "__init__.py").write_text("")


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Packages are looked up again, as in a process that has imported none of the entries' folders."""
    for name in ("methods", "benchmarks"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    importlib.invalidate_caches()
    return monkeypatch


def test_nothing_shadows_the_packages_of_this_checkout() -> None:
    assert shadows() == []


def test_a_distribution_in_front_is_named_with_the_place_that_is_loaded(fresh: Any, tmp_path: Path) -> None:
    distribution(tmp_path, "lab-tools", "methods")
    fresh.syspath_prepend(str(tmp_path))
    (line,) = shadows()
    assert line.startswith(f"methods: SHADOWED: loaded from {tmp_path / 'methods'}, also in lab-tools;")
    assert "uninstall lab-tools, or give entrobench an environment of its own" in line


def test_a_distribution_behind_is_named_too(fresh: Any, tmp_path: Path, capsys: Any) -> None:
    distribution(tmp_path, "lab-tools", "benchmarks")
    fresh.setattr(sys, "path", [*sys.path, str(tmp_path)])
    assert main(["doctor"]) == 0
    out = capsys.readouterr().out
    assert "benchmarks: SHADOWED: loaded from here, also in lab-tools; uninstall lab-tools" in out
    assert "methods: SHADOWED" not in out


def test_a_folder_of_the_working_directory_is_named(fresh: Any, tmp_path: Path) -> None:
    (tmp_path / "methods").mkdir()
    (tmp_path / "methods" / "__init__.py").write_text("")
    fresh.syspath_prepend(str(tmp_path))
    (line,) = shadows()
    assert "leave that folder, or rename it" in line


def test_the_packages_of_the_wheel_are_these() -> None:
    import tomllib

    found = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]["find"]
    assert {pattern.rstrip("*") for pattern in found["include"]} == set(OWN)
