"""Scores of a list of answered dialogues, each process of a run asking for its share."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from hark.data.records import Dialogue
from hark.models.processes import gather, own_piece, world_size

Scorer = Callable[[list[Dialogue]], Tensor]
"""Answered dialogues to one float each, [n]."""


def shared_scores(score: Scorer, dialogues: Sequence[Dialogue]) -> Tensor:
    """What `score` says of all dialogues, [n], the same in every process."""
    count, processes = len(dialogues), world_size()
    if processes == 1 or count < processes:
        return score(list(dialogues))
    # In one piece each: neighbours often answer the same prompt, which is then computed once.
    scores = torch.as_tensor(score(list(own_piece(dialogues))))
    return torch.cat(gather(scores.detach().cpu()))
