"""Monotonic alignment: the published paths, brute force on small cases, ragged batches, and what it refuses."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.bert_vits2.alignment import measure
from training.bert_vits2.alignment import align, monotonic_path, noise_scale

GOLDEN = np.load(Path(__file__).parents[3] / "golden" / "bert_vits2" / "alignment.npz")


def case(name: str) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, np.ndarray]:
    scores, frames, phones = (torch.from_numpy(GOLDEN[f"{name}_{part}"]) for part in ("scores", "frames", "phones"))
    return scores, frames, phones, GOLDEN[f"{name}_path"]


@pytest.mark.parametrize("name", ["a", "b", "square", "ties"])
def test_paths_are_the_published_ones(name: str) -> None:
    scores, frames, phones, path = case(name)
    kept = scores.clone()
    assert np.array_equal(monotonic_path(scores, frames, phones).numpy(), path)
    assert torch.equal(scores, kept)


def test_fewer_frames_than_phones_are_refused_unless_asked_for() -> None:
    scores, frames, phones, path = case("ty_lt_tx")
    with pytest.raises(ValueError, match="row 0 has 3 frames for 5 phones, so some phone would get none; drop"):
        monotonic_path(scores, frames, phones)
    assert np.array_equal(monotonic_path(scores, frames, phones, allow_short=True).numpy(), path)


def test_no_alignment_is_better() -> None:
    rng = np.random.default_rng(3)
    for frames, phones in [(1, 1), (5, 1), (7, 3), (8, 8), (9, 4)]:
        scores = rng.normal(size=(1, frames, phones)).astype(np.float32)
        path = monotonic_path(torch.from_numpy(scores), torch.tensor([frames]), torch.tensor([phones]))[0].numpy()
        starts = itertools.combinations(range(1, frames), phones - 1)
        best = max(
            sum(scores[0, y, np.searchsorted(borders, y, "right")] for y in range(frames))
            for borders in (np.array(b) for b in starts)
        )
        assert (path.sum(1) == 1).all() and (path.sum(0) >= 1).all()
        assert (path * scores[0]).sum() == pytest.approx(best, abs=1e-4)


def test_where_both_ways_are_equal_the_path_stays() -> None:
    path = monotonic_path(torch.zeros(1, 6, 3), torch.tensor([6]), torch.tensor([3]))[0]
    assert path.argmax(1).tolist() == [0, 1, 2, 2, 2, 2]


def test_padding_changes_nothing() -> None:
    scores, frames, phones, path = case("a")
    for row in range(len(scores)):
        y, x = int(frames[row]), int(phones[row])
        alone = monotonic_path(scores[row : row + 1, :y, :x], frames[row : row + 1], phones[row : row + 1])
        assert np.array_equal(alone[0].numpy(), path[row, :y, :x])
    spoiled = torch.full((3, 30, 12), torch.nan)
    for row in range(len(scores)):
        y, x = int(frames[row]), int(phones[row])
        spoiled[row, :y, :x] = scores[row, :y, :x]
    assert np.array_equal(monotonic_path(spoiled, frames, phones)[:, :20, :7].numpy(), path)


def test_type_and_device_are_those_of_the_scores() -> None:
    scores = torch.zeros(1, 2, 2, dtype=torch.bfloat16, requires_grad=True)
    found = monotonic_path(scores, torch.tensor([2]), torch.tensor([2]))
    assert found.dtype == torch.bfloat16 and not found.requires_grad


@pytest.mark.parametrize(
    ("shape", "frames", "phones", "message"),
    [
        ((2, 3), [3], [3], r"needs scores \[batch, frames, phones\].* got \[2, 3\], \[1\] and \[1\]"),
        ((2, 3, 3), [3], [3, 3], r"got \[2, 3, 3\], \[1\] and \[2\]"),
        ((1, 3, 3), [4], [3], "row 0 has 4 frames, but the scores have 1 to 3"),
        ((1, 3, 3), [3], [0], "row 0 has 0 phones, but the scores have 1 to 3"),
    ],
)
def test_lengths_must_fit(shape: tuple[int, ...], frames: list[int], phones: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        monotonic_path(torch.zeros(shape), torch.tensor(frames), torch.tensor(phones))


def test_lengths_are_read_off_a_mask() -> None:
    scores, frames, phones, path = case("a")
    mask = (torch.arange(20)[:, None] < frames[:, None, None]) & (torch.arange(7) < phones[:, None, None])
    assert np.array_equal(align(scores, mask.float()).numpy(), path)


def test_noise_fades() -> None:
    assert [noise_scale(step) for step in (0, 1000, 5000, 9000)] == pytest.approx([0.01, 0.008, 0.0, 0.0])


def test_the_benchmark_compares_searches_that_agree() -> None:
    assert measure(batch=4, frames=300, phones=100, repeats=1).keys() == {"search_ms", "loop_ms", "times"}
