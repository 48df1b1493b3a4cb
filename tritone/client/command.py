"""Speak a text through a running server.

python client/speak.py "Good morning." --speaker rms -o out.wav [--stream] [--play]
some_program | python client/speak.py - --reference voice.wav --play
"""

from __future__ import annotations

import argparse
import itertools
import os
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from tritone.client.errors import SpeechError
from tritone.client.output import check_output
from tritone.client.player import Player, find_player
from tritone.client.recording import Writer, read_numbers, read_reference, writer
from tritone.client.speech_client import SpeechClient


def main(arguments: list[str] | None = None) -> int:
    """Speak as the command line asks; return 0, or 1 after an error message."""
    options = parser().parse_args(arguments)
    try:
        speak(options)
    except SpeechError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # the program behind `-o -` has ended
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    parser = argparse.ArgumentParser(description="Say a text through a running Triton server.")
    parser.add_argument(
        "text",
        nargs="?",
        help="text to speak; - speaks standard input, line by line as it arrives if the model can",
    )
    parser.add_argument("--speaker", help="a registered speaker (see --speakers)")
    parser.add_argument(
        "-o", "--output", type=Path,
        help="file to write: .wav, or with soundfile .flac, .ogg, .mp3; - writes a wav to standard output",
    )  # fmt: skip
    parser.add_argument(
        "--stream", action="store_true", help="receive the audio in chunks while it is synthesised (gRPC)"
    )
    parser.add_argument("--play", action="store_true", help="play it with ffplay, aplay or paplay")
    parser.add_argument(
        "--reference", type=Path,
        help="speak with the voice of this recording (0.5 to 30 s, from 16 kHz; other files than .wav need soundfile)",
    )  # fmt: skip
    parser.add_argument("--reference-text", help="transcript of the recording")
    parser.add_argument("--instruct", help="instruction on how to speak")
    parser.add_argument(
        "--source", type=Path, help="recording to convert to the voice (voice conversion, without a text)"
    )
    parser.add_argument("--mode", help="name of the mode (default: the one that the inputs imply; see docs/serving.md)")
    parser.add_argument("--speed", type=float, help="speed of speech; 2 is twice as fast (default: 1)")
    parser.add_argument("--seed", type=int, help="the same seed gives the same audio")
    parser.add_argument(
        "--no-text-frontend", action="store_const", const=False, dest="text_frontend",
        help="send the text to the model as it is written: no numbers in words, no division into segments",
    )  # fmt: skip
    parser.add_argument(
        "--input", action="append", default=[], metavar="NAME=VALUE",
        help="any other input of the model: language=JP, top_p=0.9,0.8, reference_wav_2=@other.wav, emotion=@happy.npy",
    )  # fmt: skip
    parser.add_argument("--url", help="server address (default localhost:8001, or :8000 with --http)")
    parser.add_argument("--http", action="store_true", help="use HTTP instead of gRPC (whole utterances only)")
    parser.add_argument("--model", default="cosyvoice2", help="model name (default %(default)s)")
    parser.add_argument("--wait", type=float, default=10.0, help="seconds to wait for the server (default %(default)g)")
    parser.add_argument("--speakers", action="store_true", help="list the registered speakers and exit")
    return parser


def speak(options: argparse.Namespace) -> None:
    """Carry out the options; SpeechError if that fails."""
    if not options.speakers and not options.text and not options.source:
        raise SpeechError('no text given; usage: python client/speak.py "Good morning." --speaker rms -o out.wav')
    if options.text and options.source:
        raise SpeechError("both a text and --source were given; voice conversion says what its source says")
    if options.http and options.stream:
        raise SpeechError("--stream needs gRPC; leave out --http")
    if not (options.output or options.play or options.speakers):
        raise SpeechError("nowhere to send the audio; give -o out.wav, --play, or both")
    if options.output:
        check_output(options.output)
    player = find_player() if options.play else None
    controls: dict[str, Any] = {
        "speaker": options.speaker,
        "reference": read_reference(options.reference) if options.reference else None,
        "reference_text": options.reference_text,
        "instruct_text": options.instruct,
        "source": read_reference(options.source) if options.source else None,
        "mode": options.mode,
        "speed": options.speed,
        "seed": options.seed,
        "text_frontend": options.text_frontend,
        "inputs": dict(map(further_input, options.input)) or None,
    }
    with SpeechClient(options.url, "http" if options.http else "grpc", options.model) as client:
        with spinner("waiting for the server"):
            client.wait_until_ready(options.wait)
        if options.speakers:
            print("\n".join(client.speakers()) or "the model lists no speakers")
            return
        if options.reference and (rate := client.recording_rate) != 16000:
            controls["reference"] = read_reference(options.reference, rate)
            controls["inputs"] = {**(controls["inputs"] or {}), "reference_rate": rate}
        text = options.text
        if text == "-" and not options.http and "text_in_pieces" in client.parameters():
            chunks = client.speak_pieces(lines(sys.stdin), **controls)
        else:
            text = "".join(lines(sys.stdin)).strip() if text == "-" else text
            if options.text == "-" and not text:
                raise SpeechError("no text came from standard input")
            chunks = client.stream(text, **controls) if options.stream else whole(client, text, controls)
        deliver(chunks, client.sample_rate, options.output, player)


