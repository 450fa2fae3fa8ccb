"""``python -m skipgrad`` is the console script."""

from __future__ import annotations

import sys

from skipgrad.cli import main

if __name__ == "__main__":
    sys.exit(main())
