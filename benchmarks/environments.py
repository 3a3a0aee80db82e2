"""A virtual environment for each peer, so that its pins and ours never meet."""

from __future__ import annotations

import re
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).parent.parent
PINNED = ("torch", "transformers", "tokenizers", "numpy")
"""What a peer shares with hark, so that the two differ in nothing but themselves."""

TRL = ("trl==1.16.0",)
TRL_WITH_PPO = ("trl==1.12.0",)
"""The last version with PPO; it runs with the transformers that hark pins."""
LM_EVAL = ("lm-eval==0.4.13", "accelerate==1.15.0")
"""Its `hf` model needs accelerate, which it does not bring along."""


def peer_python(*requirements: str) -> Path:
    """The Python of an environment with a peer at pinned versions, made at the first call.

    requirements: the peer first, such as "trl==1.16.0". `PINNED` packages are pinned as hark pins
        them, except those that the requirements pin themselves.
    """
    home = ROOT / ".peers" / "-".join(requirements).replace("==", "-")
    python, complete = home / "bin" / "python", home / ".complete"
    if not complete.exists():
        print(f"making an environment with {', '.join(requirements)}", file=sys.stderr, flush=True)
        venv.create(home, with_pip=True, clear=True)
        # In one command, pins included: torch alone would first come with gigabytes of CUDA.
        install = [python, "-m", "pip", "install", "--quiet", *all_pins(requirements)]
        subprocess.run(install, check=True)
        complete.touch()
    return python


def all_pins(requirements: tuple[str, ...]) -> list[str]:
    """The requirements, after hark's pins of the packages that they do not pin."""
    own = {re.split(r"[=<>!~\[ ]", requirement)[0].lower() for requirement in requirements}
    shared = [
        line
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if line.partition("==")[0] in PINNED and line.partition("==")[0] not in own
    ]
    return [*shared, *requirements]
