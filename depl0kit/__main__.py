"""`python -m depl0kit`: see `cli`."""

import signal
import sys

from .cli import main

if __name__ == "__main__":
    # schedulers and torchrun end a process so: it keeps its finished epochs, as after Ctrl-C
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(main())
