"""The vocoder's stream gives every frame the whole receptive field, no frame less, on both sides."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from tritone.families.cosyvoice.config.common import HiftConfig
from tritone.families.cosyvoice.published import V1, V2, V3
from tritone.families.cosyvoice.vocoder.receptive_field import f0_reach, vocoder_reach
from tritone.families.cosyvoice.vocoder.stream import VocoderStream
from tritone.stage import Arrays

TOTAL = 140


class Windows:
    """Stands in for the networks: each frame's first channel is its number, and so are its f0 and its waveform."""

    def __init__(self, hop: int) -> None:
        self.hop = hop
        self.seen: list[tuple[str, int, int, int]] = []

    def __call__(self, stage_name: str, **arrays: np.ndarray) -> Arrays:
        mel, length = arrays["mel"][0, 0], int(arrays["mel_len"][0])
        first, last = int(mel[0]), int(mel[length - 1])
        if stage_name == "f0_predictor":
            self.seen.append((stage_name, first, last, 0))
            return {"f0": mel[None] + 100}
        sounding = np.abs(arrays["harmonics"][0]).max(axis=0).reshape(-1, self.hop).max(axis=1)
        self.seen.append((stage_name, first, last, first + int(np.flatnonzero(sounding)[-1])))
        return {"waveform": np.repeat(mel, self.hop)[None]}


@pytest.mark.parametrize("config", [V1.hift, V2.hift, V3.hift], ids=["v1", "v2", "v3"])
@pytest.mark.parametrize("step", [1, 7, 34, 50])
def test_every_frame_has_its_whole_context(config: HiftConfig, step: int) -> None:
    config = dataclasses.replace(config, nsf_sigma=0.0)
    reach, (f0_left, f0_right) = vocoder_reach(config), f0_reach(config)
    call = Windows(config.hop)
    stream = VocoderStream(call, config, 0)
    mel = np.zeros((1, config.in_channels, TOTAL), np.float32)
    mel[0, 0] = np.arange(TOTAL)
    done = f0_done = f0_before = 0
    for start in range(0, TOTAL, step):
        stop = min(TOTAL, start + step)
        wave = stream.push(mel[:, :, start:stop], last=stop == TOTAL)
        for name, first, last, source in call.seen:
            if name == "f0_predictor":
                known = TOTAL if stop == TOTAL else last + 1 - f0_right
                assert first <= max(0, f0_done - f0_left) and last == stop - 1
                f0_done = known
                continue
            frames = wave.reshape(-1, config.hop)[:, 0].astype(int)
            np.testing.assert_array_equal(frames, np.arange(done, done + len(frames)))
            done += len(frames)
            assert first == max(0, min(frames[0] - reach.left, f0_before - f0_left))
            assert last >= min(TOTAL - 1, frames[-1] + reach.right)
            assert source >= min(TOTAL - 1, frames[-1] + reach.source_right)
        f0_before = f0_done
        call.seen.clear()
    assert done == TOTAL
