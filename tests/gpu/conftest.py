"""Tests that need a GPU, skipped where there is none.

`GPU_TESTS_ON=cpu` runs them on the CPU, which says nothing of a GPU but tries the tests themselves.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from hark.models.language_model import choose_device

DEVICE = os.environ.get("GPU_TESTS_ON", "cuda")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Compilers warn of what is theirs to mend."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.filterwarnings("default"))


def pytest_runtest_setup(item: pytest.Item) -> None:
    if DEVICE == "cuda" and not torch.cuda.is_available():
        pytest.skip("needs a GPU that CUDA can use: run on such a machine, or GPU_TESTS_ON=cpu")


@pytest.fixture
def device() -> torch.device:
    """The GPU, with float32 products in float32."""
    return choose_device(DEVICE)
