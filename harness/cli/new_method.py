"""``entrobench new-method NAME``: a method file, a card and a test that pass as they are."""

from __future__ import annotations

import keyword
import re
from importlib.resources import files
from pathlib import Path

from harness.registry import methods
from harness.util.environment import ROOT
from harness.util.errors import UserError

_RESERVED = ("registry", "cards")


def new_method(name: str, folder: str | None) -> int:
    """Write the three files, into the checkout or into ``folder``; never overwrites anything."""
    stem = name.replace("-", "_")
    if not re.fullmatch(r"[a-z][a-z0-9]*([_-][a-z0-9]+)*", name) or keyword.iskeyword(stem):
        raise UserError(f"'{name}' is not a method name; use lower case letters, digits, _ and -")
    if stem in _RESERVED or name in methods.entries():
        raise UserError(f"the name '{name}' is taken; choose another one")
    method, card, test, inside = _paths(stem, folder)
    for path in (method, card, test):
        if path.exists():
            raise UserError(f"{path} is there already and is not overwritten; choose another name")
    outside_method = f'str(Path(__file__).with_name("{method.name}"))'
    values = {
        "$class_name": "".join(part.capitalize() for part in re.split("[_-]", name)),
        "$title": " ".join(part.capitalize() for part in re.split("[_-]", name)),
        "$name": name,
        "$path_import": "" if inside else "from pathlib import Path\n",
        "$method": f'"{name}"' if inside else outside_method,
    }
    for path, template in ((method, "method.py.txt"), (card, "card.md.txt"), (test, "test.py.txt")):
        text = (files("harness.cli") / "templates" / template).read_text(encoding="utf-8")
        for key, value in values.items():
            text = text.replace(key, value)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        print(f"wrote {path}")
    chosen = name if inside else method
    print(f"the formula goes into token_weights in {method}")
    print(f"test it:  python -m pytest {test}")
    print(f"train it: entrobench train method={chosen} train.steps=20")
    return 0


def _paths(stem: str, folder: str | None) -> tuple[Path, Path, Path, bool]:
    if folder is not None:
        where = Path(folder).expanduser()
        return where / f"{stem}.py", where / f"{stem}.md", where / f"test_{stem}.py", False
    where = ROOT / "methods"
    if not (where.parent / "pyproject.toml").exists():
        raise UserError("this installation is not a checkout; say where to write with --dir DIR")
    return (
        where / f"{stem}.py",
        where / f"{stem}.md",
        where.parent / "tests" / "methods" / f"test_{stem}.py",
        True,
    )
