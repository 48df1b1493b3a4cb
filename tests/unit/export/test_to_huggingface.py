"""The LM as a transformers folder: published ids, identical tensors both ways, equal logits, clear errors."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from support.export_helpers import toy_llm
from support.golden_weights import BACKBONE, tiny_state
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from tritone.catalog import open_family
from tritone.checkpoint.weights import read_state
from tritone.errors import ArtifactError, CheckpointError, ConfigError
from tritone.export import to_huggingface
from tritone.export.to_huggingface import export_llm, import_llm, main
from tritone.families.cosyvoice.checkpoint.folder import CosyVoiceCheckpoint
from tritone.families.cosyvoice.config.common import LmConfig
from tritone.families.cosyvoice.lm.v2.huggingface import HfLayout, join, published_layout, split
from tritone.families.cosyvoice.lm.v2.network import load_lm
from tritone.families.cosyvoice.speak import text
from tritone.families.cosyvoice.speak.text import SPECIAL_TOKENS, TextFrontend
from tritone.lm.hf_model import BIAS, EXTRA, identical

NANO = Path(__file__).parents[3] / "checkpoints" / "nano"
SENTENCES = (
    "The  birch canoe slid on the smooth planks, didn't it?",
    "Preis: 1234,50 €\n\n  你好世界 cafe\u0301",
    "[breath] one <strong>two</strong>",
)
V3 = HfLayout(151924, 6761, {6561: "<|sos|>", 6562: "<|eos1|>", 6563: "<|task_id|>", 6564: "<|fill|>"}, (), (6562,))
"""The later version's layout, where the markers are speech ids and the head has no bias."""
State = dict[str, torch.Tensor]


def write_bpe_tokenizer(directory: Path) -> int:
    """Return a byte-pair tokenizer with merges in Qwen2's files, trained on the sentences.

    Returns its number of entries.
    """
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trained.train_from_iterator(SENTENCES * 3, trainers.BpeTrainer(vocab_size=330, initial_alphabet=alphabet))
    trained.model.save(str(directory))
    first = trained.get_vocab_size()
    added = {first + i: {"content": t, "special": True} for i, t in enumerate(("<|endoftext|>", *SPECIAL_TOKENS[:2]))}
    (directory / "tokenizer_config.json").write_text(json.dumps({"added_tokens_decoder": added}))
    return first + 1 + len(SPECIAL_TOKENS)


@pytest.fixture(scope="module", autouse=True)
def _any_size() -> Iterator[None]:
    """Let the small tokenizer below replace Qwen2's, whose size front ends check."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text, "check_base", lambda *arguments: None)
        yield


@pytest.fixture(scope="session")
def qwen(tiny_v2: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny checkpoint with a small real byte-pair tokenizer, its text tables cut to that size."""
    folder = tmp_path_factory.mktemp("checkpoints") / "qwen"
    blank = folder / "CosyVoice-BlankEN"
    blank.mkdir(parents=True)
    for name in ("cosyvoice2.yaml", "flow.pt", "hift.pt", "spk2info.pt"):
        (folder / name).symlink_to(tiny_v2 / name)
    rows = write_bpe_tokenizer(blank) + 9
    (blank / "config.json").write_text(json.dumps(BACKBONE | {"vocab_size": rows}))
    state = tiny_state("llm")
    for key in ("llm.model.model.embed_tokens.weight", "llm.model.lm_head.weight"):
        state[key] = state[key][:rows].clone()
    torch.save(state, folder / "llm.pt")
    return folder


@pytest.fixture(scope="session")
def exported(qwen: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Path, Path]]:
    """Return a function from "qwen" or "nano" to the checkpoint and its exported folder, written once."""
    base, done = tmp_path_factory.mktemp("huggingface"), {}

    def export(name: str) -> tuple[Path, Path]:
        checkpoint = {"qwen": qwen, "nano": NANO}[name]
        if name not in done:
            if not (checkpoint / "llm.pt").is_file():
                pytest.skip(f"{checkpoint} is not here")
            rows = export_llm(language_model(checkpoint), base / name, seed=5)
            assert [(row.passed, row.error < 1e-5) for row in rows] == [(True, True)]
            done[name] = (checkpoint, base / name)
        return done[name]

    return export


