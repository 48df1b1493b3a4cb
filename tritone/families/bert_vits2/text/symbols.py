"""The closed inventory a checkpoint's embeddings are indexed by: 112 phones, 12 tones, 3 languages."""

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
"""Every phone in the order of the checkpoint's embedding rows; the blank between phones is row 0."""
LANGUAGES: dict[str, int] = {"ZH": 0, "JP": 1, "EN": 2}
TONE_STARTS: dict[str, int] = {"ZH": 0, "JP": 6, "EN": 8}
TONES: dict[str, int] = {"ZH": 6, "JP": 2, "EN": 4}
NUM_TONES = sum(TONES.values())

_IDS = {symbol: index for index, symbol in enumerate(SYMBOLS)}
_OTHER_NAMES = {"JA": "JP", "CN": "ZH"}
_CUT_FIRST, _CUT_LAST = 3, 2


@dataclass(frozen=True)
class Cleaned:
    """One text of one language in phones; `phones`, `tones` and `word2ph` include the pad at both ends.

    Args:
        text: as it is read aloud, which is what a BERT encoder gets; language: "ZH", "JP" or "EN".
        tones: of each phone, counted from 0 within the language.
        word2ph: how many phones belong to each unit: pad, characters (ZH, JP) or tokens or words (EN), pad.
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
                f"{len(self.phones)} phones, {len(self.tones)} tones and a word2ph that sums to {sum(self.word2ph)} "
                f"do not belong together, in {self.text[:40]!r}",
            )


@dataclass(frozen=True)
class TextIds:
    """What the text encoder is given: int64 arrays `[phones]` with blanks between phones, and word2ph that counts them.

    `word2ph` has one tuple per text that was joined; each sums to that text's phones before the joins were cut.
    """

    phones: np.ndarray
    tones: np.ndarray
    languages: np.ndarray
    word2ph: tuple[tuple[int, ...], ...]


def language_of(name: str) -> str:
    """ "ZH", "JP" or "EN" for a language's name ("zh", "ja", "EN").

    Raises InvalidRequest naming the languages when it is none of them.
    """
    found = _OTHER_NAMES.get(name.strip().upper(), name.strip().upper())
    if found not in LANGUAGES:
        raise InvalidRequest("language", f"unknown language {name!r}; known are {', '.join(LANGUAGES)}")
    return found


def padded(text: str, language: str, units: Sequence[tuple[Sequence[str], Sequence[int]]]) -> Cleaned:
    """Phones and tones of each unit put in a row, between pads.

    Raises InvalidRequest when no unit has a phone other than punctuation.
    """
    phones = [phone for unit, _ in units for phone in unit]
    if all(phone in PUNCTUATION for phone in phones):
        raise InvalidRequest("target_text", f"nothing in {text[:60]!r} has a known sound in {language}")
    tones = [tone for _, unit in units for tone in unit]
    word2ph = (1, *(len(unit) for unit, _ in units), 1)
    return Cleaned(text, language, (PAD, *phones, PAD), (0, *tones, 0), word2ph)


def spread(total: int, units: int) -> list[int]:
    """`total` phones over `units` as evenly as can be, the first units getting what is left over."""
    each, rest = divmod(total, units)
    return [each + (index < rest) for index in range(units)]


def blanked_word2ph(word2ph: Sequence[int]) -> tuple[int, ...]:
    """Return how many ids belong to each unit once blanks stand between phones and at both ends.

    The input stays as it is.
    """
    return tuple(2 * count + (index == 0) for index, count in enumerate(word2ph))


def to_ids(parts: Sequence[Cleaned]) -> TextIds:
    """Return Ids of the texts in a row: blanks (id 0 in all three) around each phone, pads only at the two outer ends.

    Raises InvalidRequest naming a phone that has no id, or a tone its language lacks.
    """
    phones = [_blanked([_id(phone, part.text) for phone in part.phones]) for part in parts]
    tones = [_blanked([_tone(tone, part) for tone in part.tones]) for part in parts]
    languages = [_blanked([LANGUAGES[part.language]] * len(part.phones)) for part in parts]
    word2ph = tuple(blanked_word2ph(part.word2ph) for part in parts)
    return TextIds(joined(phones), joined(tones), joined(languages), word2ph)


def joined(pieces: Sequence[np.ndarray]) -> np.ndarray:
    """Return arrays `[..., phones]` with blanks, in a row: at each join the pads and the surplus blanks are cut."""
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
        raise InvalidRequest("phones", f"{phone!r} is none of the {len(SYMBOLS)} known phones, in {text[:40]!r}")
    return _IDS[phone]


def _tone(tone: int, part: Cleaned) -> int:
    if not 0 <= tone < TONES[part.language]:
        raise InvalidRequest(
            "tones", f"{part.language} has the tones 0 to {TONES[part.language] - 1}, not {tone}, in {part.text[:40]!r}"
        )
    return TONE_STARTS[part.language] + tone
