"""Method cards: the Markdown file beside a method, with a YAML header that tables and tests read.

Which stages a method changes is not in it: :func:`changed_stages` asks the class.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from harness.registry.analyses import AnalysisEntry
from harness.registry.methods import ComposedEntry, MethodEntry
from harness.stages.compose import changes
from harness.stages.method import Method
from harness.util.errors import UserError
from harness.util.plain_yaml import parse_yaml

TRACKS = ("main", "off-policy", "label-free", "extra-supervision", "length", "sft-then-rl")
#: The track of what trains nothing (:mod:`harness.registry.analyses`).
ANALYSIS = "analysis"
COMPOSED = "composed"
FIDELITIES = ("code-verified", "paper-verified", "reconstruction", "baseline", "own")


@dataclass(frozen=True)
class Reduction:
    """What a method becomes at special values: ``base`` with ``base_values``, when ``values`` are set."""

    base: str
    values: dict[str, Any]
    base_values: dict[str, Any] = field(default_factory=dict)
    when: Literal["always", "first update"] = "always"


@dataclass(frozen=True)
class Card:
    """The header of a card; ``body`` is the Markdown that follows it."""

    title: str
    paper: str
    track: str
    fidelity: str
    arxiv: str
    official_code: str
    reduces_to: Reduction | None
    no_reduction: str
    deviations: tuple[str, ...]
    variants: dict[str, str]
    body: str
    of_reconstructions: bool = False

    @property
    def reconstruction(self) -> bool:
        return self.fidelity == "reconstruction" or self.of_reconstructions


def read_card(entry: MethodEntry) -> Card:
    """Read and check the card of a method.

    A header key of the form ``<key>[<variant>]`` overrides ``<key>`` for the entry ``slug@variant``.

    Raises:
        UserError: no card, or a header that lacks something; the message names the file and the remedy.
    """
    if isinstance(entry, ComposedEntry):
        return _composed_card(entry)
    path = entry.card_path
    if not path.exists():
        raise UserError(f"method '{entry.name}' has no card; write {path.name} beside {entry.file.name}")
    raw, body = read_header(path, entry.name.partition("@")[2])

    def need(key: str) -> Any:
        if raw.get(key) in (None, "", []):
            raise UserError(f"{path.name}: the header lacks '{key}'")
        return raw[key]

    trains = not isinstance(entry, AnalysisEntry)
    tracks = TRACKS if trains else (ANALYSIS,)
    if need("track") not in tracks:
        raise UserError(f"{path.name}: track '{raw['track']}' is not one of {', '.join(tracks)}")
    if need("fidelity") not in FIDELITIES:
        raise UserError(f"{path.name}: fidelity '{raw['fidelity']}' is not one of {', '.join(FIDELITIES)}")
    reduction = raw.get("reduces_to")
    if trains and not reduction and not raw.get("no_reduction"):
        raise UserError(f"{path.name}: say what the method reduces_to, or no_reduction: <the reason>")
    return Card(
        title=need("title"),
        paper=need("paper"),
        track=raw["track"],
        fidelity=raw["fidelity"],
        arxiv=str(raw.get("arxiv") or "–"),
        official_code=str(raw.get("official_code") or "none found"),
        reduces_to=Reduction(**reduction) if reduction else None,
        no_reduction=str(raw.get("no_reduction") or ""),
        deviations=tuple(raw.get("deviations") or ()),
        variants=dict(raw.get("variants") or {}),
        body=body.strip(),
    )


def changed_stages(cls: type[Method]) -> tuple[str, ...]:
    """Stages that differ from plain GRPO's at the default hyper-parameters, pieces of the loss one by one.

    ``loss`` itself stands for the surrogate and the aggregation. Empty for GRPO.
    """
    return tuple(changes(cls().stages()))


def changes_text(cls: type[Method]) -> str:
    """The changed stages in words, for tables."""
    return ", ".join(changed_stages(cls)) or "nothing"


def read_header(path: Path, variant: str) -> tuple[dict[str, Any], str]:
    """A card's header as it stands for ``slug@variant`` (empty: for the entry without one), and its body.

    Raises:
        UserError: there is no header.
    """
    head, separator, body = path.read_text(encoding="utf-8").removeprefix("---\n").partition("\n---\n")
    if not separator:
        raise UserError(f"{path.name} has no YAML header between two '---' lines")
    raw = dict(_parsed(head, path.name))
    for key in [k for k in raw if k.endswith("]")]:
        name, _, only = key[:-1].partition("[")
        value = raw.pop(key)
        if only == variant:
            raw[name] = value
    return raw, body


@lru_cache(maxsize=256)
def _parsed(head: str, name: str) -> dict[str, Any]:
    """A header as YAML; a file's entries share it, and PyYAML is slow. Copy it before a change."""
    parsed = parse_yaml(head, name, lambda keys, kind: not keys[0].startswith("reduces_to"))
    if not isinstance(parsed, dict):
        raise UserError(f"{name}: the header is no mapping; write key: value lines")
    return parsed


def _composed_card(entry: ComposedEntry) -> Card:
    """The card of a composition, from the cards of what is in it: nobody has published it."""
    base = read_card(entry.base)
    parts = [(stage, part.name, read_card(part)) for stage, part in entry.parts]
    cards = [base, *(card for *_, card in parts)]
    others = [card.track for card in cards if card.track != TRACKS[0]]
    taken = ", ".join(f"{stage} of {card.title}" for stage, _, card in parts)
    names = dict.fromkeys([entry.base.name, *(name for _, name, _ in parts)])
    return Card(
        title=f"{base.title} with {taken}",
        paper=f"composed here of {', '.join(names)}; published by nobody",
        track=others[0] if others else TRACKS[0],
        fidelity=COMPOSED,
        arxiv=", ".join(dict.fromkeys(card.arxiv for card in cards if card.arxiv != "–")) or "–",
        official_code="none",
        reduces_to=None,
        no_reduction="a composition; the cards of its parts say what they reduce to",
        deviations=tuple(
            dict.fromkeys(
                f"{name}: {text}"
                for name, card in [(entry.base.name, base), *((name, card) for _, name, card in parts)]
                for text in card.deviations
            )
        ),
        variants={},
        body="## Formula\nThat of "
        + ", ".join(f"`entrobench methods show {name}`" for name in names)
        + ", at the stages above.",
        of_reconstructions=any(card.reconstruction for card in cards),
    )
