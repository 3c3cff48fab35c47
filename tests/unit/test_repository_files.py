"""Files for readers and for continuous integration say what the project's own files say."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]


def read(path: str) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


def test_the_citation_is_that_of_the_readme_and_of_the_package() -> None:
    cited, package = yaml.safe_load(read("CITATION.cff")), tomllib.loads(read("pyproject.toml"))["project"]
    fields = dict(re.findall(r"^ +(\w+) += \{+(.+?)\}+,?$", read("README.md").partition("## Cite")[2], re.M))
    for entry in (cited, cited["preferred-citation"]):
        assert entry["title"] == fields["title"]
        assert entry["version"] == fields["version"] == package["version"]
        assert entry["license"] == fields["license"] == package["license"]
        assert [author["name"] for author in entry["authors"]] == [fields["author"]]
    assert str(cited["preferred-citation"]["year"]) == fields["year"]


def test_continuous_integration_calls_targets_of_the_makefile() -> None:
    jobs = yaml.safe_load(read(".github/workflows/ci.yml"))["jobs"]
    called = {step["run"] for job in jobs.values() for step in job["steps"] if "run" in step}
    assert called == {"make lint", "make test"}
    assert all(re.search(rf"^{command.split()[1]}:", read("Makefile"), re.M) for command in called)


def recipe(target: str) -> str:
    return read("Makefile").partition(f"\n{target}:")[2].partition("\n\n")[0]


def test_lint_checks_style_types_layers_and_the_site() -> None:
    parts = {"lint-style": "ruff format --check .", "lint-types": "mypy", "lint-layers": "lint-imports"}
    # a quiet build would not count the warnings that a strict one fails for
    parts["lint-docs"] = "mkdocs build --strict"
    for part, command in parts.items():
        assert part in recipe("lint").split() and part in recipe("check").split()
        assert command in recipe(part) and "--quiet" not in recipe(part)
    assert "ruff check ." in recipe("lint-style")


def test_what_continuous_integration_runs_begins_with_lint() -> None:
    commands = [line for line in read(".ci/run").splitlines() if line.startswith("make ")]
    assert commands == ["make lint", "make test-all"]


def test_hooks_before_a_commit_are_parts_of_lint() -> None:
    (repository,) = yaml.safe_load(read(".pre-commit-config.yaml"))["repos"]
    entries = " ".join(hook["entry"] for hook in repository["hooks"])
    for command in ("ruff check", "ruff format", "mypy", "lint-imports", "mkdocs build --strict"):
        assert command in entries
