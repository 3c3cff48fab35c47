"""``entrobench new-method NAME``: a method file, a card and its tests, which pass as they are.

In a checkout the tests are a folder of ``tests/methods/``: an independent reading, cases of the shared tests
and a test of its own. There is no golden adapter: that needs outputs of other code, and a new method has
none. Elsewhere it is one test file beside the method.
"""

from __future__ import annotations

import keyword
import re
from importlib.resources import files
from pathlib import Path

from harness.registry import methods
from harness.registry.golden import METHODS
from harness.util.environment import ROOT
from harness.util.errors import UserError

_RESERVED = ("registry", "cards", "support")


def new_method(name: str, folder: str | None) -> int:
    """Write the files, into the checkout or into ``folder``; never overwrites anything."""
    stem = name.replace("-", "_")
    if not re.fullmatch(r"[a-z][a-z0-9]*([_-][a-z0-9]+)*", name) or keyword.iskeyword(stem):
        raise UserError(f"'{name}' is not a method name; use lower case letters, digits, _ and -")
    if stem in _RESERVED or name in methods.entries():
        raise UserError(f"the name '{name}' is taken; choose another one")
    paths, inside = _paths(stem, folder)
    for path in paths.values():
        if path.exists():
            raise UserError(f"{path} is there already and is not overwritten; choose another name")
    method = paths["method.py"]
    outside_method = f'str(Path(__file__).with_name("{method.name}"))'
    values = {
        "$class_name": "".join(part.capitalize() for part in re.split("[_-]", name)),
        "$title": " ".join(part.capitalize() for part in re.split("[_-]", name)),
        "$name": name,
        "$path_import": "" if inside else "from pathlib import Path\n",
        "$method": f'"{name}"' if inside else outside_method,
    }
    for template, path in paths.items():
        text = (files("harness.cli") / "templates" / f"{template}.txt").read_text(encoding="utf-8")
        for key, value in values.items():
            text = text.replace(key, value)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        print(f"wrote {path}")
    chosen = name if inside else method
    print(f"the formula goes into token_weights in {method}")
    print(f"test it:  python -m pytest {paths['test.py'].parent if inside else paths['test.py']}")
    if inside:
        print(f"          python -m pytest {ROOT / METHODS} -k {name}   # the tests that all methods share")
    print(f"train it: entrobench train method={chosen} train.steps=20")
    return 0


def _paths(stem: str, folder: str | None) -> tuple[dict[str, Path], bool]:
    """The file of each template, and whether they go into the checkout."""
    if folder is not None:
        where = Path(folder).expanduser()
        tests = {"test.py": where / f"test_{stem}.py"}
    else:
        where, own = ROOT / "methods", ROOT / METHODS / stem
        if not (ROOT / "pyproject.toml").exists():
            raise UserError("this installation is not a checkout; say where to write with --dir DIR")
        names = {"reading.py": "reading.py", "cases.py": "cases.py", "test.py": f"test_{stem}.py"}
        tests = {template: own / file for template, file in names.items()}
    return {"method.py": where / f"{stem}.py", "card.md": where / f"{stem}.md", **tests}, folder is None
