"""Generator files of Bert-VITS2, `G_<step>.pth`: loaded strictly and without running code, and reduced for serving.

A file is `{"model": state_dict, "iteration": epoch, "optimizer": ..., "learning_rate": ...}`, or a bare state_dict;
`tritone.checkpoint.unwrap` takes the weights out of others.
Versions 2.0 to 2.3 differ in the width of the speaker embedding (given by the configuration), in the filler of unused
BERT streams (`text/filler.py`), and in the emotion input of 2.1 and 2.2.
"""

from __future__ import annotations

import re
from pathlib import Path

import torch
from torch import Tensor

from tritone.build.files import write_atomic
from tritone.checkpoint.unwrap import sought
from tritone.checkpoint.weights import built, read_state
from tritone.errors import CheckpointError
from tritone.families.bert_vits2.config import BertVits2Config
from tritone.families.bert_vits2.emotion import CLUSTERS, MARKS, kind_of, told_by_weights
from tritone.families.bert_vits2.networks.generator import Generator

POSTERIOR = "enc_q."
GENERATOR = sought("dec dp emb_g enc_p enc_q flow ref_enc sdp", "generator", "net_g")
OF_SPEAKERS = re.compile(r"enc_p\.emo_quantizer\.\d")
ALL_LANGUAGES = {"enc_p.ja_bert_proj.weight", "enc_p.en_bert_proj.weight"}


def read_model(path: Path | str) -> dict[str, Tensor]:
    """Return the state_dict of a generator in a published file, key -> tensor on the CPU in its stored dtype.

    Errors as `read_state`.
    """
    return read_state(Path(path), widen=False, network=GENERATOR)


def load_generator(path: Path | str, config: BertVits2Config) -> Generator:
    """Return the generator in eval mode with the file's weights in float32.

    It has a posterior encoder if the file has one.

    Raises:
        CheckpointError: the file cannot be read, does not fit the configuration (every key is listed), has the emotion
            input of another version, or belongs to the Extra line.
    """
    path = Path(path)
    state = {key: value.float() if value.is_floating_point() else value for key, value in read_model(path).items()}
    if "enc_p.bert_proj.weight" in state and not set(state) >= ALL_LANGUAGES:
        raise CheckpointError(
            f"{path} has the BERT input of one language only: it belongs to the Extra line (2.4), which is not "
            f"supported; versions 2.0 to 2.3 are."
        )
    if OF_SPEAKERS.match(" ".join(key for key in state if key.startswith(MARKS[CLUSTERS.name]))):
        raise CheckpointError(
            f"{path} has a codebook of emotions for each speaker ({MARKS[CLUSTERS.name]}0 ...), which no release of "
            f"2.1 has and which is not supported; versions 2.0 to 2.3 are, as released."
        )
    config = told_by_weights(config, kind_of(state), path)
    posterior = any(key.startswith(POSTERIOR) for key in state)
    return built(lambda: Generator(config, posterior=posterior), state, path).eval()


def compress(source: Path | str, target: Path | str, half: bool = True) -> None:
    """Write the part of a generator file that synthesis needs: without posterior encoder and optimiser.

    Weights are stored in float16 if `half`. Raises CheckpointError when `source` is not a generator file.
    """
    state = read_model(source)
    if not any(key.startswith("enc_p.") for key in state):
        raise CheckpointError(
            f"{source} is not a generator file: it has no enc_p.*; its first key is {next(iter(state))}."
        )
    kept = {key: value for key, value in state.items() if not key.startswith(POSTERIOR)}
    if half:
        kept = {key: value.half() if value.is_floating_point() else value for key, value in kept.items()}
    content = {"model": kept, "iteration": 0, "optimizer": None, "learning_rate": 0.0}
    write_atomic(Path(target), lambda file: torch.save(content, file))
