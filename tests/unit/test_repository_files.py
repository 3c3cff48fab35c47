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


def test_the_site_is_checked_by_lint() -> None:
    recipe = read("Makefile").partition("\nlint:")[2].partition("\n\n")[0]
    # a quiet build would not count the warnings that a strict one fails for
    assert "mkdocs build --strict" in recipe and "--quiet" not in recipe
