"""Tritone: text-to-speech checkpoints in, a Triton deployment out, proven stage by stage."""

__version__ = "0.2.0"
