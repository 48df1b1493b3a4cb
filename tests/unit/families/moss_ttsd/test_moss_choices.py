"""Attention and dtype of the language model: what runs is found by running it, and every choice computes alike."""

from __future__ import annotations

import importlib
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.moss_helpers import lm_config, tiny_lm, write_checkpoint

from tritone.catalog import open_family
from tritone.engines.open import check_choices
from tritone.errors import ConfigError
from tritone.families.moss_ttsd.lm import choices
from tritone.families.moss_ttsd.lm.choices import resolve_attention, resolve_dtype
from tritone.families.moss_ttsd.lm.network import LmStep
from tritone.load import load_model
from tritone.stage import Arrays

BROKEN = [
    ("raise ImportError('flash_attn_2_cuda.so: undefined symbol: _ZN3c104cuda')", r"\(ImportError: .*undefined symbol"),
    ("raise RuntimeError('Failed to load\\nCUDA')", r"\(RuntimeError: Failed to load CUDA\)"),
    ("raise SystemExit('no driver')", r"\(SystemExit: no driver\)"),
    ("import no_such_module_of_it", r"\(No module named 'no_such_module_of_it'\)"),
    ("__version__ = '1.0.9'", r"\(ImportError: 1\.0\.9 is installed; it must be 2\.1 or newer\)"),
    ("__version__ = 'unknown'", r"\(ValueError: invalid literal"),
    ("__version__ = '2.8.3'", r"\(AttributeError: .*flash_attn_func"),
    ("__version__ = '2.8.3'\ndef flash_attn_func(*a, **b): raise RuntimeError('no kernel image')", "for this GPU "),
]


@pytest.mark.parametrize(("code", "message"), BROKEN)
def test_a_flash_attention_that_does_not_run_is_named_once_and_the_next_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, message: str
) -> None:
    (tmp_path / "flash_attn.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(sys.modules, "flash_attn", None)
    del sys.modules["flash_attn"]
    importlib.invalidate_caches()
    monkeypatch.setattr(choices, "try_sdpa", lambda *_: None)
    if "kernel" in code:
        monkeypatch.setattr(torch, "zeros", lambda *_, **__: None)
    with pytest.warns(UserWarning, match=rf"^flash_attention_2 needs .*{message}.*; using sdpa instead$") as seen:
        assert resolve_attention(None, "cuda", torch.bfloat16) == "sdpa"
    assert len(seen) == 1
    with pytest.raises(ConfigError, match=rf"_2 needs .*{message}.*; available here are sdpa, eager, auto"):
        resolve_attention("flash_attention_2", "cuda", torch.bfloat16)


def test_each_attention_falls_back_to_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "flash_attn", None)

    def fails(*_: object) -> None:
        raise RuntimeError("no such kernel")

    needs = r"flash_attention_2 needs a GPU \(the device is cpu\) and bfloat16 or float16 and the package flash-attn"
    with pytest.warns(UserWarning, match=rf"^{needs}; using sdpa instead$"):
        assert resolve_attention("auto", "cpu", torch.float32) == "sdpa"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert [resolve_attention(name, "cpu", torch.float32) for name in ("sdpa", "eager")] == ["sdpa", "eager"]
    monkeypatch.setattr(choices, "try_sdpa", fails)
    with pytest.warns(UserWarning, match=r"; sdpa needs .*\(RuntimeError: no such kernel\); using eager instead$"):
        assert resolve_attention("auto", "cpu", torch.float32) == "eager"
    with pytest.raises(ConfigError, match=r"^sdpa needs .*no such kernel.; available here are eager, auto$"):
        resolve_attention("sdpa", "cpu", torch.float32)
    with pytest.raises(ConfigError, match="'xformers' is not supported; use one of flash_attention_2, sdpa, eager"):
        resolve_attention("xformers", "cpu", torch.float32)
    monkeypatch.setattr(choices, "flash_function", lambda: None)
    monkeypatch.setattr(choices, "try_flash", lambda *_: None)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert resolve_attention("auto", "cuda:1", torch.float16) == "flash_attention_2"


def test_float16_on_a_cpu_is_slow_and_says_so() -> None:
    with pytest.warns(UserWarning, match="float16 on the CPU is computed slowly and overflows beyond 65504"):
        assert resolve_dtype("float16", "cpu") == torch.float16
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert [resolve_dtype(name, "cuda") for name in ("float16", None)] == [torch.float16, torch.bfloat16]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("moss"))


def steps(call: Any, channels: int = 8) -> list[Arrays]:
    """Return the outputs after a prompt of two sequences, one padded on the left, and after a row more of each.

    Keys and values of padding, which nothing reads, are zeros.
    """
    rows = np.random.default_rng(0).integers(0, 1000, (2, 13, channels))
    padding = np.array([0, 5])
    empty = np.zeros((2, 2, 2, 0, 16), np.float32)
    before = call("lm_step", rows=rows[:, :12], padding=padding, kv_state=empty)
    after = call("lm_step", rows=rows[:, 12:], padding=padding, kv_state=before["next_kv_state"])
    for outputs in (before, after):
        outputs["next_kv_state"][1, :, :, :5] = 0
    return [before, after]


