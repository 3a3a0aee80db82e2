"""A GPU: what its data sheet promises, and what it reaches right now."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import torch

DATA_SHEETS = (
    ("H100 PCIe", 756e12, 2.00e12),
    ("H100 NVL", 835e12, 3.94e12),
    ("H100", 989e12, 3.35e12),
    ("H200 NVL", 835e12, 4.80e12),
    ("H200", 989e12, 4.80e12),
    ("A100-SXM4-80GB", 312e12, 2.04e12),
    ("A100 80GB PCIe", 312e12, 1.94e12),
    ("A100", 312e12, 1.56e12),
)
"""Part of a name, FLOP/s of dense bfloat16 products and bytes/s of memory; the first that fits."""

PRODUCT_SIDE, COPIED_BYTES = 8192, 2**31


@dataclass(frozen=True, kw_only=True)
class Accelerator:
    """What a reader has to know of it, and what shares are taken of."""

    name: str
    memory_gib: float
    peak_flops: float
    """Of the data sheet."""
    peak_bandwidth: float
    products: float
    """FLOP/s of a large bfloat16 product, as measured."""
    copies: float
    """Bytes/s read and written by a large copy, as measured."""

    @classmethod
    def here(cls, *, peak_tflops: float | None, peak_gigabytes: float | None) -> Self:
        """The current CUDA device; the peaks are for a model that no data sheet is known of."""
        properties = torch.cuda.get_device_properties(torch.cuda.current_device())
        known = next((peaks for name, *peaks in DATA_SHEETS if name in properties.name), None)
        if known is None and (peak_tflops is None or peak_gigabytes is None):
            raise SystemExit(
                f"the peak rates of '{properties.name}' are not known here; give --peak-tflops "
                "(dense bfloat16) and --peak-gigabytes (a second, of memory) from its data sheet"
            )
        flops, bandwidth = known or (0.0, 0.0)
        return cls(
            name=properties.name,
            memory_gib=properties.total_memory / 2**30,
            peak_flops=peak_tflops * 1e12 if peak_tflops else flops,
            peak_bandwidth=peak_gigabytes * 1e9 if peak_gigabytes else bandwidth,
            products=_product_rate(),
            copies=_copy_rate(),
        )

    def __str__(self) -> str:
        return (
            f"{self.name}, {self.memory_gib:.0f} GiB; data sheet {self.peak_flops / 1e12:.0f} "
            f"TFLOP/s and {self.peak_bandwidth / 1e12:.2f} TB/s, measured now "
            f"{self.products / 1e12:.0f} TFLOP/s (a product of {PRODUCT_SIDE}) and "
            f"{self.copies / 1e12:.2f} TB/s (a copy)"
        )


def _product_rate() -> float:
    left, right = (
        torch.randn(PRODUCT_SIDE, PRODUCT_SIDE, device="cuda", dtype=torch.bfloat16)
        for _ in range(2)
    )
    result = torch.empty_like(left)
    return 2 * PRODUCT_SIDE**3 / _seconds(lambda: torch.mm(left, right, out=result))


def _copy_rate() -> float:
    source = torch.zeros(COPIED_BYTES, device="cuda", dtype=torch.uint8)
    target = torch.empty_like(source)
    return 2 * COPIED_BYTES / _seconds(lambda: target.copy_(source))


def _seconds(work: Callable[[], object], *, times: int = 20) -> float:
    for _ in range(3):
        work()
    torch.cuda.synchronize()
    began = time.perf_counter()
    for _ in range(times):
        work()
    torch.cuda.synchronize()
    return (time.perf_counter() - began) / times
