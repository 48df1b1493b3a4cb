"""Measures in words: a number with a unit, percent, degrees, feet and inches."""

from __future__ import annotations

import re

from tritone.text.reading.en.numbers import AMOUNT, NUMBER, amount, number
from tritone.text.reading.tables import words

_PREFIXED = {
    **{"m": "meter", "g": "gram", "l": "liter", "L": "liter", "W": "watt", "Wh": "watt hour", "Hz": "hertz"},
    **{"V": "volt", "A": "amp", "Ah": "amp hour", "Pa": "pascal", "J": "joule", "N": "newton", "bps": "bit per second"},
    **{"mol": "mole", "B": "byte", "cal": "calorie", "eV": "electron volt", "F": "farad", "Ω": "ohm", "s": "second"},
    **{"bit": "bit", "b": "bit", "iB": "binary byte", "Sv": "sievert", "lm": "lumen", "wp": "watt"},
}
_PREFIXES = {
    **{"k": "kilo", "M": "mega", "G": "giga", "T": "tera", "P": "peta", "m": "milli", "c": "centi", "d": "deci"},
    **{"μ": "micro", "µ": "micro", "u": "micro", "n": "nano", "p": "pico", "h": "hecto", "K": "kilo"},
}
_ALLOWED = words(
    "km cm dm mm μm µm um nm pm kg mg μg µg ug ng dl dL cl cL ml mL μl µl hl kW MW GW TW mW kWh MWh GWh TWh Wh "
    "kHz MHz GHz THz Hz kV mV MV mA μA mAh Ah kPa hPa MPa GPa Pa kJ MJ GJ kN MN mmol μmol mol kB KB MB GB TB PB "
    "KiB MiB GiB TiB kbps Kbps Mbps Gbps Tbps bps Mb Gb Kb Mbit Gbit kbit kcal cal keV MeV GeV kΩ MΩ ms μs µs ns "
    "ps mSv μSv m g l L W V N J Ω lm"
)
_OTHER = {
    **{"ft": "foot", "in.": "inch", "yd": "yard", "yds": "yard", "mi": "mile", "lb": "pound", "lbs": "pound"},
    **{"oz": "ounce", "gal": "gallon", "pt": "pint", "qt": "quart", "tsp": "teaspoon", "tbsp": "tablespoon"},
    **{"Tbsp": "tablespoon", "fl oz": "fluid ounce", "fl. oz.": "fluid ounce", "sq ft": "square foot"},
    **{"sq. ft.": "square foot", "sq m": "square meter", "sq km": "square kilometer", "sq mi": "square mile"},
    **{"sqft": "square foot", "cu ft": "cubic foot", "ha": "hectare", "mcg": "microgram", "cc": "cubic centimeter"},
    **{"h": "hour", "hr": "hour", "hrs": "hour", "min": "minute", "mins": "minute", "sec": "second", "secs": "second"},
    **{"mph": "mile per hour", "kph": "kilometer per hour", "kmh": "kilometer per hour", "km/h": "kilometer per hour"},
    **{"kmph": "kilometer per hour", "knots": "knot", "rpm": "revolution per minute", "fps": "frame per second"},
    **{"bpm": "beat per minute", "ppm": "part per million", "ppb": "part per billion", "dpi": "dot per inch"},
    **{"psi": "pound per square inch", "mpg": "mile per gallon", "dB": "decibel", "px": "pixel", "MP": "megapixel"},
    **{"hp": "horsepower", "atm": "atmosphere", "wk": "week", "wks": "week", "mo": "month", "mos": "month"},
    **{"yr": "year", "yrs": "year", "yo": "year old", "bp": "basis point", "bps.": "basis point", "ct": "carat"},
    **{"°C": "degree Celsius", "°F": "degree Fahrenheit", "℃": "degree Celsius", "° C": "degree Celsius"},
    **{"° F": "degree Fahrenheit", "°K": "kelvin", "deg": "degree", "°": "degree", "%": "percent", "‰": "per mille"},
    **{"pct": "percent", "kgs": "kilogram", "kms": "kilometer", "cms": "centimeter", "pts": "point"},
}
_SAME_IN_PLURAL = ("percent", "per mille", "hertz", "horsepower", "kelvin")


