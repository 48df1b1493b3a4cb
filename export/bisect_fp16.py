"""`python export/bisect_fp16.py`: run `tritone.parity.bisect_fp16` from a checkout."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tritone.parity.bisect_fp16 import main

if __name__ == "__main__":
    sys.exit(main())
