"""``python -m kbsync`` and the ``kbsync`` script: an interrupt is one line and exit code 130 from the start."""

import os
import signal
import sys


def stop(*_: object) -> None:
    """End a process that has only begun to import; there is nothing to put in order."""
    os.write(2, b"Interrupted: nothing was begun\n")
    os._exit(130)


def run() -> int:
    """Run the command line; return its exit code."""
    before = signal.getsignal(signal.SIGINT)
    if before is signal.default_int_handler:  # not so where the shell has it ignored
        signal.signal(signal.SIGINT, stop)
    from kbsync.cli.main import main

    signal.signal(signal.SIGINT, before)
    return main()


if __name__ == "__main__":
    sys.exit(run())
