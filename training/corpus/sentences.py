"""Sentences for a corpus, extracted from plain texts: clean, short, without repeats."""

from __future__ import annotations

import random
import re
from collections.abc import Iterable
from pathlib import Path

_SENTENCE_END = re.compile(r"(?<=[.!?])[\"')\]]*\s+")
_CLAUSE_END = re.compile(r"(?<=[,;:])\s+|\s+--?\s+|\s*---?\s*")
_WORD = re.compile(r"[A-Za-z]+(?:['-][A-Za-z]+)*")
_ALLOWED = re.compile(r"[A-Za-z' ,.;:!?-]+")


def normalised(text: str) -> str:
    """Return the lower-case words alone, by which repeated sentences are recognised."""
    return " ".join(word.lower() for word in _WORD.findall(text))


def read_texts(paths: Iterable[Path]) -> list[str]:
    """Return paragraphs of the given plain-text files; a `%` line separates entries, as in fortune files."""
    paragraphs: list[str] = []
    for path in paths:
        text = path.read_text(encoding="utf-8", errors="ignore")
        text = re.sub(r"(?<=[a-z])-\n\s*(?=[a-z])", "", re.sub(r".\x08", "", text))  # broken words, overstrikes
        for entry in re.split(r"\n%\n|\n\s*\n", text):
            body = re.sub(r"\n\s*--+ .*", "", "\n" + entry, flags=re.DOTALL)  # what follows "-- " names an author
            paragraphs.append(" ".join(body.split()))
    return paragraphs


def fortune_files() -> list[Path]:
    """Return texts of Debian's package `fortunes`; an empty list when it is not installed."""
    folder = Path("/usr/share/games/fortunes")
    return sorted(
        p for p in folder.glob("*") if p.is_file() and not p.is_symlink() and not p.suffix and p.name != "ascii-art"
    )


def speakable(text: str, low: int, high: int) -> str | None:
    """Return the cleaned text when it is `low` to `high` ordinary English words that can be read aloud, else None."""
    text = re.sub(r"[\"()\[\]{}*_`]|(?<!\w)'|'(?!\w)|''", "", text.replace("...", ",")).strip(" ,;:-'")
    text = re.sub(r"\s+([,.;:!?])", r"\1", re.sub(r"\s+", " ", text))
    if not _ALLOWED.fullmatch(text):
        return None
    words = _WORD.findall(text)
    if not low <= len(words) <= high or len(words) != len(text.split()):
        return None
    for word in words:
        strange = len(word) > 14 or re.search(r"[A-Za-z][A-Z]", word) or re.search(r"(.)\1\1", word.lower())
        if strange or not re.search(r"[aeiouyAEIOUY]", word) or (len(word) == 1 and word not in "aAIO"):
            return None
    if sum(word[0].isupper() for word in words) > max(2, len(words) // 2):
        return None
    text = text[0].upper() + text[1:]
    return text if text[-1] in ".!?" else text.rstrip(",;:-") + "."


def sentences(paragraphs: Iterable[str], low: int = 4, high: int = 14, exclude: Iterable[str] = ()) -> list[str]:
    """Return the distinct sentences of `low` to `high` words; longer ones are split into clauses; those in
    `exclude` are left out.
    """
    seen = {normalised(text) for text in exclude}
    kept: list[str] = []
    for paragraph in paragraphs:
        for sentence in _SENTENCE_END.split(paragraph):
            pieces = [sentence] if len(sentence.split()) <= high else _clauses(sentence, high)
            for piece in pieces:
                text = speakable(piece, low, high)
                if text and normalised(text) not in seen:
                    seen.add(normalised(text))
                    kept.append(text)
    return kept


def _clauses(sentence: str, high: int) -> list[str]:
    """Return the neighbouring clauses joined as long as they stay within `high` words."""
    joined: list[str] = []
    for clause in _CLAUSE_END.split(sentence):
        if joined and len(joined[-1].split()) + len(clause.split()) <= high:
            joined[-1] += " " + clause
        else:
            joined.append(clause)
    return joined


def shares(texts: list[str], speakers: list[str], count: int, seed: int) -> list[tuple[str, str]]:
    """Return `count` pairs (text, speaker) in random order, the speakers taking turns; fewer when there are fewer
    texts.
    """
    order = list(texts)
    random.Random(seed).shuffle(order)
    return [(text, speakers[i % len(speakers)]) for i, text in enumerate(order[:count])]
