"""Transformer layers over prompt trees, in few passes over memory.

On a CPU a model of a few hundred dimensions spends a third of its time outside of matrix products:
norms and rotations written as a handful of element-wise steps, each with a gradient of its own.
`quicken` gives the layers of Llama and its kin a forward pass for packed trees in which a norm with
the addition before it, a rotation with its attention, and a gated activation are one step each,
with gradients written out (`cpu_rows`, `tree_attention`).
The last layer computes its attention, output and MLP for the tokens whose hidden state is read, and
for the others their keys and values alone. A pass over prompts that is to leave keys and values
(`RecordedStates`) goes the same way; its last layer computes nothing else.

Weights, modules, hooks and configuration are those of transformers, and so is every pass without a
`tree_layout`. The result equals theirs to rounding, and so do its gradients. Under autocast, norms,
rotations, attention and the residual stream are float32.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor, nn

from hark.models.cpu_linear import quicken_linear
from hark.models.cpu_rows import AddedNorm, GatedSilu
from hark.models.recorded_states import RecordedStates
from hark.models.tree_attention import Angles, TreeAttention, TreeLayout

QUICKENED = frozenset({"llama", "mistral", "qwen2", "qwen3"})
"""The `model_type`s whose layers are as written here; the tests compare them with transformers'."""


def quicken(trunk: nn.Module) -> None:
    """Let the layers of a transformer compute packed trees as this module does, where they can."""
    quicken_linear(trunk)
    config: Any = trunk.config
    if config.model_type not in QUICKENED or getattr(config, "hidden_act", "silu") != "silu":
        return
    layers: Any = trunk.layers
    for layer in layers:
        if not isinstance(layer, TreeLayer):
            kind: Any = type(layer)
            layer.__class__ = _tree_layer(kind)


class TreeLayer(nn.Module):
    """What a layer's class inherits from first, before its class in transformers."""

    def forward(
        self,
        hidden_states: Tensor,
        *,
        tree_layout: TreeLayout | Any = None,
        position_embeddings: tuple[Tensor, Tensor] | None = None,
        past_key_values: Any = None,
        **others: Any,
    ) -> Tensor:
        """[1, T, D] -> [1, T, D]; in the last layer [1, Q, D] where Q tokens are read."""
        states = past_key_values
        if not isinstance(tree_layout, TreeLayout) or not isinstance(states, RecordedStates | None):
            # Layouts of other devices' attention, and steps that read a cache.
            named = others if tree_layout is None else {**others, "tree_layout": tree_layout}
            output: Tensor = super().forward(
                hidden_states,
                position_embeddings=position_embeddings,
                past_key_values=past_key_values,
                **named,
            )
            return output
        assert position_embeddings is not None
        attention: Any = self.self_attn
        is_last = attention.layer_idx == attention.config.num_hidden_layers - 1
        layout = (tree_layout.last if is_last else None) or tree_layout
        residual, normal = _added_norm(self.input_layernorm, hidden_states[0], None)
        if states is not None:
            key, value = _recorded(attention, normal, position_embeddings, states)
            if is_last:
                return hidden_states  # which nobody reads
            branch = _attention_to(attention, normal, key, value, position_embeddings, layout)
            return self._with_mlp(residual, branch)
        asking = normal
        if layout.read is not None:
            residual, asking = residual[layout.read], normal[layout.read]
        branch = _attention(attention, asking, normal, position_embeddings, layout)
        return self._with_mlp(residual, branch)

    def _with_mlp(self, residual: Tensor, branch: Tensor) -> Tensor:
        """Both [Q, D] -> [1, Q, D]"""
        residual, normal = _added_norm(self.post_attention_layernorm, residual, branch)
        return (residual + _mlp(self.mlp, normal))[None]


@functools.cache
def _tree_layer(kind: Any) -> type:
    return type(f"Tree{kind.__name__}", (TreeLayer, kind), {})


