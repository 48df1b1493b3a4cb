"""The recipes `python -m training <recipe>` can run, by name: the module that holds each."""

from __future__ import annotations

RECIPES = {
    "bert_vits2": "training.bert_vits2.recipe",
    "cosyvoice": "training.cosyvoice.recipe",
    "cosyvoice_flow": "training.cosyvoice.flow",
    "cosyvoice_lm": "training.cosyvoice.lm",
    "cosyvoice_speaker": "training.cosyvoice.speaker",
    "cosyvoice_tokenizer": "training.cosyvoice.tokenizer",
    "cosyvoice_vocoder": "training.cosyvoice.vocoder",
}
"""Each module has `build(args) -> training.core.run.Run`, or `main(args)` when it runs several."""
