"""The choices between versions lie in `Version` values and configuration classes; few tests of the version are left."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tritone.families.cosyvoice.published import PUBLISHED
from tritone.families.cosyvoice.speak.modes import MODES
from tritone.families.cosyvoice.versions import VERSIONS

ROOT = Path(__file__).resolve().parents[4]
FOLDERS = ("tritone/families/cosyvoice", "training/cosyvoice", "benchmarks/cosyvoice")
TESTS = re.compile(
    r"isinstance\([^)]*Config|\bversion(\.number)? (==|!=|<|>|in \() |hasattr\(config|front\.kind|rate == \d"
    r"|\b(if|not|and|or) ([\w.]*\.)?causal\b|first_marker is|(encoder|estimator)_chunk is (not )?None:"
    r"|\bif (not )?[\w.]*\.(spk_embed_dim|token_mel_ratio|version\.\w+)\b(?! ==)"
)
"""Ways to tell one version from another: the kind of its configuration, its number, or a setting that only it has."""


def test_few_places_test_the_version() -> None:
    hits = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for folder in FOLDERS
        for path in sorted((ROOT / folder).rglob("*.py"))
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if TESTS.search(line)
    ]
    assert len(hits) <= 10, "\n".join(hits)


@pytest.mark.parametrize("number", [1, 2, 3])
def test_each_version_has_official_sizes_and_known_modes(number: int) -> None:
    version = VERSIONS[number]
    assert version.number == number and PUBLISHED[number].version is version
    assert set(version.modes) <= set(MODES) and version.instruct_mode in version.modes
    assert (version.name, version.speech_tokenizer) == (f"cosyvoice{number}", f"speech_tokenizer_v{number}.onnx")
    assert repr(version) == f"Version({number})"
