"""The v1 language model computes the published function, whole and step by step, on its stages."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice

import numpy as np
import pytest
import torch
from support.golden_weights import golden
from support.v1_helpers import tiny_config, tiny_lm, tiny_stages

from tritone.engines.torch import torch_call
from tritone.errors import InvalidRequest
from tritone.families.cosyvoice.lm.v1.session import StageSession
from tritone.families.cosyvoice.lm.v1.stages import PAST, TEXT
from tritone.families.cosyvoice.lm.vocabulary import Vocabulary
from tritone.lm.sampling import tokens
from tritone.nn.attention import RelativeAttention, SteppingAttention, attention_bias
from tritone.nn.embedding import distance_embedding

VOCABULARY = Vocabulary(4097)
Sessions = Callable[..., StageSession]


@pytest.fixture(scope="module")
def known() -> dict[str, np.ndarray]:
    return golden("llm", "v1")


@pytest.fixture(scope="module")
def prompt(known: dict[str, np.ndarray]) -> list[int]:
    text = np.concatenate((known["prompt_text"], known["text"]), axis=1)[0]
    return VOCABULARY.prompt(text.tolist(), known["prompt_speech_token"][0].tolist())


@pytest.fixture(scope="module")
def llm(known: dict[str, np.ndarray]) -> Sessions:
    stages = tiny_stages()
    mine = {name: stages[name] for name in ("llm_text_encoder", "llm_step")}
    call, config = torch_call(mine.values()), tiny_config().lm
    return lambda speaker=known["embedding"]: StageSession(call, mine, config, speaker)


def close(found: np.ndarray, wanted: np.ndarray, tolerance: float = 1e-4) -> None:
    assert found.shape == wanted.shape
    assert np.abs(found - wanted).max() <= tolerance * np.abs(wanted).max()


def log_softmax(logits: np.ndarray) -> np.ndarray:
    return torch.log_softmax(torch.from_numpy(logits), -1).numpy()


@torch.inference_mode()
def test_the_text_encoder_equals_published(known: dict[str, np.ndarray]) -> None:
    lm = tiny_lm()
    text = torch.from_numpy(np.concatenate((known["prompt_text"], known["text"]), axis=1))
    close(lm.text_encoder(lm.text_embedding(text)).numpy(), known["text_encoder_out"])
    close(lm.encode_text(text).numpy(), known["text_encoder_affine_out"])


@torch.inference_mode()
def test_teacher_forced_log_probs_equal_published(known: dict[str, np.ndarray]) -> None:
    text = torch.from_numpy(np.concatenate((known["prompt_text"], known["text"]), axis=1))
    speech = torch.from_numpy(np.concatenate((known["prompt_speech_token"], known["forced"][None]), axis=1))
    found = tiny_lm().log_probs(text, torch.from_numpy(known["embedding"]), speech)[0].numpy()
    assert found.shape == (40 + 12 + 1, 4097)
    close(found[40:52], known["logp"])


def test_step_by_step_equals_published(llm: Sessions, known: dict[str, np.ndarray], prompt: list[int]) -> None:
    with llm() as session:
        logits = [session.prefill(prompt), *(session.step(int(token)) for token in known["forced"][:-1])]
        assert session.length == len(prompt) + 1 + 11  # the speaker has a row but no id
    close(log_softmax(np.stack(logits)), known["logp"])


@pytest.mark.parametrize("cuts", [[1, 1, 1], [7, 30], [52]])
@torch.inference_mode()
def test_steps_of_any_size_equal_the_whole(cuts: list[int]) -> None:
    decoder = tiny_lm().llm
    x = torch.randn(2, 53, 64, generator=torch.Generator().manual_seed(0))
    whole, nothing = decoder(x)
    assert nothing is None
    state, pieces = torch.zeros(2, 2, 4, 0, 32), []
    for piece in x.split([*cuts, 53 - sum(cuts)], dim=1):
        y, state = decoder(piece, state)
        pieces.append(y)
    close(torch.cat(pieces, dim=1).numpy(), whole.numpy(), 1e-5)


def test_repetition_aware_sampling_draws_the_published_ids(
    llm: Sessions, known: dict[str, np.ndarray], prompt: list[int]
) -> None:
    torch.manual_seed(1234)

    def draw(probabilities: np.ndarray) -> int:
        return int(torch.multinomial(torch.from_numpy(probabilities), 1, replacement=True))

    found = list(islice(tokens(llm(), prompt, known["text"].shape[1], tiny_config().lm, draw), 60))
    assert found == known["ras_ids"].tolist()


def test_a_new_prefill_forgets_and_a_speaker_matters(llm: Sessions, prompt: list[int]) -> None:
    session = llm()
    first = session.prefill(prompt)
    session.step(3)
    np.testing.assert_array_equal(session.prefill(prompt), first)
    unconditioned = llm(np.zeros((0, 192), np.float32))
    assert np.abs(unconditioned.prefill(prompt) - first).max() > 1e-2
    assert unconditioned.length == session.length - 1
    other = llm(np.random.default_rng(0).standard_normal((1, 192)).astype(np.float32))
    assert np.abs(other.prefill(prompt) - first).max() > 1e-2


def test_what_does_not_fit_is_refused(llm: Sessions, prompt: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    session = llm()
    with pytest.raises(ValueError, match="no prompt; call prefill first"):
        session.step(1)
    for wrong in (prompt[1:], [VOCABULARY.sos, 5, VOCABULARY.task_id], [*prompt, VOCABULARY.task_id]):
        with pytest.raises(InvalidRequest, match=r"prompt: is not \[sos, text, task_id, speech\] in ids of the merged"):
            session.prefill(wrong)
    for count in (0, TEXT.hi + 1):
        with pytest.raises(InvalidRequest, match=f"has {count} text tokens; the language model takes 1 to {TEXT.hi}"):
            session.prefill(VOCABULARY.prompt([5] * count))
    with pytest.raises(
        InvalidRequest, match=rf"0 \+ {PAST.hi + 4} tokens do not fit the .* {PAST.hi} positions; send a"
    ):
        session.prefill(VOCABULARY.prompt([5], [6] * PAST.hi))
    session.prefill(prompt)
    session.close()
    assert session.length == 0


@torch.inference_mode()
def test_stepping_attention_is_the_same_function() -> None:
    torch.manual_seed(0)
    one, other = RelativeAttention(32, 4, -1), SteppingAttention(32, 4, -1)
    torch.nn.init.normal_(one.pos_bias_v)
    other.load_state_dict(one.state_dict())
    x, state = torch.randn(2, 3, 32), torch.randn(2, 4, 9, 16)
    bias, distances = attention_bias(3, 9, torch.tensor([1]), -1), distance_embedding(3, 9, x)
    for found, wanted in zip(other(x, bias, distances, state), one(x, bias, distances, state), strict=True):
        close(found.numpy(), wanted.numpy(), 1e-5)
