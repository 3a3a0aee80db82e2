"""Chance as a function of names: it does not depend on who comes first, or on how fast."""

from __future__ import annotations

import hashlib
import math


def uniform(*names: object) -> float:
    """A number in (0, 1)."""
    digest = hashlib.blake2b(repr(names).encode(), digest_size=7).digest()
    return (int.from_bytes(digest, "big") + 0.5) / 2**56


def gumbel(*names: object) -> float:
    """From the standard Gumbel distribution; differences of two are logistic."""
    return -math.log(-math.log(uniform(*names)))


def lognormal(spread: float, *names: object) -> float:
    """A factor around its median of 1, within e^±`spread` in two cases of three."""
    radius = math.sqrt(-2 * math.log(uniform("radius", *names)))
    return math.exp(spread * radius * math.cos(2 * math.pi * uniform("angle", *names)))
