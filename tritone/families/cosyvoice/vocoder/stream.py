"""Mel frames to waveform as they arrive, equal to one pass over the whole utterance."""

from __future__ import annotations

import numpy as np

from tritone.families.cosyvoice.config.common import HiftConfig
from tritone.families.cosyvoice.vocoder.receptive_field import f0_reach, vocoder_reach
from tritone.families.cosyvoice.vocoder.source import harmonic_source
from tritone.families.cosyvoice.vocoder.stages import FRAMES
from tritone.request.batch import stack
from tritone.stage import Call


class VocoderStream:
    """Turns mel frames into a waveform as they arrive, without seams.

    The vocoder has no state: it runs on the new frames with its receptive field as context on both sides, and the
    middle is kept. f0 is computed first with its own context, so the excitation's phase is integrated over exact
    values. An utterance of fewer frames than the stages take is padded.
    """

    def __init__(self, call: Call, config: HiftConfig, seed: int) -> None:
        self._call, self._config = call, config
        self._reach, (self._f0_left, self._f0_right) = vocoder_reach(config), f0_reach(config)
        self._source = harmonic_source(config, seed)
        self._mel = np.zeros((1, config.in_channels, 0), np.float32)
        self._harmonics = np.zeros((1, config.nb_harmonics + 1, 0), np.float32)
        self._first = 0
        self._f0_done = 0
        self._done = 0

    def push(self, mel: np.ndarray, last: bool = False) -> np.ndarray:
        """Return the waveform `[samples]` of the frames with complete context, or of all the rest if `last`."""
        self._mel = np.concatenate([self._mel, mel], axis=2)
        total = self._first + self._mel.shape[2]
        self._extend_source(total, last)
        hop, reach = self._config.hop, self._reach
        known = self._first + self._harmonics.shape[2] // hop
        ready = total if last else min(total - reach.right, known - reach.source_right)
        if ready <= self._done:
            return np.zeros(0, np.float32)
        length = min(total, ready + max(reach.right, reach.source_right)) - self._first
        source = self._harmonics[:, :, : length * hop]
        # Where the mel looks farther ahead than the source, the last frames' source does not matter.
        source = np.pad(source, ((0, 0), (0, 0), (0, length * hop - source.shape[2])))
        wave = self._call(
            "vocoder",
            mel=stack([self._mel[:, :, :length]], FRAMES.lo),
            mel_len=np.array([length], np.int32),
            harmonics=stack([source], FRAMES.lo * hop),
        )["waveform"][0]
        out = wave[(self._done - self._first) * hop : (ready - self._first) * hop]
        self._done = ready
        self._forget()
        return out

    def _extend_source(self, total: int, last: bool) -> None:
        settled = total if last else total - self._f0_right
        fresh = np.zeros((1, self._config.nb_harmonics + 1, 0), np.float32)
        if settled > self._f0_done:
            start = max(self._first, self._f0_done - self._f0_left)
            window = self._mel[:, :, start - self._first :]
            length = np.array([window.shape[2]], np.int32)
            f0 = self._call("f0_predictor", mel=stack([window], FRAMES.lo), mel_len=length)["f0"]
            fresh = self._source.push(f0[0, self._f0_done - start : settled - start])[None]
            self._f0_done = settled
        if last:
            fresh = np.concatenate([fresh, self._source.finish()[None]], axis=2)
        self._harmonics = np.concatenate([self._harmonics, fresh], axis=2)

    def _forget(self) -> None:
        first = max(self._first, min(self._done - self._reach.left, self._f0_done - self._f0_left))
        drop = first - self._first
        self._mel = self._mel[:, :, drop:]
        self._harmonics = self._harmonics[:, :, drop * self._config.hop :]
        self._first = first
