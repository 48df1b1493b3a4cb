"""The benchmarks' arithmetic, files and errors; no server is started and no package fetched."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from inspect import signature
from pathlib import Path

import numpy as np
import pytest

from benchmarks import asr, load, perf_analyzer, quality, stages
from benchmarks.distance import log_mel_distance, warped_distance
from benchmarks.memory import PeakMemory, resident, tree
from benchmarks.report import FRESH, RESULTS, Table, new_figure, write_report
from benchmarks.timing import Utterance, percentiles, summarise
from tritone.audio.resample import resample
from tritone.audio.wav import write_wav
from tritone.client.errors import SpeechError
from tritone.errors import ConfigError, EnvironmentProblem, InvalidRequest

needs_flite = pytest.mark.skipif(shutil.which("flite") is None, reason="flite is not installed")


def noise(seconds: float, seed: int = 0) -> np.ndarray:
    return (0.1 * np.random.default_rng(seed).standard_normal(int(24000 * seconds))).astype(np.float32)


def test_thirty_different_sentences() -> None:
    texts = asr.sentences()
    assert len(texts) == len({asr.plain(text) for text in texts}) == 30
    assert "The birch canoe slid on the smooth planks." in texts


def test_word_error_rate_counts_words_not_spelling() -> None:
    assert asr.word_error_rate(["It's easy, to tell!"], ["it's EASY to tell"]) == 0.0
    assert asr.word_error_rate(["one two three four", "five"], ["one too three", "five six"]) == pytest.approx(3 / 5)
    assert asr.word_error_rate(["one two"], [""]) == 1.0
    assert asr.plain("Don't -- 'stop'  NOW.") == "don't stop now"


def test_transcribe_refuses_what_is_no_recording() -> None:
    for wav in (np.zeros((1, 16000), np.float32), np.zeros(0, np.float32), np.full(100, np.nan, np.float32)):
        with pytest.raises(InvalidRequest, match=r"wav: need finite samples \[samples\]"):
            asr.transcribe(wav, 16000)


@needs_flite
def test_transcription_understands_and_repeats_exactly() -> None:
    """Earlier recordings, the sample rate and the loudness do not change the result."""
    from training.corpus.flite import RATE, synthesize

    text = "Two blue fish swam in the tank."
    fish = synthesize(text, "rms")
    first = asr.transcribe(fish, RATE)
    asr.transcribe(synthesize("The boy was there.", "slt"), RATE)
    assert asr.transcribe(fish, RATE) == asr.transcribe(0.5 * fish, RATE) == first
    assert asr.word_error_rate([text], [first]) == 0.0
    assert asr.word_error_rate([text], [asr.transcribe(resample(fish, RATE, 24000), 24000)]) < 0.3


def test_recorded_source_figures_belong_to_the_sentences() -> None:
    found = json.loads((RESULTS / "sources.json").read_text())["results"]["speakers"]
    assert set(found) == {"rms", "slt", "awb", "kal16"}
    for voice, entry in found.items():
        assert [row["text"] for row in entry["heard"]] == asr.sentences()
        assert quality.reference(voice, asr.sentences()) == pytest.approx(entry["wer"])
        assert 0.0 < entry["wer"] < 0.5
    subset = asr.sentences()[:3]
    assert quality.reference("rms", subset) == quality.total_wer(found["rms"]["heard"][:3])


def test_distance_is_zero_only_for_the_same_sound() -> None:
    wav = noise(1.0)
    assert log_mel_distance(wav, wav, 24000) == 0.0
    assert log_mel_distance(wav, 0.5 * wav, 24000) == pytest.approx(6.02, abs=0.05)
    assert log_mel_distance(wav, noise(1.0, seed=1), 24000) > 1.0


def test_warping_forgives_timing_and_loudness() -> None:
    sweep = np.concatenate([np.sin(np.arange(6000) * 0.01 * k) for k in (3, 6, 12, 24)]).astype(np.float32)
    slow = np.concatenate([np.sin(np.arange(12000) * 0.01 * k) for k in (3, 6, 12, 24)]).astype(np.float32)
    other = np.concatenate([np.sin(np.arange(12000) * 0.01 * k) for k in (24, 12, 6, 3)]).astype(np.float32)
    assert warped_distance(sweep, 24000, sweep, 24000) < 1e-2
    assert warped_distance(sweep, 24000, slow, 24000) < 0.25 * warped_distance(sweep, 24000, other, 24000)
    assert warped_distance(sweep, 24000, 2 * slow, 24000) == pytest.approx(
        warped_distance(sweep, 24000, slow, 24000), rel=0.5
    )


def test_what_a_listener_waits_for() -> None:
    prompt = Utterance(1.0, (1.5, 2.0, 2.25), (24000, 24000, 12000))
    assert (prompt.first_audio(), prompt.elapsed(), prompt.audio(24000)) == (0.5, 1.25, 2.5)
    assert prompt.gaps() == [0.5, 0.25] and prompt.stall(24000) == 0.0
    late = Utterance(0.0, (1.0, 3.5, 4.0), (24000, 24000, 24000))
    assert late.stall(24000) == pytest.approx(1.5)


def test_percentiles_are_observed_values() -> None:
    found = percentiles([float(value) for value in range(1, 101)])
    assert found == {"p50": 50.0, "p90": 90.0, "p99": 99.0, "mean": 50.5}
    assert percentiles([2.0])["p99"] == 2.0


def test_summary_of_a_level() -> None:
    pair = [Utterance(0.0, (0.1, 0.2), (2400, 2400)), Utterance(0.0, (0.3,), (24000,))]
    found = summarise(pair, wall=0.6, rate=24000, errors=1)
    assert (found["requests"], found["errors"], found["audio_seconds"]) == (2, 1, pytest.approx(1.2))
    assert found["audio_seconds_per_second"] == pytest.approx(2.0)
    assert found["first_audio"]["p50"] == pytest.approx(0.1)  # type: ignore[index]
    assert found["real_time_factor"]["p99"] == pytest.approx(1.0)  # type: ignore[index]
    assert summarise([], 1.0, 24000, errors=3) == {"requests": 0, "errors": 3, "wall": 1.0}


def test_perf_analyzer_export_is_read_without_its_empty_ending() -> None:
    """The empty final response is exported as one meaningless number; it is neither a chunk nor a sample."""
    requests = [
        {
            "timestamp": 1_000_000_000,
            "response_timestamps": [1_200_000_000, 1_500_000_000, 1_600_000_000],
            "response_outputs": [{"waveform": [0.0] * 480}, {"waveform": [0.0] * 240}, {"waveform": 5.8e19}],
        },
        {"timestamp": 1_100_000_000, "response_timestamps": [2_000_000_000], "response_outputs": [{"waveform": 1e3}]},
    ]
    utterances, wall = perf_analyzer.parse({"experiments": [{"requests": requests}]})
    assert utterances == [Utterance(1.0, (1.2, 1.5), (480, 240))] and wall == pytest.approx(1.0)


def script(path: Path, text: str) -> Path:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def test_perf_analyzer_problems_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    line = "x: error while loading shared libraries: libb64.so.0d: cannot open shared object file"
    with pytest.raises(EnvironmentProblem, match=r"needs libb64\.so\.0d, .* run: apt-get install libb64-0d"):
        perf_analyzer.check(script(tmp_path / "a", f"echo '{line}' >&2; exit 127"))
    (tmp_path / "b").write_text("not a program")
    with pytest.raises(EnvironmentProblem, match=r"b does not start .*; delete .* and try again"):
        perf_analyzer.check(tmp_path / "b")
    with pytest.raises(EnvironmentProblem, match=r"failed against m at nowhere:1: .*no such model"):
        perf_analyzer.run(script(tmp_path / "c", "echo no such model; exit 1"), "nowhere:1", "m", [], 1, 1)
    to_export = """while [ "$1" != --profile-export-file ]; do shift; done; echo '{"a": [1' > "$2\""""
    half = script(tmp_path / "half", to_export)
    with pytest.raises(EnvironmentProblem, match=r"left an incomplete export of 9 bytes .*; run it again"):
        perf_analyzer.run(half, "nowhere:1", "m", [], 1, 1)
    monkeypatch.setattr(perf_analyzer.sys, "executable", str(script(tmp_path / "d", "echo 'no network' >&2; exit 1")))
    with pytest.raises(EnvironmentProblem, match=r"could not be fetched from the wheel tritonclient==2\.50\.0: no net"):
        perf_analyzer.locate(tmp_path / "tools")


