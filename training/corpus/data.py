"""A corpus on disk: utterances from its manifest, features from memory-mapped stores, batches of similar length.

Folder layout: `metadata.csv` and `wavs/` (LJSpeech style), `manifest.jsonl` (phones and lengths, one line each)
and `features/` (caches, rebuilt when their parameters or the recordings change).
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import shutil
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
from tqdm import tqdm

from training.core import distributed
from training.corpus.contents import contents
from training.corpus.recordings import read_speech
from tritone.audio.kaldi import kaldi_fbank
from tritone.audio.mel import MelConfig, mel_spectrogram
from tritone.audio.resample import resample
from tritone.audio.whisper import whisper_mel
from tritone.checkpoint.documents import parse_json, read_text
from tritone.checkpoint.sizes import Bound, whole
from tritone.errors import ArtifactError, ConfigError, TritoneError

MEL = MelConfig()
MANIFEST_BYTES = 1 << 30
SAMPLES = Bound(0, 1 << 40)
Maker = Callable[[np.ndarray, int], np.ndarray]
"""Features `[length, width]` of mono samples and their rate."""
CHANGED = 1600
"""Samples at 16 kHz by which a recording's length may differ from the manifest: decoders of mp3 differ by a frame."""
VALIDATION = 50
"""One utterance in this many, chosen by its id alone, is never trained on."""


@dataclass(frozen=True)
class Utterance:
    """One recording: its speaker, text and file; `samples` counts at 16 kHz, `phones` are phonemizer symbols."""

    id: str
    speaker: str
    text: str
    phones: tuple[str, ...]
    samples: int
    path: Path

    @property
    def held_out(self) -> bool:
        """Return whether it belongs to the validation split."""
        return zlib.crc32(self.id.encode()) % VALIDATION == 0


def _whisper(wav: np.ndarray, rate: int) -> np.ndarray:
    return whisper_mel(resample(wav, rate, 16000)).T.astype(np.float16)


def _fbank(wav: np.ndarray, rate: int) -> np.ndarray:
    return kaldi_fbank(resample(wav, rate, 16000), subtract_mean=True).astype(np.float16)


def _mel(wav: np.ndarray, rate: int, config: MelConfig) -> np.ndarray:
    return mel_spectrogram(resample(wav, rate, config.sample_rate), config).T.astype(np.float16)


def _audio(wav: np.ndarray, rate: int, to_rate: int) -> np.ndarray:
    return np.round(np.clip(resample(wav, rate, to_rate), -1, 1) * 32767).astype(np.int16)[:, None]