def _prefixed(symbol: str) -> str:
    if symbol in _PREFIXED:
        return _PREFIXED[symbol]
    if symbol.endswith("iB"):
        return {"K": "kibi", "M": "mebi", "G": "gibi", "T": "tebi"}[symbol[0]] + "byte"
    return _PREFIXES[symbol[0]] + _PREFIXED[symbol[1:]]


_UNITS = {symbol: _prefixed(symbol) for symbol in _ALLOWED} | _OTHER
_SYMBOLS = "|".join(sorted(map(re.escape, _UNITS), key=len, reverse=True))
_PER = {word: word for word in ("day", "week", "month", "year", "person")} | {"in²": "square inch", "s": "second"}
_BELOW = "|".join(sorted(map(re.escape, _UNITS.keys() | _PER.keys()), key=len, reverse=True))
_LETTER_END = r"(?![\w'°]|-\d)"
_MEASURE = re.compile(
    rf"(?P<article>\b[Aa]n?\s)?(?P<minus>(?<![\w.)])[-+±])?(?<![\w.,/$€£])"
    rf"(?:(?P<first>{NUMBER})\s?(?:°\s?)?[-–—]\s?(?P<second_minus>-)?)?(?P<amount>{AMOUNT})"
    rf"(?P<thousand>\s(?:hundred|thousand|million|billion|trillion))?"
    rf"(?P<space>\s?|-)(?P<unit>{_SYMBOLS})(?P<power>[²³]|\^[23])?"
    rf"(?:\s?/\s?(?P<below>{_BELOW})(?P<below_power>[²³]|\^[23])?)?(?:(?<=[%‰°])|{_LETTER_END})"
)
_HOURS_AND_MINUTES = re.compile(r"(?<![\w.,])(\d{1,2})\s?h(?:rs?)?\s?(\d{1,2})(?:(?<=h\d\d)|\s?m(?:ins?)?)(?!\w)")
_FEET_AND_INCHES = re.compile(
    r"(?<![\w.,])(\d+)\s?(?:'|′|ft\.?)\s?((?:1[01]|\d)(?!\d)(?:\.\d+)?(?: \d/\d)?)\s?(?:\"|″|''|in\b\.?)?(?![\w'])"
)
_ARC = re.compile(r"(\d+)\s?°\s?(\d+)\s?['′](?:\s?(\d+(?:\.\d+)?)\s?(?:\"|″))?\s?([NSEW]\b)?")
_PRIME = re.compile(rf"(?<![\w.,'\"])({AMOUNT})\s?(\"|″|′|')(?![\w\d])")
_INCH_WORD = re.compile(rf"(?<![\w.,])({AMOUNT})(\s?|-)in(?=\s(?:x|×|by|tall|wide|long|high|deep|thick)\b)")
_DIRECTIONS = {"N": " north", "S": " south", "E": " east", "W": " west"}
_LONE_PERCENT = re.compile("\\s?([%‰])")
_DEGREE_SIGN = re.compile(r"\s?°\s?([CF])?(?!\w)")


def units_in_words(text: str) -> str:
    """Return the text with measures in words."""
    text = _HOURS_AND_MINUTES.sub(lambda m: f"{_counted(m[1], 'hour')} {_counted(str(int(m[2])), 'minute')}", text)
    text = _ARC.sub(_arc, text)
    text = _FEET_AND_INCHES.sub(_feet_and_inches, text)
    text = _INCH_WORD.sub(lambda m: f"{amount(m[1])[0]} inch{'' if m[2] == '-' or amount(m[1])[1] else 'es'}", text)
    text = _MEASURE.sub(_measure, text)
    text = _PRIME.sub(_prime, text)
    text = _DEGREE_SIGN.sub(lambda m: {"C": " degrees Celsius", "F": " degrees Fahrenheit"}.get(m[1], " degrees"), text)
    return (
        text.replace("%", " percent").replace("‰", " per mille").replace("  ", " ") if re.search("[%‰]", text) else text
    )


