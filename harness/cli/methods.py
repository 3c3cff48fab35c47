"""``entrobench methods``: what there is, and the card of one method."""

from __future__ import annotations

import inspect
import sys
from dataclasses import fields
from typing import Any

from harness import catalog
from harness.errors import UserError
from harness.method import Method, range_text


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


def card_text(name: str, file: str, card: Any, cls: type[Method]) -> str:
    """The card as Markdown, hyper-parameters from the class itself."""
    lines = [f"# {card.title} (`{name}`)", ""]
    if card.reconstruction:
        lines += ["**Reconstruction: parts of the method are our choice; it is never ranked.**", ""]
    facts = {
        "paper": f"{card.paper} ({card.arxiv})",
        "official code": card.official_code,
        "track": card.track,
        "fidelity": card.fidelity,
        "changes": ", ".join(card.stations),
        "file": file,
    }
    lines += [f"- {key}: {value}" for key, value in facts.items()]
    if card.reduces_to:
        r = card.reduces_to
        values = ", ".join(f"{k}={v}" for k, v in r.values.items()) or "its defaults"
        lines.append(f"- reduces to: {r.base} with {values} ({r.when})")
    else:
        lines.append(f"- reduces to nothing: {card.no_reduction}")
    lines += [f"- {variant}: {meaning}" for variant, meaning in card.variants.items()]
    lines += ["", "## Hyper-parameters", "", "| name | default | valid | meaning |", "|---|---|---|---|"]
    for field in fields(cls):
        if "help" in field.metadata:
            valid = range_text(field.metadata).replace("|", "\\|")
            lines.append(f"| method.{field.name} | {field.default} | {valid} | {field.metadata['help']} |")
    lines += ["", "## Deviations", ""]
    lines += [f"- {text}" for text in card.deviations] or ["- none known"]
    return "\n".join([*lines, "", card.body])
