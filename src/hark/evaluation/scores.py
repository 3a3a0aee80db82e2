"""Who gives numbers and judgements to evaluations, and the check that the numbers are numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hark.data.records import Dialogue
from hark.errors import HarkError
from hark.evaluation.intervals import require_finite

if TYPE_CHECKING:
    from torch import Tensor

Scorer = Callable[[list[Dialogue]], "Tensor | NDArray[np.floating[Any]] | list[float]"]
"""Answered dialogues to one number each, higher is better: a model, a lexicon, a gold function."""


def score(
    scorer: Scorer, dialogues: Sequence[Dialogue], *, what: str = "scores"
) -> NDArray[np.float64]:
    """Score every dialogue: [n] float64.

    Raises: HarkError if a score is not finite (how many, the first index) or one is missing.
    """
    if not dialogues:
        return np.zeros(0)
    answers: Any = scorer(list(dialogues))
    if hasattr(answers, "detach"):  # bfloat16 and accelerator tensors have no numpy form
        answers = answers.detach().cpu().double().numpy()
    scores = require_finite(answers, what=what)
    if scores.size != len(dialogues):
        raise HarkError(
            f"the scorer gave {scores.size} {what} for {len(dialogues)} dialogues: "
            "it must give one number for each"
        )
    return scores