def language_model(checkpoint: Path) -> Any:
    return open_family(checkpoint).causal_lm


def differing(wanted: State, found: State) -> list[str]:
    """Return the keys that are not in both with the same dtype and bits."""
    return [key for key in wanted | found if key not in wanted or key not in found or not same(wanted[key], found[key])]


def same(one: torch.Tensor, other: torch.Tensor) -> bool:
    return one.dtype == other.dtype and one.numpy().tobytes() == other.numpy().tobytes() and one.shape == other.shape


@pytest.mark.parametrize("name", ["qwen", "nano"])
def test_every_tensor_comes_back_bit_for_bit(
    exported: Callable[[str], tuple[Path, Path]], name: str, tmp_path: Path
) -> None:
    checkpoint, folder = exported(name)
    assert main(["--back", str(folder), "--model-dir", str(checkpoint), "--out", str(tmp_path / "llm.pt")]) == 0
    wanted = read_state(checkpoint / "llm.pt", widen=False)
    found = read_state(tmp_path / "llm.pt", widen=False)
    assert list(found) == list(wanted) and differing(wanted, found) == []
    assert {value.dtype for value in found.values()} == {torch.float16 if name == "nano" else torch.float32}
    assert found["llm_decoder.bias"].abs().sum() > 0 and len(wanted) > 30


def test_the_full_vocabulary_has_the_published_ids(tiny_v2: Path) -> None:
    model = language_model(tiny_v2).huggingface()
    state = model.read()
    weights = model.split(state)
    assert differing(state, model.join(weights)) == []
    assert (model.config["vocab_size"], model.first, model.rows) == (158336, 151663, 6564)
    assert model.generation["eos_token_id"] == [158224, 158225, 158226] and model.config["eos_token_id"] == 158224
    names = {entry["content"]: entry["id"] for entry in model.tokenizer["added_tokens"]}
    assert [names[n] for n in ("<|s_0|>", "<|s_6560|>", "<|sos|>", "<|task_id|>")] == [151663, 158223, 158227, 158228]
    embed, head = weights.model["model.embed_tokens.weight"], weights.model["lm_head.weight"]
    assert torch.equal(embed[158227:158229], state["llm_embedding.weight"])
    assert not embed[158229:].any() and not head[:151663].any() and not head[158227:].any()
    assert weights.bias[:151663].isneginf().all() and weights.bias[158227:].isneginf().all()
    assert torch.equal(weights.bias[151663:158227], state["llm_decoder.bias"])
    assert weights.extra["embed_tokens.tail"].shape == (273, 64)  # which the published conversion overwrites


def test_markers_inside_the_speech_ids_fit_the_same_layout() -> None:
    assert (V3.size, V3.id_of("<|sos|>"), V3.id_of("<|eos1|>"), V3.id_of("<|fill|>")) == (
        158720,
        158485,
        158486,
        158488,
    )
    assert V3.prompt([7], [0]) == [158485, 7, 158487, 151924]
    small = dataclasses.replace(V3, text=50)
    state = {
        "llm.model.model.embed_tokens.weight": torch.randn(60, 8),
        "llm.model.lm_head.weight": torch.randn(60, 8),
        "speech_embedding.weight": torch.randn(6761, 8),
        "llm_decoder.weight": torch.randn(6761, 8),
        "llm.model.model.norm.weight": torch.randn(8),
    }
    weights = split(state, small)
    assert not weights.bias[50:6811].any() and differing(state, join(weights, small)) == []


