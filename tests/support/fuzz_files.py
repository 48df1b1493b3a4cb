"""Random damage to the files of tiny checkpoints and to sound files, in a process of bounded memory.

    PYTHONPATH=tests python -m support.fuzz_files FOLDER --cases 400 --seed 0
    PYTHONPATH=tests python -m support.fuzz_files FOLDER --seconds 600 --seed 7

A reader must return or raise one of the product's own errors; it may not hang, run out of memory or print a traceback.
The last line of the output is a JSON object: the cases, refusals and failures, and the largest memory in MB.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

MEMORY = 3 << 30
"""Bytes of address space that the readers may take beyond what the imported packages have."""
CPU_SECONDS = 60
"""CPU time after which a case counts as a hang."""
NASTY = (
    *("0", "-1", "1000000000", "1e400", "2.5", "true", "null", "9" * 400, '"x"', "[]", "{}", "[[[1]]]", "NaN", "-0.0"),
    *(
        "!ref <a>",
        "!ref <sample_rate> * <sample_rate>",
        "!new:x {}",
        "!!binary x",
        "*a",
        "&a [*a]",
        ".inf",
        ".nan",
        "~",
    ),
    *("[1, 2", "1:1:1:1", "2001-99-99", '"\\ud800"', "[" * 2000, "{" * 80, "!!timestamp x", "<<", "? [a]", "64", "-7"),
)
Read = Callable[[Path], object]


class Hang(BaseException):
    """A case took more CPU time than any reader may."""


class Target:
    """One file, and the function that reads it or the folder it lies in."""

    def __init__(self, path: Path, read: Read, binary: bool = False, reads: Path | None = None) -> None:
        self.path, self.read, self.binary, self.reads = path, read, binary, reads or path
        self.content = path.read_bytes()

    def damaged(self, chance: random.Random) -> bytes:
        """Return the content with a few random changes."""
        content = self.content
        for _ in range(chance.choice((1, 1, 1, 2, 3, 8))):
            change = edit if not self.binary else repickle if chance.random() < 0.5 else flip
            content = change(content, chance)
        return content


def repickle(content: bytes, chance: random.Random) -> bytes:
    """Return an archive of torch.save with its pickle changed and all checksums right; other content as `flip`."""
    import io
    import zipfile

    try:
        source = zipfile.ZipFile(io.BytesIO(content))
        names = source.namelist()
    except Exception:
        return flip(content, chance)
    buffer, compression = io.BytesIO(), chance.choice((zipfile.ZIP_STORED, zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))
    with zipfile.ZipFile(buffer, "w", compression) as target:
        for name in names:
            try:
                data = source.read(name)
            except Exception:
                continue
            changed = name.endswith("data.pkl") or chance.random() < 0.1
            target.writestr(name, flip(data, chance) if changed else data)
    return buffer.getvalue()


def flip(content: bytes, chance: random.Random) -> bytes:
    """Return bytes with one of them or a number changed, or with a piece removed or doubled; mostly near an end."""
    data, size = bytearray(content), len(content)
    if not size:
        return content
    near = chance.choice((64, 512, size))
    at = min(size - 1, chance.randrange(near)) if chance.random() < 0.7 else max(0, size - 1 - chance.randrange(near))
    kind = chance.randrange(6)
    if kind == 0:
        data[at] = chance.randrange(256)
    elif kind == 1:
        width = chance.choice((2, 4, 8))
        data[at : at + width] = chance.choice((0, 1, 1 << 31, (1 << 63) - 1, (1 << 64) - 1, size)).to_bytes(
            8, "little"
        )[:width]
    elif kind == 2:
        del data[at : at + chance.choice((1, 4, 100, 10_000))]
    elif kind == 3:
        data[at:at] = data[at : at + chance.choice((1, 8, 200))]
    elif kind == 4:
        digits = [index for index in range(min(size, 4000)) if 48 <= data[index] <= 57]
        if digits:
            data[chance.choice(digits)] = chance.choice(b"0123456789-")
    else:
        data = data[: chance.randrange(size)]
    return bytes(data)


def edit(content: bytes, chance: random.Random) -> bytes:
    """Return text with a value replaced by a nasty one, or with a line or piece moved, removed or repeated."""
    text = content.decode("utf-8", "replace")
    if len(text) > 200_000:  # a vocabulary: change its beginning only, which costs less
        return edit(text[:20_000].encode(), chance) + text[20_000:].encode()
    kind = chance.randrange(8)
    if kind < 5:
        places = list(_values(text))
        if places:
            start, end = chance.choice(places)
            return (text[:start] + chance.choice(NASTY) + text[end:]).encode()
    if kind == 5:
        return flip(content, chance)
    lines = text.splitlines(keepends=True) or [""]
    at = chance.randrange(len(lines))
    if kind == 6:
        lines[at] = "" if chance.random() < 0.5 else lines[at] * 2
    else:
        lines[at], other = lines[chance.randrange(len(lines))], lines[at]
        lines.insert(chance.randrange(len(lines)), other)
    return "".join(lines).encode()


def _values(text: str) -> Iterator[tuple[int, int]]:
    """Yield the places of the values in a JSON or YAML text, as far as a simple search finds them."""
    import re

    for match in re.finditer(r"(?<=[:\[,\-])\s*([^\s,:\[\]{}][^,\[\]{}\n]*)", text):
        yield match.start(1), match.end(1)


def targets(folder: Path) -> list[Target]:
    """Return every file of three tiny checkpoints and some sounds, written to the folder, with its readers."""
    import torch
    from safetensors.torch import save_file

    from benchmarks.cosyvoice.random_checkpoint import write_byte_tokenizer
    from support import moss_helpers
    from support.bert_vits2 import folder as bert
    from support.golden_weights import BACKBONE
    from support.tiny_checkpoints import write_networks
    from tritone.audio.wav import read_samples, write_wav
    from tritone.catalog import open_family
    from tritone.checkpoint.documents import read_json
    from tritone.checkpoint.torch_file import read_torch_file
    from tritone.checkpoint.weights import read_data, read_safetensors, read_state
    from tritone.client.recording import read_reference
    from tritone.families.bert_vits2.networks.weights import read_model
    from tritone.families.cosyvoice.voices.speakers import read_voices, write_voices
    from tritone.text.tokenizer import TextTokenizer

    cosy = {version: write_networks(folder / f"v{version}", version) for version in (1, 2, 3)}
    for version in (2, 3):
        write_byte_tokenizer(cosy[version] / "CosyVoice-BlankEN")
        (cosy[version] / "CosyVoice-BlankEN" / "config.json").write_text(json.dumps(BACKBONE, indent=1))
    (folder / "moss").mkdir()
    moss = moss_helpers.write_checkpoint(folder / "moss")
    other = bert.write_tiny(folder / "bert")
    found = [Target(cosy[v] / f"cosyvoice{v if v > 1 else ''}.yaml", network, reads=cosy[v]) for v in (1, 2, 3)]
    found += [Target(cosy[2] / "CosyVoice-BlankEN" / "config.json", backbone, reads=cosy[2])]
    found += [Target(cosy[2] / "CosyVoice-BlankEN" / name, TextTokenizer, reads=cosy[2] / "CosyVoice-BlankEN")
              for name in ("tokenizer_config.json", "vocab.json", "merges.txt")]  # fmt: skip
    for name in ("config.json", "generation_config.json", "xy_tokenizer_32k_config.yaml"):
        found.append(Target(moss / name, describe, reads=moss))
    found.append(Target(moss / "tokenizer.json", dialogue, reads=moss))
    found.append(Target(moss / "xy_tokenizer.ckpt", read_data, True))
    found.append(Target(other / "config.json", generator, reads=other))
    found.append(Target(moss / "xy_tokenizer_32k_config.yaml", codec, reads=moss))
    small = {"a.weight": torch.arange(6.0).reshape(2, 3), "b.bias": torch.ones(2, dtype=torch.float16)}
    for name, modern in (("new.pt", True), ("old.pt", False)):
        torch.save(small, folder / name, _use_new_zipfile_serialization=modern)
        found += [Target(folder / name, read, True) for read in (read_state, read_model, read_torch_file)]
    save_file(small, folder / "a.safetensors")
    found.append(Target(folder / "a.safetensors", read_safetensors, True))
    found.append(Target(cosy[3] / "spk2info.pt", read_voices, True, cosy[3]))
    write_voices(cosy[2], read_voices(cosy[2])._voices.values())
    kept = write_safe(cosy[2])
    found.append(Target(kept, read_voices, True, cosy[2]))
    sound = np.sin(np.arange(8000) / 20).astype(np.float32)
    write_wav(folder / "a.wav", sound, 16000)
    found += [Target(folder / "a.wav", read_samples, True), Target(folder / "a.wav", read_reference, True)]
    found += [Target(encoded(folder / name, sound), read_samples, True) for name in ("a.flac", "a.ogg", "a.mp3")]
    (folder / "lines.json").write_text(json.dumps({"text": "[S1]Hello", "seed": 3, "deep": [[1, {"a": None}]]}))
    found.append(Target(folder / "lines.json", read_json))
    found += corpus_targets(folder)
    assert open_family(cosy[2]) and open_family(moss) and open_family(other)
    return found


def corpus_targets(folder: Path) -> list[Target]:
    """Return the lists of a training corpus, with a recording beside them."""
    from training.bert_vits2.data.filelist import read_transcripts, read_utterances
    from training.corpus.data import read_manifest
    from training.corpus.metadata import read_metadata
    from tritone.audio.wav import write_wav

    (folder / "wavs").mkdir()
    write_wav(folder / "wavs" / "u0.wav", np.sin(np.arange(8000) / 20), 16000)
    entry = {"id": "u0", "speaker": "ann", "text": "Hi.", "phones": ["h"], "samples": 8000, "file": "wavs/u0.wav"}
    contents: dict[str, tuple[str, Read]] = {
        "metadata.csv": ("id|text|speaker\nu0|The cat sat.|ann\n", read_metadata),
        "manifest.jsonl": (json.dumps(entry) + "\n", read_manifest),
        "transcript.list": ("wavs/u0.wav|ann|EN|The cat sat.\n", read_transcripts),
        "cleaned.list": ("wavs/u0.wav|ann|EN|Hi.|HH AY|0 1|2\n", read_utterances),
    }
    for name, (content, _) in contents.items():
        (folder / name).write_text(content)
    return [Target(folder / name, read) for name, (_, read) in contents.items()]


def write_safe(folder: Path) -> Path:
    """Return the file of the folder's voices after it was written as safetensors."""
    from tritone.families.cosyvoice.voices.speaker_file import read_entries, write_entries

    return write_entries(folder, read_entries(folder), "safetensors")


