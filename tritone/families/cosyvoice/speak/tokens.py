"""The speech tokens of a request: sampled by the language model segment by segment, or brought by the request."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from tritone.calls import never
from tritone.errors import InvalidRequest, TritoneError
from tritone.families.cosyvoice.config.common import CosyVoiceConfig
from tritone.families.cosyvoice.lm.silence import without_long_silence
from tritone.families.cosyvoice.lm.vocabulary import vocabulary
from tritone.families.cosyvoice.speak.limits import longest_speech
from tritone.families.cosyvoice.speak.request import Prepared
from tritone.families.cosyvoice.voices.voice import Voice
from tritone.lm.protocols import SpeechLm
from tritone.request.fields import too_much_speech


@dataclass(frozen=True, eq=False)
class TokenRequest:
    """The part of a request that decides its speech tokens.

    Args:
        segments: text ids of each segment; empty for voice conversion.
        prompt_text: text ids before the text of each segment.
        prompt_speech: speech tokens that the language model continues.
        seed: the request's seed; each segment has draws of its own.
        source: the speech tokens of voice conversion, int64 `[tokens]`.
        conditioning: the speaker that v1's language model takes, `[1, 192]`, or `[0, 192]` for none; None elsewhere.
    """

    segments: list[list[int]]
    prompt_text: list[int]
    prompt_speech: list[int]
    seed: int
    source: np.ndarray
    conditioning: np.ndarray | None


def token_request(prepared: Prepared, config: CosyVoiceConfig) -> TokenRequest:
    """Return the part of a prepared request that decides its speech tokens."""
    voice = prepared.voice
    return TokenRequest(
        prepared.segments,
        voice.prompt_ids.tolist(),
        voice.llm_speech_token.tolist(),
        prepared.seed,
        prepared.source,
        conditioning(voice, config),
    )


def conditioning(voice: Voice, config: CosyVoiceConfig) -> np.ndarray | None:
    """Return the speaker that v1's language model takes, `[1, 192]`, or `[0, 192]` for none; None elsewhere."""
    if not config.lm.spk_embed_dim:
        return None
    embedding = voice.embedding if voice.llm_embedding is None else voice.llm_embedding
    return embedding.astype(np.float32).reshape(-1, config.lm.spk_embed_dim)


def segment_tokens(
    llm: SpeechLm, request: TokenRequest, index: int, config: CosyVoiceConfig, cancelled: Callable[[], bool] = never
) -> Iterator[int]:
    """Yield the speech tokens of one segment as they are sampled.

    The model continues from everything it sampled; of v3's long silences only the beginning is spoken.
    """
    text = request.segments[index]
    prompt = vocabulary(config.lm).prompt([*request.prompt_text, *text], request.prompt_speech)
    seed = segment_seed(request.seed, index)
    sampled = llm.generate(prompt, len(text), config.lm, seed, cancelled, request.conditioning)
    return without_long_silence(sampled, config.version.silent_tokens)


def segment_seed(seed: int, index: int) -> int:
    """Return the seed of the draws of one segment's speech tokens, from that of the request."""
    return int(np.random.SeedSequence([seed, index]).generate_state(1)[0])


def whole_tokens(
    llm: SpeechLm, request: TokenRequest, config: CosyVoiceConfig, limit: int, cancelled: Callable[[], bool] = never
) -> list[np.ndarray]:
    """Return the speech tokens of each segment, int64 `[tokens]`; voice conversion has one segment.

    Raises InvalidRequest for a segment of more than `limit` tokens, and for too much speech in all.
    """
    if not request.segments:
        return [request.source]
    segments: list[np.ndarray] = []
    spoken = SpeechCount(config)
    for index in range(len(request.segments)):
        speech: list[int] = []
        for token in segment_tokens(llm, request, index, config, cancelled):
            speech.append(token)
            spoken.add(1)
            if len(speech) > limit:
                seconds = limit / config.flow.token_frame_rate
                raise InvalidRequest(
                    "target_text",
                    f"segment {index + 1} of {len(request.segments)} speaks longer than {seconds:.0f} s; split it by "
                    "punctuation, or use the streaming model",
                )
        if not speech and not cancelled():
            raise silent_segment(index, len(request.segments))
        segments.append(np.array(speech, np.int64))
        if cancelled():
            break
    return segments


class SpeechCount:
    """Counts the speech tokens of one request against the longest speech that one may ask for."""

    def __init__(self, config: CosyVoiceConfig) -> None:
        self._left = longest_speech(config)

    def counted(self, tokens: Iterable[int]) -> Iterator[int]:
        """Yield the tokens, counting them."""
        for token in tokens:
            self.add(1)
            yield token

    def add(self, tokens: int) -> None:
        """Count tokens; raise InvalidRequest beyond the limit."""
        self._left -= tokens
        if self._left < 0:
            raise too_much_speech()


def silent_segment(index: int, count: int) -> TritoneError:
    """Return the error for a segment for which the language model sampled no speech at all."""
    return TritoneError(f"segment {index + 1} of {count} produced no speech; try another seed")