@pytest.mark.parametrize("change", ["untied", "absent", "mixed", "unknown", "signed_zero"])
def test_unusual_checkpoints_come_back_bit_for_bit(qwen: Path, change: str) -> None:
    model, head = language_model(qwen).huggingface(), "llm.model.lm_head.weight"
    state = model.read()
    if change == "untied":
        state[head] = state[head] + 1
    elif change == "absent":
        del state[head]
    elif change == "mixed":
        state = {
            k: v.to((torch.float16, torch.bfloat16, torch.float32)[i % 3]) for i, (k, v) in enumerate(state.items())
        }
        assert model.split(state).model["lm_head.weight"].dtype == torch.float32
    elif change == "unknown":
        state["someone.else"] = torch.arange(3)
    else:
        state[head] = state[head].clone()
        state[head][0, 0], state["llm.model.model.embed_tokens.weight"][0, 0] = -0.0, 0.0
    found = model.join(model.split(state))
    assert state.keys() == found.keys() and all(identical(state[key], found[key]) for key in state)


def test_a_folder_that_was_trained_on_keeps_what_training_did(qwen: Path) -> None:
    model = language_model(qwen).huggingface()
    state = model.read() | {"llm_decoder.bias": model.read()["llm_decoder.bias"].half()}
    weights = model.split(state)
    weights.model["lm_head.weight"][model.first] += 0.1
    weights.bias[model.first] += 1e-6  # needs more than half precision
    found = model.join(weights)
    assert sorted(differing(state, found)) == ["llm_decoder.bias", "llm_decoder.weight"]
    assert found["llm_decoder.bias"].dtype == torch.float32


@pytest.mark.parametrize("name", ["qwen", "nano"])
def test_log_probabilities_equal_the_speech_model(exported: Callable[[str], tuple[Path, Path]], name: str) -> None:
    checkpoint, folder = exported(name)
    lm, layout = load_lm(CosyVoiceCheckpoint(checkpoint)), layout_of(checkpoint)
    front = TextFrontend(checkpoint)
    text = front.encode("The birch canoe slid on the smooth planks.")
    speech = torch.randint(0, 6561, (40,), generator=torch.Generator().manual_seed(7)).tolist()
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.inference_mode():
        wanted = lm.log_probs(torch.tensor([text]), torch.tensor([speech]))[0]
        logits = model(torch.tensor([layout.prompt(text, speech)])).logits[0, len(text) + 1 :]
    rows = slice(layout.text, layout.text + layout.speech)
    masked = torch.log_softmax(logits + load_file(folder / BIAS)["logit_bias"], -1)
    assert (masked[:, rows] - wanted).abs().max() < 1e-5
    assert masked[:, : rows.start].isneginf().all() and masked[:, rows.stop :].isneginf().all()
    # What the bias is for: without it other ids have weight, and the speech ids' order is another one.
    plain = torch.softmax(logits, -1)
    assert (1 - plain[:, rows].sum(-1)).max() > 1e-3
    assert (torch.log_softmax(logits, -1)[:, rows] - wanted).abs().max() > 0.1


def layout_of(checkpoint: Path) -> HfLayout:
    return published_layout(LmConfig(), len(TextFrontend(checkpoint).tokenizer))


