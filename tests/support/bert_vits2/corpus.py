"""A corpus of noise with real texts in three languages, and BERT encoders of random weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tritone.audio.wav import write_wav

RATE = 44100
TEXTS = {
    "ZH": ("你好，世界！", "今天天气很好。", "我们去公园。"),
    "JP": ("こんにちは、世界。", "今日は天気がいい。", "公園に行きます。"),
    "EN": ("Hello, world!", "The weather is fine today.", "Let us go to the park."),
}


def write_corpus(folder: Path, rate: int = RATE) -> Path:
    """Write nine recordings of 0.5 to 1.3 s by two speakers to `folder/wavs`, and return their transcript."""
    (folder / "wavs").mkdir(parents=True)
    rng, lines = np.random.default_rng(0), []
    for language, texts in TEXTS.items():
        for i, text in enumerate(texts):
            path = folder / "wavs" / f"{language.lower()}{i}.wav"
            write_wav(path, rng.uniform(-0.3, 0.3, int(rate * (0.5 + 0.1 * len(lines)))), rate)
            lines.append(f"{path}|{'anna' if i % 2 else 'ben'}|{language}|{text}")
    transcript = folder / "transcript.list"
    transcript.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return transcript


def write_bert(folder: Path, characters: str, layers: int = 2) -> Path:
    """Write and return a Hugging Face folder with a BERT of 1024 channels whose tokens are characters."""
    import torch
    from transformers import BertConfig, BertModel, BertTokenizer

    folder.mkdir(parents=True)
    known = sorted(set(characters))
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *known, *(f"##{character}" for character in known)]
    (folder / "vocab.txt").write_text("\n".join(words) + "\n", encoding="utf-8")
    BertTokenizer(str(folder / "vocab.txt")).save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(words), hidden_size=1024, num_hidden_layers=layers, num_attention_heads=2, intermediate_size=8
    )
    BertModel(config).save_pretrained(folder)
    return folder
