"""`python -m hark.cli.child COMMAND …`: a hark command that ends with the process that started it.

Its standard input is a pipe from there, which the system closes however that process ends.
"""

from __future__ import annotations

import os
import threading

from hark.cli.main import main


def _end_with_parent() -> None:
    # Not through `sys.stdin`, whose lock an interpreter that ends would wait for.
    while os.read(0, 1024):
        pass
    os._exit(0)  # Runs are whole or continued, and servers of models keep nothing.


if __name__ == "__main__":
    threading.Thread(target=_end_with_parent, daemon=True).start()
    main()