def _features(utterance: Utterance, maker: Maker) -> np.ndarray:
    """Return the features of one utterance; ConfigError if its recording is no longer what the manifest says."""
    again = "make the manifest again with `python -m training.prepare manifest`, which leaves such recordings out"
    try:
        wav, rate = read_speech(utterance.path)
    except TritoneError as error:
        raise ConfigError(f"recording {utterance.id} ({utterance.path}): {error}; {again}") from error
    if abs(len(wav) * 16000 // rate - utterance.samples) > CHANGED:
        raise ConfigError(
            f"recording {utterance.id} ({utterance.path}) has {len(wav) / rate:.2f} s, the manifest says "
            f"{utterance.samples / 16000:.2f} s; {again}"
        )
    return maker(wav, rate)


class Store:
    """Arrays of differing length, one per utterance, in one memory-mapped file; `store[i]` is time-major."""

    def __init__(self, folder: Path) -> None:
        about = json.loads((folder / "about.json").read_text())
        self.source = str(about["source"])
        self.offsets = np.load(folder / "offsets.npy")
        self.data = np.memmap(folder / "data.bin", dtype=about["dtype"], mode="r").reshape(-1, about["width"])

    @property
    def lengths(self) -> np.ndarray:
        """Rows per utterance, int64 `[utterances]`."""
        return np.diff(self.offsets)

    def __getitem__(self, index: int) -> np.ndarray:
        """Return utterance `index`'s rows `[length, width]`, in the stored dtype."""
        return self.rows(index, 0, int(self.offsets[index + 1] - self.offsets[index]))

    def rows(self, index: int, start: int, stop: int) -> np.ndarray:
        """Return rows `start` to `stop` of utterance `index`, without reading the others."""
        first = int(self.offsets[index])
        return np.asarray(self.data[first + start : min(first + stop, int(self.offsets[index + 1]))])

    @staticmethod
    def write(folder: Path, arrays: Iterable[np.ndarray], source: str = "") -> None:
        """Stream `[length, width]` arrays of one dtype into a new store; the folder appears only when complete.

        `source` records what made the arrays.
        """
        part = folder.with_name(folder.name + ".part")
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        offsets, about = [0], dict[str, object](source=source)
        with open(part / "data.bin", "wb") as file:
            for array in arrays:
                about = {"dtype": str(array.dtype), "width": array.shape[1], "source": source}
                file.write(np.ascontiguousarray(array).tobytes())
                offsets.append(offsets[-1] + len(array))
        np.save(part / "offsets.npy", np.array(offsets))
        (part / "about.json").write_text(json.dumps(about))
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(part, folder)


class Corpus:
    """The utterances of a prepared folder and their features.

    `store(kind)` is, per utterance and time-major: "mel" float16 [frames, 80] (50 Hz), "whisper" float16 [T, 128]
    (100 Hz), "fbank" float16 [T, 80] (100 Hz, mean removed), "audio" int16 [samples, 1] at 24 kHz, and, once
    `python -m training.prepare` has made them, "tokens" int16 [speech_tokens, 1] and "embedding" float32 [1, 192].
    """

    def __init__(self, folder: Path, mel: MelConfig = MEL, processes: int = 2) -> None:
        self.folder, self.mel_config, self.processes = folder, mel, processes
        manifest = folder / "manifest.jsonl"
        if not manifest.exists():
            raise ConfigError(
                f"{manifest} does not exist. Make a corpus with `python -m training.prepare flite --out {folder}`, "
                f"or index your own recordings with `python -m training.prepare manifest --data {folder}`."
            )
        self.utterances = read_manifest(manifest)
        self.speakers = sorted({u.speaker for u in self.utterances})
        heard = zip(self.utterances, contents(folder, [u.path for u in self.utterances]), strict=True)
        known = "".join(f"{u.id}:{u.samples}:{content};" for u, content in heard)
        self.digest = hashlib.sha256(known.encode()).hexdigest()[:12]

    def __len__(self) -> int:
        return len(self.utterances)

    def indices(self, held_out: bool) -> np.ndarray:
        """Return indices of the validation split (`held_out`) or of the training split."""
        return np.array([i for i, u in enumerate(self.utterances) if u.held_out == held_out], np.int64)

    def names(self, rows: Iterable[int] | np.ndarray) -> list[str]:
        """Return the ids of these utterances."""
        return [self.utterances[int(row)].id for row in rows]

    def validation(self) -> np.ndarray:
        """Return indices of the held-out utterances, or of all utterances when a small corpus has no held-out ones."""
        held_out = self.indices(True)
        return held_out if len(held_out) else self.indices(False)

    def store(self, kind: str) -> Store:
        """Return the features of that kind, computed on first use with a progress bar."""
        makers: dict[str, Maker] = {
            "whisper": _whisper,
            "fbank": _fbank,
            "mel": partial(_mel, config=self.mel_config),
            "audio": partial(_audio, to_rate=self.mel_config.sample_rate),
        }
        path = self.store_path(kind)
        if not path.exists():
            if kind not in makers:
                raise ArtifactError(
                    f"{path} does not exist: this corpus has no {kind!r} yet. "
                    f"Run `python -m training.prepare {kind} --data {self.folder} --help`; "
                    f"features computed on demand are {', '.join(makers)}."
                )
            if distributed.rank() == 0:
                self.write(kind, self._computed(makers[kind], kind))
            distributed.barrier()
        return Store(path)

    def store_path(self, kind: str) -> Path:
        """Return the path of the features of that kind for exactly these recordings and parameters."""
        parameters = asdict(self.mel_config) if kind in ("mel", "audio") else {}
        key = hashlib.sha256(json.dumps([self.digest, parameters], sort_keys=True).encode()).hexdigest()[:12]
        return self.folder / "features" / f"{kind}-{key}"

    def write(self, kind: str, arrays: Iterable[np.ndarray], source: str = "") -> None:
        """Write one array per utterance as the features of that kind, replacing older ones."""
        Store.write(self.store_path(kind), arrays, source)

    def _computed(self, maker: Maker, kind: str) -> Iterator[np.ndarray]:
        with multiprocessing.get_context("spawn").Pool(self.processes) as pool:
            made = pool.imap(partial(_features, maker=maker), self.utterances, chunksize=16)
            yield from tqdm(made, total=len(self), desc=kind, mininterval=5)


def read_manifest(path: Path) -> list[Utterance]:
    """Return the utterances in a `manifest.jsonl`; ConfigError names the line that is not one."""
    utterances = []
    for number, line in enumerate(read_text(path, MANIFEST_BYTES).split("\n"), 1):
        if not line.strip():
            continue
        r = parse_json(line, f"{path}, line {number},")
        try:
            samples = whole(r["samples"], f"{path}, line {number}: samples", SAMPLES)
            name, speaker, text = (str(r[key]) for key in ("id", "speaker", "text"))
            file = path.parent / str(r["file"])
            utterances.append(Utterance(name, speaker, text, tuple(r["phones"]), samples, file))
        except (KeyError, TypeError) as error:
            raise ConfigError(
                f"{path}, line {number}, is not an utterance ({error} is missing or wrong); make the file again with "
                f"`python -m training.prepare manifest --data {path.parent}`."
            ) from error
    return utterances


def bucketed(
    lengths: Sequence[int] | np.ndarray,
    indices: np.ndarray,
    budget: int,
    seed: int,
    epoch: int,
    longest: int | None = None,
) -> list[np.ndarray]:
    """Return this process's batches of one epoch: index arrays whose padded size (rows x longest) stays within
    `budget`.

    A function of (seed, epoch) alone. Utterances of similar length (within about a tenth) share a batch; all processes
    get the same number of batches, so up to `world_size - 1` batches are left out.

    Args:
        lengths: of every utterance of the corpus, in the unit of `budget`. longest: skip longer utterances.
    """
    rng = np.random.default_rng([seed, epoch])
    lengths = np.asarray(lengths)
    chosen = indices if longest is None else indices[lengths[indices] <= longest]
    order = chosen[np.argsort(lengths[chosen] * rng.uniform(0.95, 1.05, len(chosen)), kind="stable")]
    batches: list[list[int]] = []
    top = 0
    for index in order.tolist():
        top = max(top, int(lengths[index]))
        if not batches or top * (len(batches[-1]) + 1) > budget:
            batches.append([])
            top = int(lengths[index])
        batches[-1].append(index)
    shuffled = [np.array(batches[i]) for i in rng.permutation(len(batches))]
    world = distributed.world_size()
    return shuffled[: len(shuffled) // world * world][distributed.rank() :: world]


def pad(arrays: Sequence[np.ndarray], value: float = 0) -> np.ndarray:
    """Return `[batch, longest, ...]` with each array at the start of its row and `value` after it."""
    longest = max(len(a) for a in arrays)
    padded = np.full((len(arrays), longest, *arrays[0].shape[1:]), value, arrays[0].dtype)
    for row, array in zip(padded, arrays, strict=True):
        row[: len(array)] = array
    return padded
