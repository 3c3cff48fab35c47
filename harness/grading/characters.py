"""Unicode that people and models write for mathematics, as LaTeX; one pass over the text."""

from __future__ import annotations

import re

_SIGNS = {
    "\u2212": "-", "\u2010": "-", "\u2011": "-", "\u2013": "-", "\u2014": "-", "\uff0d": "-", "\ufe63": "-",
    "\uff0b": "+", "\uff1d": "=", "\uff0c": ",", "\u3001": ",", "\uff08": "(", "\uff09": ")", "\uff1a": ":",
    "\uff1b": ";", "\u3002": ".", "\uff0e": ".", "\uff1c": "<", "\uff1e": ">", "\uff05": "%", "\uff0f": "/",
    "\u00a0": " ", "\u2009": " ", "\u202f": " ", "\u3000": " ", "\u2002": " ", "\u2003": " ",
    "\u2019": "'", "\u2032": "'", "\u2236": ":", "\u2044": "/", "\u2215": "/", "\u00f7": "/",
    "\u00b0": r"^\circ ", "\u2103": r"^\circ ", "\u2220": r"\angle ", "\u2026": r"\ldots ", 
    "\u22ef": r"\ldots ",
    "\u00d7": r"\times ", "\u00b7": r"\cdot ", "\u22c5": r"\cdot ", "\u2217": r"\cdot ", "\u2022": r"\cdot ",
    "\u221e": r"\infty ", "\u2264": r"\le ", "\u2a7d": r"\le ", "\u2265": r"\ge ", "\u2a7e": r"\ge ",
    "\u2260": r"\ne ", "\u2248": r"\approx ", "\u2243": r"\approx ", "\u00b1": r"\pm ", "\u2213": r"\mp ",
    "\u222a": r"\cup ", "\u2229": r"\cap ", "\u2208": r"\in ", "\u2216": r"\setminus ", 
    "\u2205": r"\emptyset ",
    "\u2115": r"\mathbb{N}", "\u2124": r"\mathbb{Z}", "\u211a": r"\mathbb{Q}", "\u211d": r"\mathbb{R}",
    "\u2102": r"\mathbb{C}", "\u2211": r"\sum ", "\u220f": r"\prod ", "\u27e8": r"\langle ", 
    "\u27e9": r"\rangle ",
    "\u2329": r"\langle ", "\u232a": r"\rangle ", "\u2308": r"\lceil ", "\u2309": r"\rceil ",
    "\u230a": r"\lfloor ", "\u230b": r"\rfloor ", "\u2223": r"\mid ", "\u2225": r"\|", "\u2126": r"\Omega ",
    "\u03bc": r"\mu ", "\u00b5": r"\mu ", "\u25a0": r"\blacksquare ", "\u25a1": r"\square ", 
    "\u220e": r"\blacksquare ",
    "\u2153": r"\frac{1}{3}", "\u2154": r"\frac{2}{3}", "\u00bc": r"\frac{1}{4}", "\u00bd": r"\frac{1}{2}",
    "\u00be": r"\frac{3}{4}", "\u2155": r"\frac{1}{5}", "\u2156": r"\frac{2}{5}", "\u2157": r"\frac{3}{5}",
    "\u2158": r"\frac{4}{5}", "\u2159": r"\frac{1}{6}", "\u215a": r"\frac{5}{6}", "\u215b": r"\frac{1}{8}",
    "\u215c": r"\frac{3}{8}", "\u215d": r"\frac{5}{8}", "\u215e": r"\frac{7}{8}",
    "\u6216": r" \text{ or } ", "\u548c": r" \text{ and } ",
}  # fmt: skip
_GREEK = dict(
    zip(
        "αβγδεζηθικλνξπρστυφχψωΓΔΘΛΞΠΣΦΨΩ",
        (
            "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda nu xi pi rho sigma tau upsilon "
            "phi chi psi omega Gamma Delta Theta Lambda Xi Pi Sigma Phi Psi Omega"
        ).split(),
        strict=True,
    )
)
_TABLE = str.maketrans(
    {chr(0xFF10 + i): str(i) for i in range(10)}
    | {letter: f"\\{name} " for letter, name in _GREEK.items()}
    | _SIGNS
)
_RAISED = dict(zip("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁼⁽⁾ⁿⁱ", "0123456789+-=()ni", strict=True))
_LOWERED = dict(zip("₀₁₂₃₄₅₆₇₈₉₊₋₌₍₎ₙ", "0123456789+-=()n", strict=True))
_RAISED_RUN = re.compile(f"[{''.join(_RAISED)}]+")
_LOWERED_RUN = re.compile(f"[{''.join(_LOWERED)}]+")
_ROOT = re.compile(r"([√∛∜])\s*(\([^()]*\)|\d+(?:\.\d+)?|[a-zA-Z]|\\?[a-zA-Z]+)?")
_INDEX = {"√": "", "∛": "[3]", "∜": "[4]"}
_VINCULUM = re.compile("((?:[0-9]\u0305)+)")
_INVISIBLE = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u2069\ufeff\ud800-\udfff]"
)


def latex(text: str) -> str:
    r"""``2√3`` as ``2\sqrt{3}``, ``2¹⁰`` as ``2^{10}``, ``½`` as ``\frac{1}{2}``; invisible characters go."""
    text = _INVISIBLE.sub("", text)
    if text.isascii():
        return text
    text = _VINCULUM.sub(lambda m: "\\overline{" + m.group().replace("\u0305", "") + "}", text)
    text = _ROOT.sub(_root, text)
    text = _RAISED_RUN.sub(lambda m: _script("^", m.group(), _RAISED), text)
    text = _LOWERED_RUN.sub(lambda m: _script("_", m.group(), _LOWERED), text)
    return text.translate(_TABLE)


def _root(match: re.Match[str]) -> str:
    inside = match[2] or ""
    inside = inside[1:-1] if inside.startswith("(") else inside
    return f"\\sqrt{_INDEX[match[1]]}" + (f"{{{inside}}}" if inside else " ")


def _script(mark: str, run: str, table: dict[str, str]) -> str:
    digits = "".join(table[c] for c in run)
    return f"{mark}{digits}" if len(digits) == 1 else f"{mark}{{{digits}}}"
