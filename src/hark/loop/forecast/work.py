"""What passes through a model have to do, and how long a device takes for it.

Three parts: products of matrices (useful operations, `hark.models.flops`), traffic (bytes written
for the backward pass, of weights and caches read), and the host's work for each layer of each pass.
A GPU does the three at the same time, so that the longest decides; a CPU one after the other.
Element-wise steps are priced by the activations they leave, which grow in proportion.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

from hark.loop.forecast.hardware import Basis, Device, PassRates
from hark.loop.forecast.shapes import ModelShape
from hark.models import flops


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What one process has to do."""

    operations: float = 0.0
    traffic: float = 0.0
    """Bytes."""
    blocks: float = 0.0
    """Layers times passes; what lies outside of the layers counts as one more."""

    def __add__(self, other: Self) -> Work:
        return Work(
            operations=self.operations + other.operations,
            traffic=self.traffic + other.traffic,
            blocks=self.blocks + other.blocks,
        )

    def times(self, factor: float) -> Work:
        return Work(
            operations=factor * self.operations,
            traffic=factor * self.traffic,
            blocks=factor * self.blocks,
        )

    def parts(self, device: Device, dtype: str) -> tuple[float, float, float]:
        """Seconds at the peak rate and bandwidth; and the blocks."""
        return self.operations / device.peak(dtype), self.traffic / device.bandwidth, self.blocks

    def seconds(self, device: Device, rates: PassRates, dtype: str) -> float:
        """How long it takes."""
        products, traffic, blocks = self.parts(device, dtype)
        products /= rates.products
        traffic = 0.0 if rates.traffic is None else traffic / rates.traffic
        host = blocks * rates.block_seconds
        return products + traffic + host if device.is_cpu else max(products, traffic, host)


@dataclass(frozen=True, kw_only=True)
class Lengths:
    """The examples of a stage, as far as they decide how much there is to compute."""

    examples: int
    sample: tuple[flops.Sequence, ...]
    """Some of them: tokens of the prompt, and of each response."""
    basis: Basis
    note: str
    """Where the numbers come from, for people."""

    def mean(self, of: Callable[[flops.Sequence], float]) -> float:
        return sum(of(sequence) for sequence in self.sample) / len(self.sample)

    @property
    def tokens(self) -> float:
        """Mean of an example, its prompt counted once."""
        return self.mean(lambda sequence: sequence[0] + sum(sequence[1]))

    @property
    def predicted(self) -> float:
        """Mean number of response tokens of an example."""
        return self.mean(lambda sequence: sum(sequence[1]))

    @property
    def longest(self) -> int:
        """Tokens of the longest example of the sample."""
        return max(prompt + sum(responses) for prompt, responses in self.sample)

    @property
    def longest_prompt(self) -> int:
        """Tokens of the longest prompt of the sample."""
        return max(prompt for prompt, _ in self.sample)


