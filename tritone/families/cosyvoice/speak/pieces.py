"""Speech of a request whose text arrives in pieces, begun before the text is complete."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np

from tritone.calls import never
from tritone.errors import TritoneError
from tritone.families.cosyvoice.lm.bistream import bistream
from tritone.families.cosyvoice.lm.mixing import TurnPrompt
from tritone.families.cosyvoice.lm.silence import without_long_silence
from tritone.families.cosyvoice.lm.special_tokens import END_OF_PROMPT
from tritone.families.cosyvoice.speak.request import Prepared
from tritone.families.cosyvoice.speak.stream import Synthesizer
from tritone.families.cosyvoice.speak.text import TextFrontend
from tritone.families.cosyvoice.speak.tokens import segment_seed
from tritone.families.cosyvoice.voices.voice import Voice
from tritone.lm.protocols import SpeechLm
from tritone.lm.sampling import seeded_draw
from tritone.text.split import check_text


def takes_pieces(front: TextFrontend) -> bool:
    """Return True for a language model trained on text and speech in turns: that of v2 or v3, if it reads text."""
    return front.alternates


def speak_pieces(
    synthesizer: Synthesizer,
    llm: SpeechLm,
    prepared: Prepared,
    pieces: Iterable[str],
    front: TextFrontend,
    cancelled: Callable[[], bool] = never,
) -> Iterator[np.ndarray]:
    """Yield waveform chunks `[samples]`, the first as soon as two turns of text have arrived.

    Pieces are spoken as they are, joined without a space: numbers are not put in words, and the borders of pieces
    matter only where they divide a word that the tokenizer would have kept together. All pieces are one sequence of
    the language model, which bounds their length.

    Args:
        prepared: voice, speed and seed of the request; it has no segments.
        pieces: parts of the text; waiting for the next one blocks.

    Raises:
        InvalidRequest: the pieces together contain nothing to speak, or the language model takes only whole prompts.
    """
    config = synthesizer.config
    session = llm.session()
    try:
        codes = bistream(
            session,
            text_ids(front, pieces, cancelled),
            config.lm,
            seeded_draw(segment_seed(prepared.seed, 0)),
            turn_prompt(front, prepared.voice),
            cancelled,
        )
        speech = without_long_silence(codes, config.version.silent_tokens)
        silence = TritoneError("the text produced no speech; try another seed")
        yield from synthesizer.audible(speech, prepared, silence, cancelled)
    finally:
        session.close()


def turn_prompt(front: TextFrontend, voice: Voice) -> TurnPrompt:
    """Return the voice's prompt, divided into the part before the turns and the part that takes turns itself.

    As published: in v3 everything up to `<|endofprompt|>` comes first, in v2 nothing does.
    """
    ids = voice.prompt_ids.tolist()
    end = front.tokenizer.token_to_id(END_OF_PROMPT)
    head = ids.index(end) + 1 if front.system_prompt and end in ids else 0
    return TurnPrompt(ids[:head], ids[head:], voice.llm_speech_token.tolist())


def text_ids(front: TextFrontend, pieces: Iterable[str], cancelled: Callable[[], bool]) -> Iterator[list[int]]:
    """Yield the ids of each piece as it arrives; raise InvalidRequest after the last if there was nothing to speak."""
    text = ""
    for piece in pieces:
        text += piece
        yield front.encode(piece)
    if not cancelled():
        check_text(text)
