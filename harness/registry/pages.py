"""``docs/methods/``: a page per method and an index, made from the cards, the classes and the golden cases.

A page of costs comes from ``costs.py``, one of other trainers' options from ``peers.py``. Nothing in these
pages is written by hand: ``entrobench methods docs`` makes them again, ``--check`` names those that are not
current.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields
from itertools import groupby
from pathlib import Path
from typing import Any

from harness.config.fields import range_text
from harness.registry import analyses, cards, methods
from harness.registry.costs import cost_page
from harness.registry.golden import METHODS
from harness.registry.peers import peer_page
from harness.util.environment import ROOT
from harness.util.errors import UserError
from harness.util.files import write_text

INDEX, COSTS, PEERS = "README.md", "costs.md", "peers.md"
MARK = "<!-- made by `entrobench methods docs`: edit the card beside the method's file instead -->"
_ABOUT = """Where a paper and its code
differ in what they do, both are entries; smaller differences stand on the method's page, under *Deviations*
and *Pitfalls*.

*Changes* names the stages that differ from plain GRPO's at the default hyper-parameters, the pieces of the
loss one by one; `loss` itself is its surrogate and its aggregation.

*Fidelity* says what the formula was checked against:

- code-verified: outputs of the authors' code, stored and replayed by the tests;
- paper-verified: numbers worked out from the paper's formula, or the authors' code with that formula put in;
- reconstruction: parts of the method are our choice, because paper and code leave them open; never ranked;
- baseline: common ground of many papers, not one paper's method;
- own: made here.

*Golden* is how many stored cases the tests replay; *derived* ones hold numbers worked out from the formula
alone. On a page, *reduces to* names another entry that this one becomes at the given values, in every update
(always) or in the first one, and the tests hold it to that.

`entrobench methods show NAME` prints a card; [Add a method](../add-a-method.md) says how to write one.
The numbers that the papers report are in [results/reported.csv](../../results/reported.csv).
[Costs](costs.md) says what each takes over GRPO, [The options of other trainers](peers.md) which of TRL's,
verl's and nine others' options is which entry."""


def checkout() -> Path:
    """The root of the checkout that the methods belong to.

    Raises:
        UserError: the package is installed without one.
    """
    root = ROOT
    if not (root / "docs").is_dir():
        raise UserError(f"{root} has no docs folder: the pages are made in a checkout")
    return root


def pages(root: Path) -> dict[str, str]:
    """Every page by file name; ``root`` is the checkout whose golden cases are counted."""
    known = [*methods.entries().values(), *analyses.entries().values()]
    groups = groupby(sorted(known, key=lambda entry: entry.name), lambda entry: entry.slug)
    of_slug = [(slug, tuple(entries)) for slug, entries in groups]
    found = [
        _Page(slug, entries, golden_cases(root / METHODS / entries[0].file.stem)) for slug, entries in of_slug
    ]
    costs = f"{MARK}\n\n[All methods](README.md)\n\n{cost_page(root, list(methods.entries()))}\n"
    peers = f"{MARK}\n\n[All methods](README.md)\n\n{peer_page(root)}\n"
    own = {f"{page.slug}.md": page.text() for page in found}
    return {INDEX: _index(found), COSTS: costs, PEERS: peers, **own}


def write(folder: Path, wanted: dict[str, str]) -> list[str]:
    """Write what differs and delete generated pages that have no method; returns the changed names."""
    changed = differing(folder, wanted)
    for name in changed:
        if name in wanted:
            write_text(folder / name, wanted[name])
        else:
            (folder / name).unlink()
    return changed


def differing(folder: Path, wanted: dict[str, str]) -> list[str]:
    """Names of pages that are missing, not current, or generated for a method that is no more."""
    there = {path.name: path.read_text(encoding="utf-8") for path in folder.glob("*.md")}
    left_over = [name for name, text in there.items() if name not in wanted and text.startswith(MARK)]
    return sorted([name for name, text in wanted.items() if there.get(name) != text] + left_over)


# --- golden cases -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Golden:
    """The stored cases of a method: how many, and from which code."""

    cases: int
    code: tuple[str, ...]
    derived: bool

    @property
    def short(self) -> str:
        return f"{self.cases} cases" if self.code else f"{self.cases}, derived" if self.cases else "none"


def golden_cases(folder: Path) -> Golden:
    """What the headers of ``folder/case*.json`` say; nothing is replayed."""
    sources: list[dict[str, Any]] = []
    files = sorted(folder.glob("case*.json"))
    for file in files:
        source = json.loads(file.read_text(encoding="utf-8")).get("source") or []
        sources += [source] if isinstance(source, dict) else source
    code = dict.fromkeys(
        f"{s['repo']} {str(s.get('commit', ''))[:7]}".strip() for s in sources if "repo" in s
    )
    return Golden(len(files), tuple(code), any("derived" in s for s in sources))


def _golden_text(folder: str, golden: Golden) -> list[str]:
    if not golden.cases:
        return ["No stored outputs of other code to compare with."]
    origin = [f"outputs of {', '.join(f'`{code}`' for code in golden.code)}"] if golden.code else []
    origin += ["numbers worked out from the formula alone"] if golden.derived else []
    return [
        f"{golden.cases} stored cases: {'; '.join(origin)}. The tests replay every one; by hand:",
        "",
        f"    entrobench check golden {METHODS}/{folder}",
    ]


# --- one method -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Page:
    """A method with its variants: all entries of one slug."""

    slug: str
    entries: Sequence[Any]
    golden: Golden

    @property
    def cards(self) -> list[Any]:
        return [cards.read_card(entry) for entry in self.entries]

    def text(self) -> str:
        parts = [MARK, "", "[All methods](README.md)", ""]
        bodies: list[str] = []
        for entry, card in zip(self.entries, self.cards, strict=True):
            parts += [*card_head(entry.name, entry.file.name, card, _loaded(entry)), ""]
            bodies += [card.body] if card.body not in bodies else []
        parts += [
            "\n\n".join(bodies),
            "",
            "## Golden vectors",
            "",
            *_golden_text(self.entries[0].file.stem, self.golden),
        ]
        return "\n".join(parts).rstrip() + "\n"

    def row(self) -> str:
        card = self.cards[0]
        names = "<br>".join(f"[`{entry.name}`]({self.slug}.md)" for entry in self.entries)
        kinds = "<br>".join(card.fidelity for card in self.cards)
        changes = [changes_of(entry) for entry in self.entries]
        cells = (
            names,
            _escaped(card.title),
            "<br>".join(dict.fromkeys(changes)),
            kinds,
            self.golden.short,
            _paper(card),
        )
        return f"| {' | '.join(cells)} |"


def _loaded(entry: Any) -> Any:
    return (analyses if isinstance(entry, analyses.AnalysisEntry) else methods).load(entry.name)


def changes_of(entry: Any) -> str:
    """The stages that a method changes, or the command of an analysis."""
    if isinstance(entry, analyses.AnalysisEntry):
        return f"nothing: `entrobench analyse {entry.name}`"
    return cards.changes_text(methods.load(entry.name))


def card_text(name: str, file: str, card: Any, cls: type) -> str:
    """The card as Markdown, hyper-parameters from the class itself."""
    return "\n".join([*card_head(name, file, card, cls), "", card.body])


def card_head(name: str, file: str, card: Any, cls: type) -> list[str]:
    """What stands above a card's body: facts, hyper-parameters, deviations."""
    trains = card.track != cards.ANALYSIS
    lines = [f"# {card.title} (`{name}`)", ""]
    if card.reconstruction:
        lines += ["**Reconstruction: parts of the method are our choice; it is never ranked.**", ""]
    facts = {
        "paper": f"{card.paper} ({card.arxiv})",
        "official code": card.official_code,
        "track": card.track,
        "fidelity": card.fidelity,
        **(
            {"changes": cards.changes_text(cls)}
            if trains
            else {"command": f"`entrobench analyse {name} RUN…`"}
        ),
        "file": file,
    }
    lines += [f"- {key}: {value}" for key, value in facts.items()]
    if card.reduces_to:
        r = card.reduces_to
        values = ", ".join(f"{k}={v}" for k, v in r.values.items()) or "its defaults"
        lines.append(f"- reduces to: {r.base} with {values} ({r.when})")
    elif trains:
        lines.append(f"- reduces to nothing: {card.no_reduction}")
    lines += [f"- {variant}: {meaning}" for variant, meaning in card.variants.items()]
    lines += [
        "",
        "## Hyper-parameters" if trains else "## Settings",
        "",
        "| name | default | valid | meaning |",
        "|---|---|---|---|",
    ]
    lines += _knobs(cls, "method." if trains else "")
    lines += ["", "## Deviations", ""]
    return lines + ([f"- {text}" for text in card.deviations] or ["- none known"])


