"""A virtual environment for each peer, so that its pins and ours never meet."""

from __future__ import annotations

import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).parent.parent


def peer_python(*requirements: str) -> Path:
    """The Python of an environment with a peer at pinned versions, made at the first call.

    requirements: such as "trl==1.16.0"; torch and transformers are pinned as hark pins them.
    """
    home = ROOT / ".peers" / "-".join(requirements).replace("==", "-")
    python, complete = home / "bin" / "python", home / ".complete"
    if not complete.exists():
        print(f"making an environment with {', '.join(requirements)}", file=sys.stderr, flush=True)
        venv.create(home, with_pip=True, clear=True)
        pins = [
            line
            for line in (ROOT / "constraints.txt").read_text().splitlines()
            if line.startswith(("torch==", "transformers==", "tokenizers==", "numpy=="))
        ]
        subprocess.run(
            [python, "-m", "pip", "install", "--quiet", *pins, *requirements], check=True
        )
        complete.touch()
    return python
