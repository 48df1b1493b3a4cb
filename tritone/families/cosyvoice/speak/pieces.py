"""Speech of a request whose text arrives in pieces, begun before the text is complete."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np

from tritone.errors import TritoneError
from tritone.families.cosyvoice.config.common import CosyVoiceConfig
from tritone.families.cosyvoice.lm.bistream import bistream
from tritone.families.cosyvoice.lm.silence import without_long_silence
from tritone.families.cosyvoice.lm.special_tokens import END_OF_PROMPT
from tritone.families.cosyvoice.speak.request import Prepared
from tritone.families.cosyvoice.speak.synthesize import audible, never, segment_seed
from tritone.families.cosyvoice.speak.text import TextFrontend
from tritone.lm.protocols import SpeechLm
from tritone.lm.sampling import seeded_draw
from tritone.stage import Call, Stage
from tritone.text.split import check_text


def takes_pieces(front: TextFrontend) -> bool:
    """Return True of language models trained on text and speech in turns.

    Those of the v2 and v3 layouts that read text.
    """
    return front.alternates


def speak_pieces(
    call: Call,
    llm: SpeechLm,
    prepared: Prepared,
    pieces: Iterable[str],
    stages: dict[str, Stage],
    config: CosyVoiceConfig,
    front: TextFrontend,
    cancelled: Callable[[], bool] = never,
) -> Iterator[np.ndarray]:
    """Yield waveform chunks `[samples]`, the first as soon as two turns of text have come.

    Pieces are spoken as they are, joined without a space: numbers are not put in words, and where the text is cut does
    not matter but for how the tokenizer divides the letters around a cut. All is one sequence of the language model,
    which bounds its length.

    Args:
        prepared: voice, speed and seed of the request; it has no segments.
        pieces: waiting for one blocks.

    Raises:
        InvalidRequest: the pieces together hold nothing to speak, or the language model takes only whole prompts.
    """
    instruction, prompt_text = prompts(front, prepared.voice.prompt_ids.tolist())
    session = llm.session()
    try:
        codes = bistream(
            session,
            text_ids(front, pieces, cancelled),
            config.lm,
            seeded_draw(segment_seed(prepared, 0)),
            instruction=instruction,
            prompt_text=prompt_text,
            prompt_speech=prepared.voice.llm_speech_token.tolist(),
            cancelled=cancelled,
        )
        speech = without_long_silence(codes, config.version.silent_tokens)
        silence = TritoneError("the text produced no speech; try another seed")
        yield from audible(call, stages, config, speech, prepared, silence, cancelled)
    finally:
        session.close()


def prompts(front: TextFrontend, ids: list[int]) -> tuple[list[int], list[int]]:
    """What of a prompt is read before text and speech alternate, and what takes part in the turns.

    As published: of v3 all up to `<|endofprompt|>` comes first, of v2 nothing does.
    """
    end = front.tokenizer.token_to_id(END_OF_PROMPT)
    head = ids.index(end) + 1 if front.system_prompt and end in ids else 0
    return ids[:head], ids[head:]


def text_ids(front: TextFrontend, pieces: Iterable[str], cancelled: Callable[[], bool]) -> Iterator[list[int]]:
    """Yield Ids of each piece as it comes; InvalidRequest after the last when there was nothing to speak."""
    text = ""
    for piece in pieces:
        text += piece
        yield front.encode(piece)
    if not cancelled():
        check_text(text)