def _knobs(cls: type, where: str) -> list[str]:
    """A line per hyper-parameter; those of a composed method's parts after its own."""
    lines = []
    for field in fields(cls):
        if "help" in field.metadata:
            valid, meaning = _escaped(range_text(field.metadata)), _escaped(field.metadata["help"])
            lines.append(f"| {where}{field.name} | {field.default} | {valid} | {meaning} |")
        elif isinstance(field.default_factory, type):
            lines += _knobs(field.default_factory, f"{where}{field.name}.")
    return lines


# --- the index --------------------------------------------------------------------------------------------


def _index(found: Sequence[_Page]) -> str:
    trained = [page for page in found if page.cards[0].track != cards.ANALYSIS]
    number = sum(len(page.entries) for page in trained)
    lines = [MARK, "", "# Methods", "", f"{number} entries by {len(trained)} methods. {_ABOUT}"]
    for track in (*cards.TRACKS, cards.ANALYSIS):
        of_track = [page for page in found if page.cards[0].track == track]
        if of_track:
            lines += ["", f"## Track: {track}", ""]
            lines += ["| name | method | changes | fidelity | golden | paper |", "|---|---|---|---|---|---|"]
            lines += [page.row() for page in of_track]
    lines += ["", "## Diagnostics", "", "Measurements that any run can log: `train.diagnostics=[NAME]`.", ""]
    lines += [f"- `{name}`: `methods/{file.name}`" for name, file in methods.diagnostics().items()]
    notes = ROOT / "methods" / "not_built.md"
    return "\n".join([*lines, "", notes.read_text(encoding="utf-8").strip()]) + "\n"


def _paper(card: Any) -> str:
    ids = [word.strip() for word in card.arxiv.split(",")]
    links = [f"[{i}](https://arxiv.org/abs/{i})" if i[:4].isdigit() else i for i in ids]
    return ", ".join(links)


def _escaped(text: str) -> str:
    return text.replace("|", "\\|")