@pytest.mark.parametrize("name", ["qwen", "nano"])
def test_the_tokenizer_knows_text_prompts_and_speech(exported: Callable[[str], tuple[Path, Path]], name: str) -> None:
    checkpoint, folder = exported(name)
    layout, front, tokenizer = layout_of(checkpoint), TextFrontend(checkpoint), AutoTokenizer.from_pretrained(folder)
    # Servers take the size of bias vectors from any of the three.
    assert tokenizer.vocab_size == len(tokenizer) == layout.size
    for sentence in SENTENCES:
        ids = front.tokenizer.encode(sentence)
        assert tokenizer(sentence, add_special_tokens=False).input_ids == ids
    text = front.encode(SENTENCES[0])
    # Who was trained on phones is prompted with them, written as their tokens.
    asked = "".join(tokenizer.convert_ids_to_tokens(text)) if front.kind == "phonemes" else SENTENCES[0]
    said = "".join(f"<|s_{i}|>" for i in (0, 17, 6560))
    turns = [{"role": "user", "content": asked}, {"role": "assistant", "content": said}]
    rendered = tokenizer.apply_chat_template(turns, tokenize=False)
    assert rendered == f"<|sos|>{asked}<|task_id|>{said}"
    ids = tokenizer(rendered, add_special_tokens=False).input_ids
    assert ids == layout.prompt(text, (0, 17, 6560))
    assert tokenizer.decode(ids[-3:], skip_special_tokens=True) == said
    everything = tokenizer.convert_ids_to_tokens(list(range(layout.size)))
    assert None not in everything and tokenizer.convert_tokens_to_ids(everything) == list(range(layout.size))
    assert tokenizer.eos_token == tokenizer.pad_token == "<|endoftext|>"


def test_settings_of_the_folder(exported: Callable[[str], tuple[Path, Path]]) -> None:
    checkpoint, folder = exported("qwen")
    layout = layout_of(checkpoint)
    generation = GenerationConfig.from_pretrained(folder)
    assert generation.eos_token_id == [layout.text + stop for stop in (6561, 6562, 6563)]
    assert (generation.top_p, generation.top_k, generation.temperature) == (0.8, 25, 1.0)
    config = json.loads((folder / "config.json").read_text())
    assert config["rope_theta"] == 1e6  # readers of both generations find it
    assert config["vocab_size"] % 128 == 0 and not config["tie_word_embeddings"] and "bos_token_id" not in config
    assert config["dtype"] == config["torch_dtype"] == "bfloat16"
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert model.dtype == torch.bfloat16 and model.lm_head.weight is not model.model.embed_tokens.weight
    assert oct(max(path.stat().st_mode & 0o777 for path in folder.iterdir())) == "0o644"


def test_ids_of_sessions_become_the_folders(qwen: Path) -> None:
    model, layout = language_model(qwen).huggingface(), layout_of(qwen)
    assert model.ids([6564, 6566, 6567, 6565, 5, 6563]) == layout.prompt([0, 1], [5, 6563])
    behind = 6566 + layout.text  # the backbone has rows there, which no token stands for
    with pytest.raises(ValueError, match=f"id {behind} of the merged vocabulary has no token in the one for"):
        model.ids([behind])


def test_a_damaged_round_trip_is_not_written(qwen: Path, tmp_path: Path) -> None:
    llm = language_model(qwen)
    model = llm.huggingface()

    def careless(state: State) -> Any:
        weights = model.split(state)
        weights.bias[model.first] = 0  # as the published way back does
        return weights

    broken = dataclasses.replace(llm, huggingface=lambda: dataclasses.replace(model, split=careless))
    with pytest.raises(ArtifactError, match=r"was not written: llm_decoder.bias read back differs from the checkpoint"):
        export_llm(broken, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_other_logits_are_found(qwen: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    llm = language_model(qwen)

    def other() -> tuple[Any, Any]:
        model, bias = llm.merged()
        return model, bias.flip(0)

    (row,) = export_llm(dataclasses.replace(llm, merged=other), tmp_path / "out")
    assert not row.passed and row.problem == "logits differ"


def drop(name: str) -> Callable[[Path], Any]:
    return lambda folder: (folder / name).unlink()


def set_config(key: str, value: Any) -> Callable[[Path], Any]:
    def change(folder: Path) -> None:
        path = folder / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))

    return change


def short_bias(folder: Path) -> None:
    save_file({"logit_bias": torch.zeros(7)}, folder / BIAS)


