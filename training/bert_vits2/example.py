"""`python -m training.bert_vits2.example`: a corpus in three languages by three speakers, ready for training.

Debian's flite speaks English; espeak-ng speaks English, Mandarin and Japanese with a single voice. Nothing is
downloaded. The steps of `training.bert_vits2.preprocess` follow:

recordings/, transcript.list         synthesised here -> wavs/ at the configuration's rate, cleaned.list
train.list, val.list, config.json    the input of `python -m training bert_vits2 --config config.json`

`--smoke` makes a few utterances, trains tiny networks for a few steps and synthesises a sentence in each language, to
check that everything works together.
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
from tritone.checkpoint.lines import text_lines
from tritone.errors import ConfigError, EnvironmentProblem, TritoneError

CONFIG = Path(__file__).parents[1] / "configs" / "bert_vits2_small.json"
ESPEAK = "espeak"
"""Speaker name of espeak-ng's voice; flite's voices keep their names."""
ESPEAK_VOICES = {"ZH": "cmn-latn-pinyin", "JP": "ja", "EN": "en-us"}
"""The Mandarin voice is the one that reads all characters with Mandarin sounds."""
SHARES = {("EN", "slt"): 0.5, ("EN", "rms"): 0.2, ("EN", ESPEAK): 0.1, ("ZH", ESPEAK): 0.1, ("JP", ESPEAK): 0.1}
"""The share of each language and speaker in the corpus."""
SPOKEN = {
    "ZH": "今天我们去公园散步。",
    "JP": "今日は公園を歩きます。",
    "EN": "The birch canoe slid on the smooth planks.",
}
"""The sentences of a smoke run."""


class Line(NamedTuple):
    """A recording to synthesise."""

    path: Path
    language: str
    speaker: str
    text: str


def check_programs() -> None:
    """Raise EnvironmentProblem unless flite and espeak-ng are installed."""
    missing = [name for name in ("flite", "espeak-ng") if shutil.which(name) is None]
    if missing:
        raise EnvironmentProblem(
            f"missing: {' and '.join(missing)}. The example's corpus is synthesised by flite and espeak-ng. "
            f"Run: apt-get install {' '.join(missing)}"
        )
    flite.check_voices(sorted({speaker for _, speaker in SHARES if speaker != ESPEAK}))


def plan(folder: Path, count: int, english: Sequence[str] = ()) -> list[Line]:
    """Return `count` recordings below `folder`, distributed by `SHARES`, with every sentence of a language once.

    Args:
        english: the English sentences; by default generated, as in the other languages.
    """
    counts = {key: max(1, round(share * count)) for key, share in SHARES.items()}
    texts: dict[str, list[str]] = {}
    for language in ("ZH", "JP", "EN"):
        needed = sum(n for (name, _), n in counts.items() if name == language)
        texts[language] = list(english)[:needed] if language == "EN" and english else made_up(language, needed)
        available = len(texts[language])
        if available < needed:
            raise ConfigError(f"--utterances {count} needs {needed} sentences in {language}; there are {available}.")
    return [
        Line(folder / f"{speaker}_{language.lower()}_{number:05d}.wav", language, speaker, texts[language].pop())
        for (language, speaker), n in counts.items()
        for number in range(n)
    ]


def english_sentences(exclude: Sequence[Path]) -> list[str]:
    """Return shuffled sentences of three to nine words from Debian's fortunes, without those in the files `exclude`."""
    files = fortune_files()
    if not files:
        raise EnvironmentProblem("missing: English texts. Run: apt-get install fortunes")
    excluded = [line for path in exclude for _, line in text_lines(path)]
    texts = sentences(read_texts(files), 3, 9, excluded)
    return [texts[i] for i in np.random.default_rng(0).permutation(len(texts))]


def speak(line: Line) -> None:
    """Write the recording at 16 kHz, unless it exists."""
    if line.path.exists():
        return
    wav = espeak(line.text, line.language) if line.speaker == ESPEAK else flite.synthesize(line.text, line.speaker)
    part = line.path.with_suffix(".part")
    write_wav(part, flite.tidy(wav), flite.RATE)
    part.rename(line.path)


def espeak(text: str, language: str) -> np.ndarray:
    """Return the audio of espeak-ng, float32 `[samples]` at 16 kHz; Japanese text is converted to kana first."""
    if language == "JP":
        import pyopenjtalk

        text = str(pyopenjtalk.g2p(text, kana=True))
    with tempfile.NamedTemporaryFile(suffix=".wav") as file:
        subprocess.run(["espeak-ng", "-v", ESPEAK_VOICES[language], "-w", file.name, text], check=True)
        return read_wav(file.name, flite.RATE)


def make_corpus(lines: Sequence[Line], folder: Path, config: Path, processes: int = 2) -> Path:
    """Synthesise and preprocess the corpus, and return the `config.json` for training; finished files are kept.

    Args:
        config: the configuration to which files and speakers are added.
        processes: number of worker processes; 0 uses this process alone.
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
            raise TritoneError(f"`preprocess {step[0]}` left items out; see above.")
    return folder / "config.json"


def smoke(folder: Path, steps: int = 4) -> dict[str, np.ndarray]:
    """Make a corpus, train and synthesise below `folder`; return the speech of each language, float32 `[samples]`."""
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
    """Return the example's configuration with tiny networks, which are all in use after half of the `steps`."""
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
    """Return the parsed command line."""
    parser = argparse.ArgumentParser(
        prog="python -m training.bert_vits2.example",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--out", type=Path, help="folder (default: data/bert_vits2, with --smoke runs/bert_vits2_smoke)"
    )
    parser.add_argument("--utterances", type=int, default=2000)
    parser.add_argument("--exclude", type=Path, nargs="*", default=[], help="files of English sentences to leave out")
    parser.add_argument(
        "--config", type=Path, default=CONFIG, help="configuration to start from (default: %(default)s)"
    )
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--smoke", action="store_true")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return 0, or 1 after an error on stderr."""
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
