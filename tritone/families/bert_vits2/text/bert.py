"""Features of BERT encoders for phones: one Hugging Face folder per language, read from disk alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tritone.checkpoint.documents import VOCABULARY, check_size, read_object
from tritone.checkpoint.sizes import check_transformer
from tritone.errors import CheckpointError, ConfigError, InvalidRequest
from tritone.families.bert_vits2.text.packages import need
from tritone.families.bert_vits2.text.symbols import LANGUAGES, Cleaned, blanked_word2ph, joined, language_of

LAYER = -3
"""The hidden states that are the features, counted from the last."""
STYLE_WEIGHT = 0.7

Fill = Callable[[tuple[int, ...]], np.ndarray]
"""`fill(shape) -> array`: the content of an input where no text is in its language (see `text.filler.fillers`)."""


class BertEncoder:
    """The encoder of one language, loaded at its first use.

    Args:
        folder: a Hugging Face folder with model and tokenizer; for ZH and JP, tokens are characters.
        channels: width of the features that the checkpoint's text encoder takes.
        device: the device torch runs it on.

    Raises:
        CheckpointError: the folder is missing or has no such model.
    """

    def __init__(self, folder: Path | str, language: str, channels: int = 1024, device: str = "cpu") -> None:
        self.folder, self.language = Path(folder), language_of(language)
        self.channels, self.device = channels, device
        self._loaded: tuple[Any, Any] | None = None
        if not (self.folder / "config.json").is_file():
            names = ", ".join(sorted(p.name for p in self.folder.iterdir())) if self.folder.is_dir() else "no folder"
            raise CheckpointError(
                f"the BERT encoder for {self.language} should be in {self.folder}, but config.json is missing "
                f"(found: {names or 'an empty folder'}). Download the model into that folder, or work without BERT."
            )

    def tokenize(self, text: str) -> list[str]:
        """Return the tokens of a text; a space always ends a token."""
        tokenizer, _ = self._load()
        return [token for chunk in text.split() for token in tokenizer.tokenize(chunk)]

    def hidden(self, text: str) -> np.ndarray:
        """Return hidden states of the text's units and the special tokens around them, float32 `[units + 2, channels]`.

        A unit is a token in English and a character in Chinese and Japanese.
        """
        torch = need("torch")
        tokenizer, model = self._load()
        units = self.tokenize(text) if self.language == "EN" else list(text)
        known = tokenizer.convert_tokens_to_ids(units)
        if all(index == tokenizer.unk_token_id for index in known):
            raise CheckpointError(
                f"the tokenizer in {self.folder} knows none of {text[:40]!r}; {self.language} needs an encoder whose "
                f"vocabulary has {'these words' if self.language == 'EN' else 'single characters'}."
            )
        ids = [tokenizer.cls_token_id, *known, tokenizer.sep_token_id]
        longest = model.config.max_position_embeddings
        if len(ids) > longest and getattr(model.config, "position_biased_input", True):
            raise InvalidRequest(
                "target_text", f"has {len(known)} units for BERT; the limit is {longest - 2}; split the text"
            )
        with torch.inference_mode():
            states = model(input_ids=torch.tensor([ids], device=self.device), output_hidden_states=True).hidden_states
        return np.asarray(states[LAYER][0].float().cpu().numpy())

    def features(
        self, text: str, word2ph: Sequence[int], style_text: str = "", style_weight: float = STYLE_WEIGHT
    ) -> np.ndarray:
        """Return features per phone, float32 `[channels, sum(word2ph)]`.

        The features of each unit are repeated as often as `word2ph` says.

        Args:
            text: the cleaned text.
            style_text: a sentence whose mean features are mixed in with the share `style_weight`.

        Raises InvalidRequest unless `word2ph` has one number per unit.
        """
        states = self.hidden(text)
        if len(states) != len(word2ph):
            raise InvalidRequest(
                "word2ph",
                f"has {len(word2ph)} numbers for {len(states)} units (the text {text[:40]!r} has "
                f"{len(states) - 2}, its ends one each); clean the text with the tokenizer in {self.folder}",
            )
        if style_text.strip():
            style = self.hidden(style_text).mean(axis=0)
            states = (1 - style_weight) * states + style_weight * style
        return np.ascontiguousarray(np.repeat(states, word2ph, axis=0).T.astype(np.float32))

    def _load(self) -> tuple[Any, Any]:
        """Return the tokenizer and the model."""
        if self._loaded is None:
            transformers = need("transformers")
            check_transformer(
                read_object(self.folder / "config.json", kind=CheckpointError), str(self.folder / "config.json")
            )
            for file in self.folder.iterdir():
                if file.suffix in (".json", ".txt", ".model"):
                    check_size(file, VOCABULARY, CheckpointError)
            try:
                tokenizer = transformers.AutoTokenizer.from_pretrained(self.folder, local_files_only=True)
                model = transformers.AutoModel.from_pretrained(self.folder, local_files_only=True)
            except Exception as error:  # a foreign folder can make the library fail in any way
                raise CheckpointError(
                    f"the BERT encoder for {self.language} in {self.folder} cannot be read: {error}"
                ) from error
            width, layers = model.config.hidden_size, model.config.num_hidden_layers
            if width != self.channels or layers + 1 < -LAYER:
                raise CheckpointError(
                    f"the BERT encoder for {self.language} in {self.folder} has {layers} layers of {width} channels; "
                    f"the checkpoint takes {self.channels} channels of the third layer from the end."
                )
            self._loaded = tokenizer, model.eval().to(self.device)
        return self._loaded


class BertFeatures:
    """The three BERT inputs of the text encoder for cleaned text.

    Args:
        folders: the encoder folder of each language; unused languages may be left out.
        no_bert: text in a language without a folder gets filler too, for checkpoints trained without BERT.
        channels, device: as for `BertEncoder`.

    Raises:
        CheckpointError: a folder is missing.
    """

    def __init__(
        self,
        folders: Mapping[str, Path | str],
        no_bert: bool = False,
        channels: int = 1024,
        device: str = "cpu",
    ) -> None:
        self.no_bert, self.channels = no_bert, channels
        named = ((language_of(name), folder) for name, folder in folders.items())
        self.encoders = {name: BertEncoder(folder, name, channels, device) for name, folder in named}

    @property
    def tokenize(self) -> Callable[[str], list[str]] | None:
        """The tokenizer for cleaning English; None without an encoder for English."""
        return self.encoders["EN"].tokenize if "EN" in self.encoders else None

    def __call__(
        self, parts: Sequence[Cleaned], fill: Fill, style_text: str = "", style_weight: float = STYLE_WEIGHT
    ) -> dict[str, np.ndarray]:
        """Return features by language, float32 `[channels, phones]` each, for the ids of `to_ids(parts)`.

        Args:
            fill: the filler of the checkpoint's version and the request's seed; called in the order of `LANGUAGES`.

        Raises ConfigError when a text's language has no encoder, unless `no_bert`.
        """
        own_features = [self._of(part, style_text, style_weight) for part in parts]
        lengths = [sum(blanked_word2ph(part.word2ph)) for part in parts]
        features: dict[str, np.ndarray] = {}
        for language in LANGUAGES:
            pieces = [
                np.zeros((self.channels, length), np.float32) if own is None or part.language != language else own
                for part, own, length in zip(parts, own_features, lengths, strict=True)
            ]
            real = [
                own is not None and part.language == language for part, own in zip(parts, own_features, strict=True)
            ]
            columns = joined([np.full(length, mine) for length, mine in zip(lengths, real, strict=True)])
            features[language] = joined(pieces)
            if not columns.all():
                filler = fill((self.channels, len(columns)))
                features[language] = np.where(columns, features[language], filler).astype(np.float32)
        return features

    def _of(self, part: Cleaned, style_text: str, style_weight: float) -> np.ndarray | None:
        """Return the features of a text by its language's encoder; None if there is no encoder and `no_bert`."""
        if part.language in self.encoders:
            word2ph = blanked_word2ph(part.word2ph)
            return self.encoders[part.language].features(part.text, word2ph, style_text, style_weight)
        if self.no_bert:
            return None
        raise ConfigError(
            f"the text is in {part.language}, but the BERT encoders are for "
            f"{', '.join(self.encoders) or 'no language'}; give a folder for {part.language}, or set no_bert."
        )
