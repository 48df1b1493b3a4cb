"""The order of calls: text to prior, durations, a sample of the prior for every frame, the flow, the waveform.

Every function takes a list of segments, of one request or of several, which pass through the networks in padded
batches. A segment gets the same numbers whatever else is in its batch. The ensemble and the stream both use these.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple, TypeVar

import numpy as np

from tritone.errors import InvalidRequest
from tritone.families.bert_vits2.request import DURATION_NOISE, PRIOR_NOISE, Controls, Prepared, noise
from tritone.families.bert_vits2.stages import BATCH, FRAMES, PHONES, WINDOW
from tritone.families.bert_vits2.voice import Voice
from tritone.families.bert_vits2.windows import Window, receptive_field, whole_windows
from tritone.request.batch import stack
from tritone.request.fields import LONGEST_SECONDS, too_much_speech
from tritone.stage import Arrays, Call

Item = TypeVar("Item")


class Place(NamedTuple):
    """One segment of a request: the request's seed, the segment's index, the controls and the speaker.

    The speaker `g` is `[1, gin, 1]`.
    """

    seed: int
    segment: int
    controls: Controls
    g: np.ndarray


class Encoded(NamedTuple):
    """A segment's outputs of the text encoder: `x` `[1, hidden, phones]`, `m_p` and `logs_p` `[1, inter, phones]`."""

    x: np.ndarray
    m_p: np.ndarray
    logs_p: np.ndarray


class SpokenFrames:
    """Counts the frames of one request against the longest speech that one may ask for."""

    def __init__(self, voice: Voice) -> None:
        data = voice.config.data
        self._left = LONGEST_SECONDS * data.sampling_rate // data.hop_length

    def add(self, durations: np.ndarray) -> None:
        """Count a segment's durations; raise InvalidRequest beyond the limit."""
        self._left -= int(durations.sum())
        if self._left < 0:
            raise too_much_speech()


def voices(call: Call, requests: list[Prepared]) -> np.ndarray:
    """Return the speakers `[count, gin, 1]` of requests to one voice, from its table or their recordings."""
    sids = [prepared.speaker for prepared in requests if isinstance(prepared.speaker, int)]
    return speakers(call, sids) if sids else heard(call, [np.asarray(prepared.speaker) for prepared in requests])


def heard(call: Call, spectrograms: list[np.ndarray]) -> np.ndarray:
    """Return the speakers `[count, gin, 1]` in spectrograms `[1, bins, frames]`."""
    found = []
    for rows in batches(spectrograms):
        lengths = np.array([row.shape[2] for row in rows], np.int32)
        found.append(call("ref_enc", spec=stack(rows), spec_lengths=lengths)["g"])
    return np.concatenate(found)


def speakers(call: Call, sids: list[int]) -> np.ndarray:
    """Return the embeddings `[count, gin, 1]` of the speakers with these ids."""
    return np.concatenate([call("emb", sid=np.array(rows, np.int64))["g"] for rows in batches(sids)])


def encode(call: Call, places: list[Place], texts: list[Arrays]) -> list[Encoded]:
    """Return the encoded text and prior of each segment, from the arrays of `request.text_arrays`.

    Raises InvalidRequest for a segment with more phones than the text encoder takes.
    """
    results = []
    for rows in batches(list(zip(places, texts, strict=True))):
        lengths = [text["x"].shape[1] for _, text in rows]
        if max(lengths) > PHONES.hi:
            raise InvalidRequest(
                "target_text",
                f"a segment has {max(lengths)} phones and blanks; the limit is {PHONES.hi}; split the text",
            )
        joined = {name: stack([text[name] for _, text in rows]) for name in rows[0][1]}
        g = np.concatenate([place.g for place, _ in rows])
        out = call("enc_p", x_lengths=np.array(lengths, np.int32), g=g, **joined)
        for row, length in enumerate(lengths):
            results.append(Encoded(*(out[name][row : row + 1, :, :length] for name in ("xout", "m_p", "logs_p"))))
    return results


