"""Bad requests: each is answered with a sentence naming the field, and the server goes on speaking."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from server.conftest import text
from tritonclient.utils import InferenceServerException

from tritone.client.errors import InvalidArgument
from tritone.client.speech_client import SpeechClient


def wav(samples: int, value: float = 0.1) -> tuple[np.ndarray, str]:
    noise = np.random.default_rng(0).standard_normal((1, samples)) * value
    return noise.astype(np.float32), "FP32"


def number(value: float, dtype: str, datatype: str) -> tuple[np.ndarray, str]:
    return np.array([[value]], dtype), datatype


BAD: list[tuple[str, dict[str, tuple[np.ndarray, str]]]] = [
    ("target_text", {"target_text": text("")}),
    ("target_text", {"target_text": text(" \n\t ")}),
    ("target_text", {"target_text": text("word " * 20000)}),
    ("target_text", {"target_text": text(b"\xff\xfe\xfa")}),
    ("target_text", {"speed": number(1.0, "float32", "FP32")}),
    ("speaker", {"target_text": text("Hello."), "speaker": text("stranger")}),
    ("speed", {"target_text": text("Hello."), "speed": number(0.0, "float32", "FP32")}),
    ("speed", {"target_text": text("Hello."), "speed": number(100.0, "float32", "FP32")}),
    ("speed", {"target_text": text("Hello."), "speed": number(float("nan"), "float32", "FP32")}),
    ("reference_wav", {"target_text": text("Hello."), "reference_wav": wav(48000, np.nan)}),
    ("reference_wav", {"target_text": text("Hello."), "reference_wav": wav(1600)}),
    ("reference_wav", {"target_text": text("Hello."), "reference_wav": wav(31 * 16000)}),
    ("reference_text", {"target_text": text("Hello."), "reference_text": text("Without audio.")}),
    ("target_text", {"target_text": (np.array([[b"One."], [b"Two."]], np.object_), "BYTES")}),
]
OF_TRITON: list[tuple[str, dict[str, tuple[np.ndarray, str]]]] = [
    ("target_text", {"target_text": (np.zeros((1, 1), np.float32), "FP32")}),
    ("target_text", {"target_text": (np.array([b"Hello."], np.object_), "BYTES")}),
    ("speed", {"target_text": text("Hello."), "speed": number(1, "float64", "FP64")}),
    ("no_such_input", {"target_text": text("Hello."), "no_such_input": text("x")}),
]


def status(error: InferenceServerException) -> str:
    return str(error.status())


@pytest.mark.parametrize(("field", "inputs"), BAD)
def test_content_at_fault_is_invalid_argument_naming_the_field(
    infer: Callable[..., Any], field: str, inputs: dict[str, Any]
) -> None:
    with pytest.raises(InferenceServerException, match=f"INVALID_ARGUMENT: {field}: ") as error:
        infer(**inputs)
    assert status(error.value) == "StatusCode.INVALID_ARGUMENT"


@pytest.mark.parametrize(("field", "inputs"), OF_TRITON)
def test_wrong_dtype_rank_or_name_is_refused_by_name(
    infer: Callable[..., Any], field: str, inputs: dict[str, Any]
) -> None:
    with pytest.raises(InferenceServerException, match=f"'{field}'") as error:
        infer(**inputs)
    assert status(error.value) == "StatusCode.INVALID_ARGUMENT"


def test_stream_answers_bad_input_the_same_way(speech: SpeechClient) -> None:
    with pytest.raises(InvalidArgument, match=r"INVALID_ARGUMENT: speaker: .*stranger"):
        list(speech.stream("Hello.", speaker="stranger"))


def test_server_still_speaks_after_all_that(infer: Callable[..., Any], speech: SpeechClient) -> None:
    for _, inputs in [*BAD[:2], *BAD[5:8], OF_TRITON[0]]:
        with pytest.raises(InferenceServerException):
            infer(**inputs)
    assert speech.synthesize("Hello.").waveform.size > 1000


def floats(*shape: int, value: float = 0.0) -> tuple[np.ndarray, str]:
    return np.full(shape, value, np.float32), "FP32"


def ids(*values: int) -> tuple[np.ndarray, str]:
    return np.array([values], np.int64), "INT64"


ONE = floats(1, 1, value=1)
FLOW = {"mu": floats(1, 80, 20), "mu_len": ids(20), "spks": floats(1, 80), "prompt_feat": floats(1, 80, 0)}
INSIDE: list[tuple[str, dict[str, tuple[np.ndarray, str]], str]] = [
    ("vocoder", {"mel": floats(1, 80, 20, value=np.nan), "mel_len": ids(20), "seed_used": ids(0)}, "mel: has NaN"),
    (
        "vocoder",
        {"mel": floats(1, 80, 20_000), "mel_len": ids(20_000), "seed_used": ids(0)},
        "mel_len: has a segment of",
    ),
    ("vocoder", {"mel": floats(1, 80, 20), "mel_len": ids(20), "seed_used": ids(-4)}, "seed_used: has -4"),
    ("flow_decoder", FLOW | {"speed_used": floats(1, 1, value=-1)}, "speed_used: has -1"),
    ("flow_decoder", FLOW | {"speed_used": floats(1, 1, value=1e30)}, "speed_used: has 1e"),
    (
        "flow_decoder",
        FLOW | {"prompt_feat": floats(1, 80, 30), "speed_used": floats(1, 1, value=1)},
        "prompt_feat: leaves",
    ),
    (
        "flow_encoder",
        {
            "speech_token": ids(5, 1 << 40),
            "token_len": ids(2),
            "prompt_speech_token": ids(),
            "embedding": floats(1, 192),
        },
        "speech_token: has 1.09951e+12",
    ),
    (
        "llm",
        {
            **dict.fromkeys(("prompt_text_token", "llm_prompt_speech_token", "source_token"), ids()),
            **{"text_token": ids(3, -7), "segment_len": ids(2), "seed_used": ids(0)},
        },
        "text_token: has -7",
    ),
]


@pytest.mark.parametrize(("step", "inputs", "message"), INSIDE, ids=[message for _, _, message in INSIDE])
def test_steps_behind_the_entry_refuse_what_no_step_sends(
    inside: Callable[..., Any], step: str, inputs: dict[str, tuple[np.ndarray, str]], message: str
) -> None:
    with pytest.raises(InferenceServerException) as error:
        inside(f"cosyvoice2_{step}", **inputs)
    assert f"INVALID_ARGUMENT: {message}" in str(error.value) and "onnxruntime" not in str(error.value)
