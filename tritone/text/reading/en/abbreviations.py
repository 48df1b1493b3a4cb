"""Abbreviations written out: titles, months, streets, Latin ones, and those that stand before a number."""

from __future__ import annotations

import re

from tritone.text.reading.tables import words

MONTHS = words("January February March April May June July August September October November December")
_SHORT_MONTHS = {month[:3]: month for month in MONTHS if month != "May"} | {"Sept": "September"}
_DAYS = {
    **{"Mon": "Monday", "Tue": "Tuesday", "Tues": "Tuesday", "Wed": "Wednesday", "Thu": "Thursday"},
    **{"Thur": "Thursday", "Thurs": "Thursday", "Fri": "Friday", "Sat": "Saturday", "Sun": "Sunday"},
}
_TITLES = {
    **{"Dr": "doctor", "Mr": "Mister", "Mrs": "Misses", "Ms": "Miz", "Prof": "Professor", "Rev": "Reverend"},
    **{"Gen": "General", "Col": "Colonel", "Lt": "Lieutenant", "Sgt": "Sergeant", "Capt": "Captain"},
    **{"Sen": "Senator", "Rep": "Representative", "Gov": "Governor", "Pres": "President", "Hon": "Honorable"},
    **{"St": "Saint", "Mt": "Mount", "Ft": "Fort", "Messrs": "Messieurs", "Fr": "Father"},
}
_STREETS = {
    **{"St": "Street", "Ave": "Avenue", "Blvd": "Boulevard", "Rd": "Road", "Ln": "Lane", "Dr": "Drive"},
    **{"Hwy": "Highway", "Pkwy": "Parkway", "Sq": "Square", "Pl": "Place", "Ct": "Court"},
}
_BEFORE_NUMBER = {
    **{"no": "number", "nos": "numbers", "nr": "number", "p": "page", "pp": "pages", "pg": "page", "vol": "volume"},
    **{"ch": "chapter", "chap": "chapter", "fig": "figure", "figs": "figures", "sec": "section", "eq": "equation"},
    **{"ext": "extension", "apt": "apartment", "rm": "room", "art": "article", "par": "paragraph", "ver": "version"},
    **{"approx": "approximately", "ca": "circa", "c": "circa", "est": "established", "tel": "telephone"},
    **{"op": "opus", "bldg": "building", "flr": "floor", "ep": "episode", "pt": "part", "v": "version"},
}
_ANYWHERE = {
    **{r"e\.\s?g\.": "for example", r"i\.\s?e\.": "that is", r"etc\.": "et cetera", r"vs\.?": "versus"},
    **{r"approx\.": "approximately", r"Inc\.": "Incorporated", r"Ltd\.": "Limited", r"Corp\.": "Corporation"},
    **{r"Co\.": "Company", r"Jr\.": "Junior", r"Sr\.": "Senior", r"dept\.": "department", r"Dept\.": "Department"},
    **{r"et al\.": "et al", r"cf\.": "compare", r"viz\.": "namely", r"misc\.": "miscellaneous", r"avg\.": "average"},
    **{r"a\.k\.a\.": "also known as", r"Ave\.": "Avenue", r"Blvd\.": "Boulevard", r"govt\.": "government"},
    **{r"Assn\.": "Association", r"Bros\.": "Brothers", r"Univ\.": "University", r"Tues?\.": "Tuesday"},
    **{r"Mon\.": "Monday", r"Wed\.": "Wednesday", r"Thu(?:rs?)?\.": "Thursday", r"Fri\.": "Friday"},
}
_NAMES = "|".join
_RULES: tuple[tuple[re.Pattern[str], dict[str, str]], ...] = (
    (re.compile(rf"(?<!\w)({_NAMES(_BEFORE_NUMBER)})\.\s?(?=#?\d)", re.IGNORECASE), _BEFORE_NUMBER),
    (re.compile(rf"(?<!\w)({_NAMES(_DAYS)})\.?(?=,? (?:{_NAMES(_SHORT_MONTHS)}|May|\d))"), _DAYS),
)
_DAY_RANGE = re.compile(rf"(?<!\w)({_NAMES(_DAYS)})\.?\s?[-–—/]\s?({_NAMES(_DAYS)})(?!\w)\.?")
_WORLD_WARS = {"WWI": "World War One", "WWII": "World War Two", "WW1": "World War One", "WW2": "World War Two"}
_WORLD_WAR = re.compile(r"(?<!\w)WW(?:II|I|1|2)(?!\w)")
_MONTH = re.compile(rf"(?<!\w)({_NAMES(_SHORT_MONTHS)})(?:\.|(?=,? ?\d))|(?<=\d )({_NAMES(_SHORT_MONTHS)})(?!\w)")
_STREET = re.compile(
    rf"((?:[A-Z][a-z]+|\d(?:st|nd|rd|th)|\b(?:North|South|East|West|[NSEW]\.?)) )({_NAMES(_STREETS)})"
    r"(?:\.(?!\w)|(?=,|$|\n))(?! [A-Z][a-z]+ (?:said|says|is|was|has|and)\b)"
)
_TITLE = re.compile(rf"(?<!\w)({_NAMES(_TITLES)})\. ?(?=[A-Z])")
_LATIN = tuple((re.compile(rf"(?<![\w.]){short}(?!\w)"), words) for short, words in _ANYWHERE.items())
_SLASHED = ((re.compile(r"(?<!\w)[wW]/o(?!\w)"), "without"), (re.compile(r"(?<!\w)[wW]/ ?(?=[a-z])"), "with "))
_SENTENCE_GOES_ON = re.compile(r"\s*(?:[a-z\d,;:)]|$)")


