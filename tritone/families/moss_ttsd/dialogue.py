"""Dialogue text: speaker tags, both published ways of cleaning it, and the prompt the language model reads."""

from __future__ import annotations

import re
from dataclasses import dataclass

from tritone.errors import ConfigError, InvalidRequest

SYSTEM = (
    "You are a speech synthesizer that generates natural, realistic, and human-like conversational audio from "
    "dialogue text."
)
"""What the released models were trained to read first."""
SPEAKERS = {"[S1]": "<speaker1>", "[S2]": "<speaker2>"}

_TAG = re.compile(r"(\[S\d+\])")
_DROPPED = str.maketrans("", "", '【】《》（）『』「」"“”-_～~')
_CJK_LAUGH = re.compile(r"哈{2,}")
_LAUGH = re.compile(r"\bha(?:\s*ha)+\b", re.IGNORECASE)
_BRACKETED = re.compile(r"\[(?!S\d+\])([^\]]*)\]")


@dataclass(frozen=True)
class Cleaning:
    """How one release cleans text: the words for laughter, what else becomes a comma, whether brackets stay."""

    laugh_cjk: str
    laugh: str
    commas: tuple[tuple[str, str], ...]
    keeps_brackets: bool


_PAUSES = (("——", "，"), ("……", "，"), ("；", "，"), ("：", "，"), ("、", "，"), (";", ","), (":", ","))
CLEANINGS = {
    "0.7": Cleaning("[笑]", "[laugh]", _PAUSES, True),
    "0.5": Cleaning("(笑)", "(laughs)", (*_PAUSES, ("！", "，"), ("？", "，"), ("!", ","), ("?", ",")), False),
}
"""By release of the model."""


def normalize(text: str, release: str = "0.7") -> str:
    """Return the text as that release's models were trained to read it; tags as [S1], one for each turn."""
    if release not in CLEANINGS:
        raise ConfigError(f"text of release {release!r}; there are {', '.join(CLEANINGS)}")
    how = CLEANINGS[release]
    text = re.sub(r"\[(\d+)\]", r"[S\1]", text).replace("\n", " ")
    text = text.translate(_DROPPED).replace("‘", "'").replace("’", "'")
    if not how.keeps_brackets:
        text = _BRACKETED.sub(r"\1", text)
    turns: list[list[str]] = []
    tag = ""
    for part in _TAG.split(text):
        if _TAG.fullmatch(part):
            tag = part
            continue
        said = _clean(part.strip(), how)
        if turns and turns[-1][0] == tag:
            turns[-1][1] += said
        elif said or tag:
            turns.append([tag, said])
    return "".join(tag + said for tag, said in turns)


def _clean(said: str, how: Cleaning) -> str:
    said = _LAUGH.sub(how.laugh, _CJK_LAUGH.sub(how.laugh_cjk, said))
    for pause, comma in how.commas:
        said = said.replace(pause, comma)
    if said.endswith(("，", ",")):
        said = said[:-1] + ("。" if said[-1] == "，" else ".")
    return said[:-1].replace("。", "，") + said[-1:]


def check_dialogue(text: str, field: str = "target_text") -> None:
    """Raise InvalidRequest for a dialogue without words, or with a speaker the models do not have."""
    unknown = sorted({tag for tag in _TAG.findall(text) if tag not in SPEAKERS})
    if unknown:
        raise InvalidRequest(field, f"names {', '.join(unknown)}; the models know {' and '.join(SPEAKERS)}")
    if not re.search(r"\w", _TAG.sub("", text)):
        raise InvalidRequest(field, "has nothing to say; write a dialogue such as '[S1]Hello. [S2]Hi.'")


def prompt_text(text: str) -> str:
    """What stands before speech: the instruction and the tagged text between their markers."""
    for tag, marker in SPEAKERS.items():
        text = text.replace(tag, marker)
    return f"<|begin_of_style|>{SYSTEM}<|end_of_style|>\n<|begin_of_text|>{text}<|end_of_text|>\n<|begin_of_speech|>"