def _attention(
    attention: Any,
    asking: Tensor,
    asked: Tensor,
    angles: tuple[Tensor, Tensor],
    layout: TreeLayout,
) -> Tensor:
    """[Q, D] from normalised states of the tokens that ask [Q, D] and of all tokens [T, D]."""
    key, value = _keys_and_values(attention, asked)
    query = _queries(attention, asking)
    turned = _half(angles)
    of_query = turned if layout.read is None else Angles(*(each[layout.read] for each in turned))
    output: Tensor = TreeAttention.apply(
        query, key, value, of_query, turned, layout, attention.scaling
    )
    projected: Tensor = attention.o_proj(output.flatten(1))
    return projected


def _queries(attention: Any, asking: Tensor) -> Tensor:
    """[Q, heads, d], unrotated."""
    query: Tensor = attention.q_proj(asking).view(len(asking), -1, attention.head_dim)
    return _norm(attention.q_norm, query) if hasattr(attention, "q_norm") else query


def _keys_and_values(attention: Any, asked: Tensor) -> tuple[Tensor, Tensor]:
    """Both [T, heads of keys, d], unrotated."""
    key = attention.k_proj(asked).view(len(asked), -1, attention.head_dim)
    value = attention.v_proj(asked).view(len(asked), -1, attention.head_dim)
    return _norm(attention.k_norm, key) if hasattr(attention, "k_norm") else key, value


def _half(angles: tuple[Tensor, Tensor]) -> Angles:
    """[1, T, d] -> [T, d/2] of cosines and sines: the second half repeats the first."""
    return Angles(*(each[0, :, : each.shape[-1] // 2].float().contiguous() for each in angles))


def _recorded(
    attention: Any, asked: Tensor, angles: tuple[Tensor, Tensor], states: RecordedStates
) -> tuple[Tensor, Tensor]:
    """Keys, rotated, and values [T, heads of keys, d], both in float32; `states` keeps them too."""
    key, value = _keys_and_values(attention, asked)
    key, value = _rotated(key.float(), _half(angles)), value.float()
    states.update(key.transpose(0, 1)[None], value.transpose(0, 1)[None], attention.layer_idx)
    return key, value


def _attention_to(
    attention: Any,
    asking: Tensor,
    key: Tensor,
    value: Tensor,
    angles: tuple[Tensor, Tensor],
    layout: TreeLayout,
) -> Tensor:
    """[T, D] from what `_recorded` gives; it leaves nothing for gradients."""
    query = _queries(attention, asking)
    output: Tensor = TreeAttention.apply(
        query.float(), key, value, _half(angles), None, layout, attention.scaling
    )
    projected: Tensor = attention.o_proj(output.to(query.dtype).flatten(1))
    return projected


def _mlp(mlp: Any, hidden: Tensor) -> Tensor:
    output: Tensor = mlp.down_proj(GatedSilu.apply(mlp.gate_proj(hidden), mlp.up_proj(hidden)))
    return output


def _norm(norm: Any, hidden: Tensor) -> Tensor:
    """Root mean square norm of the last dimension, in the dtype that the product after it takes."""
    flat = hidden.reshape(-1, hidden.shape[-1])
    return _added_norm(norm, flat, None)[1].view(hidden.shape)


def _added_norm(norm: Any, hidden: Tensor, branch: Tensor | None) -> tuple[Tensor, Tensor]:
    """The sum [n, D] of the residual stream and a branch, and its norm as `_norm` gives it."""
    dtype = hidden.dtype
    if torch.is_autocast_enabled("cpu"):
        dtype = torch.get_autocast_dtype("cpu")
    outcome: tuple[Tensor, Tensor] = AddedNorm.apply(
        hidden, branch, norm.weight, norm.variance_epsilon, dtype
    )
    return outcome


def _rotated(x: Tensor, angles: Angles) -> Tensor:
    """Each pair (i, i + d/2) of [tokens, heads, d] turned by its angle, in the order of Llama."""
    cosine, sine = (each[:, None] for each in angles)
    half = x.shape[-1] // 2
    first, second = x[..., :half], x[..., half:]
    turned = torch.empty_like(x)
    torch.mul(first, cosine, out=turned[..., :half]).addcmul_(second, sine, value=-1)
    torch.mul(second, cosine, out=turned[..., half:]).addcmul_(first, sine)
    return turned