def encoded(path: Path, sound: np.ndarray) -> Path:
    """Return a sound file in the format that its name says."""
    import soundfile

    soundfile.write(str(path), sound, 16000)
    return path


def describe(folder: Path) -> object:
    """Return the description of a checkpoint, as servers and exporters make it first."""
    from tritone.catalog import open_family

    return open_family(folder)


def network(folder: Path) -> object:
    """Describe a checkpoint, and make two of its networks with the weights beside it."""
    from tritone.families.cosyvoice.checkpoint.folder import CosyVoiceCheckpoint
    from tritone.families.cosyvoice.family import load_network

    describe(folder)
    checkpoint = CosyVoiceCheckpoint(folder)
    return [load_network(checkpoint, name) for name in ("flow", "hift")]


def generator(folder: Path) -> object:
    """Describe a checkpoint, and make its generator with the weights beside it."""
    from tritone.families.bert_vits2.checkpoint import open_checkpoint

    describe(folder)
    return open_checkpoint(folder).load()


def codec(folder: Path) -> object:
    """Describe a checkpoint, and make its codec and language model with the weights beside them."""
    from tritone.families.moss_ttsd.checkpoint import open_checkpoint

    checkpoint = open_checkpoint(folder)
    return checkpoint.load_codec(), checkpoint.load_lm()


