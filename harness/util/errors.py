"""Errors that a user can mend, and suggestions for mistyped names."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class UserError(Exception):
    """Bad input: the command line prints the message as one line and exits with code 2."""


def nearest(name: str, known: Iterable[str], n: int = 3) -> list[str]:
    """The known names most like ``name``, best first."""
    options = sorted(known)
    prefixed = [o for o in options if o.startswith(f"{name}@")]
    return prefixed or get_close_matches(name, options, n=n, cutoff=0.5)


def unknown(kind: str, name: str, known: Iterable[str], remedy: str = "") -> UserError:
    """``unknown <kind> '<name>'; did you mean …?`` with the nearest valid names."""
    options = sorted(known)
    close = nearest(name, options)
    hint = f"did you mean {' or '.join(close)}?" if close else f"known: {', '.join(options)}"
    return UserError(f"unknown {kind} '{name}'; {hint}{' ' + remedy if remedy else ''}")
