"""References made up for this corpus, by type of answer, and the forms of each type."""

from __future__ import annotations

from collections.abc import Callable

from tests.unit.grading.corpus import numbers, structures
from tests.unit.grading.corpus.numbers import Forms

#: For a type of answer: its forms, the type that the reader reads, and references that `` ;; `` parts.
TYPES: dict[str, tuple[Callable[[str], Forms], str, str]] = {
    "integer": (numbers.integer, "number", "17 ;; 408 ;; -23 ;; 96 ;; 731"),
    "big-integer": (numbers.integer, "number", "48,250 ;; 1374000 ;; 62,914,560"),
    "decimal": (numbers.decimal, "number", "2.75 ;; 0.64 ;; 18.2 ;; 0.035"),
    "fraction": (numbers.fraction, "number", r"\frac{7}{12} ;; -\frac{5}{8} ;; \frac{43}{9} ;; 3/20"),
    "mixed-number": (numbers.mixed, "number", r"4\frac{2}{5} ;; 7 1/3 ;; 12\frac{3}{8}"),
    "percent": (numbers.percent, "number", r"45\% ;; 12.5\% ;; 8\%"),
    "money": (numbers.money, "number", r"\$58 ;; \$7.25 ;; \$1340"),
    "angle": (numbers.angle, "number", r"72^\circ ;; 118^\circ ;; 15^\circ"),
    "unit": (
        numbers.quantity,
        "number",
        "14 [cm] ;; 36.5 [m^2] ;; 72 [km/h] ;; 25 [minute] ;; 450 [gram] ;; 9.6 [volt]",
    ),
    "root": (numbers.constant, "number", r"3\sqrt{7} ;; \frac{5\sqrt{3}}{2} ;; 4+\sqrt{11} ;; \sqrt[3]{10}"),
    "pi-multiple": (numbers.constant, "number", r"14\pi ;; \frac{5\pi}{6} ;; 9+4\pi"),
    "exponential": (numbers.constant, "number", r"e^3 ;; \ln 5 ;; e^2+4"),
    "complex": (numbers.complex_number, "number", r"5+2i ;; -3-7i ;; \frac{1}{2}+3i"),
    "expression": (
        numbers.expression,
        "number",
        r"3x^2-5x+2 ;; (x+4)(x-7) ;; \frac{n(n+3)}{2} ;; a^2b-4b ;; 2^{n+1}-3",
    ),
    "scientific": (numbers.scientific, "number", "3.2e5 ;; 6.74e-4 ;; 1.9e12 ;; 4.05e-9"),
    "tuple": (structures.tuple_, "tuple", r"(4,-9) ;; (2,5,11) ;; (\frac{3}{4},6) ;; (-1,0,8,3)"),
    "vector": (structures.tuple_, "tuple", "(7,-2,4) ;; (13,6)"),
    "list": (structures.list_, "list", r"3,8 ;; -2,5,9 ;; \frac{1}{3},4 ;; 12,19,27,40"),
    "set": (structures.set_, "set", r"\{2,9\} ;; \{-4,1,6\} ;; \{3,5,8,13\}"),
    "interval": (structures.region, "region", r"[3,8) ;; (-\infty,5] ;; (\frac{1}{2},\infty) ;; [-6,-1]"),
    "union": (
        structures.region,
        "region",
        r"(-\infty,-4)\cup(9,\infty) ;; [1,2]\cup[7,11) ;; (0,3)\cup(3,12)",
    ),
    "inequality": (structures.region, "region", r"x>14 ;; x\le -3 ;; 2<x\le 17"),
    "equation": (structures.equation, "equation", "y=4x-7 ;; 3x+5y=22 ;; x^2+y^2=29 ;; 2x-y+6z=11"),
    "matrix": (
        structures.matrix,
        "matrix",
        r"\begin{pmatrix} 4 & -1 \\ 7 & 3 \end{pmatrix} ;; "
        r"\begin{pmatrix} 2 & 0 & 5 \\ 1 & 8 & -6 \end{pmatrix} ;; "
        r"\begin{pmatrix} \frac{1}{3} \\ 9 \\ -4 \end{pmatrix}",
    ),
    "base-n": (structures.base, "base", "314_7 ;; 1021_3 ;; 265_8"),
    "ratio": (structures.ratio, "ratio", "5:8 ;; 2:3:7 ;; 9:4"),
    "time": (
        structures.time,
        "time",
        r"7:45 \text{ p.m.} ;; 10:20 \text{ a.m.} ;; 3:05 \text{ p.m.}",
    ),
    "word": (
        structures.word,
        "word",
        r"\text{even} ;; \text{north} ;; \text{ellipse} ;; \text{Dora} ;; \text{listen}",
    ),
    "yes-no": (structures.word, "word", r"\text{yes} ;; \text{false}"),
    "choice": (structures.choice, "word", r"B ;; \text{D} ;; \text{(E)} ;; C"),
}


def references() -> list[tuple[str, str]]:
    """Type and text of every reference."""
    return [(name, text.strip()) for name, (_, _, row) in TYPES.items() for text in row.split(";;")]


def shown(type_: str, text: str) -> str:
    """The reference as a data set writes it: units in text."""
    if type_ == "unit":
        number, unit = text.rstrip("]").split(" [")
        return f"{number}\\text{{ {numbers.UNITS[unit][0]}}}"
    return text