def backbone(folder: Path) -> object:
    """Read the settings of a language model and make it with the weights beside it."""
    from tritone.families.cosyvoice.checkpoint.folder import CosyVoiceCheckpoint
    from tritone.families.cosyvoice.lm.v2.network import load_lm

    return load_lm(CosyVoiceCheckpoint(folder))


def dialogue(folder: Path) -> object:
    """Describe a checkpoint whose tokenizer was changed, and use the tokenizer."""
    from tritone.families.moss_ttsd.text_tokenizer import DialogueTokenizer

    describe(folder)
    return DialogueTokenizer(folder).encode("[S1]Hello.")


def bound_memory() -> None:
    """Let this process take no more than `MEMORY` beyond what it has, and end cases that take too much CPU time."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))

    def end(_signal: int, _frame: object) -> None:
        raise Hang(f"took more than {CPU_SECONDS} s of CPU time")

    signal.signal(signal.SIGPROF, end)


def run(found: list[Target], cases: int, seconds: float, seed: int) -> dict[str, Any]:
    """Return the counts of so many cases, or of those within so many seconds, and what failed."""
    from tritone.client.errors import SpeechError
    from tritone.errors import TritoneError

    counts: Counter[str] = Counter()
    failures: list[str] = []
    began, number = time.monotonic(), 0
    while number < cases if cases else time.monotonic() - began < seconds:
        chance = random.Random(f"{seed} {number}")
        target = found[number % len(found)]
        number += 1
        target.path.write_bytes(target.damaged(chance))
        name = f"{target.path.parent.name}/{target.path.name} ({getattr(target.read, '__name__', '')})"
        signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)
        try:
            target.read(target.reads)
            counts["read"] += 1
        except (TritoneError, SpeechError):
            counts["refused"] += 1
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            counts["failed"] += 1
            failures.append(f"case {number - 1}, {name}: {''.join(traceback.format_exception(error)[-4:])}")
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
            target.path.write_bytes(target.content)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    return {"cases": number, **counts, "failures": failures[:40], "peak_mb": peak}


def main() -> None:
    """Damage files, read them, and print the counts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--cases", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=0)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    found = targets(args.folder)
    for target in found:  # every reader takes the undamaged file, or knows that it is another's
        try:
            target.read(target.reads)
        except Exception as error:
            print(f"{target.path}: {error}", file=sys.stderr)
    bound_memory()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(json.dumps(run(found, args.cases, args.seconds, args.seed) | {"before_mb": before}))


if __name__ == "__main__":
    main()
