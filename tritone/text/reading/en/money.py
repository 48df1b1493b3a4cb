"""Amounts of money: signs and codes of currencies before or after the number, cents, thousands and millions."""

from __future__ import annotations

import re
import unicodedata
from typing import NamedTuple

from tritone.errors import InvalidRequest
from tritone.text.reading.en.numbers import AMOUNT, NUMBER, amount, number


class Currency(NamedTuple):
    """A currency: its name for one and for several, and the hundredth of it, if it has one in use."""

    one: str
    several: str
    cent: str = ""
    cents: str = ""


def _dollar(of: str = "") -> Currency:
    return Currency(f"{of} dollar".strip(), f"{of} dollars".strip(), "cent", "cents")


_EURO = Currency("euro", "euros", "cent", "cents")
_POUND = Currency("pound", "pounds", "penny", "pence")
_CROWNS = {"SEK": "Swedish krona", "NOK": "Norwegian krone", "DKK": "Danish krone", "CZK": "Czech koruna"}
_CODES = {
    **{"USD": _dollar("US"), "CAD": _dollar("Canadian"), "AUD": _dollar("Australian"), "NZD": _dollar("New Zealand")},
    **{"HKD": _dollar("Hong Kong"), "SGD": _dollar("Singapore"), "TWD": _dollar("Taiwan"), "EUR": _EURO},
    **{"GBP": Currency("British pound", "British pounds", "penny", "pence"), "JPY": Currency("yen", "yen")},
    **{"CNY": Currency("yuan", "yuan"), "RMB": Currency("yuan", "yuan"), "KRW": Currency("won", "won")},
    **{"INR": Currency("Indian rupee", "Indian rupees", "paisa", "paise"), "RUB": Currency("ruble", "rubles")},
    **{"CHF": Currency("Swiss franc", "Swiss francs", "centime", "centimes"), "BRL": Currency("real", "reais")},
    **{"MXN": Currency("Mexican peso", "Mexican pesos"), "ZAR": Currency("rand", "rand", "cent", "cents")},
    **{"PLN": Currency("zloty", "zlotys"), "HUF": Currency("forint", "forints"), "TRY": Currency("lira", "lira")},
    **{"THB": Currency("baht", "baht"), "IDR": Currency("rupiah", "rupiah"), "MYR": Currency("ringgit", "ringgit")},
    **{"PHP": Currency("Philippine peso", "Philippine pesos"), "VND": Currency("dong", "dong")},
    **{"ILS": Currency("shekel", "shekels"), "AED": Currency("dirham", "dirhams"), "SAR": Currency("riyal", "riyals")},
    **{
        "UAH": Currency("hryvnia", "hryvnias"),
        "BTC": Currency("bitcoin", "bitcoin"),
        "ETH": Currency("ether", "ether"),
    },
    **{code: Currency(name, name[:-1] + ("or" if name.endswith("krona") else "er")) for code, name in _CROWNS.items()},
}
_CODES["CZK"] = Currency("Czech koruna", "Czech korunas")
_SIGNS = {
    **{"$": _dollar(), "US$": _dollar("US"), "U.S.$": _dollar("US"), "C$": _CODES["CAD"], "CA$": _CODES["CAD"]},
    **{"A$": _CODES["AUD"], "AU$": _CODES["AUD"], "NZ$": _CODES["NZD"], "HK$": _CODES["HKD"], "S$": _CODES["SGD"]},
    **{"NT$": _CODES["TWD"], "R$": _CODES["BRL"], "MX$": _CODES["MXN"], "Mex$": _CODES["MXN"], "€": _EURO},
    **{"£": _POUND, "¥": _CODES["JPY"], "CN¥": _CODES["CNY"], "JP¥": _CODES["JPY"], "₩": _CODES["KRW"]},
    **{"₹": Currency("rupee", "rupees", "paisa", "paise"), "Rs.": Currency("rupee", "rupees", "paisa", "paise")},
    **{"Rs": Currency("rupee", "rupees", "paisa", "paise"), "₨": Currency("rupee", "rupees", "paisa", "paise")},
    **{"₽": _CODES["RUB"], "₿": _CODES["BTC"], "₺": _CODES["TRY"], "₴": _CODES["UAH"], "₦": Currency("naira", "naira")},
    **{"₱": Currency("peso", "pesos"), "฿": _CODES["THB"], "₫": _CODES["VND"], "₪": _CODES["ILS"]},
    **{"₡": Currency("colon", "colones"), "₲": Currency("guarani", "guaranis"), "₵": Currency("cedi", "cedis")},
    **{"₸": Currency("tenge", "tenge"), "₼": Currency("manat", "manat"), "₾": Currency("lari", "lari")},
    **{"₭": Currency("kip", "kip"), "₮": Currency("tugrik", "tugriks"), "¢": Currency("cent", "cents")},
    **{"zł": _CODES["PLN"], "Kč": _CODES["CZK"]},
}
_NAMED = _CODES | _SIGNS
_SCALES = {
    **{"k": "thousand", "K": "thousand", "m": "million", "M": "million", "mn": "million", "mm": "million"},
    **{"MM": "million", "mln": "million", "b": "billion", "B": "billion", "bn": "billion", "Bn": "billion"},
    **{"tn": "trillion", "T": "trillion", "t": "trillion"},
}
_WORDS = "hundred|thousand|million|billion|trillion"
_SIGN_BEFORE = "|".join(sorted(map(re.escape, _NAMED.keys() - {"TRY"}), key=len, reverse=True))
_SIGN_AFTER = "|".join(sorted(map(re.escape, _NAMED.keys() - {"Rs.", "Rs"}), key=len, reverse=True))
_SCALE = rf"(?:\s?(?P<scale>{'|'.join(sorted(_SCALES, key=len, reverse=True))})(?!\w)|[\s-](?P<word>{_WORDS})s?\b)"
_TO = rf"(?:[-–—](?P<last>{NUMBER})(?!\s?[%‰°]))"
_ARTICLE = r"(?P<article>\b[Aa]n?\s)?"
_MINUS = r"(?P<minus>(?<![\w.)])[-+])?"
_END = r"(?![\d]|[.,]\d)(?P<per>\s?/\s?(?P<unit>[a-z]+)\b)?"
_BEFORE = re.compile(
    rf"{_ARTICLE}{_MINUS}(?<![A-Za-z\d])(?P<sign>{_SIGN_BEFORE})\s?(?P<inner>-)?(?P<amount>{AMOUNT}){_TO}?{_SCALE}?{_END}"
)
_AFTER = re.compile(
    rf"{_ARTICLE}{_MINUS}(?<![\w.,])(?P<inner>)(?P<amount>{AMOUNT}){_TO}?{_SCALE}?\s?(?P<sign>{_SIGN_AFTER})(?!\w|\s\d){_END}"
)
_COMMA_BEFORE_CENTS = re.compile(
    rf"((?:{_SIGN_BEFORE})\s?\d+),(?=\d\d(?![\d,]))|(?<![\w.,])(\d+),(?=\d\d\s?(?:{_SIGN_AFTER})(?!\w))"
)
_BETWEEN_AMOUNTS = re.compile(rf"(?<=\d)\s?[-–—]\s?(?=(?:{_SIGN_BEFORE})\s?\d)")
_UNITS = {
    **{"lb": "pound", "kg": "kilogram", "h": "hour", "hr": "hour", "mo": "month", "yr": "year", "sq": "square"},
    **{
        "g": "gram",
        "l": "liter",
        "gal": "gallon",
        "m": "meter",
        "ft": "foot",
        "oz": "ounce",
        "mi": "mile",
        "km": "kilometer",
    },
}
_LONE = re.compile(rf"[{''.join(s for s in _SIGNS if len(s) == 1 and not s.isascii())}]|(?<![A-Za-z])\$|\$(?=\d)")


