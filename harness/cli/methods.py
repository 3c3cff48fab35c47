"""``entrobench methods``: what there is, the card of one method, and the pages of all."""

from __future__ import annotations

import inspect
import sys
from pathlib import Path
from typing import Any

from harness.config.schema import RunConfig
from harness.registry import analyses, cards, methods
from harness.registry.pages import card_text, changes_of, checkout, differing, pages, write
from harness.stages.composed import ComposedMethod
from harness.util.errors import UserError


def list_methods() -> int:
    """A table of all registered methods, from their cards and classes; torch is not loaded."""
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for heading in ("name", "changes", "track", "fidelity", "paper"):
        table.add_column(heading, no_wrap=heading in ("name", "track", "fidelity"), overflow="fold")
    missing = []
    for entry in (*methods.entries().values(), *analyses.entries().values()):
        try:
            card = cards.read_card(entry)
            changes = changes_of(entry)
        except UserError as error:
            missing.append(str(error))
            continue
        except Exception as error:  # a broken file must not hide the other methods
            missing.append(f"{entry.file.name} cannot be used: {type(error).__name__}: {error}")
            continue
        table.add_row(entry.name, changes, card.track, card.fidelity, card.paper)
    console = Console() if Console().is_terminal else Console(width=160)
    console.print(table)
    diagnostics = methods.diagnostics()
    if diagnostics:
        names = ", ".join(diagnostics)
        console.print(f"diagnostics that any run can log (train.diagnostics=[...]): {names}", markup=False)
    for line in missing:
        console.print(line, markup=False)
    return 0


def show_method(name: str) -> int:
    """The card of ``name``: what it is, its hyper-parameters, how it differs from its paper."""
    from rich.console import Console
    from rich.markdown import Markdown

    registry = methods
    if name in registry.diagnostics() and name not in registry.entries():
        print(diagnostic_text(name, registry.load_diagnostic(name)))
        return 0
    of_analysis = name in analyses.entries() and name not in registry.entries()
    entry = analyses.find(name) if of_analysis else registry.find(name)
    card = cards.read_card(entry)
    cls: Any = analyses.load(name) if of_analysis else methods.load(name)
    if issubclass(cls, ComposedMethod):
        text = composed_text(entry, card, cls)
    else:
        text = card_text(entry.name, entry.file.name, card, cls)
    console = Console()
    if console.is_terminal:
        console.print(Markdown(text))
    else:
        print(text)
    return 0


def composed_text(entry: Any, card: Any, cls: type[ComposedMethod]) -> str:
    """The card of a composition: what it takes from where, and what it leaves behind."""
    cls().validate(RunConfig())
    lines = ["| stage | from |", "|---|---|", f"| all others | {entry.base.name} |"]
    lines += [f"| {stage} | {part.name} |" for stage, part in entry.parts]
    for part in dict.fromkeys(part for _, part in entry.parts):
        taken = {stage for stage, other in entry.parts if other == part}
        taken |= {"ratio", "bounds", "weights"} if "loss" in taken else set()
        left = [s for s in cards.changed_stages(methods.load(part.name)) if s not in taken]
        if left:
            lines.append(f"\nNot taken from {part.name}, which changes them too: {', '.join(left)}.")
    file = ", ".join(dict.fromkeys(e.file.name for e in (entry.base, *(part for _, part in entry.parts))))
    head, _, rest = card_text(entry.name, file, card, cls).partition("\n\n")
    note = "Composed: it has no golden vectors of its own, and is untuned until a sweep tunes it."
    return "\n\n".join([head, note, "\n".join(lines), rest])


def diagnostic_text(name: str, cls: type) -> str:
    """What a diagnostic measures and logs, from its docstrings."""
    about, logs = inspect.getdoc(sys.modules[cls.__module__]) or "", inspect.getdoc(cls) or ""
    return f"{name}: a diagnostic; log it with train.diagnostics=[{name}]\n\n{about}\n\n{logs}"


def write_pages(folder: str | None, check: bool) -> int:
    """Make ``docs/methods/`` again, or say what is not current there (exit code 1)."""
    root = checkout()
    target = Path(folder) if folder else root / "docs" / "methods"
    wanted = pages(root)
    if check:
        stale = differing(target, wanted)
        print("\n".join(f"not current: {target / name}" for name in stale) or f"{target} is current")
        if stale:
            print("remedy: entrobench methods docs")
        return 1 if stale else 0
    changed = write(target, wanted)
    print("\n".join(f"written: {target / name}" for name in changed) or f"{target} is current")
    return 0
