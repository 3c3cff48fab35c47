"""``entrobench methods``: what there is, the card of one method, and the pages of all."""

from __future__ import annotations

import inspect
import sys
from pathlib import Path

from harness import catalog
from harness.errors import UserError
from harness.method_pages import card_text


def list_methods() -> int:
    """A table of all registered methods, from their cards; imports none of them."""
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for heading in ("name", "changes", "track", "fidelity", "paper"):
        table.add_column(heading, no_wrap=heading in ("name", "track", "fidelity"), overflow="fold")
    missing = []
    for entry in catalog.methods().entries().values():
        try:
            card = catalog.cards().read_card(entry)
        except UserError as error:
            missing.append(str(error))
            continue
        table.add_row(entry.name, ", ".join(card.stations), card.track, card.fidelity, card.paper)
    console = Console() if Console().is_terminal else Console(width=160)
    console.print(table)
    diagnostics = catalog.methods().diagnostics()
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

    registry = catalog.methods()
    if name in registry.diagnostics() and name not in registry.entries():
        print(diagnostic_text(name, registry.load_diagnostic(name)))
        return 0
    entry = registry.find(name)
    card = catalog.cards().read_card(entry)
    text = card_text(entry.name, entry.file.name, card, catalog.methods().load(name))
    console = Console()
    if console.is_terminal:
        console.print(Markdown(text))
    else:
        print(text)
    return 0


def diagnostic_text(name: str, cls: type) -> str:
    """What a diagnostic measures and logs, from its docstrings."""
    about, logs = inspect.getdoc(sys.modules[cls.__module__]) or "", inspect.getdoc(cls) or ""
    return f"{name}: a diagnostic; log it with train.diagnostics=[{name}]\n\n{about}\n\n{logs}"


def write_pages(folder: str | None, check: bool) -> int:
    """Make ``docs/methods/`` again, or say what is not current there (exit code 1)."""
    from harness.method_pages import checkout, differing, pages, write

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
