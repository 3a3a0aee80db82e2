"""What a language model makes of a prompt at each of its layers: one vector a layer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedModel

from hark.models.language_model import backbone
from hark.models.packing import pass_tokens
from hark.models.parallel import whole

Pooling = Literal["mean", "last"]


def layer_count(model: PreTrainedModel) -> int:
    """How many layers a prompt has a vector at, the embeddings (layer 0) included."""
    return int(model.config.get_text_config().num_hidden_layers) + 1


@torch.no_grad()
def prompt_activations(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    *,
    layers: Sequence[int],
    pooling: Pooling,
    pad_token_id: int,
    batch_tokens: int | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> NDArray[np.float32]:
    """Hidden states of prompts, pooled over their tokens: [P, len(layers), D].

    layers: 0 is the embeddings, k the output of the k-th layer. pooling: the mean over the tokens
    of a prompt, or its last token. prompts: token ids, none empty. batch_tokens: tokens of one
    pass, padding included, by default what suits the device; prompts of like length share a pass.
    The model is read in evaluation mode and left in the mode it was in.
    """
    width = int(model.config.get_text_config().hidden_size)
    found = np.zeros((len(prompts), len(layers), width), dtype=np.float32)
    was_training = model.training
    model.eval()
    try:
        with whole(model):
            for places in _passes(prompts, batch_tokens or pass_tokens(model.device)):
                rows = [prompts[place] for place in places]
                found[places] = _pooled(model, rows, layers, pooling, pad_token_id).cpu().numpy()
                if on_progress is not None:
                    on_progress(len(places))
    finally:
        model.train(was_training)
    return found


def _passes(prompts: Sequence[Sequence[int]], batch_tokens: int) -> Iterator[list[int]]:
    """Places of prompts in groups of like length, the shortest first."""
    group: list[int] = []
    for place in sorted(range(len(prompts)), key=lambda place: len(prompts[place])):
        if group and (len(group) + 1) * len(prompts[place]) > batch_tokens:
            yield group
            group = []
        group.append(place)
    if group:
        yield group


def _pooled(
    model: PreTrainedModel,
    rows: Sequence[Sequence[int]],
    layers: Sequence[int],
    pooling: Pooling,
    pad_token_id: int,
) -> Tensor:
    """[R, len(layers), D] float32."""
    lengths = torch.tensor([len(row) for row in rows])
    is_token = torch.arange(int(lengths.max()))[None, :] < lengths[:, None]
    tokens = torch.full(is_token.shape, pad_token_id)
    tokens[is_token] = torch.tensor([token for row in rows for token in row])
    tokens, is_token, lengths = (each.to(model.device) for each in (tokens, is_token, lengths))
    states = backbone(model)(
        input_ids=tokens, attention_mask=is_token.long(), output_hidden_states=True, use_cache=False
    ).hidden_states
    chosen = torch.stack([states[layer] for layer in layers], dim=1).float()
    if pooling == "last":
        return chosen[torch.arange(len(rows), device=chosen.device), :, lengths - 1]
    kept = chosen * is_token[:, None, :, None]
    return kept.sum(dim=2) / lengths[:, None, None]
