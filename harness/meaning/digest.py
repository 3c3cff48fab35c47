"""The identity of a registered class: what its code means, not how it is written or where its imports lie.

    python -m harness.meaning                            digest and identity of every method
    python -m harness.meaning show NAME...               also which names of the harness count
    python -m harness.meaning keep NAME... --why "..."   go on under the identity of before
    python -m harness.meaning freeze VERSION             write down what all have in a numerics version

A digest hashes the class's syntax and that of every definition of the method files it uses
(:mod:`~harness.meaning.canonical`). Three tables are committed beside this module. ``moves.json`` names each
moved module or name of the harness as it was when digests were first frozen. ``kept.json`` maps a digest to
the identity that records of it carry: of runs made when identities hashed bytes, and of code rewritten
without a change of numbers. ``past.json`` holds the identities at the end of each past numerics version, by
which its committed records are whole and of one code although the methods have moved on since.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from harness.meaning.canonical import Text
from harness.meaning.sources import ENTRIES, ROOT, Sources, Stamp, parse, read_table, registered_names, stamp
from harness.util.errors import UserError, unknown
from harness.util.files import write_json

KEPT = Path("harness", "meaning", "kept.json")
PAST = Path("harness", "meaning", "past.json")
LENGTH = 16


class Meaning(NamedTuple):
    """What a registered class means: the hash of it, and what was read for it.

    Attributes:
        digest: SHA-256 of the canonical text.
        names: the project's names that count by name.
        files: every file that was looked at, as it was then; None where there was none.
    """

    digest: str
    names: tuple[str, ...]
    files: dict[Path, Stamp]


_known: dict[tuple[Path, str, Path], Meaning] = {}


def meaning(file: Path, name: str, root: Path = ROOT) -> Meaning:
    """The meaning of the class that ``file`` registers as ``name``; the project's packages lie in ``root``.

    Raises:
        UserError: no such class, or a file that cannot be read as Python.
    """
    there = _known.get((file, name, root))
    if there is None or any(stamp(path) != then for path, then in there.files.items()):
        sources = Sources(file, root)
        classes = sources.source(sources.module).registered
        if name not in classes:
            raise unknown(f"method in {file.name}", name, classes)
        text = Text(sources, classes[name])
        digest = hashlib.sha256(text.build().encode()).hexdigest()
        there = Meaning(digest, tuple(sorted(text.names)), {**sources.seen, file: stamp(file)})
        _known[file, name, root] = there
    return there


def identity(file: Path, name: str, root: Path = ROOT) -> str:
    """What records of the class carry: the kept identity of its digest, else the digest's first digits."""
    digest = meaning(file, name, root).digest
    kept = read_table(root / KEPT, stamp(root / KEPT)).get(digest)
    return str(kept["identity"]) if kept else digest[:LENGTH]


def registered(root: Path = ROOT) -> dict[str, Path]:
    """The file of every method in the checkout by name, sorted."""
    files = sorted((root / ENTRIES).glob("*.py"))
    return dict(
        sorted((n, file) for file in files for node in parse(file).body for n in registered_names(node))
    )


def keep(names: Sequence[str], why: str, given: str = "", root: Path = ROOT) -> None:
    """Let the code of today go on under the identity of before, for the reason ``why``.

    That is ``given``, or the identity kept last for the same name.

    Raises:
        UserError: no such method, no identity of before, or one identity for several methods.
    """
    if given and len(names) > 1:
        raise UserError("--identity goes with one method; name it alone")
    table, files = dict(read_table(root / KEPT, stamp(root / KEPT))), registered(root)
    for name in names:
        if name not in files:
            raise unknown("method", name, files)
        before = [entry["identity"] for entry in table.values() if entry["name"] == name]
        if not (given or before):
            raise UserError(f"no identity of '{name}' is kept; give that of its records with --identity")
        digest = meaning(files[name], name, root).digest
        if digest not in table or given:
            table[digest] = {"identity": given or before[0], "name": name, "why": why}
    write_json(root / KEPT, table)


def freeze(version: int, root: Path = ROOT) -> None:
    """Write down the identities of all methods as those of a numerics version, before it is raised.

    Raises:
        UserError: they are written down already, and are others.
    """
    table = dict(past(root))
    now = {name: identity(file, name, root) for name, file in registered(root).items()}
    if table.setdefault(str(version), now) != now:
        raise UserError(
            f"{PAST} has other identities of numerics version {version}; a version's end is written down once"
        )
    write_json(root / PAST, table)


def past(root: Path = ROOT) -> dict[str, dict[str, str]]:
    """Past numerics version -> method -> identity that its records carry."""
    return dict(read_table(root / PAST, stamp(root / PAST)))


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m harness.meaning")
    commands = parser.add_subparsers(dest="command")
    commands.add_parser("show").add_argument("names", nargs="*", metavar="NAME")
    keeping = commands.add_parser("keep")
    keeping.add_argument("names", nargs="+", metavar="NAME")
    keeping.add_argument("--why", required=True, help="why the records of before are records of this code")
    keeping.add_argument("--identity", default="", help="the identity to go on under")
    commands.add_parser("freeze").add_argument("version", type=int)
    given = parser.parse_args(arguments)
    try:
        if given.command == "freeze":
            freeze(given.version)
            return 0
        if given.command == "keep":
            keep(given.names, given.why, given.identity)
        _show(getattr(given, "names", []))
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def _show(names: Sequence[str]) -> None:
    files = registered()
    for name in names or files:
        if name not in files:
            raise unknown("method", name, files)
        found = meaning(files[name], name)
        print(found.digest, identity(files[name], name), name)
        for used in found.names if names else ():
            print(f"    {used}")
