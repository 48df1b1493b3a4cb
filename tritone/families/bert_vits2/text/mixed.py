"""Text of several languages split into parts of one language, by script or by tags such as [ZH] and [JP].

Numbers are put in words first, by the language of the sentence, because a digit has no script of its own.
"""

from __future__ import annotations

import re
from itertools import groupby

from tritone.errors import InvalidRequest
from tritone.families.bert_vits2.text.chinese import HAN
from tritone.families.bert_vits2.text.japanese import KANA
from tritone.families.bert_vits2.text.symbols import LANGUAGES, language_of
from tritone.text.reading import chinese, english, japanese
from tritone.text.reading.plain import plain_text

MIXED = "AUTO"
"""The value of `language` that detects the languages of the text."""

Part = tuple[str, str]
"""A language and its text."""

_LATIN = re.compile("[A-Za-z\u00aa\u00ba\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u024f\u1e00-\u1eff]")
_TAG = re.compile(r"\[([A-Z]{2})\]")
_KANA = re.compile(f"[{KANA}]")
_HAN = re.compile(f"[{HAN}\u3005\u3006]")
_SENTENCE = re.compile(r"(?:[^。！？.!?\n]|[.!?](?=[^\s。！？.!?]))+[。！？.!?\n]*\s*|[。！？.!?\n]+")
_ENGLISH = re.compile(r"([A-Za-z][A-Za-z0-9 ,.'’$€£%#&/:+-]*[A-Za-z0-9%])")
_READERS = {"ZH": chinese.in_words, "JP": japanese.in_words, "EN": english.in_words}


def split_languages(text: str, han: str = "ZH") -> list[Part]:
    """Return the parts of the text, each in one language, in order.

    A tag sets the language up to the next tag. Without tags, Latin letters are English and kana Japanese. Chinese
    characters are in the only language that has all of them; if both have, they are Japanese in a sentence with kana,
    and otherwise in the language `han`. Characters without a script (digits, marks, spaces) belong to the letters
    before them, at the start to the letters after them.

    Raises InvalidRequest for a tag with an unknown language, or a text without any letter.
    """
    pieces = _TAG.split(text)
    tags = pieces[1::2]
    if any(tag in (*LANGUAGES, "JA") for tag in tags):
        parts = _by_script(pieces[0], han) if pieces[0].strip() else []
        tagged = zip(map(language_of, tags), pieces[2::2], strict=True)
        parts.extend((language, piece) for language, piece in tagged if piece.strip())
    else:
        parts = _by_script(text, han)
    if not parts:
        raise InvalidRequest("target_text", f"has nothing to speak in {text[:60]!r}: no letter of ZH, JP or EN")
    return _merged(parts)


def spoken_parts(text: str, language: str = MIXED, han: str = "ZH") -> list[Part]:
    """Return the parts of the text with their numbers in words, each in one language, in order.

    In a text of one language, words in letters that it does not have are parts of the language that has them.

    Raises InvalidRequest for letters that no language has.
    """
    text = plain_text(text)
    foreign = "".join(dict.fromkeys(c for c in text if c.isalpha() and not _script(c)))
    if foreign:
        raise InvalidRequest(
            "target_text", f"has letters that no language here can say: {foreign[:40]!r}; the languages are ZH, JP, EN"
        )
    if any(tag in (*LANGUAGES, "JA") for tag in _TAG.findall(text)):
        if language != MIXED and not text.lstrip().startswith("["):
            text = f"[{language}]{text}"
        return _merged([part for name, piece in split_languages(text, han) for part in _in_words(piece, name, han)])
    return _merged(_in_words(text, language, han))


def _in_words(text: str, language: str, han: str) -> list[Part]:
    """Return the parts of a text without tags."""
    parts: list[Part] = []
    for sentence in _SENTENCE.findall(text):
        name = language if language != MIXED else _language_of_sentence(sentence, han)
        words = ""
        end = 0
        english_inside = _ENGLISH.finditer(sentence) if language == MIXED and name != "EN" else ()
        for match in filter(_is_english, english_inside):
            words += _read(sentence[end : match.start()], name) + _read(match[0], "EN")
            end = match.end()
        words += _read(sentence[end:], name)
        parts.extend(_by_script(words, han) if language == MIXED else _of_language(words, name, han))
    return parts


def _of_language(text: str, language: str, han: str) -> list[Part]:
    """Return the parts of a text in one language, with words in other letters in their own language."""
    own = {"ZH": {"HAN": "ZH"}, "JP": {"HAN": "JP", "EN": "JP"}, "EN": {"HAN": han}}[language]
    parts: list[Part] = []
    pending = ""
    for script, group in groupby(text, _script):
        run = "".join(group)
        if script:
            parts.append((own.get(script, script), pending + run))
            pending = ""
        elif parts:
            parts[-1] = (parts[-1][0], parts[-1][1] + run)
        else:
            pending += run
    return _merged(parts) if parts else [(language, pending)]


def _language_of_sentence(sentence: str, han: str) -> str:
    """Return the language whose rules put the sentence's numbers in words."""
    if _KANA.search(sentence):
        return "JP"
    characters = "".join(_HAN.findall(sentence))
    return (_han_language(characters) or han) if characters else "EN"


def _read(text: str, language: str) -> str:
    """Return a stretch of text with its numbers in words, and with the space that was around it."""
    bare = text.strip()
    if not bare:
        return text
    before, after = text[: len(text) - len(text.lstrip())], text[len(text.rstrip()) :]
    return f"{before}{_READERS[language](bare).strip()}{after}"


def _is_english(stretch: re.Match[str]) -> bool:
    """Return whether a stretch of Latin letters has several words, and is no mere name or unit."""
    return len(re.findall(r"(?<![A-Za-z])[A-Za-z]{2,}(?![A-Za-z])", stretch[0])) > 1


def _by_script(text: str, han: str) -> list[Part]:
    parts: list[Part] = []
    pending = ""
    for sentence in _SENTENCE.findall(text):
        kana = _KANA.search(sentence) is not None
        for script, group in groupby(sentence, _script):
            run = "".join(group)
            if not script:
                if parts:
                    parts[-1] = (parts[-1][0], parts[-1][1] + run)
                else:
                    pending += run
                continue
            language = script if script != "HAN" else _han_language(run) or ("JP" if kana else han)
            parts.append((language, pending + run))
            pending = ""
    if not parts and any(c.isdecimal() for c in pending):
        return [("EN", pending)]
    return parts


def _script(character: str) -> str:
    """Return "JP" for kana, "HAN" for Chinese characters, "EN" for letters, and "" for anything without a script."""
    if _KANA.match(character):
        return "JP"
    if _HAN.match(character):
        return "HAN"
    return "EN" if _LATIN.match(character) else ""


def _han_language(run: str) -> str:
    """Return the only language whose character sets have all of these Chinese characters.

    It is "" if both languages have them, or neither.
    """
    japanese = _encodable(run, "shift_jis")
    chinese = _encodable(run, "gb2312") or _encodable(run, "big5")
    return "" if japanese == chinese else "JP" if japanese else "ZH"


def _encodable(text: str, charset: str) -> bool:
    try:
        text.encode(charset)
    except UnicodeEncodeError:
        return False
    return True


def _merged(parts: list[Part]) -> list[Part]:
    """Return the parts with neighbours of one language joined."""
    return [(language, "".join(text for _, text in group)) for language, group in groupby(parts, lambda part: part[0])]
