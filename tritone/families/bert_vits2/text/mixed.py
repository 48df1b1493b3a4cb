"""Text of several languages split into parts of one language, by script or by tags such as [ZH] and [JP]."""

from __future__ import annotations

import re
from itertools import groupby

from tritone.errors import InvalidRequest
from tritone.families.bert_vits2.text.chinese import HAN
from tritone.families.bert_vits2.text.japanese import KANA
from tritone.families.bert_vits2.text.symbols import LANGUAGES, language_of

Part = tuple[str, str]
"""A language and its text."""

_TAG = re.compile(r"\[([A-Z]{2})\]")
_KANA = re.compile(f"[{KANA}]")
_HAN = re.compile(f"[{HAN}\u3005\u3006]")
_SENTENCE = re.compile(r"[^。！？.!?\n]*[。！？.!?\n]*")


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
    return "EN" if character.isalpha() else ""


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
