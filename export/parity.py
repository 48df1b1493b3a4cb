"""`python export/parity.py`: run `tritone.parity.check_build` from a checkout."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tritone.parity.check_build import main

if __name__ == "__main__":
    sys.exit(main())
