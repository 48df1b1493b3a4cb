"""The recipe of the speech tokenizer: L1 on the reconstructed log-mel, CTC on the phones.

A third loss keeps the digits independent, so that more of the 6561 codes are used.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.core import checkpointing, distributed
from training.core.run import Evaluation, Run, autocast, warmup_cosine
from training.corpus.data import Corpus, bucketed, pad
from training.cosyvoice.networks.tokenizer import CODES, Heads, Tokenizer, codes_of, mask_of, quantize
from tritone.families.cosyvoice.checkpoint.folder import SPEECH_TOKENIZER
from tritone.text.phonemes import BREAKS, PHONES, WORD_BOUNDARY

FILE = SPEECH_TOKENIZER
"""The name of the exported file."""
CTC_WEIGHT = 1.0
SPREAD_WEIGHT = 1.0
RATE = 1.5e-3
Batch = dict[str, Tensor]
EVALUATED = 160
"""Validation utterances scored at each evaluation."""


def plain_phones() -> dict[str, int]:
    """Return the CTC label (1..) of every phone symbol; stress is ignored and boundaries have no label."""
    plain = sorted({phone.lstrip("ˈˌ") for phone in PHONES})
    return {phone: 1 + plain.index(phone.lstrip("ˈˌ")) for phone in PHONES}


def sizes(smoke: bool) -> dict[str, int]:
    """Return the sizes of the tokenizer network."""
    return {"dim": 32, "blocks": 1} if smoke else {"dim": 256, "blocks": 4}


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add this recipe's options."""
    parser.add_argument("--rate", type=float, default=RATE, help="peak learning rate")
    parser.add_argument("--start", type=Path, help="folder of a run whose best weights are the start")


