"""Generator files of Bert-VITS2, `G_<step>.pth`: read as data and strictly, and made small for speaking alone.

A file is `{"model": state_dict, "iteration": epoch, "optimizer": ..., "learning_rate": ...}`, or a bare state_dict.
Versions 2.0 to 2.3 differ in the width of the speaker (in the configuration), in what fills unused BERT streams
(`filler`), and in the emotion that 2.1 and 2.2 add to the text.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from tritone.build.files import write_atomic
from tritone.checkpoint.weights import load_strict, read_data
from tritone.errors import CheckpointError
from tritone.families.bert_vits2.config import BertVits2Config
from tritone.families.bert_vits2.networks.generator import Generator

POSTERIOR = "enc_q."


def read_model(path: Path | str) -> dict[str, Tensor]:
    """Return the state_dict of one network in a published file, key -> tensor on the CPU in its stored dtype.

    Raises CheckpointError for a file that is missing, damaged, of another kind, or that holds pickled code.
    """
    path = Path(path)
    found = read_data(path)
    state = found.get("model", found) if isinstance(found, Mapping) else found
    if not isinstance(state, Mapping) or not state or not all(isinstance(value, Tensor) for value in state.values()):
        keys = f" with {', '.join(map(str, list(found)[:5]))}" if isinstance(found, Mapping) else ""
        raise CheckpointError(
            f"{path} holds a {type(found).__name__}{keys}; expected a state_dict of tensors, or one under 'model'."
        )
    return dict(state)


def load_generator(path: Path | str, config: BertVits2Config, ignore_emotion: bool = False) -> Generator:
    """Return the generator in eval mode with the file's weights, float32; without a posterior encoder if the file has
    none.

    Args:
        ignore_emotion: leave out the emotion input of a 2.1 or 2.2 checkpoint. The voice then speaks without the
            vector it was trained with.

    Raises:
        CheckpointError: the file cannot be read, does not fit the configuration (every key is listed), has an emotion
            input, or is of the Extra line.
    """
    path = Path(path)
    state = {key: value.float() if value.is_floating_point() else value for key, value in read_model(path).items()}
    if "enc_p.bert_proj.weight" in state and not {"enc_p.ja_bert_proj.weight", "enc_p.en_bert_proj.weight"} <= set(
        state
    ):
        raise CheckpointError(
            f"{path} has the BERT input of one language alone: it is of the Extra line (2.4), which is not supported; "
            f"versions 2.0 to 2.3 are."
        )
    emotion = [key for key in state if key.startswith("enc_p.") and "emo" in key]
    if emotion and not ignore_emotion:
        raise CheckpointError(
            f"{path} has an emotion input ({', '.join(emotion)}), as versions 2.1 and 2.2 do, which is not supported. "
            f"Load it with ignore_emotion=True to speak without, or take a checkpoint of 2.0 or 2.3."
        )
    state = {key: value for key, value in state.items() if key not in emotion}
    generator = Generator(config, posterior=any(key.startswith(POSTERIOR) for key in state))
    load_strict(generator, state, path)
    return generator.eval()


def compress(source: Path | str, target: Path | str, half: bool = True) -> None:
    """Writes what speaking needs of a generator file: no posterior encoder, no optimiser, and float16 if `half`.

    Raises CheckpointError when `source` is no generator's file.
    """
    state = read_model(source)
    if not any(key.startswith("enc_p.") for key in state):
        raise CheckpointError(
            f"{source} is no generator's file: it has no enc_p.*; its first key is {next(iter(state))}."
        )
    kept = {key: value for key, value in state.items() if not key.startswith(POSTERIOR)}
    if half:
        kept = {key: value.half() if value.is_floating_point() else value for key, value in kept.items()}
    content = {"model": kept, "iteration": 0, "optimizer": None, "learning_rate": 0.0}
    write_atomic(Path(target), lambda file: torch.save(content, file))
