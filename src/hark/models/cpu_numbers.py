"""How compiled code reads and writes the numbers of tensors, and what it computes of one number."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types
from numba.extending import intrinsic, overload

from hark.models.cpu_tasks import compiled


@intrinsic
def multiply_add(typing: Any, factor: Any, other: Any, term: Any) -> Any:
    """factor · other + term of float32, rounded once: one step of a processor that has it, as those
    with AVX2 have, and a slow call elsewhere."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.fma(*arguments)

    return types.float32(types.float32, types.float32, types.float32), generate


@compiled
def exp(x: Any) -> Any:
    """exp of a float32 that is at most 0: to 3e-7 of it down to −10, to 1.3e-6 below.

    In steps that a vector can take at once:
    2^y with y = x / ln 2 is 2^⌊y⌋, made of its bits, times 2 to the power of what is left, by a
    polynomial of degree 5, the nearest on [0, 1) that is 1 at 0. Below −87 it is 0; NaN stays NaN.
    """
    factor = np.float32(1.4426950408889634)
    floor = np.floor(max(x * factor, np.float32(-126.0)))
    rest = multiply_add(x, factor, -floor)
    power = np.float32(1.8686068e-3)
    power = multiply_add(power, rest, np.float32(9.0142106e-3))
    power = multiply_add(power, rest, np.float32(5.5801302e-2))
    power = multiply_add(power, rest, np.float32(2.4016458e-1))
    power = multiply_add(power, rest, np.float32(6.9315115e-1))
    power = multiply_add(power, rest, np.float32(1))
    bits = (np.int32(floor) + np.int32(127)) << np.int32(23)
    return np.float32(0) if x < np.float32(-87.0) else power * np.int32(bits).view(np.float32)


def widened(number: Any) -> Any:
    """The float32 of a number as compiled code sees it: itself, or the bits of a bfloat16."""


@overload(widened)
def _wide(number: Any) -> Any:
    def itself(number: Any) -> Any:
        return number

    def of_bits(number: Any) -> Any:
        return np.uint32(np.uint32(number) << np.uint32(16)).view(np.float32)

    return itself if number == types.float32 else of_bits


def narrowed(number: Any, into: Any) -> Any:
    """A float32 as the numbers of an array: itself, or the bits of the nearest bfloat16, even ones
    where two are."""


@overload(narrowed)
def _narrow(number: Any, into: Any) -> Any:
    def itself(number: Any, into: Any) -> Any:
        return number

    def nearest(number: Any, into: Any) -> Any:
        bits = np.float32(number).view(np.uint32)
        odd = (bits >> np.uint32(16)) & np.uint32(1)
        return np.uint16((bits + np.uint32(0x7FFF) + odd) >> np.uint32(16))

    return itself if into.dtype == types.float32 else nearest
