"""math-verify's grammar in two stages: with a short look ahead first, and in full where that finds an error.

ANTLR decides by the whole context wherever a shorter look meets two ways, and forgets what it found. Where
the short look reads a text without an error, the tree is the same as by the whole context; else the text is
read again.
"""

from __future__ import annotations

from functools import wraps
from typing import Any


def install() -> None:
    """Have the parser of latex2sympy read so; once is enough."""
    from antlr4 import CommonTokenStream
    from antlr4.atn.PredictionMode import PredictionMode
    from latex2sympy2_extended.latex2sympy2 import PSParser

    in_full = PSParser.math
    if hasattr(in_full, "__wrapped__"):
        return

    @wraps(in_full)
    def _in_two_stages(self: Any) -> Any:
        self._interp.predictionMode = PredictionMode.SLL
        try:
            return in_full(self)
        except Exception:  # what its listener raises at a syntax error
            tokens = self.getTokenStream().tokenSource
            tokens.reset()  # from the first character: the lexer has gone on behind one that it does not know
            self.setTokenStream(CommonTokenStream(tokens))
            self._interp.predictionMode = PredictionMode.LL
            return in_full(self)

    PSParser.math = _in_two_stages
