"""The voices stored with a checkpoint: `tritone voices checkpoints/nano list`.

    list                                  every voice and the modes it supports
    add NAME --wav FILE [--text WORDS]    a voice from a recording of 0.5 to 30 s and its transcript
    remove NAME

Without `--text` a voice can speak cross-lingually and by instruction, not zero-shot. With `--embedding-only` just the
speaker embedding is kept, as fine-tuned speakers have it. A server reads the voices when it starts.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tritone.audio.wav import read_samples
from tritone.build.disk import disk_problems
from tritone.cli.parser import Parser
from tritone.engines.inputs import check_inputs
from tritone.engines.onnx import open_session, run_session
from tritone.errors import TritoneError
from tritone.families.cosyvoice.checkpoint.folder import load_config
from tritone.families.cosyvoice.config.common import CosyVoiceConfig
from tritone.families.cosyvoice.family import ready_made_stages
from tritone.families.cosyvoice.speak.modes import find_mode, mode_inputs
from tritone.families.cosyvoice.speak.text import TextFrontend
from tritone.families.cosyvoice.versions import Version
from tritone.families.cosyvoice.voices.reference import reference_voice
from tritone.families.cosyvoice.voices.speaker_file import FORMATS, find_file
from tritone.families.cosyvoice.voices.speakers import add_voice, read_voices, remove_voice, zero_shot_entry
from tritone.families.cosyvoice.voices.voice import Voice
from tritone.stage import Arrays, Call


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the command line as a namespace."""
    parser = Parser(prog="tritone voices", description=__doc__)
    parser.add_argument("checkpoint", type=Path, help="checkpoint directory in its publisher's layout")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="every voice and the modes it supports")
    add = commands.add_parser("add", help="a voice from a recording")
    add.add_argument("name", help="name of the voice")
    add.add_argument("--wav", type=Path, required=True, help="the recording (wav, flac, ogg or mp3), 16 kHz or more")
    add.add_argument("--text", default="", help="transcript of the recording, word for word (default: none)")
    add.add_argument(
        "--embedding-only", action="store_true", help="keep the speaker embedding without a prompt, for mode sft"
    )
    add.add_argument("--replace", action="store_true", help="overwrite a voice of that name (default: refuse)")
    add.add_argument(
        "--format",
        default="",
        choices=("", *FORMATS),
        help="format of a new file (default: the existing file's, or safetensors)",
    )
    commands.add_parser("remove", help="remove a voice").add_argument("name", help="name of the voice")
    return parser.parse_args(arguments)


def recording_call(model_dir: Path, config: CosyVoiceConfig) -> Call:
    """Return a Call of the two networks that take recordings, from the checkpoint's own ONNX files."""
    stages = {stage.name: stage for stage in ready_made_stages(config)}

    def call(stage_name: str, **arrays: np.ndarray) -> Arrays:
        stage = stages[stage_name]
        check_inputs(stage, arrays)
        return run_session(open_session(model_dir / stage.file), stage, arrays)

    return call


def record(model_dir: Path, wav: Path, text: str) -> Voice:
    """Return the voice of a recording with the whole prompt a zero-shot request would give the language model."""
    config = load_config(model_dir)
    samples, rate = read_samples(wav)
    voice = reference_voice(recording_call(model_dir, config), samples, rate, config)
    if not text.strip():
        return voice
    front = TextFrontend(model_dir, config)
    # The target text has no effect: only the prompt is kept.
    return mode_inputs(find_mode("zero_shot", config.version), front, voice, text="a", transcript=text).voice


def uses(voice: Voice, version: Version) -> str:
    """Return the modes a voice can be used for, in words."""
    recorded, prompted = bool(len(voice.speech_token)), voice.prompt_text is not None or bool(len(voice.prompt_ids))
    fits = {
        "sft": voice.trained,
        "instruct": voice.trained,
        "zero_shot": prompted,
        "cross_lingual": recorded,
        "instruct2": recorded,
        "vc": recorded,
    }
    return ", ".join(mode for mode in version.modes if fits[mode])


def run(args: argparse.Namespace) -> None:
    """Run the command; problems are TritoneErrors."""
    if args.command == "list":
        voices = read_voices(args.checkpoint)
        version = load_config(args.checkpoint).version
        for name in voices.names:
            print(f"{name}\t{uses(voices.get(name), version)}")
        print(f"{len(voices.names)} voices in {find_file(args.checkpoint) or args.checkpoint}", file=sys.stderr)
    elif args.command == "remove":
        remove_voice(args.checkpoint, args.name)
    else:
        voice = record(args.checkpoint, args.wav, args.text)
        only = {"embedding": voice.embedding.astype(np.float32)[None]}
        entry = only if args.embedding_only else zero_shot_entry(voice)
        add_voice(args.checkpoint, args.name, entry, replace=args.replace, kind=args.format)


def main(arguments: Sequence[str] | None = None) -> int:
    """Edit or list the voices; return the exit status."""
    try:
        args = parse(arguments)
        with disk_problems(args.checkpoint):
            run(args)
    except TritoneError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