def durations(call: Call, places: list[Place], encoded: list[Encoded]) -> list[np.ndarray]:
    """Return the number of frames of each phone, int64 `[phones]`, with at least one frame in all.

    Raises InvalidRequest for a segment with more frames than the flow takes.
    """
    results = []
    for rows in batches(list(zip(places, encoded, strict=True))):
        lengths = [text.x.shape[2] for _, text in rows]
        shared = {
            "x": stack([text.x for _, text in rows]),
            "x_lengths": np.array(lengths, np.int32),
            "g": np.concatenate([place.g for place, _ in rows]),
        }
        drawn = [
            noise(place.seed, place.segment, DURATION_NOISE, (2, length)) * np.float32(place.controls.noise_scale_w)
            for (place, _), length in zip(rows, lengths, strict=True)
        ]
        stochastic = call("sdp", zin=stack([sample[None] for sample in drawn]), **shared)["logw"]
        deterministic = call("dp", **shared)["logw"]
        for row, ((place, _), length) in enumerate(zip(rows, lengths, strict=True)):
            ratio = np.float32(place.controls.sdp_ratio)
            logw = stochastic[row, 0, :length] * ratio + deterministic[row, 0, :length] * (1 - ratio)
            results.append(whole_frames(logw, place.controls.length_scale))
    return results


def whole_frames(logw: np.ndarray, length_scale: float) -> np.ndarray:
    """Return the number of frames of each phone, int64 `[phones]`, from log durations `[phones]`.

    Raises InvalidRequest when their sum exceeds the frames the flow takes.
    """
    with np.errstate(over="ignore"):
        frames = np.ceil(np.exp(logw.astype(np.float32)) * np.float32(length_scale))
    total = float(frames.sum())
    if not total <= FRAMES.hi:
        raise InvalidRequest(
            "target_text",
            f"a segment would last {total:.0f} frames; the limit is {FRAMES.hi}; split the text, or raise the speed",
        )
    return np.maximum(frames, np.arange(len(frames)) == 0).astype(np.int64)


def latents(call: Call, places: list[Place], encoded: list[Encoded], frames: list[np.ndarray]) -> list[np.ndarray]:
    """Return the decoder's input of each segment, `[1, inter, frames]`: a sample of the prior through the flow."""
    results = []
    for rows in batches(list(zip(places, encoded, frames, strict=True))):
        samples = [sample_prior(place, text, counts) for place, text, counts in rows]
        lengths = [sample.shape[2] for sample in samples]
        g = np.concatenate([place.g for place, _, _ in rows])
        z = call("flow", z_p=stack(samples), y_lengths=np.array(lengths, np.int32), g=g)["z"]
        results += [z[row : row + 1, :, :length] for row, length in enumerate(lengths)]
    return results


def sample_prior(place: Place, encoded: Encoded, frames: np.ndarray) -> np.ndarray:
    """Return a sample of the prior of every frame, `[1, inter, frames]`; a phone's frames share its prior."""
    mean, log_deviation = (np.repeat(part, frames, axis=2) for part in (encoded.m_p, encoded.logs_p))
    drawn = noise(place.seed, place.segment, PRIOR_NOISE, mean.shape[1:])
    sample: np.ndarray = mean + drawn * np.exp(log_deviation) * np.float32(place.controls.noise_scale)
    return sample


def whole_waveform(call: Call, z: np.ndarray, g: np.ndarray, voice: Voice) -> np.ndarray:
    """Return a segment's waveform `[samples]`, decoded in as few windows as possible."""
    context = receptive_field(voice.config.model)
    return np.concatenate(list(decoded(call, z, g, whole_windows(z.shape[2], context, WINDOW.hi))))


def decoded(call: Call, z: np.ndarray, g: np.ndarray, windows: Iterable[Window]) -> Iterator[np.ndarray]:
    """Yield the samples `[samples]` of each window of a segment.

    Windows are not batched, because the decoder stage has no masks and so takes rows of equal length only.
    """
    for begin, start, stop, end in windows:
        wave = call("dec", z_in=np.ascontiguousarray(z[:, :, begin:end]), g=g)["waveform"][0]
        hop = len(wave) // (end - begin)
        yield wave[(start - begin) * hop : (stop - begin) * hop]


def batches(items: list[Item]) -> Iterator[list[Item]]:
    """Yield the items in order, at most a stage's batch at a time."""
    for start in range(0, len(items), BATCH.hi):
        yield items[start : start + BATCH.hi]
