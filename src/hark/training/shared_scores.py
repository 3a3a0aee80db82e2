"""Scores of a list of answered dialogues, each process of a run asking for its share."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from hark.data.records import Dialogue
from hark.models.processes import gather_shares, own_share, world_size
from hark.training.rewards import Scorer


def shared_scores(score: Scorer, dialogues: Sequence[Dialogue]) -> Tensor:
    """What `score` says of all dialogues, [n], the same in every process."""
    if world_size() == 1 or len(dialogues) < world_size():
        return score(list(dialogues))
    own = list(own_share(dialogues))
    scores = torch.as_tensor(score(own))
    return torch.tensor(gather_shares(scores.tolist()), dtype=scores.dtype)
