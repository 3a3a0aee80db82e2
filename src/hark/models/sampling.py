"""Drawing the next token: counter-based uniforms, truncation, inverse distribution function.

All of it is pure. A token is a function of its logits and of (seed, sequence, position), so what
one row draws does not depend on its neighbours, on the number of rows, or on the order of the work.

Behaviour log-probabilities are those of the *tempered, untruncated* distribution,
log softmax(logits / temperature), in float32. The policy's loss computes the same quantity from
a forward pass, so that PPO's ratio starts at 1 whatever truncation the sampling used
(`summarize_from_feedback_details`, and Ziegler et al. 2019, divide by the temperature in both).
With top-p, top-k or a minimum length the log-probability of the truncated distribution would be
larger; it is not reported. At temperature 0 the distribution is a point, and the
log-probabilities are those at temperature 1.
"""

from __future__ import annotations

import math
from typing import Annotated, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor

from hark.settings import Settings


class SamplingSettings(Settings):
    """How responses are drawn and when they end."""

    temperature: Annotated[float, Field(ge=0.0, allow_inf_nan=False)] = 1.0
    """Divides the logits before sampling; 0 takes the most probable token."""
    top_p: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    """Sample from the fewest most probable tokens that hold this much probability; 1 keeps all."""
    top_k: Annotated[int, Field(ge=0)] = 0
    """Sample from this many most probable tokens (ties with the last are kept); 0 keeps all."""
    max_response_tokens: Annotated[int, Field(ge=1)] = 128
    """A response ends after this many tokens, its end token included."""
    min_response_tokens: Annotated[int, Field(ge=0)] = 0
    """The end token cannot be drawn before the response has this many tokens."""
    stop: tuple[str, ...] = ()
    """A response ends when its text contains one of these; its text is cut before the first."""

    @model_validator(mode="after")
    def _refuse_contradictions(self) -> Self:
        if self.min_response_tokens > self.max_response_tokens:
            raise ValueError(
                f"min_response_tokens {self.min_response_tokens} is larger than "
                f"max_response_tokens {self.max_response_tokens}"
            )
        if self.temperature == 0.0 and (self.top_p < 1.0 or self.top_k > 0):
            raise ValueError(
                "temperature 0 takes the most probable token, so top_p and top_k would be ignored; "
                "leave them at 1 and 0"
            )
        if "" in self.stop:
            raise ValueError("stop holds an empty string, which would end every response at once")
        return self


_SPLITMIX_INCREMENT = 0x9E3779B97F4A7C15
_SPLITMIX_MULTIPLIERS = (0xBF58476D1CE4E5B9, 0x94D049BB133111EB)


def uniforms(seed: int | Tensor, sequence_ids: Tensor, positions: Tensor) -> Tensor:
    """One number in [0, 1) for each (seed, sequence, position), by hashing the three.

    Args:
        seed: any integer; taken modulo 2⁶⁴. Or, where each sequence has a seed of its own, their
            `seed_key`s, long, broadcast against `sequence_ids`.
        sequence_ids: long, any shape.
        positions: long, broadcast against `sequence_ids`.

    Returns:
        float64 with 53 random bits. A chain of splitmix64 finalisers (Steele et al. 2014), one for
        each part of the counter.
    """
    key = seed_key(seed) if isinstance(seed, int) else seed
    step = _as_signed(_SPLITMIX_INCREMENT)
    hashed = _mix(key + (sequence_ids + 1) * step)
    hashed = _mix(hashed + (positions + 1) * step)
    return _shift_right(hashed, 11).double() * 2.0**-53


def seed_key(seed: int) -> int:
    """The first link of the chain of `uniforms`, an integer that fits a long tensor."""
    return _as_signed(_mix_integer((seed + _SPLITMIX_INCREMENT) % 2**64))


def _mix(bits: Tensor) -> Tensor:
    """The splitmix64 finaliser on 64 bits held in int64, whose products wrap around."""
    first, second = (_as_signed(multiplier) for multiplier in _SPLITMIX_MULTIPLIERS)
    bits = (bits ^ _shift_right(bits, 30)) * first
    bits = (bits ^ _shift_right(bits, 27)) * second
    return bits ^ _shift_right(bits, 31)


def _mix_integer(bits: int) -> int:
    first, second = _SPLITMIX_MULTIPLIERS
    bits = (bits ^ (bits >> 30)) * first % 2**64
    bits = (bits ^ (bits >> 27)) * second % 2**64
    return bits ^ (bits >> 31)


