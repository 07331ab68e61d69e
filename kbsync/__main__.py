"""``python -m kbsync``."""

import sys

from kbsync.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
