"""`python -m tritone COMMAND ...`: the `tritone` command."""

from __future__ import annotations

import sys

from tritone.cli import main

if __name__ == "__main__":
    sys.exit(main())