def _shift_right(bits: Tensor, count: int) -> Tensor:
    """Logical shift: int64's own shift copies the sign bit into the places that open."""
    return (bits >> count) & ((1 << (64 - count)) - 1)


def _as_signed(bits: int) -> int:
    return bits - 2**64 if bits >= 2**63 else bits


def behaviour_logprobs(logits: Tensor, temperature: float) -> Tensor:
    """log softmax(logits / temperature), [rows, V] float32; at temperature 0 that of 1."""
    logits = logits.float()
    if temperature not in (0.0, 1.0):
        logits = logits / temperature
    return torch.log_softmax(logits, dim=-1)


def truncate(logprobs: Tensor, *, top_k: int = 0, top_p: float = 1.0) -> Tensor:
    """Put −inf on the tokens that top-k, then top-p, leave out; the rest is not renormalised.

    top-p acts on what top-k has left, renormalised, and keeps the fewest most probable tokens whose
    probabilities sum to at least `top_p`, and so always one.
    """
    if 0 < top_k < logprobs.shape[-1]:
        smallest_kept = logprobs.topk(top_k, dim=-1).values[..., -1:]
        logprobs = logprobs.masked_fill(logprobs < smallest_kept, -math.inf)
    if top_p < 1.0:
        ordered, order = logprobs.sort(dim=-1, descending=True, stable=True)
        probabilities = torch.softmax(ordered.double(), dim=-1)
        before = probabilities.cumsum(dim=-1) - probabilities
        is_left_out = torch.zeros_like(logprobs, dtype=torch.bool)
        is_left_out.scatter_(-1, order, before >= top_p)
        logprobs = logprobs.masked_fill(is_left_out, -math.inf)
    return logprobs


def draw(logprobs: Tensor, uniform: Tensor) -> Tensor:
    """Invert the distribution function: the token at which the running sum passes `uniform`.

    Args:
        logprobs: [rows, V], up to a constant in each row; −inf is never drawn.
        uniform: [rows] float64 in [0, 1).

    Returns:
        [rows] long.
    """
    running_sum = logprobs.exp().cumsum(dim=-1, dtype=torch.float64)
    threshold = uniform.unsqueeze(-1) * running_sum[:, -1:]
    return torch.searchsorted(running_sum, threshold, right=True).squeeze(-1)


CPU_LOGITS = 2**18
"""Logits worked on at once on a CPU: what is made of them, running sums in float64 among it, then
stays in fast memory: allocating more afresh took as long as the arithmetic (decision 0011)."""


def choose_tokens(
    logits: Tensor, uniform: Tensor, settings: SamplingSettings, is_forbidden: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The next token of each row and its behaviour log-probability.

    Args:
        logits: [rows, V].
        uniform: [rows] float64 in [0, 1).
        settings: temperature, top_p and top_k are read.
        is_forbidden: [rows, V] bool, tokens not to be drawn (the end tokens of a response that is
            still too short); None forbids nothing.

    Returns:
        tokens [rows] long, logprobs [rows] float32.
    """
    rows, vocabulary = logits.shape
    count = rows if logits.device.type != "cpu" else max(1, CPU_LOGITS // vocabulary)
    if count >= rows:
        return _choose_tokens(logits, uniform, settings, is_forbidden)
    parts = [slice(start, start + count) for start in range(0, rows, count)]
    chosen = [
        _choose_tokens(
            logits[part], uniform[part], settings,
            None if is_forbidden is None else is_forbidden[part],
        )
        for part in parts
    ]  # fmt: skip
    tokens, logprobs = zip(*chosen, strict=True)
    return torch.cat(tokens), torch.cat(logprobs)


def _choose_tokens(
    logits: Tensor, uniform: Tensor, settings: SamplingSettings, is_forbidden: Tensor | None
) -> tuple[Tensor, Tensor]:
    logprobs = behaviour_logprobs(logits, settings.temperature)
    allowed = logprobs if is_forbidden is None else logprobs.masked_fill(is_forbidden, -math.inf)
    if settings.temperature == 0.0:
        tokens = allowed.argmax(dim=-1)
    else:
        tokens = draw(truncate(allowed, top_k=settings.top_k, top_p=settings.top_p), uniform)
    return tokens, logprobs.gather(-1, tokens.unsqueeze(-1)).squeeze(-1)
