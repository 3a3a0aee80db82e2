"""Compiled loops give the same bits however they came to be there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

SOME_STEPS = """
import hashlib, torch
from hark.models.language_model import Architecture, new_language_model
from hark.models.logprobs import response_logprobs
from hark.models.packing import PromptTree, pack_for

torch.set_num_threads(1)
shape = Architecture(width=144, layers=2, heads=2, mlp_width=80, named_vocabulary=61)
model = new_language_model(
    shape, vocabulary_size=61, context_length=128, seed=0, pad_token_id=0, eos_token_id=1
)
trees = [
    PromptTree(tuple(range(2, 2 + length)), (tuple(range(9, 20)), tuple(range(30, 35 + length))))
    for length in (3, 9, 17)
]
for dtype in (torch.float32, torch.bfloat16):
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        losses = response_logprobs(model, pack_for(model, trees))
    losses.square().mean().backward()
    for name, weight in model.named_parameters():
        print(dtype, name, hashlib.md5(weight.grad.numpy().tobytes()).hexdigest())
"""


def test_what_is_compiled_and_what_is_loaded_give_the_same_bits(tmp_path: Path) -> None:
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, "-c", SOME_STEPS]

    def printed() -> str:
        return subprocess.run(
            command, env=environment, check=True, capture_output=True, text=True
        ).stdout

    def kept() -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.nb?")}

    compiled, before = printed(), kept()
    assert before, "nothing was kept"
    assert printed() == compiled
    assert kept() == before, "what was kept was not loaded"
    assert len(compiled.splitlines()) > 20