def abbreviations_in_words(text: str) -> str:
    """Return the text with its abbreviations written out; a full stop stays where a sentence ends with one."""
    for pattern, table in _RULES:
        text = pattern.sub(lambda match, table=table: _like(match[1], table) + _space(match), text)  # type: ignore[misc]
    text = _DAY_RANGE.sub(_days, text)
    text = _WORLD_WAR.sub(lambda match: _WORLD_WARS[match.group()], text)
    text = _MONTH.sub(lambda match: _SHORT_MONTHS[match[1] or match[2]] + _stop(match), text)
    text = _STREET.sub(lambda match: f"{match[1]}{_STREETS[match[2]]}{_stop(match)}", text)
    text = _TITLE.sub(lambda match: _TITLES[match[1]] + " ", text)
    for pattern, said in _SLASHED:
        text = pattern.sub(said, text)
    for pattern, said in _LATIN:
        text = pattern.sub(lambda match, said=said: said + _stop(match), text)  # type: ignore[misc]
    return text


def _days(match: re.Match[str]) -> str:
    """Return two days of the week in words; a full stop that ends the sentence stays."""
    after = match.string[match.end() :]
    ends = match.group().endswith(".") and (not after.strip() or not _SENTENCE_GOES_ON.match(after))
    stop = "." if ends else ""
    return f"{_DAYS[match[1]]} {'or' if '/' in match.group() else 'to'} {_DAYS[match[2]]}{stop}"


def _like(short: str, table: dict[str, str]) -> str:
    spoken = table.get(short) or table[short.lower()]
    return spoken.capitalize() if short[0].isupper() else spoken


def _space(match: re.Match[str]) -> str:
    return " " if match.string[match.end() :][:1] in "#0123456789" and match.string[match.end() :] else ""


def _stop(match: re.Match[str]) -> str:
    """Return the full stop of an abbreviation at the end of a sentence, otherwise nothing."""
    after = match.string[match.end() :]
    if not match.group().endswith(".") or after[:1] in tuple("?!.,"):
        return ""
    if not after.strip():
        return "."
    return "." if re.match(r"\s+[\"'(]?[A-Z]", after) and match.group()[0].islower() else ""
