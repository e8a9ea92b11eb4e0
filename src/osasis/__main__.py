"""`python -m osasis` is the command `osasis`."""

from __future__ import annotations

import sys

from osasis.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
