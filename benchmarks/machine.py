"""The machine: what it is, and how fast it multiplies matrices right now."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from hark.models import cpu_linear
from hark.models.language_model import DTYPES

SIDES = (1024, 2048)
"""Square matrices of these sides; the faster counts."""
PRODUCTS = 3

Product = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Of two matrices, in the third where the library takes one for its result."""


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What a reader has to know of it."""

    processor: str
    cores: int
    memory_gib: float

    @classmethod
    def here(cls) -> Machine:
        return cls(
            processor=_line("/proc/cpuinfo", "model name") or platform.processor() or "unknown",
            cores=len(_cores()),
            memory_gib=int((_line("/proc/meminfo", "MemTotal") or "0").split()[0]) / 2**20,
        )

    def __str__(self) -> str:
        return f"{self.processor}, {self.cores} cores, {self.memory_gib:.0f} GiB"


def product_rate(dtype: str) -> float:
    """FLOP/s of a matrix product in `dtype`: the median of a few, at the better size and by the
    better of the libraries that torch brings for it."""
    products: list[Product] = [lambda left, right, out: torch.mm(left, right, out=out)]
    if dtype == "float32" and cpu_linear.HAS_PRODUCT:
        products.append(lambda left, right, _: cpu_linear.product(left, right))
    return max(_rate_at(side, DTYPES[dtype], each) for side in SIDES for each in products)


def _rate_at(side: int, dtype: torch.dtype, product: Product) -> float:
    left, right = (torch.randn(side, side).to(dtype) for _ in range(2))
    out = left @ right
    product(left, right, out)  # fresh memory and first calls are not what is measured
    seconds = []
    for _ in range(PRODUCTS):
        began = time.perf_counter()
        product(left, right, out)
        seconds.append(time.perf_counter() - began)
    return 2 * side**3 / statistics.median(seconds)


def _line(path: str, name: str) -> str | None:
    """The value on the first line `name : value` of a file, where there is such a file."""
    file = Path(path)
    lines = file.read_text().splitlines() if file.exists() else []
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith(name)), None)


def _cores() -> range | set[int]:
    affinity = getattr(os, "sched_getaffinity", None)
    return affinity(0) if affinity else range(os.cpu_count() or 1)