def short_table(folder: Path) -> None:
    state = load_file(folder / "model.safetensors")
    save_file(state | {"lm_head.weight": state["lm_head.weight"][:100].clone()}, folder / "model.safetensors")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            drop(EXTRA),
            r"has no checkpoint_extra.safetensors; .*copy the file from the folder this one was trained from",
        ),
        (drop(BIAS), r"has no logit_bias.safetensors; it holds the head's bias, .*: copy"),
        (drop("config.json"), r"has no config.json; give a folder written by this command or by a trainer"),
        (drop("model.safetensors"), r"has no model.safetensors; give a folder"),
        (
            set_config("model_type", "llama"),
            r"holds a model of type 'llama'; the checkpoint's language model is 'qwen2'",
        ),
        (
            set_config("vocab_size", 151936),
            r"has a vocabulary of 151936, the checkpoint of 7040; the folder belongs to",
        ),
        (short_bias, r"logit_bias.safetensors is not the bias of this model's 7040 logits; it holds the head's bias"),
        (short_table, r"lm_head.weight has 100 rows; the checkpoint's vocabulary needs 7040"),
        (lambda f: (f / "config.json").write_text("{"), r"config.json is not valid JSON"),
        (lambda f: (f / EXTRA).write_bytes(b"12345678"), r"has a damaged file .*; export it again"),
        (lambda f: (f / "config.json").write_text("[" * 99_999), r"config.json nests .* too deeply; .*; give a folder"),
    ],
)
def test_folders_that_cannot_go_back_are_explained(
    exported: Callable[[str], tuple[Path, Path]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    damage: Callable[[Path], Any],
    message: str,
) -> None:
    checkpoint, good = exported("qwen")
    folder = tmp_path / "folder"
    shutil.copytree(good, folder)
    damage(folder)
    with pytest.raises((ArtifactError, CheckpointError), match=message):
        import_llm(language_model(checkpoint), folder, tmp_path / "llm.pt")
    assert not (tmp_path / "llm.pt").exists()
    assert main(["--back", str(folder), "--model-dir", str(checkpoint), "--out", str(tmp_path / "llm.pt")]) == 1
    assert capsys.readouterr().err.startswith("error: ")


def test_checkpoints_that_do_not_fit_are_explained(qwen: Path, tmp_path: Path) -> None:
    model = language_model(qwen).huggingface()
    state = model.read()
    with pytest.raises(CheckpointError, match=r"speech_embedding.weight has 100 rows; .* need 6564"):
        model.split(state | {"speech_embedding.weight": state["speech_embedding.weight"][:100]})
    with pytest.raises(CheckpointError, match=r"llm_decoder.weight has no rows"):
        model.split({key: value for key, value in state.items() if key != "llm_decoder.weight"})
    for entry in qwen.iterdir():
        if entry.is_file():
            (tmp_path / entry.name).symlink_to(entry.resolve())
    shutil.copytree(qwen / "CosyVoice-BlankEN", tmp_path / "CosyVoice-BlankEN")
    set_config("model_type", "llama")(tmp_path / "CosyVoice-BlankEN")
    with pytest.raises(CheckpointError, match="model_type 'llama'; only 'qwen2' can be converted"):
        language_model(tmp_path).huggingface()


def test_language_models_that_have_no_folder_are_explained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ConfigError, match="language model llm has no layout for transformers"):
        export_llm(toy_llm(), tmp_path / "out")
    with pytest.raises(ConfigError, match="dtype 'int8'; there are bfloat16, float16, float32"):
        export_llm(toy_llm(), tmp_path / "out", "int8")
    monkeypatch.setattr(to_huggingface, "open_family", lambda folder: SimpleNamespace(causal_lm=None))
    assert main(["--model-dir", str(tmp_path), "--out", str(tmp_path / "out")]) == 1
    assert "has no language model" in capsys.readouterr().err


def test_an_unwritable_output_is_explained(qwen: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    assert main(["--model-dir", str(qwen), "--out", str(tmp_path / "file" / "out")]) == 1
    assert "file/out cannot be written (" in capsys.readouterr().err
