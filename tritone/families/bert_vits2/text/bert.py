"""Features of BERT encoders for phones: one Hugging Face folder per language, read from disk alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tritone.errors import CheckpointError, ConfigError, InvalidRequest
from tritone.families.bert_vits2.text.packages import need
from tritone.families.bert_vits2.text.symbols import LANGUAGES, Cleaned, blanked_word2ph, joined, language_of

LAYER = -3
"""Which hidden states are the features, counted from the last."""
STYLE_WEIGHT = 0.7

Fill = Callable[[tuple[int, ...]], np.ndarray]
"""`fill(shape) -> array`: what an input holds where no text is in its language (`bert_vits2.filler.fillers`)."""


class BertEncoder:
    """One language's encoder, loaded at its first use.

    Args:
        folder: a Hugging Face folder with model and tokenizer; for ZH and JP the vocabulary is of characters.
        channels: width of the features the checkpoint's text encoder takes.
        device: where torch runs it.

    Raises:
        CheckpointError: the folder is missing or holds no such model.
    """

    def __init__(self, folder: Path | str, language: str, channels: int = 1024, device: str = "cpu") -> None:
        self.folder, self.language = Path(folder), language_of(language)
        self.channels, self.device = channels, device
        self._loaded: tuple[Any, Any] | None = None
        if not (self.folder / "config.json").is_file():
            found = ", ".join(sorted(p.name for p in self.folder.iterdir())) if self.folder.is_dir() else "no folder"
            raise CheckpointError(
                f"the BERT encoder for {self.language} should be in {self.folder}, but there is no config.json "
                f"(found: {found or 'an empty folder'}); download the model there, or declare that there is no BERT."
            )

    def tokenize(self, text: str) -> list[str]:
        """Tokens of text, each space beginning a new one."""
        tokenizer, _ = self._load()
        return [token for chunk in text.split() for token in tokenizer.tokenize(chunk)]

    def hidden(self, text: str) -> np.ndarray:
        """Hidden states of the text's units and of the special tokens around them, float32 `[units + 2, channels]`.

        Units are tokens of English and characters of Chinese and Japanese.
        """
        torch = need("torch")
        tokenizer, model = self._load()
        units = self.tokenize(text) if self.language == "EN" else list(text)
        found = tokenizer.convert_tokens_to_ids(units)
        if all(index == tokenizer.unk_token_id for index in found):
            raise CheckpointError(
                f"the tokenizer in {self.folder} knows none of {text[:40]!r}; {self.language} needs an encoder whose "
                f"vocabulary has {'these words' if self.language == 'EN' else 'single characters'}."
            )
        ids = [tokenizer.cls_token_id, *found, tokenizer.sep_token_id]
        longest = model.config.max_position_embeddings
        if len(ids) > longest and getattr(model.config, "position_biased_input", True):
            raise InvalidRequest(
                "target_text", f"{len(found)} units for BERT, which reads {longest - 2} at once; send the text in parts"
            )
        with torch.inference_mode():
            states = model(input_ids=torch.tensor([ids], device=self.device), output_hidden_states=True).hidden_states
        return np.asarray(states[LAYER][0].float().cpu().numpy())

    def features(
        self, text: str, word2ph: Sequence[int], style_text: str = "", style_weight: float = STYLE_WEIGHT
    ) -> np.ndarray:
        """Return features per phone, float32 `[channels, sum(word2ph)]`: each unit's, repeated as `word2ph` says.

        Args:
            text: as it was cleaned.
            style_text: a sentence whose mean is mixed in, `style_weight` of it.

        Raises InvalidRequest when `word2ph` has not one number per unit.
        """
        states = self.hidden(text)
        if len(states) != len(word2ph):
            raise InvalidRequest(
                "word2ph",
                f"{len(word2ph)} numbers for {len(states)} units ({len(states) - 2} in the text and both ends) of "
                f"{text[:40]!r}; clean the text with the tokenizer in {self.folder}",
            )
        if style_text.strip():
            style = self.hidden(style_text).mean(axis=0)
            states = (1 - style_weight) * states + style_weight * style
        return np.ascontiguousarray(np.repeat(states, word2ph, axis=0).T.astype(np.float32))

    def _load(self) -> tuple[Any, Any]:
        """Tokenizer and model."""
        if self._loaded is None:
            transformers = need("transformers")
            try:
                tokenizer = transformers.AutoTokenizer.from_pretrained(self.folder, local_files_only=True)
                model = transformers.AutoModel.from_pretrained(self.folder, local_files_only=True)
            except (OSError, ValueError, KeyError, RuntimeError, ImportError) as error:
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
        folders: where each language's encoder lies; languages that no text is in may be left out.
        no_bert: declares that text of languages without a folder gets filler too, for checkpoints trained so.
        channels, device: as of `BertEncoder`.

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
        """The tokenizer English is to be cleaned with; None without an encoder for English."""
        return self.encoders["EN"].tokenize if "EN" in self.encoders else None

    def __call__(
        self, parts: Sequence[Cleaned], fill: Fill, style_text: str = "", style_weight: float = STYLE_WEIGHT
    ) -> dict[str, np.ndarray]:
        """Return features by language, float32 `[channels, phones]` each, for the ids that `to_ids(parts)` gives.

        Args:
            fill: of the checkpoint's version and the request's seed, called in the order of `LANGUAGES` where needed.

        Raises ConfigError when a text's language has no encoder and that was not declared.
        """
        found = [self._of(part, style_text, style_weight) for part in parts]
        lengths = [sum(blanked_word2ph(part.word2ph)) for part in parts]
        features: dict[str, np.ndarray] = {}
        for language in LANGUAGES:
            pieces = [
                np.zeros((self.channels, length), np.float32) if own is None or part.language != language else own
                for part, own, length in zip(parts, found, lengths, strict=True)
            ]
            real = [own is not None and part.language == language for part, own in zip(parts, found, strict=True)]
            columns = joined([np.full(length, mine) for length, mine in zip(lengths, real, strict=True)])
            features[language] = joined(pieces)
            if not columns.all():
                filler = fill((self.channels, len(columns)))
                features[language] = np.where(columns, features[language], filler).astype(np.float32)
        return features

    def _of(self, part: Cleaned, style_text: str, style_weight: float) -> np.ndarray | None:
        """Return features of a text in its own language; None where it is declared that there are none."""
        if part.language in self.encoders:
            word2ph = blanked_word2ph(part.word2ph)
            return self.encoders[part.language].features(part.text, word2ph, style_text, style_weight)
        if self.no_bert:
            return None
        raise ConfigError(
            f"the text is {part.language}, and there are BERT encoders for {', '.join(self.encoders) or 'nothing'}; "
            f"name a folder for {part.language}, or declare that there is none (no_bert)."
        )
