"""The four host steps of the whole-utterance ensemble: text encoder, durations, flow and decoder.

Each takes a list of requests and passes the segments of all of them through the networks in padded batches. Between
host steps the segments of a request are concatenated along the last axis, together with their lengths.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tritone.calls import Gone, each, stoppable
from tritone.errors import TritoneError
from tritone.families.bert_vits2.request import REQUEST, Controls, Prepared, prepare, text_arrays
from tritone.families.bert_vits2.voice import Voice
from tritone.families.bert_vits2.whole import (
    Encoded,
    Place,
    SpokenFrames,
    durations,
    encode,
    latents,
    voices,
    whole_waveform,
)
from tritone.lm.protocols import Llm
from tritone.request.batch import answer, row
from tritone.stage import Arrays, Axis, Call, Host, Scaled, Tensor

Left = Sequence[Gone]
SEGMENTS = Axis("segments", 1, 1, 5000)
TEXT = Axis("all_phones", 1, 161, 200000)
SPOKEN = Axis("all_frames", 1, 480, 2_000_000)
LONGEST_PHONE = 4096
"""Most frames of one phone, half a minute and more."""


def hosts(voice: Voice) -> tuple[Host, ...]:
    """Return the ensemble's host steps in order; each reads outputs of the earlier ones by name."""
    model = voice.config.model
    g = Tensor("g", "float32", (1, model.gin_channels, 1))
    x = Tensor("xout", "float32", (1, model.hidden_channels, TEXT))
    prior = tuple(Tensor(name, "float32", (1, model.inter_channels, TEXT)) for name in ("m_p", "logs_p"))
    phone_len = Tensor("phone_len", "int64", (1, SEGMENTS), length_of=TEXT)
    numbers = Tensor("controls", "float32", (1, len(Controls._fields)), allowed=(0, 5.01))
    controls = (numbers, Tensor("seed_used", "int64", (1, 1), allowed=(0, (1 << 63) - 1)))
    frames = Tensor("duration", "int64", (1, TEXT), allowed=(0, LONGEST_PHONE))
    z = Tensor("z", "float32", (1, model.inter_channels, SPOKEN))
    frame_len = Tensor("frame_len", "int64", (1, SEGMENTS), length_of=SPOKEN)
    waveform = Tensor("waveform", "float32", (1, Scaled(voice.config.data.hop_length, SPOKEN)))

    used = ("ref_enc" if voice.heard else "emb", "enc_p")

    def text_encoder(call: Call, _llm: Llm, requests: list[Arrays], _left: Left = ()) -> list[Any]:
        return encode_texts(call, requests, voice)

    def duration(call: Call, _llm: Llm, requests: list[Arrays], _left: Left = ()) -> list[Any]:
        return predict_durations(call, requests, voice)

    def flow(call: Call, _llm: Llm, requests: list[Arrays], _left: Left = ()) -> list[Any]:
        return run_flow(call, requests)

    def decoder(call: Call, _llm: Llm, requests: list[Arrays], left: Left = ()) -> list[Any]:
        pairs = zip(requests, each(left, len(requests)), strict=True)
        return [answer(decode, stoppable(call, gone), request, voice) for request, gone in pairs]

    return (
        Host("text_encoder", REQUEST, (g, x, *prior, phone_len, *controls), text_encoder, used),
        Host("duration", (x, phone_len, g, *controls), (frames,), duration, ("sdp", "dp")),
        Host("flow", (*prior, phone_len, frames, g, *controls), (z, frame_len), flow, ("flow",)),
        Host("decoder", (z, frame_len, g), (waveform,), decoder, ("dec",), long=True),
    )