def money_in_words(text: str) -> str:
    """Return the text with amounts of money in words.

    Raises InvalidRequest for a currency sign without a name here: left out, the amount would mean something else.
    """
    text = _COMMA_BEFORE_CENTS.sub(lambda match: f"{match[1] or match[2]}.", text)
    text = _BETWEEN_AMOUNTS.sub(" to ", text)
    text = _BEFORE.sub(_spoken, text)
    text = _AFTER.sub(_spoken, text)
    text = _LONE.sub(lambda match: f" {_SIGNS[match.group()].one} ", text)
    for character in text:
        if not character.isascii() and unicodedata.category(character) == "Sc":
            known = " ".join(sign for sign in _SIGNS if len(sign) == 1 and not sign.isalpha())
            raise InvalidRequest(
                "target_text",
                f"has the currency sign {character} ({unicodedata.name(character, 'unknown').lower()}), which has no "
                f"reading here; known are {known}. Write the name of the currency",
            )
    return text


def _spoken(match: re.Match[str]) -> str:
    currency, written = _NAMED[match["sign"]], match["amount"]
    minus = {"-": "minus ", "+": "plus ", "": ""}[match["minus"] or match["inner"] or ""]
    scale = match["word"] or _SCALES.get(match["scale"] or "", "")
    article = match["article"] or ""
    adjective = bool(article) and re.match(r"[ -][a-z]", match.string[match.end() :]) is not None
    per = f" per {_UNITS.get(match['unit'], match['unit'])}" if match["per"] else ""
    if match["last"]:
        said, one = f"{number(written)} to {number(match['last'])}", False
    elif not scale and currency.cents and (cents := re.fullmatch(r"([\d,]*)\.(\d\d)", written)):
        return f"{article}{minus}{_with_cents(cents[1], cents[2], currency)}{per}"
    else:
        said, one = amount(written)
    name = currency.one if adjective or (one and not scale) else currency.several
    of = "of a " if "/" in written and one and " " not in written else ""
    return f"{article}{minus}{said}{' ' + scale if scale else ''} {of}{name}{per}"


def _with_cents(whole: str, cents: str, currency: Currency) -> str:
    """Return 5.99 as five dollars and ninety nine cents."""
    count = int(whole.replace(",", "") or 0)
    parts = (
        []
        if not count and int(cents)
        else [f"{number(whole or '0')} {currency.one if count == 1 else currency.several}"]
    )
    if int(cents):
        parts.append(f"{number(str(int(cents)))} {currency.cent if int(cents) == 1 else currency.cents}")
    return " and ".join(parts)