def test_requests_give_speakers_turns() -> None:
    found = load.requests_of(["a", "b", "c"], ["x", "y"], seed=5)
    assert [(row["target_text"], row["speaker"], row["seed"]) for row in found] == [
        ("a", "x", 5), ("b", "y", 6), ("c", "x", 7),
    ]  # fmt: skip
    assert "speaker" not in load.requests_of(["a"], [], 0)[0]


class FakeClient:
    """Streams two chunks, and fails for one text."""

    sample_rate = 24000

    def stream(self, text: str, **controls: object) -> object:
        if text == "bad":
            raise SpeechError("no")
        return iter([np.zeros(2400, np.float32)] * 2)


def test_load_counts_failures_beside_successes() -> None:
    requests = load.requests_of(["good", "bad"], [], 0)
    done, wall, failures = load.with_client(FakeClient(), requests, concurrency=3, count=10)  # type: ignore[arg-type]
    assert (len(done), failures) == (5, ["no"] * 5) and wall > 0
    assert all(utterance.samples == (2400, 2400) for utterance in done)


def test_load_report_and_its_refusals(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = load.sweep(FakeClient(), load.requests_of(["good"], [], 0), [1, 2], 4, {"client"})  # type: ignore[arg-type]
    page = load.publish("load", rows, {"speakers": "x"}, tmp_path)
    assert "first audio P50" in page.read_text() and (tmp_path / "load.png").stat().st_size > 1000
    for message, arguments in {
        "--tools wrk: the tools are client and perf_analyzer": ["--tools", "wrk"],
        "--concurrency 0: give whole numbers": ["--concurrency", "0"],
        "--pid 999999999: there is no such process": ["--pid", "999999999", "--tools", "client"],
    }.items():
        assert load.main(arguments) == 1
        assert message in capsys.readouterr().err


def test_folders_of_recordings(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"holds no recordings; expected .*SPEAKER/01\.wav"):
        quality.folders(tmp_path)
    (tmp_path / "rms").mkdir()
    write_wav(tmp_path / "rms" / "02.wav", noise(0.2), 24000)
    assert quality.folders(tmp_path) == {"rms": tmp_path / "rms"}
    assert quality.folders(tmp_path / "rms") == {"rms": tmp_path / "rms"}
    say = quality.from_folder(tmp_path / "rms")
    assert say(0, "") is None
    found = say(1, "")
    assert found is not None and found[0].shape == (3200,) and found[1] == 16000


def test_quality_counts_what_was_spoken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asr, "transcribe", lambda wav, rate: "one two")
    spoken = {0: (noise(1.0), 24000), 2: (noise(0.5), 24000)}
    found = quality.score(lambda index, text: spoken.get(index), ["one two", "gone", "one too"], "x")
    assert (found["sentences"], found["wer"]) == (2, 0.25)
    assert [row["wer"] for row in found["heard"]] == [0.0, 0.5]
    with pytest.raises(ConfigError, match="x: no recording to score"):
        quality.score(lambda index, text: None, ["one"], "x")
    page = quality.publish("q", "Quality", {"x": found | {"source_wer": 0.3, "within_margin": True}}, tmp_path)
    assert "<td>yes" in page.read_text() and "<td>0.250" in page.read_text()


