"""The order of calls: text to prior, durations, a draw of the prior for every frame, the flow, the waveform.

Everything works on lists of segments, of one request or of several, which go through the networks in padded batches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple, TypeVar

import numpy as np

from tritone.errors import InvalidRequest
from tritone.families.bert_vits2.request import DURATION_NOISE, PRIOR_NOISE, Controls, noise, prepare, text_arrays
from tritone.families.bert_vits2.voice import Voice
from tritone.families.bert_vits2.windows import Window, reach, stream_windows, whole_windows
from tritone.request.batch import stack
from tritone.stage import Arrays, Call

ROWS = 4
"""Segments that share a batch at most; memory grows with the longest of them."""
MOST_PHONES, MOST_FRAMES, WINDOW_FRAMES = 1000, 3000, 1000
"""What the text encoder, the flow and the decoder take at once."""

Item = TypeVar("Item")


class Place(NamedTuple):
    """One segment: whose it is and which, and how it is to be spoken; `g` is the speaker `[1, gin, 1]`."""

    seed: int
    segment: int
    controls: Controls
    g: np.ndarray


class Encoded(NamedTuple):
    """What the text encoder makes of a segment: `x` `[1, hidden, phones]`, `m_p` and `logs_p` `[1, inter, phones]`."""

    x: np.ndarray
    m_p: np.ndarray
    logs_p: np.ndarray


def synthesize(
    call: Call, request: Arrays, voice: Voice, cancelled: Callable[[], bool] = lambda: False
) -> Iterator[np.ndarray]:
    """Yield waveform chunks `[samples]`, segment after segment, each in windows that begin short."""
    prepared = prepare(request, voice)
    g = speakers(call, [prepared.sid])
    for index in range(len(prepared.segments)):
        if cancelled():
            return
        places = [Place(prepared.seed, index, prepared.controls, g)]
        encoded = encode(call, places, [text_arrays(prepared, index, voice)])
        (z,) = latents(call, places, encoded, durations(call, places, encoded))
        for chunk in decoded(call, z, g, stream_windows(z.shape[2], reach(voice.config.model), WINDOW_FRAMES)):
            yield chunk
            if cancelled():
                return


def speakers(call: Call, sids: list[int]) -> np.ndarray:
    """Return the speakers `[count, gin, 1]`."""
    return np.concatenate([call("emb", sid=np.array(rows, np.int64))["g"] for rows in batches(sids)])


def encode(call: Call, places: list[Place], texts: list[Arrays]) -> list[Encoded]:
    """Return the segments' prior, from the arrays of `request.text_arrays`."""
    found = []
    for rows in batches(list(zip(places, texts, strict=True))):
        lengths = [text["x"].shape[1] for _, text in rows]
        if max(lengths) > MOST_PHONES:
            raise InvalidRequest(
                "target_text", f"a segment has {max(lengths)} phones and blanks, at most {MOST_PHONES} go; send parts"
            )
        joined = {name: stack([text[name] for _, text in rows]) for name in rows[0][1]}
        g = np.concatenate([place.g for place, _ in rows])
        out = call("enc_p", x_lengths=np.array(lengths, np.int32), g=g, **joined)
        for row, length in enumerate(lengths):
            found.append(Encoded(*(out[name][row : row + 1, :, :length] for name in ("xout", "m_p", "logs_p"))))
    return found


def durations(call: Call, places: list[Place], encoded: list[Encoded]) -> list[np.ndarray]:
    """Return frames of each phoneme, int64 `[phones]`, at least one.

    Raises InvalidRequest where a segment would be longer than the flow takes.
    """
    found = []
    for rows in batches(list(zip(places, encoded, strict=True))):
        lengths = [one.x.shape[2] for _, one in rows]
        shared = {
            "x": stack([one.x for _, one in rows]),
            "x_lengths": np.array(lengths, np.int32),
            "g": np.concatenate([place.g for place, _ in rows]),
        }
        drawn = [
            noise(place.seed, place.segment, DURATION_NOISE, (2, length)) * np.float32(place.controls.noise_scale_w)
            for (place, _), length in zip(rows, lengths, strict=True)
        ]
        stochastic = call("sdp", zin=stack([one[None] for one in drawn]), **shared)["logw"]
        deterministic = call("dp", **shared)["logw"]
        for row, ((place, _), length) in enumerate(zip(rows, lengths, strict=True)):
            ratio = np.float32(place.controls.sdp_ratio)
            logw = stochastic[row, 0, :length] * ratio + deterministic[row, 0, :length] * (1 - ratio)
            found.append(whole_frames(logw, place.controls.length_scale))
    return found


def whole_frames(logw: np.ndarray, length_scale: float) -> np.ndarray:
    """Return frames of each phoneme, int64, from log durations `[phones]`; InvalidRequest when there are too many."""
    with np.errstate(over="ignore"):
        frames = np.ceil(np.exp(logw.astype(np.float32)) * np.float32(length_scale))
    total = float(frames.sum())
    if not total <= MOST_FRAMES:
        raise InvalidRequest(
            "target_text",
            f"a segment would last {total:.0f} frames, at most {MOST_FRAMES} go; send it in parts, or speak faster",
        )
    return np.maximum(frames, np.arange(len(frames)) == 0).astype(np.int64)


def latents(call: Call, places: list[Place], encoded: list[Encoded], frames: list[np.ndarray]) -> list[np.ndarray]:
    """What the decoder reads of each segment, `[1, inter, frames]`: a draw of the prior through the flow."""
    found = []
    for rows in batches(list(zip(places, encoded, frames, strict=True))):
        drawn = [draw(place, one, count) for place, one, count in rows]
        lengths = [one.shape[2] for one in drawn]
        g = np.concatenate([place.g for place, _, _ in rows])
        z = call("flow", z_p=stack(drawn), y_lengths=np.array(lengths, np.int32), g=g)["z"]
        found += [z[row : row + 1, :, :length] for row, length in enumerate(lengths)]
    return found


def draw(place: Place, encoded: Encoded, frames: np.ndarray) -> np.ndarray:
    """Return a sample of the prior of every frame, `[1, inter, frames]`: each phoneme's prior held for its frames."""
    mean, log_deviation = (np.repeat(part, frames, axis=2) for part in (encoded.m_p, encoded.logs_p))
    drawn = noise(place.seed, place.segment, PRIOR_NOISE, mean.shape[1:])
    sample: np.ndarray = mean + drawn * np.exp(log_deviation) * np.float32(place.controls.noise_scale)
    return sample


def whole_waveform(call: Call, z: np.ndarray, g: np.ndarray, voice: Voice) -> np.ndarray:
    """Return the segment's waveform `[samples]` in as few windows as hold it."""
    return np.concatenate(
        list(decoded(call, z, g, whole_windows(z.shape[2], reach(voice.config.model), WINDOW_FRAMES)))
    )


def decoded(call: Call, z: np.ndarray, g: np.ndarray, windows: Iterable[Window]) -> Iterator[np.ndarray]:
    """Yield the samples `[samples]` of each window of one segment; rows of a batch would have to be of one length."""
    for begin, start, stop, end in windows:
        wave = call("dec", z_in=np.ascontiguousarray(z[:, :, begin:end]), g=g)["waveform"][0]
        hop = len(wave) // (end - begin)
        yield wave[(start - begin) * hop : (stop - begin) * hop]


def batches(items: list[Item]) -> Iterator[list[Item]]:
    """Yield the items in order, `ROWS` at a time."""
    for start in range(0, len(items), ROWS):
        yield items[start : start + ROWS]
