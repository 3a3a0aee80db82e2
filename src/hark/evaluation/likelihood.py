"""Log-likelihoods of whole responses under a model, in packed batches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from hark.evaluation.intervals import Array
from hark.models.logprobs import response_logprobs
from hark.models.packing import PromptTree, pack_for, pass_tokens, plan_batches
from hark.models.parallel import whole
from hark.models.processes import own_share, summed, world_size

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@torch.no_grad()
def sequence_logprobs(
    model: PreTrainedModel,
    trees: Sequence[PromptTree],
    *,
    pad_token_id: int,
    batch_tokens: int | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> Array:
    """Log-likelihood of every response given its prompt, summed over its tokens, nats.

    [N] float64, in the order of the trees, then of their responses. The model is read in evaluation
    mode and left in the mode it was in. batch_tokens: of one forward pass, by default what suits
    the device; on_progress: told how many tokens were just predicted. Values that are not finite
    are for the caller to refuse. Under torchrun each process reads its share of the batches; all
    get all likelihoods.
    """
    limit = batch_tokens or pass_tokens(model.device)
    trees = [part for tree in trees for part in tree.parts(limit)]
    offsets = np.cumsum([0, *(len(tree.responses) for tree in trees)])
    likelihoods = np.zeros(int(offsets[-1]))
    was_training = model.training
    model.eval()
    try:
        with whole(model):
            for group in own_share(plan_batches(trees, limit, shares=world_size())):
                batch = pack_for(model, [trees[i] for i in group], pad_token_id=pad_token_id)
                batch = batch.to(model.device)
                logprobs = response_logprobs(model, batch).double()
                sums = logprobs.new_zeros(batch.response_count).index_add(
                    0, batch.response_of, logprobs
                )
                where = [k for i in group for k in range(offsets[i], offsets[i + 1])]
                likelihoods[where] = sums.cpu().numpy()
                if on_progress is not None:
                    on_progress(batch.targets.numel() * world_size())
    finally:
        model.train(was_training)
    return summed(torch.from_numpy(likelihoods)).numpy()
