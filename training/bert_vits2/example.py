"""`python -m training.bert_vits2.example`: a corpus in three languages by three speakers, ready to train on.

Debian's flite speaks English, espeak-ng English, Mandarin and Japanese with one and the same voice; nothing is
downloaded. The steps of `training.bert_vits2.preprocess` do the rest:

recordings/, transcript.list         spoken here        -> wavs/ at the configuration's rate, cleaned.list
train.list, val.list, config.json    what `python -m training bert_vits2 --config config.json` trains on

`--smoke` makes a few utterances, trains networks of nothing for a few steps and speaks a sentence in each language: it
shows that everything works together.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from training.bert_vits2 import preprocess
from training.bert_vits2.data.filelist import Transcript, write_lines
from training.bert_vits2.preparation.example_texts import made_up
from training.bert_vits2.preparation.shards import mapped
from training.corpus import flite
from training.corpus.sentences import fortune_files, read_texts, sentences
from tritone.audio.wav import read_wav, write_wav
from tritone.errors import ConfigError, EnvironmentProblem, TritoneError

CONFIG = Path(__file__).parents[1] / "configs" / "bert_vits2_small.json"
ESPEAK = "espeak"
"""Name of espeak-ng's voice as a speaker; flite's voices have their own."""
ESPEAK_VOICES = {"ZH": "cmn-latn-pinyin", "JP": "ja", "EN": "en-us"}
"""Of the Mandarin ones, the one that reads characters with Mandarin sounds throughout."""
SHARES = {("EN", "slt"): 0.5, ("EN", "rms"): 0.2, ("EN", ESPEAK): 0.1, ("ZH", ESPEAK): 0.1, ("JP", ESPEAK): 0.1}
"""How much of the corpus each language and speaker have."""
SPOKEN = {
    "ZH": "今天我们去公园散步。",
    "JP": "今日は公園を歩きます。",
    "EN": "The birch canoe slid on the smooth planks.",
}
"""What a smoke run says."""


class Line(NamedTuple):
    """One recording to make."""

    path: Path
    language: str
    speaker: str
    text: str


def check_programs() -> None:
    """Raises EnvironmentProblem naming the programs that are missing, with the command that installs them."""
    missing = [name for name in ("flite", "espeak-ng") if shutil.which(name) is None]
    if missing:
        raise EnvironmentProblem(
            f"{' and '.join(missing)} not found: the example's corpus is spoken by flite and espeak-ng. "
            f"Run: apt-get install {' '.join(missing)}"
        )
    flite.check_voices(sorted({speaker for _, speaker in SHARES if speaker != ESPEAK}))


def plan(folder: Path, count: int, english: Sequence[str] = ()) -> list[Line]:
    """`count` recordings below `folder`, shared out as `SHARES` says, every sentence of a language once.

    Args:
        english: sentences to take for English; none: made-up ones, as in the other languages.
    """
    counts = {key: max(1, round(share * count)) for key, share in SHARES.items()}
    texts: dict[str, list[str]] = {}
    for language in ("ZH", "JP", "EN"):
        needed = sum(n for (name, _), n in counts.items() if name == language)
        found = list(english)[:needed] if language == "EN" and english else made_up(language, needed)
        if len(found) < needed:
            raise ConfigError(f"--utterances {count} needs {needed} sentences in {language}; there are {len(found)}.")
        texts[language] = found
    return [
        Line(folder / f"{speaker}_{language.lower()}_{number:05d}.wav", language, speaker, texts[language].pop())
        for (language, speaker), n in counts.items()
        for number in range(n)
    ]


def english_sentences(exclude: Sequence[Path]) -> list[str]:
    """Sentences of three to nine words from Debian's fortunes, none of them in the files `exclude`, shuffled."""
    files = fortune_files()
    if not files:
        raise EnvironmentProblem("there is no English text to speak: run apt-get install fortunes.")
    excluded = [line for path in exclude for line in path.read_text(encoding="utf-8").splitlines()]
    found = sentences(read_texts(files), 3, 9, excluded)
    return [found[i] for i in np.random.default_rng(0).permutation(len(found))]


def speak(line: Line) -> None:
    """Makes the recording, 16 kHz, unless it is there."""
    if line.path.exists():
        return
    wav = espeak(line.text, line.language) if line.speaker == ESPEAK else flite.synthesize(line.text, line.speaker)
    part = line.path.with_suffix(".part")
    write_wav(part, flite.tidy(wav), flite.RATE)
    part.rename(line.path)