def further_input(given: str) -> tuple[str, Any]:
    """Return (name, value) of NAME=VALUE; after @ the value is read from a file: numbers (.npy) or a recording."""
    name, equals, value = given.partition("=")
    if not equals or not name:
        raise SpeechError(f"--input {given}: write NAME=VALUE, such as language=JP")
    if not value.startswith("@"):
        return name, value
    path = Path(value[1:])
    return name, read_numbers(path) if path.suffix == ".npy" else read_reference(path)


def lines(source: Iterable[str]) -> Iterator[str]:
    """Yield the lines as pieces of one text, each followed by a space; empty lines are left out."""
    try:
        for line in source:
            if line.strip():
                yield line.strip() + " "
    except UnicodeDecodeError as error:
        raise SpeechError(f"standard input is not UTF-8: {error}") from None


def whole(client: SpeechClient, text: str | None, controls: dict[str, object]) -> Iterator[np.ndarray]:
    """Yield the utterance as a stream of one chunk."""
    yield client.synthesize(text, **controls).waveform


def deliver(chunks: Iterator[np.ndarray], rate: int, output: Path | None, player: str | None) -> None:
    """Write and play chunks as they arrive, then print the timing."""
    start, first, samples = time.perf_counter(), 0.0, 0
    speaker = Player(player, rate) if player else None
    file: Writer | None = None
    try:
        while True:
            with spinner("speaking" if samples == 0 else f"speaking, {samples / rate:.1f} s so far"):
                chunk = next(chunks, None)
            if chunk is None:
                break
            first = first or time.perf_counter() - start
            samples += len(chunk)
            if output and file is None:
                file = writer(output, rate)
            if file:
                file.write(chunk)
            if speaker:
                speaker.play(chunk)
        elapsed = time.perf_counter() - start
    except SpeechError as error:
        raise SpeechError(f"{error}{rest(output, samples / rate)}") from error
    except KeyboardInterrupt:
        print(f"stopped{rest(output, samples / rate)}", file=sys.stderr)
        raise
    except BrokenPipeError:
        raise
    except OSError as error:
        raise SpeechError(f"cannot write {output}: {error.strerror or error}{rest(output, samples / rate)}") from error
    finally:
        if file:
            with suppress(OSError):
                file.close()
        if speaker:
            speaker.finish()
    if not samples:
        raise SpeechError("the server sent no audio")
    print(summary(samples / rate, first, elapsed, output), file=sys.stderr if str(output) == "-" else sys.stdout)


def rest(output: Path | None, seconds: float) -> str:
    """Return the sentence about the sound that was written before an error, "" if there is none."""
    if not output or not seconds:
        return ""
    place = "standard output" if str(output) == "-" else str(output)
    return f"; {place} is incomplete: it holds the first {seconds:.1f} s"


def summary(seconds: float, first: float, elapsed: float, output: Path | None) -> str:
    """Return one line: audio seconds, time to first audio, real-time factor, and the file."""
    times = f"first audio after {first * 1000:.0f} ms, real-time factor {elapsed / seconds:.2f}"
    line = f"{seconds:.2f} s of audio, {times}"
    return f"{line}, written to {output}" if output and str(output) != "-" else line


@contextmanager
def spinner(label: str) -> Iterator[None]:
    """Show a spinner with the elapsed seconds on a terminal's stderr; nothing elsewhere."""
    if not sys.stderr.isatty():
        yield
        return
    done, start = threading.Event(), time.perf_counter()

    def turn() -> None:
        for mark in itertools.cycle("|/-\\"):
            if done.wait(0.1):
                return
            print(f"\r{mark} {label} {time.perf_counter() - start:.1f} s", end="", file=sys.stderr, flush=True)

    thread = threading.Thread(target=turn, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        print("\r\033[K", end="", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