@pytest.mark.parametrize(
    ("dtype", "attention", "limit"),
    [("", "sdpa", 1e-5), ("float32", "eager", 0.0), ("bfloat16", "sdpa", 5e-2), ("bfloat16", "eager", 5e-2)],
)
def test_each_choice_computes_what_is_exported(folder: Path, dtype: str, attention: str, limit: float) -> None:
    model = load_model(folder, dtype=dtype, attention=attention)
    for found, wanted in zip(steps(model.call), steps(load_model(folder).call), strict=True):
        for name, values in wanted.items():
            assert found[name].dtype == np.float32 and np.isfinite(values).all()
            difference = np.abs(found[name] - values).max() / np.abs(values).max()
            assert difference <= limit, f"{name} differs by {difference:.1e} of its largest"
    for stage, kind in (("lm_step", dtype or "float32"), ("codec_decoder", "float32")):
        build = model.family.stage(stage).build
        assert build is not None
        found_kinds = {str(value.dtype) for value in build().parameters()}
        assert found_kinds == {f"torch.{kind}"}


def test_a_dialogue_is_spoken_in_bfloat16(folder: Path) -> None:
    wave = load_model(folder, dtype="bfloat16", attention="sdpa").synthesize("[S1]Hi.", max_seconds=0.5, seed=1)
    assert wave.dtype == np.float32 and wave.shape == (6 * 2560,) and np.abs(wave).max() > 1e-3


@torch.no_grad()
def test_flash_attention_is_given_what_it_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own kernels are replaced by a masked product; the masks are those that transformers' form of it takes."""
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    masks: list[Any] = []

    def flash(module: Any, query: Any, key: Any, value: Any, attention_mask: Any, scaling: float, **_: Any) -> Any:
        masks.append(attention_mask)
        groups, total, new = query.shape[1] // key.shape[1], key.shape[2], query.shape[2]
        seen = torch.ones(new, total).tril(total - new)[None]
        if attention_mask is not None:
            assert attention_mask.shape == (len(query), total) and attention_mask.dtype == torch.int64
            seen = seen * attention_mask[:, None]
        scores = query @ key.repeat_interleave(groups, 1).mT * scaling
        weights = scores.masked_fill(seen[:, None] == 0, -3e4).softmax(-1)
        return (weights @ value.repeat_interleave(groups, 1)).transpose(1, 2), None

    monkeypatch.setitem(ALL_ATTENTION_FUNCTIONS._global_mapping, "flash_attention_2", flash)
    lm = tiny_lm(lm_config("tiny", tmp_path))
    rows, padding, state = torch.arange(48).reshape(2, 3, 8), torch.tensor([0, 1]), torch.zeros(2, 2, 2, 0, 16)
    wanted = LmStep(lm)(rows, padding, state)
    lm.model.language_model.config._attn_implementation = "flash_attention_2"
    step = LmStep(lm)
    found = step(rows, padding, state)
    assert masks[-1].tolist() == [[1, 1, 1], [0, 1, 1]]
    for one, other in zip(found, wanted, strict=True):
        assert float((one - other)[0].abs().max()) <= 1e-5 * float(other.abs().max())
    for one, other in zip(found[:2], wanted[:2], strict=True):
        assert float((one - other).abs().max()) <= 1e-5 * float(other.abs().max())
    step(rows[:1], torch.tensor([0]), torch.zeros(1, 2, 2, 4, 16))
    assert masks[-1] is None


def test_choices_that_nothing_has_are_refused(folder: Path, tiny_v2: Path) -> None:
    with pytest.raises(ConfigError, match=r"dtype bfloat16 .* engine onnxruntime, which runs exported files"):
        load_model(folder, engine="onnx", dtype="bfloat16")
    with pytest.raises(ConfigError, match="dtype bfloat16 and attention sdpa was asked for with engine tensorrt"):
        check_choices("tensorrt", "bfloat16", "sdpa")
    with pytest.raises(ConfigError, match="both fp16 and dtype float32 were asked for; they exclude each other"):
        check_choices("torch", "float32", "", fp16=True)
    with pytest.raises(ConfigError, match=r"dtype 'int8' is not supported; use one of float32, bfloat16, float16"):
        load_model(folder, dtype="int8")
    with pytest.raises(ConfigError, match=r"attention sdpa was asked for, but .* recognised by cosyvoice2\.yaml"):
        open_family(tiny_v2, attention="sdpa")
    with pytest.raises(ConfigError, match=r"recognised by config\.json with channels and speech_token_range have it"):
        load_model(tiny_v2, dtype="bfloat16")
