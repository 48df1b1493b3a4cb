"""A voice from a recording: speech tokens, speaker embedding and prompt mel, as the published models hear them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tritone.audio.kaldi import kaldi_fbank
from tritone.audio.mel import mel_spectrogram
from tritone.audio.reference import check_rate, check_reference
from tritone.audio.resample import sinc_resample
from tritone.audio.whisper import whisper_mel
from tritone.families.cosyvoice.config.common import CosyVoiceConfig
from tritone.families.cosyvoice.voices.voice import Voice
from tritone.stage import Call

TOKENIZER_RATE = 16000
PROMPT_MEL_RATE = 24000
"""The prompt's mel is taken from sound at this rate, regardless of the checkpoint's own.

For v1, whose filters are those of 22050 Hz, the mel is thereby 9 % too long and too low. Its weights are used that way
everywhere, so it is kept.
"""


def reference_voice(
    call: Call, wav: np.ndarray, rate: int, config: CosyVoiceConfig, prompt_ids: Sequence[int] = ()
) -> Voice:
    """Return the voice of a recording with everything that any mode uses; the modes choose from it.

    Where a token is a whole number of mel frames (v2, v3) tokens and mel are cut to the same length, in every mode;
    the published code does so in all but voice conversion, where prompt and speech would then slip by a frame.

    Args:
        wav: `[samples]` float32 in -1..1 at `rate`, 16 kHz or more, 0.5 to 30 s; anything else is an InvalidRequest.
        prompt_ids: text ids of its transcript.
    """
    check_rate(rate)
    wav = check_reference(wav, rate=rate)
    resampled = sinc_resample(wav, rate, TOKENIZER_RATE)
    speech = speech_tokens(call, resampled)
    mel = mel_spectrogram(sinc_resample(wav, rate, PROMPT_MEL_RATE), config.mel).T
    ratio = config.flow.token_mel_ratio
    if ratio:
        count = min(len(speech), len(mel) // ratio)
        speech, mel = speech[:count], mel[: count * ratio]
    return Voice(
        "reference",
        speaker_embedding(call, resampled),
        prompt_ids=np.array(prompt_ids, np.int64),
        speech_token=speech,
        llm_speech_token=speech,
        mel=np.ascontiguousarray(mel, np.float32),
        trained=False,
    )


def source_tokens(call: Call, wav: np.ndarray, rate: int) -> np.ndarray:
    """Return the speech tokens, int64 `[speech_tokens]`, of a recording whose words another voice is to say.

    The limits are those of a reference; the field they name is `source_wav`.
    """
    check_rate(rate, "source_wav")
    wav = check_reference(wav, rate=rate, field="source_wav")
    return speech_tokens(call, sinc_resample(wav, rate, TOKENIZER_RATE))


def speech_tokens(call: Call, wav: np.ndarray) -> np.ndarray:
    """Return the published tokenizer's ids, int64 `[speech_tokens]`, of sound `[samples]` at 16 kHz."""
    feats = whisper_mel(wav)
    length = np.array([feats.shape[1]], np.int32)
    tokens: np.ndarray = call("speech_tokenizer", feats=feats[None], feats_length=length)["indices"]
    return tokens.reshape(-1).astype(np.int64)


def speaker_embedding(call: Call, wav: np.ndarray) -> np.ndarray:
    """Return the published embedding, float32 `[192]`, of the speaker in sound `[samples]` at 16 kHz."""
    fbank = kaldi_fbank(wav, subtract_mean=True)
    return call("speaker_embedding", input=fbank[None])["output"].reshape(-1).astype(np.float32)
