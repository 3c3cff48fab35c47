"""Which option of another trainer is which entry here: the page of ``docs/methods/peers.yaml``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.registry import methods
from harness.util.errors import UserError

DATA = Path("docs/methods/peers.yaml")
_ABOUT = """\
Made from [peers.yaml](peers.yaml), which is kept by hand. Every row was read in the code, at the commit that
its last column links to; a peer at another commit may differ. Two programs with the same option do not give
the same numbers: sampling, data and defaults outside the loss differ, too.

- *here* names the entry and what has to be set to compute the same; the rest are its defaults. Settings are
  those of `method.`, as in `method=grpo method.aggregation=token-mean`.
- *no entry*: no method here computes this. Some of these are options of a run here; the row says so.
- A row about one piece (a penalty, an entropy bonus, a dual clip) is about that piece alone; advantage, clip
  and reduction are those of the peer's other rows.
- Rows about a loss are with GRPO's advantage, rows about an advantage with the peer's default loss, if they
  name no other."""


@dataclass(frozen=True)
class Option:
    """One option of a peer, as typed there. ``entry`` is None where nothing here computes it."""

    option: str
    entry: str | None
    file: str
    values: dict[str, Any] = field(default_factory=dict)
    note: str = ""
    repository: str = ""
    commit: str = ""


@dataclass(frozen=True)
class Peer:
    """Another trainer, read at one commit; ``version`` and ``date`` where they are known."""

    name: str
    repository: str
    commit: str
    notes: tuple[str, ...]
    options: tuple[Option, ...]
    version: str = ""
    date: str = ""


def read_peers(root: Path) -> list[Peer]:
    """What ``docs/methods/peers.yaml`` of the checkout ``root`` says.

    Raises:
        UserError: a key is missing or unknown.
    """
    import yaml

    rows = yaml.safe_load((root / DATA).read_text(encoding="utf-8"))["peers"]
    return [_peer(row) for row in rows]


def _peer(row: Mapping[str, Any]) -> Peer:
    try:
        options = tuple(Option(**option) for option in row["options"])
        rest = {key: str(value) for key, value in row.items() if key not in ("options", "notes")}
        return Peer(**rest, notes=tuple(row["notes"]), options=options)
    except (KeyError, TypeError) as error:
        raise UserError(f"{DATA}, peer {row.get('name')}: {error}; its head says what a row has") from None


def peer_page(root: Path) -> str:
    """The page as Markdown, without the mark and the link back."""
    peers = read_peers(root)
    parts = ["# The options of other trainers", _ABOUT, "## By entry", _by_entry(peers)]
    for peer in peers:
        version = f" {peer.version}" if peer.version else ""
        date = f" of {peer.date}" if peer.date else ""
        read = f"`{peer.repository}`{version}, commit `{peer.commit[:7]}`{date}."
        parts += [f"## {peer.name}", read, "\n".join(f"- {note}" for note in peer.notes), _options(peer)]
    return "\n\n".join(parts)


def _by_entry(peers: list[Peer]) -> str:
    """Entry -> the peers that have it, by any option."""
    lines = ["| entry | peers |", "|---|---|"]
    for name in methods.entries():
        having = [peer.name for peer in peers if any(option.entry == name for option in peer.options)]
        if having:
            lines.append(f"| {_link(name)} | {', '.join(having)} |")
    return "\n".join(lines)


def _options(peer: Peer) -> str:
    lines = ["| as typed there | here | what differs | read in |", "|---|---|---|---|"]
    for option in peer.options:
        repository, commit = option.repository or peer.repository, option.commit or peer.commit
        source = f"https://github.com/{repository}/blob/{commit}/{option.file}"
        where = f"[{Path(option.file).name}]({source})"
        if option.repository:
            where += f" ({repository})"
        cells = (f"`{option.option}`", _here(option), option.note, where)
        lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    return "\n".join(lines)


def _here(option: Option) -> str:
    if option.entry is None:
        return "no entry"
    settings = " ".join(f"{key}={_typed(value)}" for key, value in option.values.items())
    return f"{_link(option.entry)}<br>`{settings}`" if settings else _link(option.entry)


def _typed(value: Any) -> str:
    """A value as it is typed on the command line."""
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _link(name: str) -> str:
    found = methods.entries().get(name)
    if found is None:
        raise UserError(f"{DATA}: no method {name}; `entrobench methods` lists the entries")
    return f"[`{name}`]({found.slug}.md)"
