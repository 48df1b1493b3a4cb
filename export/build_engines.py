"""`python export/build_engines.py`: run `tritone.export.build_engines` from a checkout."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tritone.export.build_engines import main

if __name__ == "__main__":
    sys.exit(main())
