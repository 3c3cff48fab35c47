"""The wheel holds everything that a run needs, the constraints hold no machine, the files no host."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="module")
def project() -> dict[str, object]:
    return dict(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"])


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the checkout without what a build or a run leaves."""
    folder = tmp_path_factory.mktemp("copy") / "source"
    ignore = shutil.ignore_patterns("__pycache__", ".*", "runs", "results", "tests", "*.egg-info", "build")
    shutil.copytree(ROOT, folder, ignore=ignore)
    return folder


@pytest.fixture(scope="module")
def wheel(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    build = ("wheel", "--no-deps", "--no-build-isolation", "-q", "-w", folder, source)
    run(sys.executable, "-m", "pip", *build)
    return next(folder.glob("entrobench-*.whl"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The ``bin`` of an environment with the wheel."""
    return environment_with(wheel, tmp_path_factory.mktemp("away"))


@pytest.fixture(scope="module")
def editable(source: Path, wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The ``bin`` of an environment with an editable install of the copy."""
    folder = tmp_path_factory.mktemp("editable")
    code = f"from setuptools import build_meta; build_meta.build_editable({str(folder)!r})"
    run(sys.executable, "-c", code, cwd=source)
    return environment_with(next(folder.glob("*.whl")), folder)


def environment_with(wheel: Path, folder: Path) -> Path:
    """An empty environment with ``wheel``; its dependencies are those of the tests' own environment.

    They are seen through a ``.pth`` file. Path files in the folder that it names are not read, so an editable
    install of this checkout is not seen.
    """
    home = folder / "environment"
    venv.create(home, with_pip=False, symlinks=True)
    python = home / "bin" / "python"
    run(sys.executable, "-m", "pip", "--python", python, "install", "-q", "--no-deps", "--no-index", wheel)
    paths = {"base": str(home), "platbase": str(home)}
    site = Path(sysconfig.get_path("purelib", "venv", paths))
    assert next(site.glob("entrobench-*.dist-info"))
    (site / "dependencies.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    return python.parent


def run(*command: str | Path, cwd: Path | None = None) -> str:
    """Run without a way to the checkout; what it printed."""
    environment = {
        name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")
    }
    done = subprocess.run(list(map(str, command)), cwd=cwd, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_the_wheel_holds_cards_templates_and_the_base_model(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    expected = [str(path.relative_to(ROOT)) for path in (ROOT / "methods").glob("*.md")]
    expected += [str(path.relative_to(ROOT)) for path in (ROOT / "benchmarks" / "micro" / "base").glob("*")]
    for package in ("entrobench", "harness", "methods", "benchmarks"):
        for pattern in ("*.py", "*.json", "*.j2", "*.css", "*.js", "*.txt"):
            expected += [str(path.relative_to(ROOT)) for path in (ROOT / package).rglob(pattern)]
    expected += [str(path.relative_to(ROOT)) for path in (ROOT / "benchmarks").rglob("FROZEN*")]
    assert sorted(set(expected) - set(names)) == []
    tops = {name.partition("/")[0] for name in names if ".dist-info/" not in name}
    assert tops == {"entrobench", "harness", "methods", "benchmarks"}


SWEEP = """
title: away
methods: [grpo, mine/bold_idea.py]
seeds: [1]
base_temperatures: [1.0]
settings:
  train: {steps: 2, checkpoint_every: 1, minibatches: 2, epochs: 1}
  rollout: {prompts_per_step: 4, group_size: 4}
  probe: {prompts: 2, samples: 2, every: 2}
  eval: {splits: [test_id], n: 2, frontier_n: 2, frontier_every: 10}
"""


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_an_installed_wheel_trains_adds_a_method_and_reports_away_from_the_checkout(
    installed: Path, tmp_path: Path
) -> None:
    entrobench = installed / "entrobench"
    run(entrobench, "new-method", "bold-idea", "--dir", "mine", cwd=tmp_path)
    (tmp_path / "away.yaml").write_text(SWEEP)
    run(entrobench, "sweep", "submit", "away.yaml", "launcher=local", "workers=2", cwd=tmp_path)
    for name in ("grpo", "bold-idea"):
        (file,) = tmp_path.glob(f"runs/{name}-*/metrics.jsonl")
        assert [json.loads(line)["step"] for line in file.read_text().splitlines()] == [0, 1, 2]
    run(entrobench, "sweep", "collect", "away.yaml", cwd=tmp_path)
    assert "bold-idea" in run(entrobench, "report", "away.yaml", cwd=tmp_path)
    assert (tmp_path / "results" / "away" / "leaderboard.md").stat().st_size > 0


@pytest.mark.slow
def test_each_module_is_loaded_once(installed: Path, editable: Path, source: Path, tmp_path: Path) -> None:
    """In a process, in its worker and after unpickling; from the wheel, an editable install, a checkout."""
    script = Path(shutil.copy(ROOT / "tests" / "helpers" / "loaded_once.py", tmp_path))
    (root,) = run(installed / "python", script, cwd=tmp_path).split()
    assert Path(root).is_relative_to(installed.parent.resolve())
    shutil.copy(script, source)
    # away from the checkout, and in it, where the working directory comes before what is installed
    for command, folder in (([script], tmp_path), (["-m", script.stem], source)):
        (root,) = run(editable / "python", *command, cwd=folder).split()
        assert Path(root) == source.resolve()


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
    extras: dict[str, list[str]] = project["optional-dependencies"]  # type: ignore[assignment]
    named = [
        *project["dependencies"],
        *(d for extra in ("dev", "docs", "peers", "browser") for d in extras[extra]),
    ]  # type: ignore[misc]
    assert {plain(str(d)) for d in named} - {"entrobench"} <= pinned


def test_licence_is_whole(project: dict[str, object]) -> None:
    text = (ROOT / "LICENSE").read_text()
    assert "Apache License" in text and "END OF TERMS AND CONDITIONS" in text
    assert project["license"] == "Apache-2.0"


def test_the_version_is_one(project: dict[str, object]) -> None:
    from harness import __version__

    assert project["version"] == __version__
    assert f"## {__version__}" in (ROOT / "CHANGELOG.md").read_text()
