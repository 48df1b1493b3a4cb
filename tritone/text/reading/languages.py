"""The language whose rules put a text's numbers in words, by script and, in Latin letters, by function words.

Chinese, Japanese and English have rules here. Text in another language keeps its digits, which the models read
themselves. In doubt, Latin letters are English.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

from tritone.text.reading.tables import words

_CHINESE = re.compile("[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]")
_KANA = re.compile("[\u3041-\u309f\u30a1-\u30fa\uff66-\uff9f]")
_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]*)*")
_ELISION = re.compile(r"(?:[jlnmts]|qu|dell|nell|all|un)['’]", re.IGNORECASE)
_ENGLISH = frozenset(
    words(
        "the and of to is are was were in it its for with on at by from he she they we you i my your his her their "
        "our this that these those have has had will would can could not but or if when what which who there be been "
        "do does did a an as so than then about into over after before only very more paid costs cost bought"
    )
)
# Words of other languages; those that English texts carry too are in `_WEAK`.
_ELSEWHERE = frozenset(
    words(
        "und ist sind wir ich habe haben nicht mit für auf eine einen einem der das dem den wird werden auch bei im "
        "zum zur von uhr jahr jahre oder über aus nach euch sie kostet kosten hier noch nur y que los las una por "
        "para con está están es el tengo tiene tienen hay años muy pero como más del al mi tu cuesta et est les des "
        "une dans pour avec sur pas nous vous ils elle elles qui je tu il ont sont ans mais ou où au aux coûte il che "
        "di per non sono gli della nel una ho hai abbiamo anni più questo costa e o não uma tem são anos você os mais "
        "em custa och är jag med inte på det som av til ikke og jeg het een van niet ik voor met zijn heb jest nie "
        "się na mam ve bir için değil"
    )
)
# Names and loans carry these into English.
_WEAK = frozenset(
    words(
        "y de la le el los las di da du van von al del en es e o os em tu mi une des im na ve per con et il ou "
        "met pour par hay non est mam om com av til ho der den sono pas sur elle les"
    )
)


def language_of(text: str) -> str:
    """Return "zh", "ja", "en", or "" for a language without rules here."""
    if _KANA.search(text):
        return "ja"
    if _CHINESE.search(text):
        return "zh"
    scripts = [script for character in text if (script := _script(character))]
    if scripts.count("LATIN") * 2 < len(scripts):
        return ""
    return "" if _is_elsewhere(text) else "en"


@lru_cache(maxsize=4096)
def _script(character: str) -> str:
    """Return the first word of a letter's name, which is its script, and "" for other characters."""
    return unicodedata.name(character, "").partition(" ")[0] if character.isalpha() else ""


def _is_elsewhere(text: str) -> bool:
    """Return whether words of other languages outweigh those of English."""
    english = elsewhere = 0
    opens = True
    for match in _WORD.finditer(text):
        word = match.group()
        small = word.lower()
        if len(word) > 1 and word.isupper() and word.isascii():
            continue  # MIT, LA and ES are abbreviations
        if small in _ENGLISH:
            english += 2
        elif _ELISION.match(word) and len(word) > 2 and not small.endswith(("'s", "’s", "'t", "’t", "'ll", "’ll")):
            elsewhere += 2
        elif small in _ELSEWHERE and (word[0].islower() or opens):
            elsewhere += 1 if small in _WEAK else 3
        elif not word.isascii():
            elsewhere += 1
        opens = text[match.end() :].lstrip(" ")[:1] in (".", "!", "?", "\n")
    return elsewhere > 2 and elsewhere > english
