"""An utterance as a stream: segment after segment, each decoded in windows that begin short and grow."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from tritone.calls import never
from tritone.families.bert_vits2.request import prepare, text_arrays
from tritone.families.bert_vits2.stages import WINDOW
from tritone.families.bert_vits2.voice import Voice
from tritone.families.bert_vits2.whole import Place, SpokenFrames, decoded, durations, encode, latents, voices
from tritone.families.bert_vits2.windows import receptive_field, stream_windows
from tritone.stage import Arrays, Call


def synthesize(
    call: Call, request: Arrays, voice: Voice, cancelled: Callable[[], bool] = never
) -> Iterator[np.ndarray]:
    """Yield waveform chunks `[samples]` float32, segment after segment; stop once `cancelled()` is True.

    Raises InvalidRequest, before the first chunk or at a segment that is too long, alone or with those before it; the
    message names the field.
    """
    prepared = prepare(request, voice)
    g = voices(call, [prepared])
    context = receptive_field(voice.config.model)
    spoken = SpokenFrames(voice)
    for index in range(len(prepared.segments)):
        if cancelled():
            return
        places = [Place(prepared.seed, index, prepared.controls, g)]
        encoded = encode(call, places, [text_arrays(prepared, index, voice)])
        frames = durations(call, places, encoded)
        spoken.add(frames[0])
        (z,) = latents(call, places, encoded, frames)
        for chunk in decoded(call, z, g, stream_windows(z.shape[2], context, WINDOW.hi)):
            yield chunk
            if cancelled():
                return
