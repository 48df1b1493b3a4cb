"""Tritone: text-to-speech checkpoints in, a Triton deployment out, proven stage by stage."""

from tritone.missing_packages import explain, is_command

__version__ = "0.2.0"

if is_command():
    explain()
