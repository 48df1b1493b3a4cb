"""Numbers that are read digit by digit: phone and card numbers, addresses of computers, versions, codes."""

from __future__ import annotations

import re

from tritone.text.reading.en.numbers import LONGEST_PLAIN, cardinal, digits, number

_DOTTED = re.compile(r"(?<![\w.,])([vV]\.?)?(\d+(?:\.\d+){2,})(?![\d])")
_EUROPEAN = re.compile(r"(?<![\w.,])\d{1,3}(?:\.\d{3})+,\d+(?![\d.,])")
_THOUSANDS_APART = re.compile(r"(?<![\d.,] )(?<![\w.,+-])[1-9]\d{0,2}(?: 000)+(?![\w,] ?\d|\w)")
_SEPARATED = re.compile(r"(?<![\w.,/$€£¥#-])(\+\s?)?(\(?\d+\)?(?:(?:[-.]|\)?\s)\(?\d+\)?)+)(?![\w%°/]|[.,:]\d|-\w)")
_PHONE_CONTEXT = re.compile(
    r"\b(?:call|calls|called|calling|dial|dialed|phone|tel|telephone|fax|mobile|cell|text|ring|hotline|helpline"
    r"|extension|whatsapp)\b[\s\w:.,'-]{0,12}$",
    re.IGNORECASE,
)
_CODE_CONTEXT = re.compile(
    r"\b(?:zip|pin|code|codes|passcode|password|account|card|ids?|serial|ssn|order|invoice|ticket|tracking|reference"
    r"|isbn|flight|postcode|area|badge|license|licence|routing|case|patent|model)\b[\s\w:.,'#-]{0,14}$",
    re.IGNORECASE,
)
_SHORT_CALL = re.compile(
    r"\b(call|calls|called|dial|dialed|text)( )([2-9]11|999|112|988)(?![\w,.-]\d|\w)", re.IGNORECASE
)
_LONG = re.compile(r"(?<![\w.,/$€£¥₹₩-])\d{4,}(?![\w,.%°/-]*\d|\s?[%°$€£¥₹₩]|[A-Za-z])")
_LEADING_ZERO = re.compile(r"(?<![\w.,:/])0\d+(?![\w:/]|[.,]\d)")


def ids_in_words(text: str) -> str:
    """Return the text with those numbers in words that name something and count nothing."""
    text = _HEX.sub(lambda match: " ".join(_spelled(character) for character in match.group()), text)
    text = _EUROPEAN.sub(lambda match: match.group().translate(str.maketrans(".,", ",.")), text)
    text = _THOUSANDS_APART.sub(lambda match: match.group().replace(" ", ","), text)
    text = _DOTTED.sub(_dotted, text)
    text = _SHORT_CALL.sub(lambda match: f"{match[1]}{match[2]}{digits(match[3])}", text)
    text = _SEPARATED.sub(_separated, text)
    text = _LONG.sub(_long, text)
    return _LEADING_ZERO.sub(lambda match: digits(match.group()), text)


def _dotted(match: re.Match[str]) -> str:
    """Return an address of a computer digit by digit, a version number by number."""
    parts = match[2].split(".")
    version = {"": "", "v": "version ", "V": "Version "}[(match[1] or "")[:1]]
    if [len(part) for part in parts] == [3, 3, 4]:
        return ", ".join(map(digits, parts))
    if len(parts) == 4 and not match[1] and all(int(part) < 256 for part in parts):
        return " dot ".join(map(digits, parts))
    return version + " point ".join(map(number, parts))


def _separated(match: re.Match[str]) -> str:
    """Return groups of digits one by one, with a pause between groups, if they look like a phone or card number."""
    written = match.group()
    groups = re.findall(r"\d+", match[2])
    lengths = [len(group) for group in groups]
    total = sum(lengths)
    if not _is_id(match, groups, lengths, total):
        return written
    said = ", ".join(_group(group) for group in groups)
    return f"plus {said}" if match[1] else said


def _group(group: str) -> str:
    return f"{digits(group[0])} hundred" if group in ("800", "900") else digits(group)


def _is_id(match: re.Match[str], groups: list[str], lengths: list[int], total: int) -> bool:
    written = match[2]
    if "." in written and len(groups) < 3:
        return False
    if match[1] or (groups[0][0] == "0" and total >= 7):
        return total >= 6
    if lengths in ([3, 4], [3, 3, 4], [1, 3, 3, 4], [4, 4, 4, 4], [3, 2, 4], [4, 6, 5], [3, 4, 4], [4, 3, 4]):
        return lengths != [3, 4] or "-" in written
    hyphens_alone = not re.search(r"[\s.]", written)
    if hyphens_alone and len(groups) >= 3:
        return total >= 7
    return total >= 7 and bool(_PHONE_CONTEXT.search(match.string[: match.start()]))


def _long(match: re.Match[str]) -> str:
    """Return a long run of digits one by one where it is no count: after "code" or "call", or 10 digits and more."""
    run, before = match.group(), match.string[: match.start()]
    named = bool(_PHONE_CONTEXT.search(before) or _CODE_CONTEXT.search(before))
    if run[0] == "0" or len(run) > LONGEST_PLAIN or (len(run) >= 10 and not run.endswith("000")) or named:
        return digits(run) if len(run) < 8 else ", ".join(map(digits, _grouped(run)))
    return run


def _grouped(run: str) -> list[str]:
    """Return the digits in groups of three, the last of three to five."""
    size = 4 if len(run) % 4 == 0 else 3
    cut = [run[i : i + size] for i in range(0, len(run), size)]
    return [*cut[:-2], cut[-2] + cut[-1]] if len(cut[-1]) < 3 else cut


def letters_and_digits(text: str) -> str:
    """Return the text with digits beside letters in words: MP3 -> MP three, BA2490 -> BA two four nine zero."""
    return _MIXED.sub(lambda match: " ".join(_mixed_part(part) for part in _PART.findall(match.group())), text)


def _spelled(character: str) -> str:
    return digits(character) if character.isdecimal() else character.upper()


_HEX = re.compile(r"(?<!\w)0[xX][0-9A-Fa-f]+(?!\w)")
_MIXED = re.compile(r"(?<![\w])(?=\w*\d)(?=\w*[^\W\d_])[^\W_]+(?!\w)")
_PART = re.compile(r"\d+|[^\W\d]+")


def _mixed_part(part: str) -> str:
    if not part.isdecimal():
        return part
    return cardinal(part) if (len(part) < 3 or part.endswith("00")) and part[0] != "0" else digits(part)
