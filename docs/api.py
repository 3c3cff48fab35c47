"""Make docs/api.md, the public names with their first lines: ``python docs/api.py [--check]``.

A constant has no docstring: its words are the comment ``#:`` above it.
"""

from __future__ import annotations

import importlib
import inspect
import re
import sys
from itertools import groupby
from pathlib import Path
from types import ModuleType
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "api.md"
_HEAD = """<!-- made by `python docs/api.py`: edit the docstrings instead -->
# Public names

Methods, benchmarks and notebooks import these from `entrobench`, and nothing else of the project:

    from entrobench import Method, hp, register

A name is loaded when it is used, so that `import entrobench` costs nothing. The docstring is the reference:
`help(entrobench.Method)`. How they work together: [add a method](add-a-method.md) and
[architecture](architecture.md).
"""


def words_of(name: str, value: Any, module: ModuleType) -> str:
    """The first line of the docstring of ``value``, or of the comment above it in ``module``.

    Raises:
        ValueError: it has none.
    """
    if inspect.isclass(value) or inspect.isfunction(value):
        text = value.__doc__ or ""
        if text.startswith(f"{name}("):  # what a dataclass without a docstring is given
            text = ""
    else:
        found = re.search(rf"((?:^#: .*\n)+){name}\b", inspect.getsource(module), re.M)
        text = found[1].replace("#: ", "") if found else ""
    line = " ".join(text.strip().partition("\n\n")[0].split())
    if not line:
        raise ValueError(f"{module.__name__}.{name} has no docstring, nor a comment `#:` above it")
    return line


def page() -> str:
    """The text of docs/api.md: a table for each module that defines public names."""
    from entrobench import _EXPORTS

    parts = [_HEAD]
    for where, names in groupby(
        sorted(_EXPORTS, key=lambda name: (_EXPORTS[name], name.lower())), _EXPORTS.get
    ):
        module = importlib.import_module(str(where))
        about = (module.__doc__ or "").strip().partition("\n")[0]
        rows = [f"| `{name}` | {words_of(name, getattr(module, name), module)} |" for name in names]
        title = f"\n## `{str(where).replace('.', '/')}.py`\n\n{about}\n"
        parts.append("\n".join([title, "| | |", "|---|---|", *(row.replace("``", "`") for row in rows), ""]))
    return "".join(parts)


def main(words: list[str]) -> int:
    text = page()
    if words == ["--check"]:
        current = PAGE.exists() and PAGE.read_text(encoding="utf-8") == text
        print("docs/api.md is current" if current else "docs/api.md is not current; run: python docs/api.py")
        return 0 if current else 1
    PAGE.write_text(text, encoding="utf-8")
    print(f"wrote {PAGE.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    sys.exit(main(sys.argv[1:]))
