"""The v3 language model: markers among the speech ids, the published log-probabilities and ids."""

from __future__ import annotations

import dataclasses
from itertools import islice

import numpy as np
import pytest
import torch
from support.golden_weights import golden
from support.v3_helpers import tiny_config, tiny_lm

from tritone.families.cosyvoice.lm.v2.huggingface import join, published_layout, split
from tritone.families.cosyvoice.lm.v2.network import merge_vocabulary
from tritone.families.cosyvoice.lm.v2.session import TorchSession
from tritone.families.cosyvoice.lm.vocabulary import Vocabulary, vocabulary
from tritone.lm.sampling import tokens
from tritone.stage import Arrays


@pytest.fixture(scope="module")
def known() -> Arrays:
    return golden("llm", "v3")


@pytest.fixture(scope="module")
def prompt(known: Arrays) -> list[int]:
    text = np.concatenate((known["prompt_text"], known["text"]), axis=1)[0]
    return vocabulary(tiny_config().lm).prompt(text.tolist(), known["prompt_speech_token"][0].tolist())


def multinomial(probabilities: np.ndarray) -> int:
    return int(torch.multinomial(torch.from_numpy(probabilities), 1, replacement=True))


def log_softmax(logits: np.ndarray) -> np.ndarray:
    return torch.log_softmax(torch.from_numpy(np.asarray(logits)), -1).numpy()


def test_teacher_forced_log_probs(known: Arrays) -> None:
    text = torch.from_numpy(np.concatenate((known["prompt_text"], known["text"]), axis=1))
    speech = torch.from_numpy(np.concatenate((known["prompt_speech_token"], known["forced"][None]), axis=1))
    with torch.inference_mode():
        found = tiny_lm().log_probs(text, speech)[0].numpy()
    assert found.shape == (40 + 12 + 1, 6761)
    np.testing.assert_allclose(found[40:52], known["logp_full"], atol=1e-4)


def test_one_token_at_a_time_equals_all_at_once(known: Arrays, prompt: list[int]) -> None:
    session = TorchSession(tiny_lm())
    logits = [session.prefill(prompt), *(session.step(int(token)) for token in known["forced"][:-1])]
    np.testing.assert_allclose(log_softmax(np.stack(logits)), known["logp_full"], atol=1e-4)
    together = TorchSession(tiny_lm()).prefill(prompt + known["forced"][:-1].tolist())
    np.testing.assert_allclose(together, logits[-1], atol=1e-4)


def test_the_prompt_may_be_extended_by_any_ids(prompt: list[int]) -> None:
    session = TorchSession(tiny_lm())
    session.prefill(prompt[:20])
    np.testing.assert_allclose(session.extend(prompt[20:]), TorchSession(tiny_lm()).prefill(prompt), atol=1e-4)


@pytest.mark.parametrize("published", [True, False])
def test_repetition_aware_sampling_draws_the_published_ids(known: Arrays, prompt: list[int], published: bool) -> None:
    """With the published minimum length they are the published ids; with a real one they soon are others."""
    config = dataclasses.replace(tiny_config().lm, published_minimum=published)
    torch.manual_seed(1234)
    session, length = TorchSession(tiny_lm()), known["text"].shape[1]
    found = list(islice(tokens(session, prompt, length, config, multinomial), 60))
    assert len(found) == 60 and (found == known["ras_ids"].tolist()) == published


def test_speech_does_not_end_before_the_minimum() -> None:
    class Stops:
        def prefill(self, ids: list[int]) -> np.ndarray:
            logits = np.zeros(6761, np.float32)
            logits[[6562, 6600]] = 50.0
            return logits

        step = prefill

        def close(self) -> None:
            pass

    def count(published: bool) -> int:
        config = dataclasses.replace(tiny_config().lm, published_minimum=published)
        return len(list(tokens(Stops(), [0], 3, config, lambda p: int(np.argmax(p)))))

    assert (count(published=False), count(published=True)) == (6, 0)


def test_the_merged_vocabulary_computes_the_same(prompt: list[int]) -> None:
    merged, bias, ids = merge_vocabulary(tiny_lm())
    assert bias is None and ids == Vocabulary(6761, 6561)
    assert (ids.sos, ids.task_id, ids.text) == (6561, 6563, 6761)
    with torch.inference_mode():
        logits = merged(torch.tensor([prompt])).logits[0, -1]
    assert logits.shape == (6761 + 151936,) and not logits[6761:].any()
    np.testing.assert_allclose(logits[:6761].numpy(), TorchSession(tiny_lm()).prefill(prompt), atol=1e-5)


def test_the_published_layout_of_one_vocabulary() -> None:
    layout = published_layout(tiny_config().lm, 151924)
    assert layout.size == 158720 and layout.stops[0] == 6562 and sorted(layout.stops) == list(range(6561, 6761))
    names = ("<|s_0|>", "<|s_6560|>", "<|sos|>", "<|eos1|>", "<|task_id|>", "<|fill|>", "<|s_6565|>", "<|s_6760|>")
    assert [layout.id_of(n) for n in names] == [151924, 158484, 158485, 158486, 158487, 158488, 158489, 158684]
    moved = {start + i: to + i for start, to, count in layout.segments() for i in range(count)}
    merged = vocabulary(tiny_config().lm)
    assert [moved[i] for i in merged.prompt([7, 151923], [0, 6560])] == layout.prompt([7, 151923], [0, 6560])
    assert layout.prompt([7]) == [158485, 7, 158487]
    state = tiny_lm().state_dict()
    weights = split(state, layout)
    again = join(weights, layout)
    assert state.keys() == again.keys() and all(torch.equal(state[key], again[key]) for key in state)
    assert weights.model["model.embed_tokens.weight"].shape == (158720, 64)
