"""Log-probabilities of the tokens that matter, and of no others.

The hidden states that predict a response token are selected first; logits exist only for those, a
chunk at a time, and are recomputed in the backward pass once they would fill `LOGITS_KEPT`. There
is never a [rows, time, vocabulary] tensor. The softmax is taken in float32 whatever the weights.
"""

from __future__ import annotations

from typing import Literal, overload

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from hark.errors import SettingsError
from hark.models.cpu_linear import filled_up
from hark.models.cpu_losses import TokenLosses
from hark.models.cpu_tasks import NUMBERS
from hark.models.flex_attention import flex_layout
from hark.models.language_model import backbone, output_embedding
from hark.models.packing import PackedBatch, PromptTree, pack_for
from hark.models.tree_attention import attends_by_flex, attends_by_tree, tree_layout, unread_mask
from hark.models.tree_layers import quicken

LOGITS_KEPT = 2**25
"""Logits (M·V numbers, 128 MiB in float32) that may wait for the backward pass at once."""
CHUNK_LOGITS = 2**23
"""Logits computed at once: enough for a full-rate product, few enough to stay in fast memory."""
LEAST_CHUNK_TOKENS = 256


def hidden_states(model: PreTrainedModel, batch: PackedBatch, read: Tensor) -> Tensor:
    """[Q, D]: the last hidden state of the tokens `read`, [Q] long, indices into R·T."""
    if batch.trees and attends_by_tree(model):
        return _by_tree(model, batch, read)
    trunk = backbone(model)
    dtype = next(trunk.parameters()).dtype
    tokens, positions, named = batch.tokens, batch.positions, {}
    if batch.trees and attends_by_flex(model):
        layout = flex_layout(batch.trees, tokens.device)
        tokens, positions = layout.filled_up(tokens), layout.filled_up(positions)
        mask = unread_mask(dtype).to(tokens.device)
        # Not None for others: an architecture may refuse arguments that it does not know.
        named = {"tree_layout": layout}
    else:
        mask = batch.attention_mask(dtype)
    output = trunk(
        input_ids=tokens,
        attention_mask=mask,
        position_ids=None if batch.one_sequence_per_row else positions,
        use_cache=False,
        **named,
    )
    return output.last_hidden_state.flatten(0, 1).index_select(0, read)


def _by_tree(model: PreTrainedModel, batch: PackedBatch, read: Tensor) -> Tensor:
    trunk = backbone(model)
    quicken(trunk)
    tokens, positions, trees = batch.tokens, batch.positions, batch.trees
    if filling := filled_up(tokens.shape[1]) - tokens.shape[1]:
        tokens, positions = (F.pad(each, (0, filling)) for each in (tokens, positions))
        trees = (*trees, (filling, 0))
    needed = _filled_up_among(tokens.shape[1], read)
    hidden = trunk(
        input_ids=tokens,
        attention_mask=unread_mask(next(trunk.parameters()).dtype),
        position_ids=positions,
        use_cache=False,
        tree_layout=tree_layout(trees, needed if len(needed) < tokens.shape[1] else None),
    ).last_hidden_state[0]
    if len(hidden) < tokens.shape[1]:
        read = torch.searchsorted(needed, read)
    return hidden.index_select(0, read)


def _filled_up_among(tokens: int, read: Tensor) -> Tensor:
    """[Q] long, ascending: the tokens that are read, each once, and as many others as fill them up.

    Branches of one prompt all read its last token.
    """
    needed = read.unique()
    spare = filled_up(len(needed)) - len(needed)
    if not spare:
        return needed
    is_read = torch.zeros(tokens, dtype=torch.bool)
    is_read[needed] = True
    others = (~is_read).nonzero()[-spare:, 0]
    return torch.cat([needed, others]).sort().values


@overload
def response_logprobs(
    model: PreTrainedModel,
    batch: PackedBatch,
    *,
    temperature: float = 1.0,
    with_entropy: Literal[False] = False,
) -> Tensor: ...


