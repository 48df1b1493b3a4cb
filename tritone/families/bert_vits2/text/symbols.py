"""The fixed inventory that indexes a checkpoint's embeddings: 112 phones, 12 tones, 3 languages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tritone.errors import InvalidRequest

PAD = "_"
PUNCTUATION: tuple[str, ...] = ("!", "?", "…", ",", ".", "'", "-")
_CHINESE = (
    "AA E EE En OO a ai an ang ao b c ch d e ei en eng er f g h i i0 ia ian iang iao ie in ing iong ir iu j k l m n o "
    "ong ou p q r s sh t u ua uai uan uang ui un uo v van ve vn w x y z zh"
)
_JAPANESE = "N a a: b by ch d dy e e: f g gy h hy i i: j k ky m my n ny o o: p py q r ry s sh t ts ty u u: w y z zy"
_ENGLISH = "V aa ae ah ao aw ay b ch d dh eh er ey f g hh ih iy jh k l m n ng ow oy p r s sh t th uh uw w y z zh"
PHONES: dict[str, frozenset[str]] = {
    "ZH": frozenset(_CHINESE.split()),
    "JP": frozenset(_JAPANESE.split()),
    "EN": frozenset(_ENGLISH.split()),
}
SYMBOLS: tuple[str, ...] = (PAD, *sorted(frozenset().union(*PHONES.values())), *PUNCTUATION, "SP", "UNK")
"""All phones in the order of the checkpoint's embeddings; the blank between phones has id 0."""
LANGUAGES: dict[str, int] = {"ZH": 0, "JP": 1, "EN": 2}
TONE_STARTS: dict[str, int] = {"ZH": 0, "JP": 6, "EN": 8}
TONES: dict[str, int] = {"ZH": 6, "JP": 2, "EN": 4}
NUM_TONES = sum(TONES.values())

_IDS = {symbol: index for index, symbol in enumerate(SYMBOLS)}
_OTHER_NAMES = {"JA": "JP", "CN": "ZH"}
_CUT_FIRST, _CUT_LAST = 3, 2


@dataclass(frozen=True)
class Cleaned:
    """A text of one language in phones; `phones`, `tones` and `word2ph` include the pad at both ends.

    Args:
        text: the text as it is read aloud, which is the input of a BERT encoder.
        language: "ZH", "JP" or "EN".
        tones: the tone of each phone, counted from 0 within the language.
        word2ph: the number of phones of each unit: pad, characters (ZH, JP) or tokens or words (EN), pad.
    """

    text: str
    language: str
    phones: tuple[str, ...]
    tones: tuple[int, ...]
    word2ph: tuple[int, ...]

    def __post_init__(self) -> None:
        if not len(self.phones) == len(self.tones) == sum(self.word2ph):
            raise InvalidRequest(
                "word2ph",
                f"does not fit: the text {self.text[:40]!r} has {len(self.phones)} phones, {len(self.tones)} tones and "
                f"a word2ph that sums to {sum(self.word2ph)}; the three must be equal",
            )


@dataclass(frozen=True)
class TextIds:
    """Inputs of the text encoder: int64 arrays `[phones]` with blanks between phones, and the word2ph that fits them.

    `word2ph` has one tuple per joined text; each sums to the number of ids of its text alone.
    """

    phones: np.ndarray
    tones: np.ndarray
    languages: np.ndarray
    word2ph: tuple[tuple[int, ...], ...]


def language_of(name: str) -> str:
    """Return "ZH", "JP" or "EN" for the name of a language ("zh", "ja", "EN").

    Raises InvalidRequest for an unknown language.
    """
    language = _OTHER_NAMES.get(name.strip().upper(), name.strip().upper())
    if language not in LANGUAGES:
        raise InvalidRequest("language", f"unknown language {name!r}; the languages are {', '.join(LANGUAGES)}")
    return language


def padded(text: str, language: str, units: Sequence[tuple[Sequence[str], Sequence[int]]]) -> Cleaned:
    """Return the text with the phones and tones of its units between pads.

    Raises InvalidRequest when no unit has a phone other than punctuation.
    """
    phones = [phone for unit, _ in units for phone in unit]
    if all(phone in PUNCTUATION for phone in phones):
        raise InvalidRequest("target_text", f"nothing in {text[:60]!r} has a known sound in {language}")
    tones = [tone for _, unit in units for tone in unit]
    word2ph = (1, *(len(unit) for unit, _ in units), 1)
    return Cleaned(text, language, (PAD, *phones, PAD), (0, *tones, 0), word2ph)


def spread(total: int, units: int) -> list[int]:
    """Return how many of `total` phones each of `units` units gets: as equal as possible, the first units the most."""
    each, rest = divmod(total, units)
    return [each + (index < rest) for index in range(units)]


def blanked_word2ph(word2ph: Sequence[int]) -> tuple[int, ...]:
    """Return the number of ids of each unit with blanks between phones and at both ends."""
    return tuple(2 * count + (index == 0) for index, count in enumerate(word2ph))


def to_ids(parts: Sequence[Cleaned]) -> TextIds:
    """Return the ids of the joined texts, with blanks (id 0) around each phone and pads at the two outer ends alone.

    Raises InvalidRequest for an unknown phone, or a tone that its language does not have.
    """
    phones = [_blanked([_id(phone, part.text) for phone in part.phones]) for part in parts]
    tones = [_blanked([_tone(tone, part) for tone in part.tones]) for part in parts]
    languages = [_blanked([LANGUAGES[part.language]] * len(part.phones)) for part in parts]
    word2ph = tuple(blanked_word2ph(part.word2ph) for part in parts)
    return TextIds(joined(phones), joined(tones), joined(languages), word2ph)


def joined(pieces: Sequence[np.ndarray]) -> np.ndarray:
    """Return the arrays `[..., phones]` concatenated; the pads and surplus blanks at each join are cut."""
    last = len(pieces) - 1
    return np.concatenate(
        [
            piece[..., _CUT_FIRST * (index > 0) : piece.shape[-1] - _CUT_LAST * (index < last)]
            for index, piece in enumerate(pieces)
        ],
        axis=-1,
    )


def _blanked(ids: list[int]) -> np.ndarray:
    array = np.zeros(2 * len(ids) + 1, np.int64)
    array[1::2] = ids
    return array


def _id(phone: str, text: str) -> int:
    if phone not in _IDS:
        known = " ".join(SYMBOLS)
        raise InvalidRequest(
            "phones",
            f"unknown phone {phone!r} in {text[:40]!r}; the {len(SYMBOLS)} known phones are {known}",
        )
    return _IDS[phone]


def _tone(tone: int, part: Cleaned) -> int:
    if not 0 <= tone < TONES[part.language]:
        last = TONES[part.language] - 1
        raise InvalidRequest(
            "tones",
            f"unknown tone {tone} in {part.text[:40]!r}; the tones of {part.language} are 0 to {last}",
        )
    return TONE_STARTS[part.language] + tone