def test_report_holds_every_number(tmp_path: Path) -> None:
    figure, axes = new_figure()
    axes.plot([1, 2])
    page = write_report("a", "A <b>", {"x": 1}, [Table("t", ["k", "v"], [["<i>", 0.5], ["y", None]])], figure, tmp_path)
    assert "&lt;i&gt;" in page.read_text() and "<td>0.500" in page.read_text() and 'src="a.png"' in page.read_text()
    record = json.loads((tmp_path / "a.json").read_text())
    assert record["results"] == {"x": 1} and {"processor", "cores", "load_average"} <= set(record["machine"])


def test_memory_covers_children() -> None:
    assert os.getpid() in tree(os.getpid()) and resident(os.getpid()) > 2**20
    with PeakMemory(os.getpid()) as memory:
        pass
    assert PeakMemory(None).result() == {} and set(memory.result()) == {"server_memory_gib"}


def test_fastest_takes_turns() -> None:
    calls: list[str] = []
    times = stages.fastest([lambda: calls.append("a"), lambda: calls.append("b")], repeats=2)
    assert calls == ["a", "b"] * 3 and len(times) == 2 and max(times) < 1.0


def test_stages_needs_exported_files(tiny_v2: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert stages.main([str(tiny_v2), "--build", str(tmp_path), "--stages", "vocoder"]) == 1
    remedy = f"run: tritone build {tiny_v2} --out {tmp_path}"
    assert f"has no exported vocoder; {remedy}" in capsys.readouterr().err
    assert stages.main([str(tiny_v2), "--stages", "nothing"]) == 1
    assert "has no stage 'nothing'; its stages are" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["quality", "load", "stages"])
def test_scripts_run_by_path(name: str, tmp_path: Path) -> None:
    import subprocess

    path = Path(quality.__file__).with_name(f"{name}.py")
    done = subprocess.run([sys.executable, str(path), "--help"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0 and "usage" in done.stdout


def test_new_results_are_not_written_over_the_committed_ones() -> None:
    root = RESULTS.parents[1]
    assert root / "build" / "benchmarks" == FRESH and signature(write_report).parameters["folder"].default == FRESH
    texts = {path: path.read_text() for path in (root / "benchmarks").rglob("*.py")}
    assert not [path for path, text in texts.items() if re.search(r'default=RESULTS|"results" /', text)]