def build(args: argparse.Namespace) -> Run:
    """Return the run of `python -m training cosyvoice_tokenizer`."""
    corpus, device, labels = Corpus(args.data), args.device, plain_phones()
    tokenizer = Tokenizer(**sizes(args.smoke)).to(device)
    heads = Heads(len(corpus.speakers), max(labels.values()), *((32, 1) if args.smoke else ())).to(device)
    if args.start:
        tokenizer.load_state_dict(checkpointing.best_network(args.start, "tokenizer"))
        heads.load_state_dict(checkpointing.best_network(args.start, "heads"))
    optimizer = torch.optim.AdamW(
        [*tokenizer.parameters(), *heads.parameters()], args.rate, betas=(0.9, 0.98), weight_decay=0.01
    )
    features = Features(corpus, labels, device)

    def step(batch: Batch, number: int) -> dict[str, float]:
        with autocast(device):
            l1, ctc, digits, _ = losses(tokenizer, heads, batch)
        spread = redundancy(digits, mask_of(batch["length"] // 4, digits.shape[1]))
        norm = distributed.update(l1 + CTC_WEIGHT * ctc + SPREAD_WEIGHT * spread, optimizer, clip=1.0)
        scalars = {"mel_l1": l1, "ctc": ctc, "spread": spread}
        return {name: float(loss.detach()) for name, loss in scalars.items()} | {"gradient": norm}

    def plan(epoch: int) -> list[np.ndarray]:
        budget = 1600 if args.smoke else 10000
        return bucketed(corpus.store("whisper").lengths, corpus.indices(False), budget, args.seed, epoch)

    def batches(epoch: int, skip: int) -> Iterator[Batch]:
        for rows in plan(epoch)[skip:]:
            yield features.batch(rows)

    return Run(
        name="tokenizer",
        networks={"tokenizer": tokenizer, "heads": heads},
        optimizers={"adamw": optimizer},
        batches=batches,
        step=step,
        evaluate=lambda: score(tokenizer, heads, features, corpus.validation()[:EVALUATED]),
        metric="score",
        max_steps=20 if args.smoke else 3000,
        schedulers={"adamw": warmup_cosine()},
        device=device,
        utterances=lambda epoch, number: corpus.names(plan(epoch)[number]),
    )


class Features:
    """The corpus's Whisper frames, mel and phones in batches."""

    def __init__(self, corpus: Corpus, labels: Mapping[str, int], device: torch.device) -> None:
        self._corpus, self._labels, self._device = corpus, labels, device
        self._whisper, self._mel = corpus.store("whisper"), corpus.store("mel")

    def batch(self, rows: np.ndarray) -> Batch:
        """Return the padded features of these utterances by name, cut to whole tokens."""
        corpus, mel = self._corpus, self._mel
        feats = [self._whisper[i] for i in rows]
        frames = np.array([min(len(f) // 4, len(mel[i]) // 2) * 4 for f, i in zip(feats, rows, strict=True)])
        feats = [f[:n] for f, n in zip(feats, frames, strict=True)]
        phones = [self._phones(corpus.utterances[i].phones) for i in rows]
        mels = [mel[i][: n // 2] for i, n in zip(rows, frames, strict=True)]
        batch = {
            "feats": torch.from_numpy(pad(feats).astype(np.float32)).transpose(1, 2),
            "length": torch.from_numpy(frames.astype(np.int32)),
            "mel": torch.from_numpy(pad(mels, -11.5).astype(np.float32)),
            "speaker": torch.tensor([corpus.speakers.index(corpus.utterances[i].speaker) for i in rows]),
            "phones": torch.from_numpy(pad([np.array(p, np.int64) for p in phones])),
            "phones_len": torch.tensor([len(p) for p in phones]),
        }
        return {name: tensor.to(self._device) for name, tensor in batch.items()}

    def _phones(self, symbols: Iterable[str]) -> list[int]:
        return [self._labels[symbol] for symbol in symbols if symbol not in (WORD_BOUNDARY, *BREAKS)]


def losses(tokenizer: Tokenizer, heads: Heads, batch: Batch) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the mel's L1, the phones' CTC loss, the digits `[batch, tokens, 8]` and the reconstructed mel."""
    latent, mask = tokenizer.latent(batch["feats"], batch["length"])
    digits = quantize(latent) * mask
    rebuilt, logits = heads(digits, mask, batch["speaker"])
    size = rebuilt.shape[1]
    weight = mask.repeat_interleave(2, dim=1)
    l1 = ((rebuilt.float() - batch["mel"][:, :size]).abs() * weight).sum() / (weight.sum() * 80)
    log_probs = logits.float().log_softmax(-1).transpose(0, 1)
    lengths = batch["length"].long() // 4
    ctc = F.ctc_loss(log_probs, batch["phones"], lengths, batch["phones_len"], zero_infinity=True)
    return l1, ctc, digits, rebuilt


def score(tokenizer: Tokenizer, heads: Heads, features: Features, rows: np.ndarray) -> Evaluation:
    """Return the mel's L1, the phone error rate, and how evenly the codes are used, on these utterances."""
    used, l1s, errors, images = np.zeros(CODES), [], [], {}
    for start in range(0, len(rows), 16):
        batch = features.batch(rows[start : start + 16])
        l1, _, digits, rebuilt = losses(tokenizer, heads, batch)
        l1s.append(float(l1))
        mask = torch.ones_like(digits[..., :1])
        for row, codes in enumerate(codes_of(digits, mask).cpu().numpy()):
            used += np.bincount(codes[: int(batch["length"][row]) // 4], minlength=CODES)
        errors.append(_phone_errors(heads, digits, batch))
        if start == 0:
            length = int(batch["length"][0]) // 2
            pair = torch.cat([batch["mel"][0, :length], rebuilt[0, :length]], 1)
            images["rebuilt over original"] = pair.T.cpu().numpy()
    wrong, total = np.sum(errors, axis=0)
    share = used / used.sum()
    perplexity = float(np.exp(-(share[share > 0] * np.log(share[share > 0])).sum()))
    scalars = {"mel_l1": float(np.mean(l1s)), "phone_error_rate": wrong / total, "perplexity": perplexity}
    scalars |= {"codes_used": float((used > 0).sum()), "score": scalars["mel_l1"] + scalars["phone_error_rate"]}
    return Evaluation(scalars, images)


def redundancy(digits: Tensor, mask: Tensor) -> Tensor:
    """Return the distance of the digits' means and covariances from those of independent, evenly used digits.

    Args:
        digits: -1, 0 or 1, `[batch, tokens, 8]`. mask: `[batch, tokens, 1]`, 1 on tokens that exist.

    Source: after VICReg (Bardes et al., 2022), with the variance of three evenly used values instead of 1.
    """
    count = mask.sum()
    mean = (digits * mask).sum(dim=(0, 1)) / count
    rest = ((digits - mean) * mask).flatten(0, 1)
    ideal = torch.eye(len(mean), device=digits.device) * 2 / 3
    return (mean.square().sum() + (rest.T @ rest / count - ideal).square().sum()) / len(mean)


def _phone_errors(heads: nn.Module, digits: Tensor, batch: dict[str, Tensor]) -> tuple[int, int]:
    """Return (edits, reference phones) of the greedy CTC reading of a batch."""
    mask = torch.ones_like(digits[..., :1])
    best = heads(digits, mask, batch["speaker"])[1].argmax(-1).cpu().numpy()
    wrong = total = 0
    for row, path in enumerate(best):
        path = path[: int(batch["length"][row]) // 4]
        read = [int(p) for p, before in zip(path, [0, *path[:-1]], strict=True) if p not in (0, before)]
        truth = batch["phones"][row, : int(batch["phones_len"][row])].tolist()
        wrong, total = wrong + edits(read, truth), total + len(truth)
    return wrong, total


def edits(a: list[int], b: list[int]) -> int:
    """Return the Levenshtein distance."""
    row = np.arange(len(b) + 1)
    for i, x in enumerate(a, 1):
        changed = np.minimum(row[1:] + 1, row[:-1] + (np.array(b, int) != x))
        best = np.concatenate([[i], changed])
        row = np.minimum.accumulate(best - np.arange(len(best))) + np.arange(len(best))
    return int(row[-1])


def export(out: Path, path: Path, smoke: bool = False) -> None:
    """Write the best tokenizer of the run in `out` as the published layout's `speech_tokenizer_v2.onnx`."""
    tokenizer = Tokenizer(**sizes(smoke))
    tokenizer.load_state_dict(checkpointing.best_network(out, "tokenizer"))
    write_onnx(tokenizer.eval(), path)


def write_onnx(tokenizer: Tokenizer, path: Path) -> None:
    """Write an ONNX file: feats float32 `[batch, 128, T]`, length int32 `[batch]` -> indices int32 `[batch, T //
    4]`.
    """
    batch, time = torch.export.Dim("batch"), torch.export.Dim("T", min=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    example = (torch.randn(2, 128, 80), torch.tensor([80, 60], dtype=torch.int32))
    torch.onnx.export(
        tokenizer,
        example,
        str(path),
        dynamo=True,
        external_data=False,
        verbose=False,
        opset_version=18,
        input_names=["feats", "feats_length"],
        output_names=["indices"],
        dynamic_shapes={"feats": {0: batch, 2: time}, "length": {0: batch}},
    )
