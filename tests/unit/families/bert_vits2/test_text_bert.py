"""BERT features: from small Hugging Face folders of the three kinds, mixed text, and what is declared absent."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tritone.errors import CheckpointError, ConfigError, InvalidRequest
from tritone.families.bert_vits2.text.bert import BertEncoder, BertFeatures
from tritone.families.bert_vits2.text.filler import BY_VERSION, fillers
from tritone.families.bert_vits2.text.frontend import clean, clean_parts
from tritone.families.bert_vits2.text.symbols import LANGUAGES, blanked_word2ph, to_ids

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
spm = pytest.importorskip("sentencepiece")
for package in ("pypinyin", "jieba", "pyopenjtalk", "gruut"):
    pytest.importorskip(package)

WIDTH = 16
SIZES = {"hidden_size": WIDTH, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 24}
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Chinese BERT, character-wise Japanese DeBERTa and sentencepiece DeBERTa-v3 as they are published, but tiny."""
    base = tmp_path_factory.mktemp("bert")
    torch.manual_seed(0)
    chinese = transformers.BertModel(transformers.BertConfig(vocab_size=30, max_position_embeddings=12, **SIZES))
    chinese.save_pretrained(base / "zh")
    (base / "zh" / "vocab.txt").write_text("\n".join((*SPECIAL, *"你好世界一个不是,.!")), encoding="utf-8")
    deberta = {"relative_attention": True, "position_biased_input": False, "pos_att_type": ["p2c", "c2p"], **SIZES}
    japanese = transformers.DebertaV2Model(transformers.DebertaV2Config(vocab_size=30, **deberta))
    japanese.save_pretrained(base / "ja")
    (base / "ja" / "vocab.txt").write_text("\n".join((*SPECIAL, *"東京は大学,.!")), encoding="utf-8")
    words = {"tokenizer_class": "BertJapaneseTokenizer", "word_tokenizer_type": "basic"}
    (base / "ja" / "tokenizer_config.json").write_text(json.dumps({**words, "subword_tokenizer_type": "character"}))
    english = transformers.DebertaV2Model(transformers.DebertaV2Config(vocab_size=80, **deberta))
    english.save_pretrained(base / "en")
    (base / "text.txt").write_text("hello world, words are cut in pieces.\ndon't say twenty-one sentences!\n" * 3)
    spm.SentencePieceTrainer.train(
        input=str(base / "text.txt"), model_prefix=str(base / "en" / "spm"), vocab_size=38, pad_id=0, unk_id=3,
        bos_id=1, eos_id=2, pad_piece="[PAD]", bos_piece="[CLS]", eos_piece="[SEP]", unk_piece="[UNK]",
        user_defined_symbols=["[MASK]"], minloglevel=2, hard_vocab_limit=False,
    )  # fmt: skip
    (base / "en" / "tokenizer_config.json").write_text(json.dumps({"vocab_type": "spm"}))
    return {"ZH": base / "zh", "JP": base / "ja", "EN": base / "en"}


def fill() -> Callable[[tuple[int, ...]], np.ndarray]:
    """100, then 101, then 102 in all places."""
    numbers = itertools.count(100)
    return lambda shape: np.full(shape, next(numbers), np.float32)


def test_features_are_the_third_hidden_states_from_the_end_repeated(folders: dict[str, Path]) -> None:
    encoder = BertEncoder(folders["ZH"], "zh", channels=WIDTH)
    word2ph = blanked_word2ph(clean("你好", "ZH").word2ph)
    features = encoder.features("你好", word2ph)
    assert features.shape == (WIDTH, sum(word2ph)) and features.dtype == np.float32
    model = transformers.BertModel.from_pretrained(folders["ZH"]).eval()
    with torch.no_grad():
        states = model(torch.tensor([[2, 5, 6, 3]]), output_hidden_states=True).hidden_states[1][0].numpy()
    np.testing.assert_allclose(features[:, 0], states[0], atol=1e-6)
    np.testing.assert_allclose(features[:, 3], states[1], atol=1e-6)
    np.testing.assert_allclose(features[:, 7], states[2], atol=1e-6)
    np.testing.assert_allclose(features[:, 11], states[3], atol=1e-6)


@pytest.mark.parametrize(
    ("language", "text"), [("ZH", "你好，一个世界！"), ("JP", "東京は大学！"), ("EN", "Hello world, don't!")]
)
def test_every_language_gives_a_column_per_id(folders: dict[str, Path], language: str, text: str) -> None:
    features = BertFeatures(folders, channels=WIDTH)
    part = clean(text, language, features.tokenize)
    found = features([part], fill())
    ids = to_ids([part])
    assert {name: array.shape for name, array in found.items()} == dict.fromkeys(LANGUAGES, (WIDTH, len(ids.phones)))
    others = [name for name in LANGUAGES if name != language]
    assert [np.unique(found[other]).tolist() for other in others] == [[100], [101]]
    assert found[language].std(axis=1).min() > 0


