"""The wheel holds everything that a run needs, the constraints hold no machine, the files no host."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="module")
def project() -> dict[str, object]:
    return dict(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"])


@pytest.mark.slow
def test_the_wheel_holds_cards_templates_and_the_base_model(tmp_path: Path) -> None:
    pytest.importorskip("setuptools")
    source = tmp_path / "source"
    ignore = shutil.ignore_patterns("__pycache__", ".*", "runs", "results", "tests", "*.egg-info", "build")
    shutil.copytree(ROOT, source, ignore=ignore)
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--no-deps",
        "--no-build-isolation",
        "-q",
        "-w",
        str(tmp_path),
    ]
    done = subprocess.run([*command, str(source)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    names = zipfile.ZipFile(next(tmp_path.glob("entrobench-*.whl"))).namelist()
    expected = [str(path.relative_to(ROOT)) for path in (ROOT / "methods").glob("*.md")]
    expected += [str(path.relative_to(ROOT)) for path in (ROOT / "benchmarks" / "micro" / "base").glob("*")]
    for package in ("harness", "methods", "benchmarks"):
        for pattern in ("*.py", "*.j2", "*.txt"):
            expected += [str(path.relative_to(ROOT)) for path in (ROOT / package).rglob(pattern)]
    expected += [str(path.relative_to(ROOT)) for path in (ROOT / "benchmarks").rglob("FROZEN*")]
    assert sorted(set(expected) - set(names)) == []
    assert not any(name.startswith(("tests/", "sweeps/")) for name in names)


def test_constraints_pin_plain_versions() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert len(pins) > 30
    for pin in pins:
        assert re.fullmatch(r"[A-Za-z0-9_.-]+==[0-9][A-Za-z0-9.]*", pin), pin


def test_every_dependency_is_pinned(project: dict[str, object]) -> None:
    def plain(name: str) -> str:
        return re.split(r"[\[<>=~! ]", name)[0].lower().replace("_", "-")

    pinned = {plain(line) for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line}
    dependencies = {plain(str(d)) for d in project["dependencies"]}  # type: ignore[attr-defined]
    assert dependencies <= pinned


def test_licence_is_whole(project: dict[str, object]) -> None:
    text = (ROOT / "LICENSE").read_text()
    assert "Apache License" in text and "END OF TERMS AND CONDITIONS" in text
    assert project["license"] == "Apache-2.0"


def test_the_version_is_one(project: dict[str, object]) -> None:
    from harness import __version__

    assert project["version"] == __version__
    assert f"## {__version__}" in (ROOT / "CHANGELOG.md").read_text()
