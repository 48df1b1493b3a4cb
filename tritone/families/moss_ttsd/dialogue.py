"""Dialogue text: speaker tags, the text cleaning of both releases, and the prompt of the language model."""

from __future__ import annotations

import re
from dataclasses import dataclass

from tritone.errors import ConfigError, InvalidRequest
from tritone.text.reading.plain import plain_text

SYSTEM = (
    "You are a speech synthesizer that generates natural, realistic, and human-like conversational audio from "
    "dialogue text."
)
"""The instruction in front of every text that the released models were trained on."""
SPEAKERS = {"[S1]": "<speaker1>", "[S2]": "<speaker2>"}

_TAG = re.compile(r"(\[S\d+\])")
_NAME = r"(?:s|speaker|spk|说话人|發言人|发言人|角色|話者)[\s_-]*0*(\d+|one|two)"
_OPENED, _CLOSED = "[\\[［【〔{｛<＜]", "[\\]］】〕}｝>＞]"
_TURN = r"(?:(?<![^\n])|(?<=[。！？.!?…”\"」』])[ \t]*)"
_SPELLINGS = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        rf"{_OPENED}\s*{_NAME}\s*[:：]?\s*{_CLOSED}(?:\s*[:：])?",
        rf"{_TURN}[ \t]*[(（]\s*{_NAME}\s*[)）](?:\s*[:：])?",
        rf"(?<![A-Za-z0-9\[]){_NAME}\s*[:：](?!\d\d)",
        rf"{_TURN}[ \t]*{_OPENED}\s*(\d+)\s*{_CLOSED}",
    )
)
"""Other ways to write a speaker's tag: [s1], 【S1】, [S 1], (S1), S1:, Speaker 1:, [1]."""
_DROPPED = str.maketrans("", "", '【】《》（）『』「」"“”-_～~')
_CJK_LAUGH = re.compile(r"哈{2,}")
_LAUGH = re.compile(r"\bha(?:\s*ha)+\b", re.IGNORECASE)
_BRACKETED = re.compile(r"\[(?!S\d+\])([^\]]*)\]")


@dataclass(frozen=True)
class Cleaning:
    """The text cleaning of one release: the words for laughter, the marks that become commas, whether brackets stay."""

    laugh_cjk: str
    laugh: str
    commas: tuple[tuple[str, str], ...]
    keeps_brackets: bool


_PAUSES = (("——", "，"), ("……", "，"), ("；", "，"), ("：", "，"), ("、", "，"), (";", ","), (":", ","))
CLEANINGS = {
    "0.7": Cleaning("[笑]", "[laugh]", _PAUSES, True),
    "0.5": Cleaning("(笑)", "(laughs)", (*_PAUSES, ("！", "，"), ("？", "，"), ("!", ","), ("?", ",")), False),
}
"""The text cleaning of each release of the model."""


def dialogue_text(text: str) -> str:
    """Return the dialogue in plain characters, with the tags of its speakers as the models know them: [S1] and [S2]."""
    text = plain_text(text)
    for spelling in _SPELLINGS:
        text = spelling.sub(_tag, text)
    return text


def _tag(match: re.Match[str]) -> str:
    number = match[1].lower()
    return f"[S{ {'one': 1, 'two': 2}.get(number) or int(number) }]"


def normalize(text: str, release: str = "0.7") -> str:
    """Return the text as that release's models were trained on it, with tags such as [S1], one for each turn."""
    if release not in CLEANINGS:
        raise ConfigError(
            f"text of release {release!r} is unknown; the supported releases are {' and '.join(CLEANINGS)}"
        )
    cleaning = CLEANINGS[release]
    text = dialogue_text(text)
    text = re.sub(r"\[(\d+)\]", r"[S\1]", text).replace("\n", " ")
    text = text.translate(_DROPPED).replace("‘", "'").replace("’", "'")
    if not cleaning.keeps_brackets:
        text = _BRACKETED.sub(r"\1", text)
    turns: list[list[str]] = []
    tag = ""
    for part in _TAG.split(text):
        if _TAG.fullmatch(part):
            tag = part
            continue
        words = _clean(part.strip(), cleaning)
        if turns and turns[-1][0] == tag:
            turns[-1][1] += words
        elif words or tag:
            turns.append([tag, words])
    return "".join(tag + words for tag, words in turns)


def _clean(words: str, cleaning: Cleaning) -> str:
    """Return one turn with its laughter written out and a full stop at its end alone."""
    words = _LAUGH.sub(cleaning.laugh, _CJK_LAUGH.sub(cleaning.laugh_cjk, words))
    for pause, comma in cleaning.commas:
        words = words.replace(pause, comma)
    if words.endswith(("，", ",")):
        words = words[:-1] + ("。" if words[-1] == "，" else ".")
    return words[:-1].replace("。", "，") + words[-1:]


def check_dialogue(text: str, field: str = "target_text") -> str:
    """Return the dialogue as `dialogue_text` does; InvalidRequest if it has no words, or an unknown speaker."""
    text = dialogue_text(text)
    unknown = sorted({tag for tag in _TAG.findall(text) if tag not in SPEAKERS})
    if unknown:
        raise InvalidRequest(field, f"names {', '.join(unknown)}; the models know {' and '.join(SPEAKERS)}")
    if not re.search(r"\w", _TAG.sub("", text)):
        raise InvalidRequest(field, "has nothing to say; write a dialogue such as '[S1]Hello. [S2]Hi.'")
    return text


def prompt_text(text: str) -> str:
    """Return the text of the prompt: the instruction and the tagged dialogue between their markers."""
    text = dialogue_text(text)
    for tag, marker in SPEAKERS.items():
        text = text.replace(tag, marker)
    return f"<|begin_of_style|>{SYSTEM}<|end_of_style|>\n<|begin_of_text|>{text}<|end_of_text|>\n<|begin_of_speech|>"
