"""Repetition-aware sampling and the decoding loop, against sessions whose logits are known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from tritone.errors import InvalidRequest, TritoneError
from tritone.families.cosyvoice.config.common import LmConfig
from tritone.lm.sampling import SamplingConfig, greedy_draw, sample, seeded_draw, softmax, tokens

CONFIG = LmConfig(speech_token_size=5, min_token_text_ratio=2.0, max_token_text_ratio=4.0)
FREE = replace(CONFIG, sampling=SamplingConfig(win_size=0))
"""Repetition allowed."""


class Scripted:
    """Logits that favour a given id at each step, and what was fed."""

    def __init__(self, favourites: Sequence[int]) -> None:
        self.favourites, self.fed = list(favourites), []

    def _logits(self) -> np.ndarray:
        logits = np.zeros(8, np.float32)
        logits[self.favourites[len(self.fed) - 1]] = 9
        return logits

    def prefill(self, ids: Sequence[int]) -> np.ndarray:
        self.fed.append(list(ids))
        return self._logits()

    def step(self, token: int) -> np.ndarray:
        self.fed.append(token)
        return self._logits()

    def close(self) -> None: ...


def log(*probabilities: float) -> np.ndarray:
    return np.log(np.array(probabilities, np.float32))


def seen(scores: np.ndarray, config: SamplingConfig, history: Sequence[int] = ()) -> list[np.ndarray]:
    """Return the probabilities handed to each draw, the first id being drawn every time."""
    drawn: list[np.ndarray] = []

    def draw(probabilities: np.ndarray) -> int:
        drawn.append(probabilities)
        return 0

    sample(scores, history, config, draw)
    return drawn


def test_the_nucleus_keeps_ids_until_top_p_is_reached() -> None:
    scores = log(0.1, 0.5, 0.25, 0.15)
    np.testing.assert_allclose(seen(scores, SamplingConfig(top_p=0.8, top_k=25, win_size=0))[0], [0.5, 0.25, 0.15])
    np.testing.assert_allclose(seen(scores, SamplingConfig(top_p=0.7, top_k=25, win_size=0))[0], [0.5, 0.25])
    np.testing.assert_allclose(seen(scores, SamplingConfig(top_p=0.8, top_k=2, win_size=0))[0], [0.5, 0.25])
    np.testing.assert_allclose(seen(scores, SamplingConfig(top_p=0.0, top_k=25, win_size=0))[0], [0.5])


def test_the_nucleus_is_full_once_it_holds_exactly_top_p() -> None:
    quarters = np.zeros(4, np.float32)
    for top_p, kept in ((0.25, 1), (0.5, 2), (0.5001, 3), (0.75, 3), (1.0, 4)):
        drawn = seen(quarters, SamplingConfig(top_p=top_p, top_k=25, win_size=0))[0]
        np.testing.assert_array_equal(drawn, np.full(kept, 0.25, np.float32))


def test_a_repeat_inside_the_window_is_redrawn_from_all_others() -> None:
    scores, config = log(0.6, 0.3, 0.1), SamplingConfig(top_p=0.8, top_k=25, win_size=3, tau_r=0.1)
    assert len(seen(scores, config, [1, 2, 1])) == 1
    first, second = seen(scores, config, [0, 1, 2])
    np.testing.assert_allclose(first, [0.6, 0.3], rtol=1e-6)
    np.testing.assert_allclose(second, [0, 0.75, 0.25], rtol=1e-6)
    assert len(seen(scores, config, [0, 1, 2, 1])) == 1, "outside the window"
    assert len(seen(scores, SamplingConfig(win_size=0), [0, 0, 0])) == 1, "no window"


def test_two_repeats_are_allowed_where_the_threshold_is_higher() -> None:
    config = SamplingConfig(win_size=10, tau_r=0.3)
    assert len(seen(log(0.6, 0.4), config, [0, 0])) == 1
    assert len(seen(log(0.6, 0.4), config, [0, 0, 0])) == 2


def test_the_only_possible_id_may_repeat() -> None:
    assert sample(np.array([-np.inf, 2.0], np.float32), [1], SamplingConfig(), greedy_draw) == 1


def test_sampling_leaves_its_input_alone() -> None:
    scores = log(0.6, 0.4)
    sample(scores, [0], SamplingConfig(), greedy_draw)
    np.testing.assert_array_equal(scores, log(0.6, 0.4))


def test_seeded_draws_repeat_and_follow_the_probabilities() -> None:
    weights = np.array([0.1, 0.0, 0.3], np.float32)
    a, b = seeded_draw(7), seeded_draw(7)
    drawn = [a(weights) for _ in range(4000)]
    assert drawn[:50] == [b(weights) for _ in range(50)]
    assert drawn[:50] != [seeded_draw(8)(weights) for _ in range(50)]
    np.testing.assert_allclose(np.bincount(drawn, minlength=3) / 4000, [0.25, 0, 0.75], atol=0.03)


def test_softmax_of_excluded_ids_is_zero() -> None:
    np.testing.assert_allclose(softmax(np.array([0, -np.inf, 0], np.float32)), [0.5, 0, 0.5])


def test_decoding_feeds_each_token_back_and_stops() -> None:
    session = Scripted([3, 1, 2, 4, 5])
    assert list(tokens(session, [8, 9], 2, CONFIG, greedy_draw)) == [3, 1, 2, 4]
    assert session.fed == [[8, 9], 3, 1, 2, 4]


@pytest.mark.parametrize("stop", CONFIG.stop_ids)
def test_every_stop_id_ends_the_sequence(stop: int) -> None:
    assert list(tokens(Scripted([3, 1, stop]), [0], 1, CONFIG, greedy_draw)) == [3, 1]


def test_the_stop_id_is_excluded_before_the_least_length() -> None:
    found = list(tokens(Scripted([5, 5, 5]), [0], 1, CONFIG, greedy_draw))
    assert len(found) == 2 and 5 not in found


def test_the_longest_length_ends_the_sequence() -> None:
    favourites = [0, 1, 2, 3] * 5
    assert list(tokens(Scripted(favourites), [0], 2, FREE, greedy_draw)) == favourites[:8]
    assert list(tokens(Scripted(favourites), [0], 2, FREE, greedy_draw, limit=3)) == favourites[:3]
    session = Scripted(favourites)
    list(tokens(session, [0], 2, FREE, greedy_draw, limit=3))
    assert len(session.fed) == 3, "nothing is computed beyond the last token"


def test_cancelling_stops_the_model() -> None:
    session = Scripted([0, 1, 2, 3] * 5)
    found: list[int] = []
    for token in tokens(session, [0], 4, CONFIG, greedy_draw, cancelled=lambda: len(found) >= 3):
        found.append(token)
    assert found == [0, 1, 2] and len(session.fed) == 3


def test_no_room_for_speech_is_the_requests_fault() -> None:
    with pytest.raises(InvalidRequest, match="target_text: no speech fits: 0 text tokens, limit None"):
        list(tokens(Scripted([1]), [0], 0, CONFIG, greedy_draw))


@pytest.mark.parametrize("wrong", [[0.1, np.nan, 0.3], [np.nan] * 3, [0.1, np.inf, 0.3], [-np.inf] * 3, []])
def test_scores_that_are_no_numbers_choose_no_id(wrong: list[float]) -> None:
    scores = np.array(wrong, np.float32)
    with pytest.raises(TritoneError, match="scores are NaN or infinite, or exclude every id, so no id is sampled"):
        sample(scores, [], SamplingConfig(), greedy_draw)

    class Broken(Scripted):
        def _logits(self) -> np.ndarray:
            return super()._logits() if len(self.fed) < 3 else np.full(8, np.nan, np.float32)

    spoken = []
    with pytest.raises(TritoneError, match="no id is sampled"):
        spoken.extend(token for token in tokens(Broken([1, 2, 3]), [5], 4, FREE, greedy_draw) if spoken.append(token))
    assert spoken == [1, 2]
