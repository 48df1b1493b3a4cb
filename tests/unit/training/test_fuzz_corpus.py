"""Recordings, metadata.csv and JSONL of any content: they are read, or refused by the product's own errors."""

from __future__ import annotations

import io
import json
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.fuzzing import examples

from training.corpus import data, manifest
from training.corpus.metadata import read_metadata
from training.corpus.recordings import Recordings, speech_problem
from tritone.audio.level import recording_problem
from tritone.audio.wav import LONGEST, read_samples
from tritone.checkpoint.lines import read_json_lines
from tritone.errors import ConfigError, TritoneError

U16, U32 = st.integers(0, 0xFFFF), st.integers(0, 0xFFFFFFFF)
RATES = st.sampled_from([0, 1, 7999, 8000, 16000, 44100, 96000, 2**31]) | U32
FORMATS = st.sampled_from([0, 1, 2, 3, 6, 7, 17, 85, 0xFFFE]) | U16
CELLS = st.one_of(
    st.text(max_size=12),
    st.sampled_from(["u0", "u0.wav", "U0", "../u0", "/u0", "wavs/u0", "", " ", "id", "text", "ann", "en", "1.5", "#"]),
    st.text("abc .,!?'\"|\t;#é猫｜\u2028\r", max_size=30),
)  # fmt: skip
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)

ENTRIES = st.fixed_dictionaries(dict.fromkeys(("id", "speaker", "text", "phones", "samples", "file"), VALUES))


@st.composite
def riff(draw: st.DrawFn) -> bytes:
    """Return a wav file whose header says anything, with chunks in any order, cut anywhere."""
    channels, bits = draw(st.integers(0, 70) | U16), draw(st.sampled_from([0, 8, 12, 16, 24, 32, 64]) | U16)
    rate, block = draw(RATES), draw(st.sampled_from([0, 1, 2, 4, 6]) | U16)
    about = struct.pack("<HHIIHH", draw(FORMATS), channels, rate, draw(U32), block, bits) + draw(st.binary(max_size=26))
    sound = draw(st.binary(max_size=600))
    chunks = [
        (b"fmt ", about),
        (b"data", sound),
        (draw(st.binary(min_size=4, max_size=4)), draw(st.binary(max_size=20))),
    ]
    body = b""
    for name, content in draw(st.permutations(chunks)):
        size = draw(st.just(len(content)) | U32)
        body += name + struct.pack("<I", size) + content
    whole = b"RIFF" + struct.pack("<I", draw(st.just(len(body) + 4) | U32)) + b"WAVE" + body
    return whole[: draw(st.just(len(whole)) | st.integers(0, len(whole)))]


@examples(120)
@given(riff() | st.binary(max_size=300))
def test_any_bytes_are_a_recording_or_refused(content: bytes) -> None:
    try:
        samples, rate = read_samples(content)
    except TritoneError as error:
        assert str(error).startswith("the given bytes")
        return
    assert samples.dtype == np.float32 and samples.ndim == 1 and len(samples) <= LONGEST * rate
    for problem in (recording_problem(samples, rate), speech_problem(samples, rate)):
        assert isinstance(problem, str) and not problem.endswith(".")
    if not speech_problem(samples, rate):
        assert np.isfinite(samples).all() and np.abs(samples).max() >= 1e-3


@examples(60)
@given(st.lists(st.floats(width=32), max_size=80), st.integers(1, 4), st.sampled_from(["FLOAT", "PCM_16", "DOUBLE"]))
def test_any_samples_are_judged(values: list[float], channels: int, subtype: str) -> None:
    import soundfile

    wav = np.array(values[: len(values) // channels * channels], np.float32).reshape(-1, channels)
    buffer = io.BytesIO()
    soundfile.write(buffer, np.repeat(wav, 40, 0), 16000, format="WAV", subtype=subtype)
    try:
        samples, rate = read_samples(buffer.getvalue())
    except TritoneError as error:
        assert "cancel" in str(error)
        return
    problem = recording_problem(samples, rate)
    usable = len(samples) and np.isfinite(samples).all() and np.abs(samples).max() <= 2
    assert problem or usable


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("corpus")
    (path / "wavs").mkdir()
    (path / "wavs" / "u0.wav").touch()
    return path


@examples(60)
@given(
    rows=st.lists(st.lists(CELLS, min_size=1, max_size=5), max_size=6),
    mark=st.sampled_from(["|", "|", "|", "\t", ",", "｜"]),
    end=st.sampled_from(["\n", "\r\n", "\r"]),
    encoding=st.sampled_from(["utf-8", "utf-8", "utf-8-sig", "utf-16", "latin-1", "gbk"]),
    columns=st.none() | st.lists(st.sampled_from(["id", "text", "speaker", "normalised", "-", "x"]), max_size=5),
)
def test_any_metadata_is_read_or_refused(
    folder: Path, rows: list[list[str]], mark: str, end: str, encoding: str, columns: list[str] | None
) -> None:
    path = folder / "metadata.csv"
    path.write_bytes(end.join(mark.join(row) for row in rows).encode(encoding, "ignore"))
    try:
        metadata = read_metadata(path, columns)
    except ConfigError as error:
        assert str(error).startswith((str(path), "--columns"))
        return
    assert "id" in metadata.columns and {"text", "normalised"} & set(metadata.columns)
    jobs, problems = manifest.usable_rows(folder, metadata)
    assert len(jobs) <= 1 and all(": " in problem for problem in problems)
    assert all(job.path.is_relative_to(folder / "wavs") and job.text for job in jobs)


@examples(60)
@given(st.binary(max_size=200))
def test_any_bytes_are_metadata_or_refused(folder: Path, content: bytes) -> None:
    (folder / "metadata.csv").write_bytes(content)
    try:
        assert read_metadata(folder / "metadata.csv").rows
    except ConfigError as error:
        assert "metadata.csv" in str(error)


@examples(100)
@given(st.text(max_size=40) | st.lists(st.text(max_size=5), max_size=6).map("/".join))
def test_no_id_leads_out_of_the_folder(folder: Path, name: str) -> None:
    path, problem = Recordings(folder).find(name)
    assert (path is None) == bool(problem)
    assert path is None or path.resolve() == (folder / "wavs" / "u0.wav").resolve()


@examples(60)
@given(st.lists(VALUES | ENTRIES, max_size=4), st.binary(max_size=30))
def test_any_lines_are_objects_or_refused(folder: Path, values: list[object], rest: bytes) -> None:
    path = folder / "lines.jsonl"
    path.write_bytes("\n".join(json.dumps(value) for value in values).encode() + b"\n" + rest)
    for read in (data.read_manifest, lambda file: read_json_lines(file, "{}")):
        try:
            read(path)
        except ConfigError as error:
            assert str(path) in str(error)
