"""The official YAML of each version, read and written as a configuration."""

from __future__ import annotations

from pathlib import Path

from tritone.families.cosyvoice.checkpoint.consistency import check_settings
from tritone.families.cosyvoice.checkpoint.fields import parse, render
from tritone.families.cosyvoice.config.common import CosyVoiceConfig
from tritone.families.cosyvoice.published import PUBLISHED


def parse_yaml(text: str, path: Path, version: int = 2) -> CosyVoiceConfig:
    """Return the configuration in the HyperPyYAML text of a version's file; `path` is for error messages.

    Missing keys have the values of the published classes. CheckpointError for invalid or contradictory settings.
    """
    config = parse(PUBLISHED[version], text, path)
    check_settings(config, path)
    return config.version.completed(config, path)


def render_yaml(config: CosyVoiceConfig) -> str:
    """Return HyperPyYAML text with the official class names that `parse_yaml` reads back to an equal configuration."""
    return render(PUBLISHED[config.version.number], config)
