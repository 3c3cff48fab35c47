"""``methods`` of a sweep file: a list, or the published methods of whole tracks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.registry import methods
from harness.registry.cards import TRACKS, read_header
from harness.registry.folders import folders
from harness.sweep.text import check_keys, list_of
from harness.util.errors import UserError, unknown


def named_methods(raw: Mapping[str, Any], where: str) -> list[str]:
    """What ``methods`` of the sweep file ``raw`` names, as it is written or by track.

    ``{tracks: [main], except: [a, b@paper], also: [c.py]}`` takes the methods of ``methods/`` whose cards
    name one of the tracks, sorted by name. A method made here (fidelity ``own``) and one of another
    package is named under ``also``, so that it does not slip into a published comparison.

    Raises:
        UserError: no such key or track, an exception that takes nothing away, or no method left.
    """
    chosen = raw["methods"]
    if not isinstance(chosen, Mapping):
        return [str(name) for name in list_of(raw, "methods", where)]
    where = f"{where}: methods"
    check_keys(chosen, ("tracks", "except", "also"), where)
    tracks = [str(track) for track in list_of(chosen, "tracks", where)]
    for track in tracks:
        if track not in TRACKS:
            raise unknown(f"track in {where}:", track, TRACKS)
    also = [str(name) for name in list_of(chosen, "also", where)]
    found = [name for name in _published(tracks) if name not in also]
    for name in list_of(chosen, "except", where):
        left = [other for other in found if str(name) not in (other, other.partition("@")[0])]
        if left == found:
            raise unknown(f"method in {where}: except:", str(name), found)
        found = left
    if not found + also:
        raise UserError(f"{where}: no published method is of track {', '.join(tracks) or '(none)'}")
    return found + also


def _published(tracks: list[str]) -> list[str]:
    """Entries of the shipped folder that are on one of ``tracks`` and not made here."""
    shipped = folders("methods")[0].path
    found = []
    for entry in methods.entries(shipped).values():
        header, _ = read_header(entry.card_path, entry.name.partition("@")[2])
        if header.get("track") in tracks and header.get("fidelity") != "own":
            found.append(entry.name)
    return found
