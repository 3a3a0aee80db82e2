"""Useful arithmetic: what a workload cannot be done with less than, whoever does it.

Useful is a product with a weight matrix for each real token (a prompt that several responses share
counts once), attention over the tokens that a token sees, and logits where a token is predicted.
Padding, repeated prompts and logits that nobody reads are not useful. A product of m×k by k×n is
2·m·k·n operations; a backward pass is two forward passes. Norms, rotations and element-wise steps
are left out.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from torch import nn

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Sequence = tuple[int, tuple[int, ...]]
"""Tokens of a prompt, and of each response that follows it."""


@dataclass(frozen=True, kw_only=True)
class Shape:
    """Of a transformer, as far as it decides how much there is to compute."""

    matrices: int
    """Weights in the matrices of all layers; embedding, head and adapters left out."""
    layers: int
    attention_width: int
    """Heads times the width of one."""
    width: int
    vocabulary: int

    @classmethod
    def of(cls, model: PreTrainedModel) -> Self:
        config = model.config.get_text_config()
        heads = config.num_attention_heads
        head_width = getattr(config, "head_dim", None) or config.hidden_size // heads
        embeddings = {
            id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)
        }
        if (head := model.get_output_embeddings()) is not None:
            embeddings.add(id(head.weight))
        return cls(
            matrices=sum(
                weight.numel()
                for name, weight in model.named_parameters()
                if weight.dim() == 2 and id(weight) not in embeddings and ".lora_" not in name
            ),
            layers=config.num_hidden_layers,
            attention_width=heads * head_width,
            width=config.hidden_size,
            vocabulary=config.vocab_size,
        )


def trunk(shape: Shape, sequence: Sequence) -> int:
    """Forward through all layers: a prompt once, and its responses, none of which sees another."""
    prompt, responses = sequence
    tokens = prompt + sum(responses)
    # A token sees itself and what comes before it: 1 + 2 + … in the prompt, and so on after it.
    seen = prompt * (prompt + 1) // 2 + sum(
        length * prompt + length * (length + 1) // 2 for length in responses
    )
    return 2 * shape.matrices * tokens + 4 * shape.layers * shape.attention_width * seen


def logits(shape: Shape, predicted: int) -> int:
    """Forward through the head, for `predicted` tokens."""
    return 2 * shape.width * shape.vocabulary * predicted


def language_model(shape: Shape, sequence: Sequence) -> int:
    """Forward, with log-probabilities of the responses' tokens."""
    return trunk(shape, sequence) + logits(shape, sum(sequence[1]))


def generation(shape: Shape, sequence: Sequence) -> int:
    """Drawing the responses: as the forward pass, but nobody reads a response's last token."""
    prompt, responses = sequence
    read = (prompt, tuple(length - 1 for length in responses))
    return trunk(shape, read) + logits(shape, sum(responses))


def ppo_episodes(
    policy: Shape,
    critic: Shape | None,
    sequence: Sequence,
    *,
    inner_epochs: int,
    scorers: Iterable[Shape] | None = None,
    adapted: bool = False,
) -> int:
    """One prompt's episodes: draw, score, reference, values, then training policy and critic.

    critic: None for one that shares the policy's trunk, which is then trained once for both.
    scorers: the models that score; without it, one of the critic's shape.
    adapted: as for `training`, of policy and critic.
    """
    reference = language_model(policy, sequence)
    values = trunk(critic or policy, sequence)
    scores = (critic or policy,) if scorers is None else scorers
    once = generation(policy, sequence) + reference + values
    once += sum(trunk(shape, sequence) for shape in scores)
    trained = reference if critic is None else reference + values
    return once + inner_epochs * training(trained, adapted=adapted)


def training(forward: int, *, adapted: bool = False) -> int:
    """Forward and backward.

    adapted: only adapters are trained, so that the large matrices need no gradients of their own;
        the adapters' few operations are left out.
    """
    return (2 if adapted else 3) * forward
