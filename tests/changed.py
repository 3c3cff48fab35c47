"""The tests of what changed: ``python -m tests.changed [options of pytest]`` picks test files and runs them.

What changed since the branch left main (on main: since the last commit) is followed backwards along imports
(also those inside functions), names of modules in strings (``python -m …``, tables of lazy imports) and names
of methods in the tests' texts. Files near to the change run first, until their seconds, known from earlier
runs, are :data:`WALL_S` a core. What is left out is said; ``make test`` runs all. Where a change cannot be
followed (``pyproject.toml``, a file that nobody names), every test file is in question.

``python -m tests.changed keep`` writes the seconds of this checkout's runs to ``tests/seconds.json``.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from tests.helpers.imports import Imports

ROOT = Path(__file__).resolve().parents[1]
SECONDS = Path(__file__).with_name("seconds.json")
#: Where pytest's cache keeps what ``conftest.py`` measures.
MEASURED = ROOT / ".pytest_cache" / "v" / "entrobench" / "seconds"
#: Seconds that the chosen tests may take on each core: with the start of the processes a minute in all.
WALL_S = 35.0
#: Taken for a file that never ran here.
UNKNOWN_S = 3.0
#: They settle how every test runs.
EVERYWHERE = ("pyproject.toml", "tests/conftest.py")
#: Lint itself uses them; no test reads them.
LINTED = (".pre-commit-config.yaml", "mkdocs.yml")


def changed_files(root: Path = ROOT) -> tuple[list[str], str]:
    """Paths that differ from where the branch left main, and what they are compared with.

    On main, and where nothing differs, the last commit's files.

    Raises:
        OSError, subprocess.CalledProcessError: not a git checkout, or one without a parent commit.
    """

    def git(*words: str) -> list[str]:
        done = subprocess.run(("git", *words), cwd=root, capture_output=True, text=True, check=True)
        return [line for line in done.stdout.splitlines() if line]

    def since(commit: str) -> list[str]:
        return sorted({*git("diff", "--name-only", "--no-renames", commit), *new})

    new = git("ls-files", "--others", "--exclude-standard")
    for main in ("origin/main", "main"):
        try:
            base = git("merge-base", "HEAD", main)[0]
        except subprocess.CalledProcessError:
            continue
        if files := since(base):
            return files, f"{main} ({base[:8]})"
        break
    return since("HEAD~1"), "the commit before"


def seconds() -> dict[str, float]:
    """Test file -> seconds of its tests: those measured in this checkout, else the committed ones."""
    known: dict[str, float] = {}
    for path in (SECONDS, MEASURED):
        if path.exists():
            known |= json.loads(path.read_text())
    return known


def questioned(changed: Iterable[str], graph: Imports) -> tuple[dict[str, int], list[str]]:
    """Test files that a change may reach -> steps to it; and the changed files that cannot be followed."""
    starts: dict[str, int] = {}
    lost = []
    for path in set(changed) - set(LINTED):
        found = {} if path in EVERYWHERE else graph.touched_by(path)
        if found:
            starts |= {file: min(step, starts.get(file, step)) for file, step in found.items()}
            stem = Path(path).stem
            near = [test for test in graph.tests if stem in Path(test).stem or stem in Path(test).parts]
            starts |= {test: min(1, starts.get(test, 1)) for test in near}
        else:
            lost.append(path)
    steps = {file: step for file, step in graph.dependents(starts).items() if file in graph.tests}
    if lost:
        far = max(steps.values(), default=0) + 1
        steps = {file: steps.get(file, far) for file in graph.tests}
    return steps, sorted(lost)


def chosen(steps: Mapping[str, int], known: Mapping[str, float], budget_s: float) -> list[str]:
    """The nearest files whose seconds fit; those that changed themselves (0 steps) whatever they take."""
    taken, left = [], budget_s
    for file in sorted(steps, key=lambda file: (steps[file], known.get(file, UNKNOWN_S), file)):
        cost = known.get(file, UNKNOWN_S)
        if steps[file] == 0 or cost <= left:
            taken.append(file)
            left -= cost
    return taken


def main(words: Sequence[str]) -> int:
    if list(words) == ["keep"]:
        kept = {file: round(s, 1) for file, s in sorted(seconds().items()) if (ROOT / file).exists()}
        SECONDS.write_text(json.dumps(kept, indent=0) + "\n")
        return 0
    graph = Imports(ROOT)
    try:
        changed, base = changed_files()
    except (OSError, subprocess.CalledProcessError):
        changed, base = ["pyproject.toml"], "nothing: git does not say what changed"
    steps, lost = questioned(changed, graph)
    files = chosen(steps, seconds(), WALL_S * min(os.cpu_count() or 1, 8))
    reach = f"{len(steps)} of {len(graph.tests)} test files"
    print(f"{len(changed)} files differ from {base}; they may reach {reach}")
    for path in lost:
        print(f"what {path} influences cannot be followed: all tests are in question")
    if len(files) < len(steps):
        print(f"the nearest {len(files)} run, about a minute; `make test` runs all")
    if not files:
        print("no test reaches what changed")
        return 0
    sys.stdout.flush()
    code = subprocess.call([sys.executable, "-m", "pytest", *words, *files], cwd=ROOT)
    return 0 if code == 5 else code  # 5: the marks leave none of their tests


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