@dataclass(frozen=True, kw_only=True)
class Share:
    """What one process has of a batch."""

    examples: float
    lengths: Lengths
    passes: int

    @classmethod
    def of(cls, examples: int, lengths: Lengths, *, pass_tokens: int, devices: int) -> Self:
        """Of `examples` dealt out over `devices` in passes of at most `pass_tokens`."""
        own = max(1.0, examples / devices)
        per_pass = max(1, int(pass_tokens // lengths.tokens))
        return cls(examples=own, lengths=lengths, passes=-int(-own // per_pass))

    @property
    def tokens(self) -> float:
        return self.examples * self.lengths.tokens

    @property
    def predicted(self) -> float:
        return self.examples * self.lengths.predicted

    @property
    def pass_tokens(self) -> float:
        """Of one pass."""
        return max(self.tokens / self.passes, self.lengths.longest)


def block_activations(shape: ModelShape, dtype: str, *, sharded: bool) -> float:
    """Bytes that a token leaves in one layer for the backward pass.

    Two norms keep input, normalised and scaled; attention keeps queries, keys, values (repeated for
    all heads) and output; the gated MLP keeps four of its width. Under autocast norms stay float32
    and each of five linear maps keeps a bfloat16 copy of its input; sharded models that compute in
    bfloat16 keep the norms' outputs in it, once.
    """
    width, wide, mlp = shape.width, shape.attention_width, shape.mlp_width
    if dtype == "float32":
        return 4.0 * (6 * width + 4 * wide + 4 * mlp)
    norms = 16 * width if sharded else 26 * width
    return norms + 2.0 * (4 * wide + 4 * mlp)


def tree_layer_activations(shape: ModelShape, dtype: str, *, read: float = 1.0) -> float:
    """As `block_activations`, in the layers of `hark.models.tree_layers`.

    A norm keeps its input and output; attention keys and values, and of each token that asks its
    query and output; the gated MLP three of its width. Under autocast what norms read is float32.
    read: the share of tokens that ask; less than 1 in the last layer only.
    """
    width, wide, mlp = shape.width, shape.attention_width, shape.mlp_width
    states = 2 * shape.key_value_width
    if dtype == "float32":
        return 4.0 * (2 * width + states + read * (2 * width + 2 * wide + 3 * mlp))
    return 6.0 * width + 2 * states + read * (6 * width + 4 * wide + 6 * mlp)


def forward(
    shape: ModelShape, share: Share, *, dtype: str, sharded: bool, scalar: bool = False
) -> Work:
    """Once through the model, with log-probabilities of responses unless it has a scalar head."""
    arithmetic = shape.arithmetic
    count = flops.trunk if scalar else flops.language_model
    layers = shape.layers * block_activations(shape, dtype, sharded=sharded)
    logits = 0.0 if scalar else 4.0 * shape.vocabulary * share.predicted
    return Work(
        operations=share.examples * share.lengths.mean(lambda each: count(arithmetic, each)),
        traffic=share.tokens * layers + logits,
        blocks=share.passes * (shape.layers + 1),
    )


def training(forward_pass: Work, *, recomputed: bool = False, adapted: bool = False) -> Work:
    """Forward and backward; with activation checkpointing the layers are computed once more.

    adapted: adapters alone are trained, and the large matrices need no gradients.

    Traffic and blocks stay those of the forward pass: the backward pass multiplies both by the
    same factor everywhere, which is in the device's rates of training.
    """
    times = 4 / 3 if recomputed else 1.0
    return Work(
        operations=(flops.training(1, adapted=adapted) + recomputed) * forward_pass.operations,
        traffic=forward_pass.traffic * times,
        blocks=forward_pass.blocks * times,
    )


UPDATE_BYTES = 40
"""Of memory traffic for each parameter: Adam reads four float32 numbers and writes three; clipping
reads the gradient, then reads and writes it."""


def update(parameters: float, layers: int, *, devices: int) -> Work:
    """Clip and step Adam on this process's share."""
    return Work(traffic=UPDATE_BYTES * parameters / devices, blocks=layers + 1)


def decoding(
    shape: ModelShape, lengths: Lengths, *, responses: float, rows: int, weight_bytes: int
) -> Work:
    """Draw `responses` responses, `rows` at once; each prompt's prefill is left out.

    Each step reads all weights and the cache up to the longest row.
    """
    drawn = lengths.predicted / max(1.0, lengths.mean(lambda each: len(each[1])))
    side_by_side = min(float(rows), responses)
    steps = drawn * responses / side_by_side
    arithmetic = shape.arithmetic
    whole = lengths.mean(lambda each: flops.generation(arithmetic, (each[0], (round(drawn),))))
    prefill = lengths.mean(lambda each: flops.trunk(arithmetic, (each[0], ())))
    embedding = 0 if shape.tied else shape.vocabulary * shape.width
    cached = lengths.longest_prompt + drawn / 2
    of_cache = side_by_side * cached * cache_bytes(shape, weight_bytes)
    return Work(
        operations=responses * (whole - prefill),
        traffic=steps * (weight_bytes * (shape.parameters - embedding) + of_cache),
        blocks=steps * (shape.layers + 1),
    )


def cache_bytes(shape: ModelShape, number_bytes: int) -> int:
    """Keys and values of one token in all layers."""
    return 2 * shape.layers * shape.key_value_width * number_bytes
