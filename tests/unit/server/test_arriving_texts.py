"""Texts that arrive in requests of one stream: identified, limited, abandoned, refused with a message."""

from __future__ import annotations

import threading
import types
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from tritone.errors import Cancelled, InvalidRequest
from tritone.server import bls
from tritone.server.bls import Busy, StageFailed
from tritone.server.flags import Flags
from tritone.server.pieces import END, START, ArrivingText, ArrivingTexts
from tritone.server.streams import Streams
from tritone.text.split import MAX_CHARACTERS


def never() -> bool:
    return False


def said(piece: str | bytes | None, **others: str) -> dict[str, np.ndarray]:
    texts = {**({} if piece is None else {"target_text": piece}), **others}
    return {
        name: np.array([[text.encode() if isinstance(text, str) else text]], object) for name, text in texts.items()
    }


def opened(texts: ArrivingTexts, key: int | str = 7, piece: str | None = "Hello ", flags: int = START) -> ArrivingText:
    begins, text, _ = texts.receive(key, flags, said(piece, speaker="rms"))
    assert begins and isinstance(text, ArrivingText)
    return text


def refused(texts: ArrivingTexts, key: int | str, flags: int, request: dict[str, np.ndarray]) -> Any:
    begins, _, error = texts.receive(key, flags, request)
    assert not begins and error is not None
    return error


def test_request_that_is_no_sequence_begins_an_utterance() -> None:
    assert ArrivingTexts({}).receive(0, 0, said("Hello.")) == (True, None, None)


@pytest.mark.parametrize("key", [7, "talk"])
def test_pieces_come_in_order_and_end(key: int | str) -> None:
    texts = ArrivingTexts({})
    text = opened(texts, key)
    assert texts.receive(key, 0, said("there, ")) == (False, None, None)
    assert texts.receive(key, 0, said("")) == (False, None, None)
    assert texts.receive(key, END, said("you.")) == (False, None, None)
    assert list(text.pieces(never)) == ["Hello ", "there, ", "you."]
    assert list(opened(texts, "whole", "All.", START | END).pieces(never)) == ["All."]
    assert list(opened(texts, "nothing", None, START | END).pieces(never)) == []


def test_pieces_are_waited_for() -> None:
    texts = ArrivingTexts({})
    pieces = opened(texts).pieces(never)
    assert next(pieces) == "Hello "
    sent: list[bool] = []

    def send() -> None:
        sent.append(True)
        texts.receive(7, END, said("you."))

    threading.Timer(0.2, send).start()
    assert (list(pieces), sent) == (["you."], [True])


def test_a_text_is_given_up_when_nothing_comes() -> None:
    pieces = opened(ArrivingTexts({"sequence_patience": "0.2"})).pieces(never)
    assert next(pieces) == "Hello "
    message = r"target_text: no piece came for 0\.2 s and no sequence_end; the sequence is abandoned"
    with pytest.raises(InvalidRequest, match=message):
        next(pieces)


def test_a_listener_that_goes_away_ends_the_wait() -> None:
    gone: list[bool] = []
    pieces = opened(ArrivingTexts({})).pieces(lambda: bool(gone))
    next(pieces)
    threading.Timer(0.1, lambda: gone.append(True)).start()
    assert (list(pieces), gone) == ([], [True]), "without waiting until its patience ends in an error"


def test_sequences_that_are_not_open_are_named() -> None:
    texts = ArrivingTexts({})
    missing = "INVALID_ARGUMENT: sequence_id: 7 is not open: it never began or has ended"
    assert str(refused(texts, 7, 0, said("Hello."))).startswith(missing)
    assert str(refused(texts, 7, END, said("Hello."))).startswith(missing)
    text = opened(texts)
    assert "sequence_id: 7 is already open" in str(refused(texts, 7, START, said("Hello.")))
    texts.receive(7, END, said(""))
    assert "sequence_id: 7 has had its last piece" in str(refused(texts, 7, 0, said("more")))
    texts.close(text)
    assert str(refused(texts, 7, 0, said("more"))).startswith(missing)
    opened(texts)


