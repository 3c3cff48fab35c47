"""Names and symbols of units, each with the powers of the units that it stands for."""

from __future__ import annotations

_BASE = {
    "meter": "m", "metre": "m", "gram": "g", "second": "s", "liter": "L", "litre": "L", "volt": "V",
    "watt": "W", "joule": "J", "newton": "N", "pascal": "Pa", "hertz": "Hz", "ohm": "Ω", "ampere": "A",
    "amp": "A", "coulomb": "C", "tesla": "T", "farad": "F", "mole": "mol", "electronvolt": "eV",
    "calorie": "cal", "byte": "B", "bit": "bit", "parsec": "pc",
}  # fmt: skip
_PREFIXES = {
    "nano": "n", "micro": "µ", "milli": "m", "centi": "c", "deci": "d", "kilo": "k", "mega": "M", "giga": "G",
}  # fmt: skip
_WORDS = {
    "h": "hour hours hr hrs h", "min": "minute minutes min mins", "s": "sec secs", "day": "day days",
    "week": "week weeks", "month": "month months", "year": "year years yr yrs",
    "inch": "inch inches in", "foot": "foot feet ft", "yard": "yard yards yd", "mile": "mile miles mi",
    "lb": "lb lbs", "pound": "pound pounds", "ounce": "ounce ounces oz", "ton": "ton tons tonne tonnes",
    "gallon": "gallon gallons gal", "quart": "quart quarts", "pint": "pint pints", "acre": "acre acres",
    "dollar": "dollar dollars usd $", "cent": "cent cents", "euro": "euro euros eur €", "yuan": "yuan rmb",
    "yen": "yen ¥", "rupee": "rupee rupees", "°": "degree degrees deg °",
    "rad": "radian radians rad", "°C": "celsius °c", "°F": "fahrenheit °f", "K": "kelvin kelvins",
    "atm": "atm atmospheres", "knot": "knot knots", "erg": "erg ergs", "dyn": "dyn dyne dynes",
    "H": "henry henries", "Hz": "hz", "light-year": "ly", "AU": "au", "Å": "angstrom angstroms",
    "gauss": "gauss", "mol": "mol moles", "fortnight": "fortnight fortnights", 
    "hectare": "hectare hectares ha",
}  # fmt: skip
_COMPOUND = {
    "mph": (("mile", 1), ("h", -1)), "kmph": (("km", 1), ("h", -1)), "kph": (("km", 1), ("h", -1)),
    "kwh": (("kW", 1), ("h", 1)), "cc": (("cm", 3),),
}  # fmt: skip
#: Words that say no more than that there is a unit.
GENERIC = frozenset(
    "unit|units|square unit|square units|cubic unit|cubic units|sq unit|sq units|units squared".split("|")
)

SYMBOLS: dict[str, tuple[tuple[str, int], ...]] = {}
for _symbol in (
    *dict.fromkeys(_BASE.values()),
    "K",
    "H",
    "Wb",
    "rad",
    "sr",
    "lm",
    "lx",
    "bar",
    "Å",
    "u",
    "t",
):
    SYMBOLS[_symbol] = ((_symbol, 1),)
    for _prefix in _PREFIXES.values():
        SYMBOLS[_prefix + _symbol] = ((_prefix + _symbol, 1),)
for _other, _same in (("l", "L"), ("ml", "mL"), ("dl", "dL"), ("cl", "cL"), ("d", "day"), ("kHz", "kHz")):
    SYMBOLS[_other] = ((_same, 1),)
SYMBOLS |= {"min": (("min", 1),), "ft": (("foot", 1),), "in": (("inch", 1),)}
_NAMED = {word: ((name, 1),) for name, words in _WORDS.items() for word in words.split()} | _COMPOUND
for _word, _symbol in _BASE.items():
    for _long, _short in ("", ""), *_PREFIXES.items():
        for _ending in ("", "s"):
            _NAMED[_long + _word + _ending] = ((_short + _symbol, 1),)
_LENGTHS = (("毫米", "mm"), ("厘米", "cm"), ("分米", "dm"), ("千米", "km"), ("公里", "km"), ("米", "m"))
CHINESE: dict[str, tuple[tuple[str, int], ...]] = {
    before + word: ((name, power),)
    for word, name in _LENGTHS
    for before, power in (("", 1), ("平方", 2), ("立方", 3))
}
CHINESE |= {
    word: ((name, 1),)
    for word, name in (
        ("元", "yuan"), ("千克", "kg"), ("公斤", "kg"), ("克", "g"), ("吨", "ton"), ("小时", "h"), 
        ("分钟", "min"),
        ("秒", "s"), ("天", "day"), ("周", "week"), ("年", "year"), ("度", "°"), ("升", "L"), ("毫升", "mL"),
        ("美元", "dollar"), ("美分", "cent"),
    )
}  # fmt: skip


def named(token: str) -> tuple[tuple[str, int], ...] | None:
    """The units that a symbol (upper and lower case differ) or a word stands for; None where it is none."""
    return SYMBOLS.get(token) or _NAMED.get(token.lower())
