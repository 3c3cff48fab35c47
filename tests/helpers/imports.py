"""Which file needs which: imports, names of modules in strings, names of methods in the tests' texts."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from heapq import heappop, heappush
from pathlib import Path

PACKAGES = ("entrobench", "harness", "methods", "benchmarks", "tests")
_DOTTED = re.compile(rf"(?<![\w.])(?:{'|'.join(PACKAGES)})(?:\.\w+)+")
_WORD = re.compile(r"[a-z][a-z0-9_-]+")
#: The module that imports entries by their names, which its text does not say.
_REGISTRIES = {"harness/registry/methods.py": "methods/", "harness/registry/benchmarks.py": "benchmarks/"}
#: Steps from a registry to an entry: a test that names the entry is nearer.
_BY_REGISTRY = 4


class Imports:
    """The project's Python files below ``root`` and what each needs to run.

    Attributes:
        tests: paths of test files, relative to ``root``.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        paths = sorted(p for package in PACKAGES for p in (root / package).rglob("*.py"))
        self._texts = {str(p.relative_to(root)): p.read_text(encoding="utf-8") for p in paths}
        self.tests = {path for path in self._texts if Path(path).name.startswith("test_")}
        self._modules = {_module(path): path for path in self._texts}
        self._entries = {
            Path(path).stem.replace("_", "-"): path
            for path in self._texts
            if path.startswith(("methods/", "benchmarks/")) and not path.endswith("__init__.py")
        }
        self._exports: dict[str, str] = {}
        if "entrobench/__init__.py" in self._texts:
            self._exports = _exports(self._texts["entrobench/__init__.py"])
        self._users: dict[str, dict[str, int]] = defaultdict(dict)
        for path, text in self._texts.items():
            for needed, step in self._needs(path, text):
                if needed != path:
                    self._users[needed][path] = min(step, self._users[needed].get(path, step))

    def dependents(self, starts: Mapping[str, int]) -> dict[str, int]:
        """File -> the fewest steps from ``starts`` (with theirs) along who needs whom."""
        found: dict[str, int] = {}
        waiting: list[tuple[int, str]] = []
        for path, step in starts.items():
            heappush(waiting, (step, path))
        while waiting:
            step, path = heappop(waiting)
            if path in found:
                continue
            found[path] = step
            for user, more in self._users.get(path, {}).items():
                heappush(waiting, (step + more, user))
        return found

    def touched_by(self, path: str) -> dict[str, int]:
        """The Python files that a change of ``path`` touches first; empty where it cannot be told.

        A Python file is itself. Another file touches the entry that it stands beside, and what names it; when
        nobody does, what names its folders. A file that is gone touches what still names its module.
        """
        if path in self._texts:
            return {path: 0}
        if path.endswith(".py") and path.startswith(PACKAGES):
            return self._naming(_module(path))
        beside = str(Path(path).with_suffix(".py"))
        found = {beside: 0} if beside in self._texts else {}
        found |= self._naming(Path(path).name)
        for folder in Path(path).parents:
            if found or not folder.name:
                break
            found = self._naming(folder.name)
        return found

    def _naming(self, words: str) -> dict[str, int]:
        named = re.compile(rf"(?<![\w-]){re.escape(words)}(?![\w-])")
        return {path: 1 for path, text in self._texts.items() if named.search(text)}

    def _needs(self, path: str, text: str) -> Iterator[tuple[str, int]]:
        folder = _REGISTRIES.get(path)
        if folder is not None:
            yield from ((e, _BY_REGISTRY) for e in self._entries.values() if e.startswith(folder))
        if path == "entrobench/__init__.py":
            return  # whoever imports a name from it needs the module of that name, not all
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    yield from self._files(alias.name)
            elif isinstance(node, ast.ImportFrom):
                yield from self._imported_from(path, node)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                for dotted in _DOTTED.findall(node.value):
                    yield from self._files(dotted)
                if path.startswith("tests/"):
                    for word in {word.replace("_", "-") for word in _WORD.findall(node.value)}:
                        if word in self._entries:
                            yield self._entries[word], 1

    def _imported_from(self, path: str, node: ast.ImportFrom) -> Iterator[tuple[str, int]]:
        package = node.module or ""
        if node.level:
            parts = _module(path).split(".")
            depth = node.level - path.endswith("__init__.py")
            package = ".".join([*parts[: len(parts) - depth], *filter(None, [node.module])])
        for alias in node.names:
            yield from self._files(f"{package}.{alias.name}")
            if package == "entrobench" and alias.name in self._exports:
                yield from self._files(self._exports[alias.name])

    def _files(self, dotted: str) -> Iterator[tuple[str, int]]:
        """The module, or the longest part of ``dotted`` that is one, and the packages around it."""
        parts = dotted.split(".")
        for length in range(len(parts), 0, -1):
            if (name := ".".join(parts[:length])) in self._modules:
                yield self._modules[name], 1


def _module(path: str) -> str:
    return ".".join(Path(path).with_suffix("").parts).removesuffix(".__init__")


def _exports(text: str) -> dict[str, str]:
    for node in ast.parse(text).body:
        match node:
            case ast.Assign(targets=[ast.Name(id="_EXPORTS")], value=value):
                return dict(ast.literal_eval(value))
    return {}