def test_english_units_are_the_tokens_of_the_whole_text(folders: dict[str, Path]) -> None:
    encoder = BertEncoder(folders["EN"], "EN", channels=WIDTH)
    part = clean("Hello world, twenty-one pieces!", "EN", encoder.tokenize)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folders["EN"])
    assert encoder.tokenize(part.text) == tokenizer.tokenize(part.text)
    assert len(part.word2ph) == len(tokenizer(part.text)["input_ids"])


def test_mixed_text_has_each_part_in_its_own_input(folders: dict[str, Path]) -> None:
    features = BertFeatures({"ZH": folders["ZH"], "EN": folders["EN"]}, channels=WIDTH)
    parts = clean_parts("你好 hello 世界", "auto", features.tokenize)
    found = features(parts, fill())
    languages = to_ids(parts).languages
    assert found["ZH"].shape == (WIDTH, len(languages))
    real = {name: (array != 100 + LANGUAGES[name]).all(axis=0) for name, array in found.items()}
    assert not real["JP"].any() and (real["ZH"] ^ real["EN"]).all()
    assert real["EN"][languages == 2].all() and real["ZH"][1]
    alone = features.encoders["ZH"].features("你好", blanked_word2ph(parts[0].word2ph))
    np.testing.assert_array_equal(found["ZH"][:, : alone.shape[1] - 2], alone[:, :-2])


def test_style_is_mixed_in_by_its_weight(folders: dict[str, Path]) -> None:
    encoder = BertEncoder(folders["ZH"], "ZH", channels=WIDTH)
    plain, style = encoder.features("你好", (1, 2, 2, 1)), encoder.hidden("世界").mean(axis=0)[:, None]
    mixed = encoder.features("你好", (1, 2, 2, 1), style_text="世界", style_weight=0.7)
    np.testing.assert_allclose(mixed, 0.3 * plain + 0.7 * style, atol=1e-6)
    np.testing.assert_array_equal(encoder.features("你好", (1, 2, 2, 1), style_text=" "), plain)


def test_no_bert_has_to_be_declared(folders: dict[str, Path]) -> None:
    part = clean("你好", "ZH")
    with pytest.raises(
        ConfigError, match=r"the text is in ZH, but the BERT encoders are for no language; give a folder for ZH"
    ):
        BertFeatures({})([part], fill())
    with pytest.raises(ConfigError, match="encoders are for EN; give a folder for ZH"):
        BertFeatures({"EN": folders["EN"]}, channels=WIDTH)([part], fill())
    found = BertFeatures({}, no_bert=True)([part], fill())
    assert {name: (array.shape, float(array.mean())) for name, array in found.items()} == {
        name: ((1024, 13), 100 + index) for name, index in LANGUAGES.items()
    }


def test_filler_of_a_version_comes_from_the_seed() -> None:
    part, features = clean("你好", "ZH"), BertFeatures({}, no_bert=True)
    first, again = (features([part], fillers(BY_VERSION["2.3"], 7)) for _ in range(2))
    for language in LANGUAGES:
        np.testing.assert_array_equal(first[language], again[language])
    assert not np.array_equal(first["JP"], first["EN"])


def test_without_an_english_encoder_units_are_words() -> None:
    assert BertFeatures({}, no_bert=True).tokenize is None


def test_a_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"encoder for ZH should be in .*nowhere.* \(found: no folder\)"):
        BertFeatures({"ZH": tmp_path / "nowhere"})
    (tmp_path / "vocab.txt").write_text("a")
    with pytest.raises(CheckpointError, match=r"config.json is missing \(found: vocab.txt\)"):
        BertEncoder(tmp_path, "ZH")


def test_a_damaged_folder(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(CheckpointError, match=r"the BERT encoder for ZH in .* cannot be read"):
        BertEncoder(tmp_path, "ZH").hidden("你好")


def test_a_folder_of_another_width(folders: dict[str, Path]) -> None:
    with pytest.raises(CheckpointError, match="has 3 layers of 16 channels; the checkpoint takes 1024 channels"):
        BertEncoder(folders["ZH"], "ZH").hidden("你好")


def test_a_vocabulary_that_knows_nothing_of_the_text(folders: dict[str, Path]) -> None:
    with pytest.raises(CheckpointError, match="knows none of '東京'; ZH needs an encoder whose vocabulary has single"):
        BertEncoder(folders["ZH"], "ZH", channels=WIDTH).hidden("東京")


def test_text_longer_than_the_encoder_reads(folders: dict[str, Path]) -> None:
    with pytest.raises(InvalidRequest, match="has 12 units for BERT; the limit is 10"):
        BertEncoder(folders["ZH"], "ZH", channels=WIDTH).hidden("你好" * 6)


def test_word2ph_of_another_tokenizer(folders: dict[str, Path]) -> None:
    part = clean("hello world", "EN")
    with pytest.raises(InvalidRequest, match=r"has 4 numbers for .* units .* clean the text with the tokenizer in"):
        BertFeatures(folders, channels=WIDTH)([part], fill())
