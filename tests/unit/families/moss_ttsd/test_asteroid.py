"""The Asteroid language model: published logits, the delay pattern, and generation row by row."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.moss_helpers import described, lm_config, manifest, numbers, tiny_lm, tiny_lm_call
from transformers import DynamicCache

from tritone.engines.torch import TorchCall
from tritone.errors import ConfigError, InvalidRequest, TritoneError
from tritone.families.moss_ttsd.lm.config import AsteroidConfig, ChannelSampling, read_lm_config, read_sampling
from tritone.families.moss_ttsd.lm.delay import codes_of, delayed, frames_of, left_padded, spoken_frames, undelayed
from tritone.families.moss_ttsd.lm.generate import Draw, RowSession, choose, is_speech
from tritone.families.moss_ttsd.lm.network import AsteroidLM
from tritone.families.moss_ttsd.lm.stages import PART, StageGroup
from tritone.lm.sampling import greedy_draw
from tritone.lm.shared import SharedLm
from tritone.stage import Arrays

GREEDY = [ChannelSampling(do_sample=False)] * 8
START = 23
LONGEST = 60


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> AsteroidConfig:
    return lm_config("tiny", tmp_path_factory.mktemp("lm"))


@pytest.fixture(scope="module")
def golden() -> Arrays:
    return {k: v.astype(np.int64) if v.dtype == np.int32 else v for k, v in numbers("lm").items()}


@pytest.fixture(scope="module")
def call(config: AsteroidConfig) -> TorchCall:
    return tiny_lm_call(config)


def near(found: np.ndarray, wanted: np.ndarray) -> None:
    assert found.shape == wanted.shape
    assert np.abs(found - wanted).max() <= 1e-5 * np.abs(wanted).max()


@torch.no_grad()
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_logits_equal_published(config: AsteroidConfig, golden: Arrays, attention: str) -> None:
    lm, rows = tiny_lm(config, attention), torch.from_numpy(golden["input_ids"])
    near(lm.embed(rows).numpy(), golden["embeds"])
    logits = [one.numpy() for one in lm.heads(lm.hidden(rows, valid()))]
    for one, first in ((0, 0), (1, 8)):  # rows of padding hear nothing that means anything
        near(logits[0][one, first::4, ::97], golden["text_every_97"][one, first // 4 :])
        assert np.array_equal(logits[0][one, first:].argmax(-1), golden["text_argmax"][one, first:])
        for channel in range(7):
            near(logits[channel + 1][one, first::4, ::2], golden["speech"][channel, one, first // 4 :])


def valid() -> torch.Tensor:
    mask = torch.ones(2, 30)
    mask[1, :8] = 0
    return mask


@torch.no_grad()
def test_steps_with_a_cache_are_the_whole(config: AsteroidConfig, golden: Arrays, call: TorchCall) -> None:
    lm, rows = tiny_lm(config), golden["input_ids"]
    whole = [one[:, -1].numpy() for one in lm.heads(lm.hidden(torch.from_numpy(rows), valid()))]
    session, cache = StageGroup(call, config), DynamicCache()
    session.regroup([], [session.prefill(prompt, None)[1] for prompt in (rows[1, 8:29], rows[0, :29])])
    session.regroup([1, 0], [])
    found = [np.stack(channel) for channel in zip(*session.step(list(rows[:, 29])), strict=True)]
    for begin, end in ((0, 20), (20, 29), (29, 30)):
        cached = lm(torch.from_numpy(rows[:, begin:end]), valid()[:, :end], cache)
    for channel in range(8):
        near(found[channel], whole[channel])
        near(cached[channel][:, 0].numpy(), whole[channel])


def test_a_prompt_in_parts_is_the_prompt_at_once(config: AsteroidConfig, call: TorchCall) -> None:
    rows = np.random.default_rng(3).integers(0, 1024, (2 * PART + 5, 8))
    empty = StageGroup(call, config)._of(1, 0)
    whole = call("lm_step", rows=rows[None], padding=np.zeros(1, np.int64), kv_state=empty)
    group, sizes = StageGroup(call, config), [PART]
    logits, state = group.prefill(rows, None)
    while logits is None:
        logits, state = group.prefill(rows, state)
        sizes.append(state.shape[2])
    assert sizes == [PART, 2 * PART, len(rows)]
    near(state, whole["next_kv_state"][0])
    for found, wanted in zip(logits, [whole["text_logits"][0], *whole["speech_logits"][0]], strict=True):
        near(found, wanted)


def test_released_files_have_exactly_these_keys(tmp_path: Path) -> None:
    released = lm_config("released", tmp_path)
    with torch.device("meta"):
        own = {key: list(value.shape) for key, value in AsteroidLM(released).state_dict().items()}
    heads = {key.replace("model.embedding_list", "lm_heads"): own[key] for key in own if "embedding_list" in key}
    assert own | heads | {"model.language_model.embed_tokens.weight": [152697, 2048]} == manifest("lm")


class Until(RowSession):
    """Channel 0 says speech for so many rows, and then the end of speech."""

    def __init__(self, rows: int, prompt: np.ndarray, config: AsteroidConfig, *others: Any) -> None:
        super().__init__(prompt, config, *others)
        self._left, self._ids = rows, config

    def next(self, logits: Sequence[np.ndarray]) -> np.ndarray:
        first, last = self._ids.speech_tokens if self._left else (self._ids.speech_eos, self._ids.speech_eos + 1)
        self._left = max(0, self._left - 1)
        text = np.full_like(logits[0], -np.inf)
        text[first:last] = logits[0][first:last]
        return super().next([text, *logits[1:]])


def run(
    call: TorchCall,
    config: AsteroidConfig,
    golden: Arrays,
    sampling: list[ChannelSampling],
    draws: list[Draw],
    end: int | None = None,
) -> np.ndarray:
    """Return rows of the prompts and of what is said, of both sequences together.

    What ends before the other is padded.
    """
    rows, found = golden["input_ids"], []
    lm = SharedLm(StageGroup(call, config), 2)
    for prompt, draw, padding in zip([rows[0], rows[1, 8:]], draws, (0, 8), strict=True):
        given: Any = (prompt, config, sampling, draw, LONGEST - padding)
        found.append(lm.rows(RowSession(*given) if end is None else Until(end - START, *given)))
    spoken = [np.stack(list(one)) for one in found]
    drained = np.array([config.eos_token_id, *config.pads[1:]])
    longest = max(map(len, spoken))
    after = [np.concatenate([one, np.tile(drained, (longest - len(one), 1))]) for one in spoken]
    return np.concatenate([rows[:, :START], np.stack(after)], axis=1)


def published_sampling(do_sample: bool) -> list[ChannelSampling]:
    return [ChannelSampling(do_sample, **layer) for layer in described()["layers"]]


def test_greedy_generation_is_the_published_one(call: TorchCall, config: AsteroidConfig, golden: Arrays) -> None:
    assert np.array_equal(run(call, config, golden, GREEDY, [greedy_draw] * 2), golden["greedy"])


def test_processed_greedy_generation_is_the_published_one(
    call: TorchCall, config: AsteroidConfig, golden: Arrays
) -> None:
    found = run(call, config, golden, published_sampling(False), [greedy_draw] * 2)
    assert np.array_equal(found, golden["processed_argmax"])


def test_a_forced_end_drains_as_published(call: TorchCall, config: AsteroidConfig, golden: Arrays) -> None:
    found = run(call, config, golden, published_sampling(False), [greedy_draw] * 2, 36)
    assert np.array_equal(found, golden["forced_eos"])


def test_recorded_draws_give_the_published_rows(call: TorchCall, config: AsteroidConfig, golden: Arrays) -> None:
    def recorded(one: int) -> Callable[[np.ndarray], int]:
        uniforms = iter(golden["uniforms"][:, one].astype(np.float64))

        def draw(chances: np.ndarray) -> int:
            total = np.cumsum(chances, dtype=np.float64)
            return int(np.searchsorted(total, next(uniforms) * total[-1], side="right"))

        return draw

    found = run(call, config, golden, published_sampling(True), [recorded(0), recorded(1)], 42)
    assert np.array_equal(found, golden["sampled_forced_eos"])


def test_the_first_rows_cannot_be_the_end_nor_holes(config: AsteroidConfig, golden: Arrays) -> None:
    """A model that always wants the end of speech and holes gets each in the first row where the published loop has it.

    That loop bans the end while `row <= prompt + 7`, counted from the frames of the prompt, and the hole of channel c
    as soon as `row + 1 > prompt + c`. Until row 7 the channels that are behind repeat the prompt.
    """
    logits = [np.zeros(size, np.float32) for size in (config.vocab_size, *[config.speech_vocab_size] * 7)]
    logits[0][config.speech_tokens[0]] = 1
    logits[0][config.speech_eos] = 2
    for channel in range(1, 8):
        logits[channel][[5, config.speech_pad_token]] = 1, 2
    for prompt in (golden["input_ids"][0], golden["input_ids"][1, 8:]):
        session = RowSession(prompt, config, GREEDY, greedy_draw, LONGEST)
        rows = np.stack([session.next(logits) for _ in range(9)])
        ends = rows[:, 0] == config.speech_eos
        assert ends.tolist() == [False] * 8 + [True] and not session.over
        start = len(prompt) - 7
        for channel in range(1, 8):
            assert np.array_equal(rows[:channel, channel], prompt[start : start + channel, channel])
            assert rows[channel:, channel].tolist() == [5] * (9 - channel), "never a hole where a code is due"


def test_a_hole_is_banned_from_the_first_row_in_which_a_channel_speaks(config: AsteroidConfig, golden: Arrays) -> None:
    """Without forced ids, as where the prompt ends earlier: channel c may be a hole in rows before the c-th alone."""
    logits = [np.zeros(size, np.float32) for size in (config.vocab_size, *[config.speech_vocab_size] * 7)]
    logits[0][config.speech_tokens[0]] = 1
    for channel in range(1, 8):
        logits[channel][[5, config.speech_pad_token]] = 1, 2
    session = RowSession(golden["input_ids"][0], config, GREEDY, greedy_draw, LONGEST)
    session._forced = session.prompt
    rows = np.stack([session.next(logits) for _ in range(9)])
    for channel in range(1, 8):
        assert (rows[:, channel] == config.speech_pad_token).tolist() == [row < channel for row in range(9)], channel


def test_an_utterance_stops_at_its_longest(config: AsteroidConfig, golden: Arrays) -> None:
    prompt = golden["input_ids"][0]
    logits = [np.zeros(size, np.float32) for size in (config.vocab_size, *[config.speech_vocab_size] * 7)]
    utterance = Until(99, prompt, config, GREEDY, greedy_draw, 26)
    assert [is_speech(utterance.next(logits), config) for _ in range(3) if not utterance.over] == [True] * 3
    assert utterance.over
    with pytest.raises(InvalidRequest, match="has 23 rows; the limit is 22"):
        RowSession(prompt, config, GREEDY, greedy_draw, 23)
    with pytest.raises(InvalidRequest, match="has 7 rows with a delay of 7, so not one frame"):
        RowSession(prompt[:7], config, GREEDY, greedy_draw)


def test_the_delay_pattern_is_the_published_one(config: AsteroidConfig, golden: Arrays) -> None:
    x, y = golden["io_x"], golden["io_y"]
    assert np.array_equal(delayed(x, config.pads), golden["io_shifted"])
    assert np.array_equal(delayed(y, config.pads), golden["io_shifted_y"])
    assert np.array_equal(undelayed(golden["io_shifted"]), x)
    rows, padding = left_padded([golden["io_shifted"], golden["io_shifted_y"]], config.pads)
    assert np.array_equal(rows, golden["io_padded"])
    assert np.array_equal(padding, (golden["io_attn"] == 0).sum(1))
    for frames, last in zip(golden["io_fmv_in"], golden["io_fmv"], strict=True):
        assert spoken_frames(frames, 1024) == last + 1


def test_codes_and_ids_are_each_others_inverse(config: AsteroidConfig) -> None:
    codes = np.random.default_rng(0).integers(0, 1024, (8, 5))
    frames = frames_of(codes, config)
    assert frames[0, 0] == codes[0, 0] + 151665 and np.array_equal(frames[:, 1:], codes[1:].T)
    assert np.array_equal(codes_of(frames, config), codes)


def test_the_nucleus_keeps_at_least_one_id() -> None:
    logits = np.array([0.0, 5.0, 1.0], np.float32)
    assert choose(logits, np.zeros(0, np.int64), ChannelSampling(top_p=1e-6), lambda p: len(p) - 1) == 1
    assert choose(logits, np.zeros(0, np.int64), ChannelSampling(top_k=2), lambda p: len(p) - 1) == 2
    penalty = ChannelSampling(False, repetition_penalty=100.0)
    assert choose(logits, np.array([1]), penalty, greedy_draw) == 2


@pytest.mark.parametrize("wrong", [[0.0, np.nan, 1.0], [0.0, np.inf, 1.0], [-np.inf] * 3])
@pytest.mark.parametrize("sampling", [ChannelSampling(False), ChannelSampling(top_k=2), ChannelSampling(top_p=0.5)])
def test_scores_that_are_no_numbers_choose_no_id(wrong: list[float], sampling: ChannelSampling) -> None:
    with pytest.raises(TritoneError, match="scores are NaN or infinite, or exclude every id, so no id is sampled"):
        choose(np.array(wrong, np.float32), np.zeros(0, np.int64), sampling, greedy_draw)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"channels": None}, "config.json: channels is None; expected a whole number from 1 to 64"),
        ({"channels": 1}, "channels is 1; an Asteroid model has one for text"),
        ({"speech_token_range": [5]}, r"speech_token_range must be two ids.*found \[5\]"),
        ({"speech_token_range": [5, 200000]}, "speech_token_range 5..200000 lies outside the 152697 ids"),
    ],
)
def test_configurations_that_cannot_be_name_the_entry(tmp_path: Path, change: dict[str, object], message: str) -> None:
    import json

    (tmp_path / "config.json").write_text(json.dumps(described()["config"]["tiny"] | change))
    with pytest.raises(ConfigError, match=message):
        read_lm_config(tmp_path)


def test_the_end_of_speech_is_the_tokenizers(tmp_path: Path) -> None:
    assert lm_config("tiny", tmp_path).speech_eos == 152694
    (tmp_path / "added_tokens.json").write_text('{"<|end_of_speech|>": 152690}')
    assert lm_config("tiny", tmp_path).speech_eos == 152690


def test_sampling_is_read_by_channel(tmp_path: Path) -> None:
    assert read_sampling(tmp_path, 8) == ((ChannelSampling(),) * 8, None)
    path = tmp_path / "generation_config.json"
    path.write_text('{"do_sample": true, "temperature": 0.8, "max_length": 99}')
    assert read_sampling(tmp_path, 2) == ((ChannelSampling(temperature=0.8),) * 2, 99)
    path.write_text('{"do_samples": [true, false], "layers": [{"top_k": 5}, {"top_p": 0.5}]}')
    assert read_sampling(tmp_path, 2)[0] == (ChannelSampling(top_k=5), ChannelSampling(False, top_p=0.5))
    with pytest.raises(ConfigError, match="2 do_samples and 2 layers; the model has 8 channels"):
        read_sampling(tmp_path, 8)
    path.write_text('{"do_sample": true, "temperature": 0}')
    with pytest.raises(ConfigError, match=r"generation_config.json: ChannelSampling.*: sampling needs temperature > 0"):
        read_sampling(tmp_path, 2)
    path.write_text("[")
    with pytest.raises(ConfigError, match="is not valid JSON"):
        read_sampling(tmp_path, 2)
    with pytest.raises(ConfigError, match=r"config.json does not exist; .* has generation_config.json"):
        read_lm_config(tmp_path)