def _measure(match: re.Match[str]) -> str:
    symbol, written = match["unit"], match["amount"]
    article = match["article"] or ""
    after = match.string[match.end() :]
    if _is_no_unit(match, symbol, written):
        return match.group()
    said, one = amount(written)
    adjective = (bool(article) or match["space"] == "-") and re.match(r"[ -][a-z]", after) is not None
    if match["thousand"]:
        said, one = f"{said}{match['thousand']}", False
    minus = {"-": "minus ", "+": "plus ", "±": "plus or minus ", None: ""}[match["minus"]]
    if match["first"]:
        said, one = f"{number(match['first'])} to {'minus ' if match['second_minus'] else ''}{said}", False
    singular = one or adjective
    name = _name(symbol, match["power"], singular)
    if match["below"]:
        below, power = match["below"], match["below_power"]
        squared = {"2": " squared", "3": " cubed"}[_digit(power)] if power and below in ("s", "h") else ""
        name += f" per {_PER.get(below) or _name(below, None if squared else power, True)}{squared}"
    stop = "." if symbol.endswith(".") and not after.strip() else ""
    return f"{article}{minus}{said} {name}{stop}"


def _is_no_unit(match: re.Match[str], symbol: str, written: str) -> bool:
    """Return whether letters after a number are no unit: 5G, 3 A students, 2 in a row, 5 V's."""
    close = match["space"] == ""
    if symbol in ("N", "J", "L", "V", "W") and not close and re.match(r"\s+[A-Z]", match.string[match.end() :]):
        return True
    return symbol in ("mo", "pt", "ct", "yo", "hp", "bp", "MP", "ha", "pts") and match["space"] == "-"


def _digit(power: str) -> str:
    return {"²": "2", "³": "3"}.get(power, power[-1])


def _name(symbol: str, power: str | None, singular: bool) -> str:
    name = _UNITS.get(symbol) or symbol
    if power:
        name = {"2": "square ", "3": "cubic "}[_digit(power)] + name
    if singular or name in _SAME_IN_PLURAL:
        return name
    head, per, rest = name.partition(" per ")
    if head.startswith("degree "):
        return head.replace("degree", "degrees", 1)
    return head + per + rest if head.endswith((" old", "hertz")) else f"{_plural(head)}{per}{rest}"


def _plural(head: str) -> str:
    if head.endswith("foot"):
        return head[:-4] + "feet"
    return head + ("es" if head.endswith("ch") else "s")


def _counted(count: str, unit: str) -> str:
    return f"{number(count)} {unit}{'' if count == '1' else 's'}"


def _arc(match: re.Match[str]) -> str:
    """Return degrees, minutes and seconds of arc."""
    said = f"{_counted(match[1], 'degree')} {_counted(match[2], 'minute')}"
    return said + (f" {_counted(match[3], 'second')}" if match[3] else "") + _DIRECTIONS.get(match[4] or "", "")


def _feet_and_inches(match: re.Match[str]) -> str:
    """Return 5'11" as five foot eleven."""
    if match.string[: match.start()].endswith("'"):
        return match.group()
    spelled = match.group().rstrip().endswith(("in", "in."))
    inches = amount(match[2])[0] + ((" inch" if match[2] == "1" else " inches") if spelled else "")
    return f"{number(match[1])} {'feet' if spelled and match[1] != '1' else 'foot'} {inches}"


def _prime(match: re.Match[str]) -> str:
    """Return feet or inches, unless the mark closes a quotation."""
    before = match.string[: match.start()]
    mark = match[2]
    if mark in "\"'" and (before.count(mark) - len(re.findall(rf"\w{mark}\w", before))) % 2:
        return match.group()
    said, one = amount(match[1])
    unit = ("inch", "inches") if mark in '"″' else ("foot", "feet")
    return f"{said} {unit[0] if one else unit[1]}"
