"""The mel a trained flow makes of recordings' own tokens: what the vocoder will be given in use.

It lies frame by frame on the recording, but is smoother. A vocoder that learns from it learns to put back what the flow
leaves out (the fine-tuning of Kong et al., "HiFi-GAN", 2020, on the spectrograms of the model before it).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from tqdm import tqdm

from training.data import Corpus
from training.flow_matching import Batch, solve
from tritone.families.cosyvoice.flow import Flow

KIND = "spoken_mel"


def add_spoken_mel(corpus: Corpus, flow: Flow, count: int, source: str = "") -> None:
    """Stores, as the corpus's "spoken_mel", the flow's mel of the first `count` training utterances, as many a speaker.

    Each is spoken with its speaker's mean embedding, as registered voices are. The others have no rows.
    """
    tokens, embedding = corpus.store("tokens"), corpus.store("embedding")
    speakers = np.array([utterance.speaker for utterance in corpus.utterances])
    training = corpus.indices(False)
    turns = [training[speakers[training] == name] for name in corpus.speakers]
    chosen = {int(i) for turn in turns for i in turn[: -(-count // len(turns))]}
    means = {}
    for name in corpus.speakers:
        own = np.concatenate([embedding[int(i)] for i in np.flatnonzero(speakers == name)])
        means[name] = (own / np.linalg.norm(own, axis=1, keepdims=True)).mean(axis=0)

    def mels() -> Iterator[np.ndarray]:
        for i in tqdm(range(len(corpus)), desc=KIND, mininterval=5):
            if i not in chosen:
                yield np.zeros((0, flow.config.output_size), np.float16)
                continue
            ids = torch.from_numpy(tokens[i][:, 0].astype(np.int64))[None]
            spoken = Batch(
                ids,
                torch.tensor([ids.shape[1]]),
                torch.from_numpy(means[str(speakers[i])])[None].float(),
                torch.zeros(1, flow.config.output_size, flow.config.token_mel_ratio * ids.shape[1]),
            )
            yield solve(flow, spoken, streaming=False).T.astype(np.float16)

    corpus.write(KIND, mels(), source)
