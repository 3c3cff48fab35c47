"""Method cards: the Markdown file beside a method, with a YAML header that tables and tests read."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from harness.errors import UserError
from methods.registry import Entry

TRACKS = ("main", "off-policy", "label-free", "extra-supervision", "length", "sft-then-rl")
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
    stations: tuple[str, ...]
    arxiv: str
    official_code: str
    reduces_to: Reduction | None
    no_reduction: str
    deviations: tuple[str, ...]
    variants: dict[str, str]
    body: str

    @property
    def reconstruction(self) -> bool:
        return self.fidelity == "reconstruction"


def read_card(entry: Entry) -> Card:
    """Read and check the card of a method.

    A header key of the form ``<key>[<variant>]`` overrides ``<key>`` for the entry ``slug@variant``.

    Raises:
        UserError: no card, or a header that lacks something; the message names the file and the remedy.
    """
    import yaml

    path = entry.card_path
    if not path.exists():
        raise UserError(f"method '{entry.name}' has no card; write {path.name} beside {entry.file.name}")
    head, separator, body = path.read_text(encoding="utf-8").removeprefix("---\n").partition("\n---\n")
    if not separator:
        raise UserError(f"{path.name} has no YAML header between two '---' lines")
    raw: dict[str, Any] = yaml.safe_load(head)
    variant = entry.name.partition("@")[2]
    for key in [k for k in raw if k.endswith("]")]:
        name, _, only = key[:-1].partition("[")
        value = raw.pop(key)
        if only == variant:
            raw[name] = value

    def need(key: str) -> Any:
        if raw.get(key) in (None, "", []):
            raise UserError(f"{path.name}: the header lacks '{key}'")
        return raw[key]

    if need("track") not in TRACKS:
        raise UserError(f"{path.name}: track '{raw['track']}' is not one of {', '.join(TRACKS)}")
    if need("fidelity") not in FIDELITIES:
        raise UserError(f"{path.name}: fidelity '{raw['fidelity']}' is not one of {', '.join(FIDELITIES)}")
    reduction = raw.get("reduces_to")
    if not reduction and not raw.get("no_reduction"):
        raise UserError(f"{path.name}: say what the method reduces_to, or no_reduction: <the reason>")
    return Card(
        title=need("title"),
        paper=need("paper"),
        track=raw["track"],
        fidelity=raw["fidelity"],
        stations=tuple(need("stations")),
        arxiv=str(raw.get("arxiv") or "–"),
        official_code=str(raw.get("official_code") or "none found"),
        reduces_to=Reduction(**reduction) if reduction else None,
        no_reduction=str(raw.get("no_reduction") or ""),
        deviations=tuple(raw.get("deviations") or ()),
        variants=dict(raw.get("variants") or {}),
        body=body.strip(),
    )
