"""A hook of MkDocs: what the pages link to outside ``docs/`` becomes part of the site.

Links in ``docs/`` are those that GitHub follows, so some lead out: ``../results/micro/leaderboard.md``. On
the site such a file keeps its path from the repository's root, ``README.md`` is the home page, and what lies
in ``docs/`` loses that prefix. A link to a file that does not exist is left alone; the strict build fails.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
HOME = "README.md"
#: The target of an inline link or image, without its anchor.
_TARGET = re.compile(r"(?<=\]\()(?!\w+:|#|/)([^)#\s]+)")
_CODE = re.compile(r"^(?: {4}|\t)[^\n]*$|^```.*?^```|`[^`\n]+`", re.M | re.S)


def on_files(files: Files, *, config: Any) -> Files:
    """Add the README and all that it and the pages link to, also by way of each other."""
    waiting = [HOME, *(f"docs/{file.src_uri}" for file in files.documentation_pages())]
    seen = set(waiting)
    while waiting:
        path = waiting.pop()
        if files.get_file_from_path(_on_site(path)) is None:
            files.append(File.generated(config, _on_site(path), abs_src_path=str(ROOT / path)))
        found = {target for target in _targets(path) if (ROOT / target).is_file()} - seen
        seen |= found
        waiting += sorted(found)
    return files


def on_page_markdown(markdown: str, *, page: Any, files: Files, **_: Any) -> str:
    """Turn the links of one page into links on the site."""
    here = page.file.src_uri
    source = _in_repository(here)

    def moved(match: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(source), match[1]))
        if files.get_file_from_path(_on_site(target)) is None:
            return match[0]
        return posixpath.relpath(_on_site(target), posixpath.dirname(here) or ".")

    return _TARGET.sub(moved, markdown)


def _on_site(path: str) -> str:
    """A path from the repository's root -> from the site's; ``docs/methods/README.md`` -> its page, too."""
    return "index.md" if path == HOME else path.removeprefix("docs/")


def _in_repository(path: str) -> str:
    if path == "index.md":
        return HOME
    return f"docs/{path}" if (ROOT / "docs" / path).is_file() else path


def _targets(path: str) -> set[str]:
    """Files that a page of Markdown links to, from the repository's root."""
    if not path.endswith(".md"):
        return set()
    text = _CODE.sub("", (ROOT / path).read_text(encoding="utf-8"))
    folder = posixpath.dirname(path)
    return {posixpath.normpath(posixpath.join(folder, target)) for target in _TARGET.findall(text)}