def test_a_later_piece_is_text_alone() -> None:
    texts = ArrivingTexts({})
    text = opened(texts)
    error = refused(texts, 7, 0, said("you", speaker="slt", mode="sft"))
    assert str(error) == "INVALID_ARGUMENT: mode: came with a later piece; send it with the first, sequence_start"
    error = refused(texts, 7, 0, said(b"\xe4\xbd"))
    assert "target_text: is not UTF-8 (byte 0); cut the text between characters" in str(error)
    texts.receive(7, END, said("you."))
    assert list(text.pieces(never)) == ["Hello ", "you."]


def test_the_whole_text_is_no_longer_than_any() -> None:
    texts = ArrivingTexts({})
    text = opened(texts, piece="a" * (MAX_CHARACTERS - 1))
    assert f"target_text: {MAX_CHARACTERS - 1} + 2 characters; the limit is" in str(refused(texts, 7, 0, said("bc")))
    assert texts.receive(7, END, said("b")) == (False, None, None)
    assert "".join(text.pieces(never)) == "a" * (MAX_CHARACTERS - 1) + "b"


def test_a_first_piece_that_is_refused_leaves_nothing_open() -> None:
    texts = ArrivingTexts({"sequences": "1"})
    assert "the limit is" in str(refused(texts, 7, START, said("a" * (MAX_CHARACTERS + 1))))
    opened(texts)


def test_open_texts_are_bounded() -> None:
    texts = ArrivingTexts({"sequences": "2"})
    first = opened(texts, 1)
    opened(texts, 2)
    error = refused(texts, 3, START, said("Hello."))
    assert isinstance(error, Busy) and str(error).startswith("BUSY: 2 texts are arriving already")
    assert texts.receive(0, 0, said("Hello.")) == (True, None, None)
    texts.close(first)
    opened(texts, 3)
    texts.close(None)


def test_errors_have_tritons_codes() -> None:
    errors: dict[Exception, str] = {
        InvalidRequest("x", "y"): "INVALID_ARG",
        Busy("x"): "UNAVAILABLE",
        Cancelled("x"): "CANCELLED",
        StageFailed("x"): "INTERNAL",
        ValueError("x"): "INTERNAL",
    }
    assert {error: bls.status(error) for error in errors} == errors


def test_streaming_entry_hands_pieces_on_only_where_they_are_understood() -> None:
    from types import SimpleNamespace

    from tritone.server.models import StreamModel

    def speak(call: Any, llm: Any, request: Any, pieces: Iterator[str], cancelled: Any) -> Iterator[np.ndarray]:
        for piece in pieces:
            yield np.full(len(piece), 0.5, np.float32)

    family = SimpleNamespace(name="toy", synthesize_pieces=None)
    step = object.__new__(StreamModel)
    step.family = family  # type: ignore[assignment]
    step._call = step._llm = lambda *_: {}  # type: ignore[assignment]
    run: Callable[..., Iterator[np.ndarray]] = step.stream
    with pytest.raises(
        InvalidRequest, match="sequence_id: was sent, but toy needs the whole text at once, as it was trained"
    ):
        next(run({}, never, ["ab"]))
    family.synthesize_pieces = speak
    assert [chunk.size for chunk in run({}, never, ["ab", "c"])] == [2, 1]


@pytest.mark.parametrize("fails", [True, False])
def test_a_failure_is_told_before_its_further_pieces_are_refused(fails: bool) -> None:
    """Whoever sends pieces and hears only that their text is not open would never learn why."""

    def stream(*_: Any) -> Iterator[np.ndarray]:
        if fails:
            raise InvalidRequest("speaker", "unknown 'stranger'")
        yield from ()

    heard: list[Any] = []

    def send(_sender: Any, result: Any, final: bool) -> None:
        assert final
        heard.append((result, texts.receive(7, 0, said("more"))))

    streams = Streams(types.SimpleNamespace(stream=stream), {}, Flags(None), send)  # type: ignore[arg-type]
    texts = streams.texts
    streams.run(types.SimpleNamespace(is_cancelled=never), {}, opened(texts), "")
    ((error, (_, _, refusal)),) = heard
    if fails:
        assert "speaker: unknown 'stranger'" in str(error) and refusal is None
    else:
        assert error is None and "is not open" in str(refusal)
    assert "is not open" in str(refused(texts, 7, 0, said("more")))