def espeak(text: str, language: str) -> np.ndarray:
    """espeak-ng's reading, float32 `[samples]` at 16 kHz; it is given the readings of Japanese characters."""
    if language == "JP":
        import pyopenjtalk

        text = str(pyopenjtalk.g2p(text, kana=True))
    with tempfile.NamedTemporaryFile(suffix=".wav") as file:
        subprocess.run(["espeak-ng", "-v", ESPEAK_VOICES[language], "-w", file.name, text], check=True)
        return read_wav(file.name, flite.RATE)


def make_corpus(lines: Sequence[Line], folder: Path, config: Path, processes: int = 2) -> Path:
    """Speaks and preprocesses; the `config.json` to train with. What is done already is kept.

    Args:
        config: what files and speakers are put into. processes: beside this one; 0 does all in this one.
    """
    check_programs()
    (folder / "recordings").mkdir(parents=True, exist_ok=True)
    for _ in tqdm(
        mapped(speak, lines, workers=processes), total=len(lines), desc="speaking", unit="sentence", mininterval=5
    ):
        pass
    wavs, cleaned = folder / "wavs", folder / "cleaned.list"
    rows = [Transcript(str(wavs / line.path.name), line.speaker, line.language, line.text) for line in lines]
    write_lines(folder / "transcript.list", (row.line() for row in rows))
    workers = ["--workers", str(processes)]
    for step in (
        ["resample", "--in", str(folder / "recordings"), "--out", str(wavs), "--config", str(config), *workers],
        ["clean", "--transcript", str(folder / "transcript.list"), "--out", str(cleaned), *workers],
        ["split", "--list", str(cleaned), "--config", str(config), "--out", str(folder)],
    ):
        text, complete = preprocess.run_step(preprocess.parse(step))
        print(text, flush=True)
        if not complete:
            raise TritoneError(f"`preprocess {step[0]}` left something out; see above.")
    return folder / "config.json"


def smoke(folder: Path, steps: int = 4) -> dict[str, np.ndarray]:
    """Corpus, training, checkpoint, speech in each language (float32 `[samples]`), all below `folder`."""
    from training.__main__ import main as train
    from tritone.load import load_model

    document = tiny(json.loads(CONFIG.read_text(encoding="utf-8")), steps)
    folder.mkdir(parents=True, exist_ok=True)
    start = folder / "tiny.json"
    start.write_text(json.dumps(document), encoding="utf-8")
    corpus = folder / "corpus"
    config = make_corpus(plan(corpus / "recordings", 30), corpus, start, processes=0)
    run = folder / "run"
    train(["bert_vits2", "--config", str(config), "--out", str(run), "--steps", str(steps), "--device", "cpu"])
    model = load_model(run / f"step-{steps:08d}")
    spoken = {}
    for language, text in SPOKEN.items():
        spoken[language] = model.synthesize(text, ESPEAK, language=language, seed=0)
        write_wav(folder / f"{language}.wav", spoken[language], model.sample_rate)
        print(f"{folder}/{language}.wav: {len(spoken[language]) / model.sample_rate:.2f} s", flush=True)
    return spoken


def tiny(document: Mapping[str, Any], steps: int) -> dict[str, Any]:
    """Return the example's configuration with networks of nothing, all of them in use from the middle of `steps` on."""
    model = {
        "hidden_channels": 16, "inter_channels": 16, "filter_channels": 16, "n_layers": 3, "n_flow_layer": 1,
        "gin_channels": 8, "upsample_initial_channel": 16, "use_duration_discriminator": True,
    }  # fmt: skip
    train = {
        "batch_size": 4, "log_interval": 1, "eval_interval": steps, "save_interval": steps, "workers": 0,
        "judged_from": steps // 2, "judge_shrink": 16, "eval_utterances": 1,
    }  # fmt: skip
    return {
        **document,
        "model": {**document["model"], **model},
        "train": {**document["train"], **train},
    }


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m training.bert_vits2.example",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--out", type=Path, help="folder (default: data/bert_vits2, with --smoke runs/bert_vits2_smoke)"
    )
    parser.add_argument("--utterances", type=int, default=2000)
    parser.add_argument("--exclude", type=Path, nargs="*", default=[], help="files of English sentences never to speak")
    parser.add_argument("--config", type=Path, default=CONFIG, help="what to put files and speakers into")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--smoke", action="store_true")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Does what the command line says; 0, or 1 with a sentence on stderr."""
    args = parse(arguments)
    try:
        if args.smoke:
            smoke(args.out or Path("runs/bert_vits2_smoke"))
        else:
            out = args.out or Path("data/bert_vits2")
            check_programs()
            lines = plan(out / "recordings", args.utterances, english_sentences(args.exclude))
            config = make_corpus(lines, out, args.config, args.processes)
            print(f"train with: python -m training bert_vits2 --config {config} --out runs/bert_vits2_small")
    except TritoneError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
