"""Memory of one device, term by term: what is always there, and what each phase needs besides.

Follows what hark does (docs/scale.md, "What is where"): float32 weights, gradients and moments in N
shards, frozen models in shards too, each of which lies on each device whole before it is cut; in
training passes the layers gathered one or two at a time; in
everything without gradients one whole model. One process alone gathers nothing, but autocast keeps
a bfloat16 copy of the weights it uses. Left out: the framework's own memory and fragmentation, for
which `HEADROOM` is kept free.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from hark.loop.forecast.hardware import Device
from hark.loop.forecast.shapes import ModelShape
from hark.loop.forecast.work import (
    Share,
    block_activations,
    cache_bytes,
    tree_layer_activations,
)
from hark.models.engine import CPU_PREFILL_TOKENS, PREFILL_TOKENS
from hark.models.logprobs import CHUNK_LOGITS, LEAST_CHUNK_TOKENS, LOGITS_KEPT
from hark.models.prefill import PREFILL_PASS_TOKENS

HEADROOM = 0.10
"""Share of a device's memory that a model which "fits" leaves free (an assumption)."""

When = Literal["loading", "always", "training", "generating", "scoring"]
"""`loading` stands alone, before anything else; the others come on top of `always`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryTerm:
    """Bytes on one device."""

    name: str
    bytes: float
    when: When


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A model that a stage holds."""

    name: str
    shape: ModelShape
    parameters: int
    trained: bool = False
    adapter: int | None = None
    """Weights of a low-rank adapter beside the parameters, which alone are trained; None: none."""
    kept_by_adapter: int = 0
    """Numbers that a token leaves in the adapter for the backward pass."""
    number_bytes: int = 4
    """Of a frozen model's weights; those of trained models are float32."""

    @property
    def bytes(self) -> float:
        """Of its weights, whole."""
        return float(self.number_bytes * self.weights)

    @property
    def weights(self) -> int:
        """All that lie there."""
        return self.parameters + (self.adapter or 0)

    @property
    def trained_parameters(self) -> int:
        """Those with gradients and moments, of a model that is trained."""
        return self.parameters if self.adapter is None else self.adapter


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """Where a stage computes."""

    device: Device
    devices: int
    dtype: str

    @property
    def is_sharded(self) -> bool:
        return self.devices > 1

    @property
    def device_type(self) -> str:
        """As torch calls it."""
        return "cpu" if self.device.is_cpu else "cuda"

    @property
    def computes_in_bfloat16(self) -> bool:
        """Whether whole weights travel and lie in bfloat16."""
        return self.dtype == "bfloat16" and self.is_sharded and not self.device.is_cpu

    @property
    def gathered_bytes(self) -> int:
        """Of a number of a gathered weight."""
        return 2 if self.computes_in_bfloat16 else 4

    @property
    def number_bytes(self) -> int:
        """Of a number that a computation reads or leaves."""
        return 2 if self.dtype == "bfloat16" else 4


def peak(terms: Iterable[MemoryTerm]) -> float:
    """Bytes when most is there."""
    by_phase: dict[str, float] = {}
    for term in terms:
        by_phase[term.when] = by_phase.get(term.when, 0.0) + term.bytes
    loading, always = by_phase.pop("loading", 0.0), by_phase.pop("always", 0.0)
    return max(loading, always + max(by_phase.values(), default=0.0))


def of_loading(sizes: Sequence[float], situation: Situation) -> list[MemoryTerm]:
    """What lies on every device whole, beside the shards of what was read before.

    sizes: bytes of the models, in the order in which they are read and cut.
    """
    if not situation.is_sharded:
        return []
    cut = [sum(sizes[:place]) / situation.devices for place in range(len(sizes))]
    most = max(whole + shards for whole, shards in zip(sizes, cut, strict=True))
    return [MemoryTerm(name="whole, until it is sharded", bytes=most, when="loading")]


def resident(models: Sequence[Held], situation: Situation) -> list[MemoryTerm]:
    """What is there from the beginning to the end."""
    trained = [model for model in models if model.trained]
    frozen = [model for model in models if not model.trained]
    weights = sum(model.weights for model in trained) / situation.devices
    learning = sum(model.trained_parameters for model in trained) / situation.devices
    terms = [
        MemoryTerm(name="weights", bytes=4 * weights, when="always"),
        MemoryTerm(name="optimizer moments", bytes=8 * learning, when="always"),
        MemoryTerm(
            name=f"frozen: {', '.join(model.name for model in frozen)}",
            bytes=sum(each.number_bytes * each.parameters for each in frozen) / situation.devices,
            when="always",
        ),
    ]
    return [term for term in terms if term.bytes]


def of_training(
    models: Sequence[Held],
    share: Share,
    situation: Situation,
    *,
    scalar: Sequence[bool],
    recomputed: bool = False,
    has_mask: bool = True,
) -> list[MemoryTerm]:
    """What a forward and backward pass of these models, together, needs besides.

    scalar: of each model, whether it has a scalar head, without logits.
    has_mask: packed rows under a dense mask (not on a CPU, where attention goes by tree).
    """
    trained = sum(model.trained_parameters for model in models)
    tokens = share.pass_tokens
    predicted = share.predicted / share.passes
    logits = [model.shape for model, only in zip(models, scalar, strict=True) if not only]
    # A preference model is read at the ends of responses; policy and critic where tokens follow.
    read = predicted / tokens if logits else 0.0
    terms = [("gradients", 4 * trained / situation.devices)]
    terms += [
        (
            "activations",
            sum(activations(m.shape, tokens, situation, recomputed, read=read) for m in models),
        ),
        (
            "adapters' activations",
            sum(
                tokens
                * situation.number_bytes
                * model.kept_by_adapter
                # Computed again, only one layer's are there at a time.
                / (model.shape.layers if recomputed else 1)
                for model in models
            ),
        ),
        ("logits", sum(_logits(shape, predicted, situation) for shape in logits)),
    ]
    if has_mask and not situation.device.is_cpu:
        # A row is as wide as the longest example; the mask and the comparison it is made from.
        terms.append(("attention mask", 5.0 * tokens * share.lengths.longest))
    if situation.is_sharded:
        terms.append(("gathered layers", sum(_gathered(model, situation) for model in models)))
    elif situation.dtype == "bfloat16":
        weights = sum(model.weights for model in models)
        terms.append(("bfloat16 copies of weights", 2.0 * weights))
    return [MemoryTerm(name=name, bytes=size, when="training") for name, size in terms if size]


