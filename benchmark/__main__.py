"""``python -m benchmark``: the same as ``nucbench``."""

import sys

from benchmark.commands.cli import main

if __name__ == "__main__":
    sys.exit(main())
