"""Cuts cleaned LaTeX where no bracket is open; one pass each."""

from __future__ import annotations

import re

_OPEN = {"(", "[", "{", r"\{", r"\langle", r"\lbrace", r"\lfloor", r"\lceil"}
_CLOSE = {")", "]", "}", r"\}", r"\rangle", r"\rbrace", r"\rfloor", r"\rceil"}
_TOKEN = re.compile(r"\\(?:begin|end)\s*\{[a-zA-Z*]+\}|\\[a-zA-Z]+|\\.|<=|>=|!=|.", re.DOTALL)


def pieces(text: str, marks: frozenset[str] | set[str]) -> tuple[list[str], list[str]]:
    """What stands between the marks outside of every bracket, and the marks themselves."""
    parts, found = [""], []
    depth = 0
    for match in _TOKEN.finditer(text):
        token = match.group()
        if token in _OPEN or token.startswith("\\begin"):
            depth += 1
        elif token in _CLOSE or token.startswith("\\end"):
            depth -= 1
        if depth == 0 and token in marks:
            found.append(token)
            parts.append("")
        else:
            parts[-1] += token
    return [part.strip() for part in parts], found


def split(text: str, *marks: str) -> list[str]:
    """The parts of ``text`` between marks that stand outside of every bracket."""
    return pieces(text, set(marks))[0]


def closing(text: str, opening: int) -> int | None:
    """Position of the brace that closes the one at ``opening``."""
    depth = 0
    for match in re.finditer(r"\\[\\{}]|[{}]", text[opening:]):
        token = match.group()
        depth += (token == "{") - (token == "}")
        if depth == 0 and token == "}":
            return opening + match.start()
    return None


def inside(text: str) -> tuple[str, str, str] | None:
    r"""Opening bracket, content and closing bracket, where one pair encloses the whole: ``[0,1)``."""
    first = _TOKEN.match(text)
    if first is None or first.group() not in _OPEN:
        return None
    depth = 0
    for match in _TOKEN.finditer(text):
        token = match.group()
        depth += (token in _OPEN or token.startswith("\\begin")) - (
            token in _CLOSE or token.startswith("\\end")
        )
        if depth == 0:
            if match.end() != len(text) or token not in _CLOSE:
                return None
            return first.group(), text[first.end() : match.start()].strip(), token
    return None