@overload
def response_logprobs(
    model: PreTrainedModel,
    batch: PackedBatch,
    *,
    temperature: float = 1.0,
    with_entropy: Literal[True],
) -> tuple[Tensor, Tensor]: ...


def response_logprobs(
    model: PreTrainedModel,
    batch: PackedBatch,
    *,
    temperature: float = 1.0,
    with_entropy: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    """[M] log-probability, in nats, of each response token given what precedes it.

    temperature divides the logits, as in sampling (lm-human-preferences `policy.py`), for policy
    and reference alike.
    with_entropy: also return [M], the exact entropy of each token's distribution, in nats.
    """
    hidden = hidden_states(model, batch, batch.predictors)
    logprobs, entropy = logprobs_of_hidden(
        model, hidden, batch.targets, temperature=temperature, with_entropy=with_entropy
    )
    return (logprobs, entropy) if with_entropy else logprobs


def logprobs_of_hidden(
    model: PreTrainedModel,
    hidden: Tensor,
    targets: Tensor,
    *,
    temperature: float = 1.0,
    with_entropy: bool = False,
) -> tuple[Tensor, Tensor]:
    """[M] log-probabilities of `targets` [M] after hidden states [M, D], and [M] entropies.

    For callers that need the same forward pass for a value head. Entropies are zeros of shape [0]
    unless asked for.
    """
    if not temperature > 0:
        raise SettingsError(
            f"temperature is {temperature}; log-probabilities need a positive one (1.0 is usual)"
        )
    head = output_embedding(model)
    vocabulary = model.config.get_text_config().vocab_size
    chunk = max(LEAST_CHUNK_TOKENS, CHUNK_LOGITS // vocabulary)
    recompute = torch.is_grad_enabled() and targets.numel() * vocabulary > LOGITS_KEPT
    parts = []
    for rows, ids in zip(hidden.split(chunk), targets.split(chunk), strict=True):
        arguments = (head, rows, ids, temperature, with_entropy)
        if recompute:
            parts.append(checkpoint(_chunk, *arguments, use_reentrant=False))
        else:
            parts.append(_chunk(*arguments))
    logprobs, entropies = zip(*parts, strict=True)
    return torch.cat(logprobs), torch.cat(entropies)


def token_losses(model: PreTrainedModel, rows: Tensor) -> Tensor:
    """[R, T − 1] negative log-probability, in nats, of every token after the first of each row.

    For pretraining rows [R, T] without padding (`packing.text_rows`): plain causal attention, on a
    CPU by way of trees, whose layers are faster.
    """
    if attends_by_tree(model):
        texts = [PromptTree((first,), (tuple(others),)) for first, *others in rows.tolist()]
        return -response_logprobs(model, pack_for(model, texts)).view(len(rows), -1)
    hidden = backbone(model)(input_ids=rows, use_cache=False).last_hidden_state
    targets = rows[:, 1:]
    logprobs, _ = logprobs_of_hidden(model, hidden[:, :-1].flatten(0, 1), targets.flatten())
    return -logprobs.view_as(targets)


def _chunk(
    head: nn.Module, hidden: Tensor, targets: Tensor, temperature: float, with_entropy: bool
) -> tuple[Tensor, Tensor]:
    count = len(hidden)
    if hidden.device.type == "cpu" and (filling := filled_up(count) - count):
        hidden, targets = F.pad(hidden, (0, 0, 0, filling)), F.pad(targets, (0, filling))
    logits = head(hidden)
    if not with_entropy and logits.device.type == "cpu" and logits.dtype in NUMBERS:
        losses: Tensor = TokenLosses.apply(logits, targets, temperature)
        return -losses[:count], losses.new_zeros(0)
    logits = logits.float()
    if temperature != 1.0:
        logits = logits / temperature
    if not with_entropy:
        losses = F.cross_entropy(logits, targets, reduction="none")
        return -losses[:count], logits.new_zeros(0)
    logprobs = F.log_softmax(logits, dim=-1)
    entropy = -(logprobs.exp() * logprobs).sum(-1)
    return logprobs.gather(-1, targets[:, None])[:count, 0], entropy[:count]
