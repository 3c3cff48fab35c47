"""The identity of a method: what changes it, what does not, and that what is committed is current."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

import pytest
import yaml

from harness.meaning.digest import KEPT, ROOT, freeze, identity, keep, meaning, past
from harness.registry import methods as registry
from harness.run.identity import NUMERICS_VERSION
from harness.sweep.cache import plan_key
from harness.sweep.plan import table_name
from harness.sweep.spec import load_sweep
from harness.sweep.tuned import chosen_by
from harness.util.errors import UserError
from tests.helpers.scripts import run_code

METHOD = """
    import math
    from harness.stages import Loss
    from methods.registry import register
    from methods.formula import weight

    LIMIT = 0.5

    def scale(x):
        y = math.exp(x)
        return weight(y) * LIMIT

    @register("one")
    class One(Loss):
        def loss(self, x):
            return scale(x)
"""
FORMULA = """
    from methods.constants import FACTOR

    def weight(x):
        return x * FACTOR
"""
PROJECT = {
    "harness__init__": "",
    "harness__stages__init__": "from harness.stages.loss import Loss",
    "harness__stages__loss": "class Loss: pass",
    "methods__init__": "",
    "methods__registry": "def register(name): return lambda cls: cls",
    "methods__formula": FORMULA,
    "methods__constants": "FACTOR = 2.0\nOTHER = 1\n",
}
Files = Callable[..., str]


@pytest.fixture
def digest(tmp_path: Path) -> Files:
    """Write a small project, whose files may be given (None: there is none); the digest of ``one``."""

    def write(method: str = METHOD, **others: str | None) -> str:
        given = {"methods__one": method, **others}
        for name, text in (PROJECT | given).items():
            *folders, stem = name.removesuffix("__").split("__")
            path = tmp_path.joinpath(*folders, "__init__.py" if stem == "init" else f"{stem}.py")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.unlink(missing_ok=True)
            if text is not None:
                path.write_text(dedent(text))
        return meaning(tmp_path / "methods" / "one.py", "one", tmp_path).digest

    return write


def changed(old: str, new: str, text: str = METHOD) -> str:
    assert old in text
    return text.replace(old, new)


def test_how_and_where_a_name_is_imported_does_not_count(digest: Files) -> None:
    before, loss, weight = digest(), "from harness.stages import Loss", "from methods.formula import weight"
    ways = [
        changed(loss, "from harness.stages.loss import Loss"),
        changed("(Loss)", "(Base)", changed(loss, "from harness.stages import Loss as Base")),
        changed("(Loss)", "(loss.Loss)", changed(loss, "from harness.stages import loss")),
        changed("(Loss)", "(s.Loss)", changed(loss, "import harness.stages as s")),
        changed("(Loss)", "(harness.stages.loss.Loss)", changed(loss, "import harness.stages.loss")),
        changed("math.exp", "exp", changed("import math", "from math import exp")),
        changed("weight(y)", "f.weight(y)", changed(weight, "import methods.formula as f")),
        changed(
            "y = math", "from methods.formula import weight as w\n        y = math", changed(weight, "")
        ).replace("weight(y)", "w(y)"),
        changed(weight, "from .formula import weight"),
        changed(loss, f"from typing import TYPE_CHECKING\n    if TYPE_CHECKING:\n        {loss}"),
        changed("import math\n", f"{weight}\n    import math\n", changed(weight, "import os")),
    ]
    for way in ways:
        assert digest(way) == before, way


def test_a_lazy_face_resolves_to_what_it_exports(digest: Files) -> None:
    face = '_EXPORTS = {"Loss": "harness.stages.loss", "register": "methods.registry:register"}'
    text = changed("from harness.stages import Loss", "from entrobench import Loss, register")
    text = changed("from methods.registry import register", "", text)
    assert digest() == digest(text, entrobench__init__=face)


def test_a_module_that_moves_keeps_its_name_by_the_table_of_moves(digest: Files, tmp_path: Path) -> None:
    before = digest()
    moved = {
        "harness__stages__init__": "from harness.stages.form import Loss",
        "harness__stages__form": "class Loss: pass", "harness__stages__loss": None,
    }  # fmt: skip
    assert digest(**moved) != before
    table = tmp_path / "harness" / "meaning" / "moves.json"
    table.parent.mkdir()
    table.write_text(json.dumps({"modules": {"harness.stages.form": "harness.stages.loss"}, "names": {}}))
    assert digest(**moved) == before
    table.write_text(json.dumps({"names": {"harness.stages.form:Loss": "harness.stages.loss:Loss"}}))
    assert digest(**moved) == before


def test_another_function_under_the_same_name_counts(digest: Files) -> None:
    before = digest()
    assert digest(changed("from methods.formula", "from methods.other"), methods__other=FORMULA) == before
    other = changed("x * FACTOR", "x / FACTOR", FORMULA)
    assert digest(changed("from methods.formula", "from methods.other"), methods__other=other) != before
    assert digest(changed("import math", "import cmath as math")) != before
    assert digest(harness__stages__init__="from harness.stages.other import Loss",
                  harness__stages__other="class Loss: pass") != before  # fmt: skip


def test_changed_code_counts_however_deep(digest: Files) -> None:
    before = digest()
    assert digest(changed("LIMIT = 0.5", "LIMIT = 0.6")) != before
    assert digest(methods__formula=changed("x * FACTOR", "x * FACTOR + 0", FORMULA)) != before
    assert digest(methods__constants="FACTOR = 3.0\nOTHER = 1\n") != before
    assert digest(methods__constants="FACTOR = 2\nOTHER = 1\n") != before  # an int is not a float
    assert digest(methods__constants="FACTOR = 2.0\nOTHER = 2\n") == before  # nobody uses it
    assert digest(methods__constants="FACTOR = 2.0\nOTHER = 1\nFACTOR += 1\n") != before
    patched = "FACTOR = 2.0\nOTHER = 1\nimport math\nmath.exp = abs\n"
    assert digest(methods__constants=patched) != before
    assert digest(changed("import math", "import math, methods.patch"), methods__patch="print()") != before


def test_a_table_that_is_filled_later_counts_with_its_contents(digest: Files) -> None:
    table = changed("LIMIT = 0.5", 'LIMIT = {}\n    LIMIT["a"] = 1')
    assert digest(table) != digest(changed('["a"] = 1', '["a"] = 2', table))
    guarded = changed(
        "import math", "try:\n        import math\n    except ImportError:\n        math = None"
    )
    assert digest(guarded) != digest(changed("math = None", "math = 1", guarded))


def test_words_and_blank_lines_do_not_count(digest: Files) -> None:
    before = digest()
    words = changed("def scale(x):", 'def scale(x):\n        """Some words."""\n\n        # and more')
    words = changed("class One(Loss):", 'class One(Loss):\n        """Of it."""\n', words)
    assert digest(f'    """A file."""\n\n{words}') == before
    assert digest(changed("def scale", "\n\n\n    def scale")) == before


def test_a_local_name_is_not_taken_for_an_import_of_the_same_name(digest: Files) -> None:
    for local in (
        "def scale(x, weight): return weight(x)",
        "def scale(x):\n        weight = abs\n        return weight(x)",
        "def scale(x): return [weight(1) for weight in x]",
        "def scale(x): return (lambda weight: weight(1))(x)",
        "def scale(x):\n        for weight in x:\n            pass\n        return weight(1)",
        "def scale(x):\n        match x:\n            case {'a': weight}:\n                return weight(1)",
        "def scale(x):\n        try: x()\n        except OSError as weight: return weight(1)",
    ):
        text = METHOD[: METHOD.index("def scale")] + local + "\n\n    " + METHOD[METHOD.index("@register") :]
        first = digest(text)
        assert digest(text, methods__formula="def weight(x): return 7") == first, local
        free = text.replace(", weight)", ", other)").replace("weight = abs", "other = abs")
        free = free.replace("for weight in", "for other in").replace("lambda weight", "lambda other")
        free = free.replace("'a': weight", "'a': other").replace("as weight", "as other")
        second = digest(free)
        assert digest(free, methods__formula="def weight(x): return 7") != second, local


def test_names_of_a_class_are_not_seen_from_its_functions(digest: Files) -> None:
    text = changed("def loss(self, x):", "weight = 1\n        def loss(self, x):")
    text = changed("return scale(x)", "return weight(x)", text)
    assert digest(text) != digest(text, methods__formula="def weight(x): return 7")


def test_a_formula_that_moves_to_another_file_keeps_it(digest: Files) -> None:
    before = digest()
    scale = METHOD[METHOD.index("LIMIT") : METHOD.index("@register")]
    there = "import math\n" + dedent("    " + scale) + "\nfrom methods.formula import weight\n"
    here = changed(scale, "from methods.two import scale\n\n    ")
    assert digest(here, methods__two=there) == before
    assert digest(here, methods__two=there.replace("0.5", "0.6")) != before
    here = changed("from methods.formula import weight", "from methods.constants import FACTOR")
    assert (
        digest(changed("LIMIT =", "def weight(x):\n        return x * FACTOR\n\n    LIMIT =", here)) == before
    )


def test_the_order_of_code_counts_and_circles_end(digest: Files) -> None:
    two = changed("y = math.exp(x)", "y = math.exp(x)\n        x = y + 1")
    assert digest(two) != digest(
        changed("y = math.exp(x)\n        x = y + 1", "x = y + 1\n        y = math.exp(x)", two)
    )
    circle = "from methods.one import scale\ndef weight(x): return weight(scale(x))\n"
    assert digest(methods__formula=circle) != digest(methods__formula=circle.replace("(x))", "(x + 1))"))
    local = changed("LIMIT\n", "globals()['OTHER']\n\n    OTHER = 1\n")  # a name that is reached unseen
    assert digest(local) != digest(changed("OTHER = 1", "OTHER = 2", local))


def test_a_star_import_is_refused_with_the_remedy(digest: Files) -> None:
    with pytest.raises(UserError, match=r"one\.py:5: 'from methods.formula import \*'.*import the names"):
        digest(changed("import weight", "import *"))


def test_a_method_from_outside_counts_with_the_files_it_imports(tmp_path: Path) -> None:
    text = "from helper import f\nfrom methods.dapo import DAPO\nfrom methods.registry import register\n\n\n"
    text += '@register("outside")\nclass Outside(DAPO):\n    def g(self):\n        return f()\n'
    file, helper = tmp_path / "outside.py", tmp_path / "helper.py"
    file.write_text(text)
    helper.write_text("def f():\n    return 1\n")
    sweep = tmp_path / "sweep.yaml"
    sweep.write_text(
        yaml.safe_dump({"methods": [str(file)], "seeds": [1], "settings": {"model.path": "micro"}})
    )
    before, plan = registry.find(str(file)).hash, plan_key(load_sweep(sweep))
    assert before == identity(file, "outside") and plan == plan_key(load_sweep(sweep))
    helper.write_text("def f():\n    return 1  # one\n")
    assert registry.find(str(file)).hash == before
    helper.write_text("def f():\n    return 2\n")
    assert registry.find(str(file)).hash != before and plan_key(load_sweep(sweep)) != plan
    names = {place.name for place in meaning(file, "outside").files}
    assert {"dapo.py", "helper.py", "moves.json"} <= names


def _hashes() -> dict[int, dict[str, str]]:
    """Numerics version -> method -> identity: what the code had when a past version ended, and has today."""
    now = {name: entry.hash for name, entry in registry.entries().items()}
    return {int(version): table for version, table in past().items()} | {NUMERICS_VERSION: now}


def test_every_committed_record_and_choice_is_current() -> None:
    hashes = _hashes()
    for file in [path for name in ("", ".old") for path in ROOT.glob(f"results/**/records{name}.jsonl")]:
        seen: dict[int, set[str]] = {}
        for record in map(json.loads, file.read_text().splitlines()):
            version = record["numerics_version"]
            if file.name == "records.old.jsonl" and version == NUMERICS_VERSION:
                continue  # older code is what it is there for
            if record["role"] in ("method", "control"):
                name = record["run_id"].rsplit("-s", 1)[0]  # a control's is the method that it changes
                assert record["method_hash"] == hashes[version][name], record["run_id"]
                assert record["role"] == "control" or name == record["method"]
                seen.setdefault(version, set()).add(name)
        if "regimes" in file.parts:  # a regime is chosen with GRPO alone
            assert set().union(*seen.values()) <= {"grpo"}, "no method runs in a regime before it is frozen"
            continue
        if file.parent.name == "micro":
            whole = {version: set(hashes[version]) for version in seen}
            assert whole == seen, "the testbed's leaderboard has every method"
        else:  # a sweep of some methods, whose runs come in one after the other
            planned = {
                table_name(name) for name in load_sweep(ROOT / f"sweeps/{file.parent.name}.yaml").methods
            }
            assert seen and set().union(*seen.values()) <= planned, file
        assert len(seen) == 1 or file.name != "records.jsonl"
    files = list(ROOT.glob("sweeps/**/*.tuned.yaml"))
    assert files
    for file in files:
        choices = yaml.safe_load(file.read_text())["choices"]
        assert choices and {n: choice["method_hash"] for n, choice in choices.items()} == {
            n: hashes[chosen_by(choice)][n] for n, choice in choices.items()
        }


def test_identities_of_a_version_are_written_down_once(digest: Files, tmp_path: Path) -> None:
    old = digest()[:16]
    freeze(1, tmp_path)
    freeze(1, tmp_path)
    assert past(tmp_path) == {"1": {"one": old}}
    digest(changed("LIMIT = 0.5", "LIMIT = 0.6"))
    with pytest.raises(UserError, match="other identities of numerics version 1"):
        freeze(1, tmp_path)
    freeze(2, tmp_path)
    assert past(tmp_path)["1"] == {"one": old} != past(tmp_path)["2"]
    assert max(map(int, past())) == NUMERICS_VERSION - 1, "run harness.meaning freeze before it is raised"


def test_kept_identities_are_those_of_the_code_of_today() -> None:
    table = json.loads((ROOT / KEPT).read_text())
    digests = {meaning(entry.file, name).digest: name for name, entry in registry.entries().items()}
    for digest_, name in digests.items():
        kept = table.get(digest_)
        assert registry.find(name).hash == (kept["identity"] if kept else digest_[:16])
        assert kept is None or (kept["name"] == name and kept["why"])


def test_rewritten_code_goes_on_under_a_kept_identity(digest: Files, tmp_path: Path) -> None:
    old = digest()[:16]
    file = tmp_path / "methods" / "one.py"
    digest(changed("y = math.exp(x)\n", "y = math.exp(x) * 1\n"))
    assert identity(file, "one", tmp_path) != old
    with pytest.raises(UserError, match="--identity"):
        keep(["one"], "equal metrics", root=tmp_path)
    keep(["one"], "equal metrics", old, root=tmp_path)
    assert identity(file, "one", tmp_path) == old
    digest(changed("y = math.exp(x)\n", "y = math.exp(x) + 0\n"))
    assert identity(file, "one", tmp_path) != old
    keep(["one"], "equal metrics again", root=tmp_path)
    assert identity(file, "one", tmp_path) == old
    with pytest.raises(UserError, match="unknown method 'two'"):
        keep(["two"], "no such method", root=tmp_path)


def test_the_command_shows_what_counts_and_imports_neither_torch_nor_methods() -> None:
    code = (
        "import sys; from harness.meaning.digest import main; assert main(['show', 'grpo']) == 0;"
        "assert not {'torch', 'methods', 'benchmarks'} & set(sys.modules)"
    )
    done = run_code(code)
    assert done.returncode == 0, done.stderr
    assert "grpo" in done.stdout and "harness.method:Method" in done.stdout
