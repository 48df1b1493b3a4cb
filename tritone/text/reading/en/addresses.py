"""Web and mail addresses as they are said: dots, slashes and at signs in words."""

from __future__ import annotations

import re

from tritone.text.reading.en.numbers import cardinal, digits

_ENDS = "com|org|net|edu|gov|mil|int|info|io|ai|app|dev|co|uk|us|eu|de|fr|jp|cn|ca|au|in|me|tv|html?|py|txt|pdf|js"
_NAME = r"[A-Za-z0-9](?:[A-Za-z0-9_-]*[A-Za-z0-9])?"
_ADDRESS = re.compile(
    rf"(?:https?|ftp)://\S*[\w/]|www\.\S*[\w/]|(?<![\w.+-])[\w.+-]*\w@\w[\w-]*(?:\.\w[\w-]*)+"
    rf"|(?<![\w@.])(?:{_NAME}\.)+(?:{_ENDS})(?![\w@]|\.\w)(?:/[^\s,;)]*[\w/])?",
)
_SCHEME = re.compile(r"^(?:https?|ftp)://")
_MARKS = {
    **{".": "dot", "/": "slash", "-": "dash", "_": "underscore", "@": "at", "?": "question mark", "=": "equals"},
    **{"&": "and", "#": "hash", "+": "plus", ":": "colon", "%": "percent", "~": "tilde"},
}
_PIECE = re.compile(r"\d+|[^\W\d_]+|.")


def addresses_in_words(text: str) -> str:
    """Return the text with its addresses in words; the http:// before them is left out, as when it is read aloud."""
    return _ADDRESS.sub(lambda match: _spoken(match.group()), text)


def _spoken(address: str) -> str:
    address = _SCHEME.sub("", address).rstrip("/")
    words = (_MARKS.get(piece) or _number(piece) for piece in _PIECE.findall(address))
    return " ".join(" ".join(words).split())


def _number(piece: str) -> str:
    if not piece.isdecimal():
        return piece if piece.isalpha() else ""
    return digits(piece) if len(piece) > 2 or piece[0] == "0" else cardinal(piece)