def activations(
    shape: ModelShape,
    tokens: float,
    situation: Situation,
    recomputed: bool = False,
    *,
    read: float = 1.0,
) -> float:
    """Bytes that wait for the backward pass, logits left out.

    read: the share of tokens whose last hidden state is read; the last layer computes no others on
        a CPU.
    """
    layer = layer_activations(shape, situation)
    norm = 3 * 4.0 * shape.width * (read if situation.device.is_cpu else 1.0)
    if recomputed:
        return tokens * (shape.layers * 4.0 * shape.width + layer + norm)
    last = layer
    if situation.device.is_cpu:
        last = tree_layer_activations(shape, situation.dtype, read=read)
    return tokens * ((shape.layers - 1) * layer + last + norm)


def layer_activations(shape: ModelShape, situation: Situation) -> float:
    """Bytes that a token leaves in one layer."""
    if situation.device.is_cpu:
        return tree_layer_activations(shape, situation.dtype)
    return block_activations(shape, situation.dtype, sharded=situation.computes_in_bfloat16)


def _logits(shape: ModelShape, predicted: float, situation: Situation) -> float:
    """Those kept, and one chunk being computed with its gradient."""
    chunk = min(predicted, max(LEAST_CHUNK_TOKENS, CHUNK_LOGITS // shape.vocabulary))
    computed = 2.0 * _logit_bytes(situation) * chunk * shape.vocabulary
    return kept_logits(shape, predicted, situation) + computed


def kept_logits(shape: ModelShape, predicted: float, situation: Situation) -> float:
    """Bytes of logits that wait for the backward pass; beyond a limit they are computed again."""
    numbers = predicted * shape.vocabulary
    return _logit_bytes(situation) * numbers if numbers <= LOGITS_KEPT else 0.0


def _logit_bytes(situation: Situation) -> float:
    """On a CPU logits stay in the dtype of products (decision 0019)."""
    return situation.number_bytes if situation.device.is_cpu else 4.0


def _gathered(model: Held, situation: Situation) -> float:
    """Two layers and what lies outside, with the gradients of one layer and of the outside.

    What an adapter leaves frozen has no gradients.
    """
    shape, gradients = model.shape, 0.0 if model.adapter is not None else 1.0
    layers = (2.0 + gradients) * shape.block_parameters
    return situation.gathered_bytes * (layers + (1.0 + gradients) * shape.outside)


def of_generating(
    shape: ModelShape,
    situation: Situation,
    *,
    rows: int,
    capacity: int,
    longest_prompt: int,
    weight_bytes: int | None = None,
) -> list[MemoryTerm]:
    """What decoding needs besides: one whole model, the cache of all rows, a prefill.

    A CPU keeps its cache in float32 whatever it computes in (decision 0011), and reads prompts end
    to end in several passes.
    weight_bytes: of weights that lie on the device already; None gathers or copies those trained.
    """
    is_cpu = situation.device.is_cpu
    cached = cache_bytes(shape, 4 if is_cpu else situation.number_bytes)
    read = min(CPU_PREFILL_TOKENS if is_cpu else PREFILL_TOKENS, rows * longest_prompt)
    together = min(read, PREFILL_PASS_TOKENS) if is_cpu else read
    prefill = read * cache_bytes(shape, situation.number_bytes)
    terms = [
        ("key-value cache", float(rows * capacity * cached)),
        ("prefill", prefill + states_of_layer(shape, together, situation)),
        ("logits", 12.0 * rows * shape.vocabulary),
    ]
    if weight_bytes is None:
        terms.insert(0, whole_model(shape.parameters, situation))
    return [MemoryTerm(name=name, bytes=size, when="generating") for name, size in terms if size]


def of_scoring(
    shape: ModelShape, parameters: int, tokens: float, situation: Situation
) -> list[MemoryTerm]:
    """What a forward pass without gradients needs besides: one whole model, one layer's states."""
    terms = [
        whole_model(parameters, situation),
        ("states of one layer", states_of_layer(shape, tokens, situation)),
    ]
    return [MemoryTerm(name=name, bytes=size, when="scoring") for name, size in terms if size]


def states_of_layer(shape: ModelShape, tokens: float, situation: Situation) -> float:
    """Bytes of what one layer works with while nothing is kept."""
    return tokens * situation.number_bytes * (3 * shape.mlp_width + 6.0 * shape.width)


def whole_model(parameters: int, situation: Situation) -> tuple[str, float]:
    """One model as every process has it while it computes without gradients."""
    if situation.is_sharded:
        return "one whole model", float(situation.gathered_bytes * parameters)
    copies = 2.0 * parameters if situation.dtype == "bfloat16" else 0.0
    return "bfloat16 copies of weights", copies
