"""The language model computes the published function, whole and step by step."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from support.golden_weights import golden

from tritone.errors import CheckpointError
from tritone.families.cosyvoice.checkpoint.folder import CosyVoiceCheckpoint
from tritone.families.cosyvoice.lm.v2.network import SpeechLM, load_lm, merge_vocabulary
from tritone.families.cosyvoice.lm.v2.session import TorchSession
from tritone.families.cosyvoice.lm.vocabulary import Vocabulary
from tritone.lm.sampling import tokens


@pytest.fixture(scope="module")
def lm(tiny_v2: Path) -> SpeechLM:
    return load_lm(CosyVoiceCheckpoint(tiny_v2))


@pytest.fixture(scope="module")
def known() -> dict[str, np.ndarray]:
    return golden("llm")


@pytest.fixture(scope="module")
def prompt(known: dict[str, np.ndarray]) -> list[int]:
    text = np.concatenate((known["prompt_text"], known["text"]), axis=1)[0]
    return Vocabulary(6564).prompt(text.tolist(), known["prompt_speech_token"][0].tolist())


def log_softmax(logits: np.ndarray) -> np.ndarray:
    return torch.log_softmax(torch.from_numpy(np.asarray(logits)), -1).numpy()


def test_teacher_forced_log_probs(lm: SpeechLM, known: dict[str, np.ndarray]) -> None:
    text = torch.from_numpy(np.concatenate((known["prompt_text"], known["text"]), axis=1))
    speech = torch.from_numpy(np.concatenate((known["prompt_speech_token"], known["forced"][None]), axis=1))
    with torch.inference_mode():
        found = lm.log_probs(text, speech)[0].numpy()
    assert found.shape == (40 + 12 + 1, 6564)
    np.testing.assert_allclose(found[40:52], known["logp_full"], atol=1e-4)


def test_one_token_at_a_time_equals_all_at_once(lm: SpeechLM, known: dict[str, np.ndarray], prompt: list[int]) -> None:
    session = TorchSession(lm)
    logits = [session.prefill(prompt), *(session.step(int(token)) for token in known["forced"][:-1])]
    np.testing.assert_allclose(log_softmax(np.stack(logits)), known["logp_full"], atol=1e-4)


def test_a_new_prefill_forgets_the_old_sequence(lm: SpeechLM, prompt: list[int]) -> None:
    session = TorchSession(lm)
    first = session.prefill(prompt)
    session.step(3)
    np.testing.assert_array_equal(session.prefill(prompt), first)


def test_repetition_aware_sampling_draws_the_published_ids(
    lm: SpeechLM, known: dict[str, np.ndarray], prompt: list[int]
) -> None:
    torch.manual_seed(1234)

    def draw(probabilities: np.ndarray) -> int:
        return int(torch.multinomial(torch.from_numpy(probabilities), 1, replacement=True))

    found = list(islice(tokens(TorchSession(lm), prompt, known["text"].shape[1], lm.config, draw), 60))
    assert found == known["ras_ids"].tolist()


def test_the_merged_vocabulary_computes_the_same(lm: SpeechLM, prompt: list[int]) -> None:
    merged, bias, vocabulary = merge_vocabulary(lm)
    assert vocabulary == Vocabulary(6564) and bias.shape == (6564,)
    assert (vocabulary.sos, vocabulary.task_id, vocabulary.text) == (6564, 6565, 6566)
    with torch.inference_mode():
        logits = merged(torch.tensor([prompt])).logits[0, -1]
    assert logits.shape == (6564 + 2 + 151936,)
    assert not logits[6564:].any()
    np.testing.assert_allclose((logits[:6564] + bias).numpy(), TorchSession(lm).prefill(prompt), atol=1e-5)


def test_right_padding_changes_nothing(lm: SpeechLM, known: dict[str, np.ndarray]) -> None:
    text, speech = torch.from_numpy(known["text"]), torch.from_numpy(known["prompt_speech_token"])
    short, long = lm.embed(text[:, :5], speech[:, :7]), lm.embed(text, speech)
    batch = torch.zeros(2, long.shape[1], 64)
    batch[0, : short.shape[1]], batch[1] = short[0], long[0]
    mask = torch.arange(long.shape[1])[None] < torch.tensor([[short.shape[1]], [long.shape[1]]])
    with torch.inference_mode():
        found = lm(batch, mask.long())
        np.testing.assert_allclose(found[0, : short.shape[1]], lm(short)[0], atol=1e-5)
        np.testing.assert_allclose(found[1], lm(long)[0], atol=1e-5)


def test_a_file_without_the_unused_text_head_loads(tiny_v2: Path, tmp_path: Path) -> None:
    for entry in tiny_v2.iterdir():
        (tmp_path / entry.name).symlink_to(entry)
    state = torch.load(tiny_v2 / "llm.pt", weights_only=True)
    del state["llm.model.lm_head.weight"]
    (tmp_path / "llm.pt").unlink()
    torch.save(state, tmp_path / "llm.pt")
    assert load_lm(CosyVoiceCheckpoint(tmp_path)).llm_decoder.bias.shape == (6564,)


def test_a_backbone_of_another_kind_or_size_is_refused(tiny_v2: Path) -> None:
    checkpoint = CosyVoiceCheckpoint(tiny_v2)
    with pytest.raises(CheckpointError, match="model_type 'llama'; only 'qwen2' is supported"):
        SpeechLM(checkpoint.config.lm, checkpoint.backbone | {"model_type": "llama"})
    with pytest.raises(CheckpointError, match="hidden_size is 32, but llm_input_size is 64 in the checkpoint's YAML"):
        SpeechLM(checkpoint.config.lm, checkpoint.backbone | {"hidden_size": 32})