def encode_texts(call: Call, requests: list[Arrays], voice: Voice) -> list[Any]:
    """Return the speaker, encoded text and prior of each request, or the error of a request that is invalid."""
    results: list[Any] = [answer(read, request, voice) for request in requests]
    valid = [index for index, result in enumerate(results) if not isinstance(result, TritoneError)]
    if not valid:
        return results
    read_requests = [results[index] for index in valid]
    gs = voices(call, [prepared for prepared, _ in read_requests])
    places = [
        Place(prepared.seed, segment, prepared.controls, gs[number : number + 1])
        for number, (prepared, texts) in enumerate(read_requests)
        for segment in range(len(texts))
    ]
    encoded = iter(encode(call, places, [text for _, texts in read_requests for text in texts]))
    for index, (prepared, texts), g in zip(valid, read_requests, gs, strict=True):
        segments = [next(encoded) for _ in texts]
        results[index] = {
            "g": g[None],
            "xout": joined([segment.x for segment in segments]),
            "m_p": joined([segment.m_p for segment in segments]),
            "logs_p": joined([segment.logs_p for segment in segments]),
            "phone_len": row([segment.x.shape[2] for segment in segments]),
            "controls": np.array([prepared.controls], np.float32),
            "seed_used": row([prepared.seed]),
        }
    return results


def read(request: Arrays, voice: Voice) -> tuple[Prepared, list[Arrays]]:
    """Return a request and the text encoder's inputs of each of its segments."""
    prepared = prepare(request, voice)
    return prepared, [text_arrays(prepared, index, voice) for index in range(len(prepared.segments))]


def predict_durations(call: Call, requests: list[Arrays], voice: Voice) -> list[Any]:
    """Return the number of frames of each phone of each request, or the error of one that is too long in all."""
    places, owners = placed(requests)
    texts = [x for request in requests for x in split(request["xout"], request["phone_len"])]
    # The predictors take `x` alone, so it also stands for the mean and deviation, which nothing reads.
    frames = durations(call, places, [Encoded(x, x, x) for x in texts])
    return [answer(all_durations, segments, voice) for segments in by_owner(frames, owners, len(requests))]


def all_durations(segments: list[np.ndarray], voice: Voice) -> Arrays:
    """Return the durations of a request's segments; InvalidRequest if they are longer than a request may be."""
    spoken = SpokenFrames(voice)
    for frames in segments:
        spoken.add(frames)
    return {"duration": row(np.concatenate(segments))}


def run_flow(call: Call, requests: list[Arrays]) -> list[Any]:
    """Return the decoder's inputs of each request's segments, and the lengths of the segments in frames."""
    places, owners = placed(requests)
    priors = [
        Encoded(m_p, m_p, logs_p)
        for request in requests
        for m_p, logs_p in zip(*(split(request[name], request["phone_len"]) for name in ("m_p", "logs_p")), strict=True)
    ]
    frames = [counts[0] for request in requests for counts in split(request["duration"], request["phone_len"])]
    zs = latents(call, places, priors, frames)
    return [
        {"z": joined(segments), "frame_len": row([z.shape[2] for z in segments])}
        for segments in by_owner(zs, owners, len(requests))
    ]


def decode(call: Call, request: Arrays, voice: Voice) -> Arrays:
    """Return the waveform of a request's segments, one after another."""
    zs = split(request["z"], request["frame_len"])
    return {"waveform": np.concatenate([whole_waveform(call, z, request["g"], voice) for z in zs])[None]}


def placed(requests: list[Arrays]) -> tuple[list[Place], list[int]]:
    """Return the segments of all requests, and for each the index of its request."""
    places, owners = [], []
    for owner, request in enumerate(requests):
        controls = Controls(*map(float, request["controls"][0]))
        for index in range(request["phone_len"].shape[1]):
            places.append(Place(int(request["seed_used"][0, 0]), index, controls, request["g"]))
            owners.append(owner)
    return places, owners


def split(array: np.ndarray, lengths: np.ndarray) -> list[np.ndarray]:
    """Return the segments of an array in which they are concatenated along the last axis."""
    return np.split(array, np.cumsum(lengths[0])[:-1], axis=-1)


def joined(arrays: Sequence[np.ndarray]) -> np.ndarray:
    """Return the segments concatenated along their last axis."""
    return np.ascontiguousarray(np.concatenate(arrays, axis=-1))


def by_owner(items: list[np.ndarray], owners: list[int], count: int) -> list[list[np.ndarray]]:
    """Return the items of each of `count` requests."""
    return [[item for item, owner in zip(items, owners, strict=True) if owner == index] for index in range(count)]
