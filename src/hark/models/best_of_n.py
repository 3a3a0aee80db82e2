"""Best-of-n sampling: draw n responses to a prompt and keep the one a scorer likes best.

Follows Nakano et al. 2021 and Stiennon et al. 2020 (appendix G.3), who set it beside PPO by the
divergence from the policy it draws from.

Departures: none. Ties go to the response drawn first.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from hark.data.records import Dialogue, answered
from hark.errors import ModelError, SettingsError
from hark.models.generation import Generated, SamplingSettings, generate
from hark.models.tokenizer import encode_prompt

Scorer = Callable[[list[Dialogue]], Tensor | Sequence[float]]
"""Answered dialogues to one number each; higher is better."""

CANDIDATE_STRIDE = 2**40
"""Candidate j of sequence i has the id i + j · 2⁴⁰: below it, ids of sequences are free."""


class _HasText(Protocol):
    @property
    def text(self) -> str: ...


Candidate = TypeVar("Candidate", bound=_HasText)


@dataclass(frozen=True, kw_only=True)
class BestOfN(Generic[Candidate]):
    """The candidates of one prompt, filled by `keep_best`."""

    candidates: tuple[Candidate, ...]
    """All n, in the order drawn."""
    scores: tuple[float, ...]
    """[n], the scorer's."""
    choice: int
    """Index of the candidate with the highest score."""

    @property
    def best(self) -> Candidate:
        """The candidate with the highest score."""
        return self.candidates[self.choice]


def best_of_n(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Dialogue],
    scorer: Scorer,
    settings: SamplingSettings,
    *,
    n: int,
    seed: int,
    sequence_ids: Sequence[int] | None = None,
    rows: int = 64,
    on_progress: Callable[[int], None] | None = None,
) -> list[BestOfN[Generated]]:
    """Draw n responses to each prompt and score them.

    The first candidates of a larger n are those of a smaller n, and the first of all is what
    `generate` draws with the same seed and ids; so n = 1 is plain sampling.

    Args:
        sequence_ids: one number below 2⁴⁰ for each prompt; the places in `prompts` by default.
        on_progress: called with how many responses (n for each prompt) have ended since last.

    Raises:
        SettingsError: n is below 1, or the draws of one prompt would all be equal.
        ModelError: a score is not finite, or a prompt does not fit (see `generate`).
    """
    check_best_of_n(n, settings)
    ids = range(len(prompts)) if sequence_ids is None else sequence_ids
    encoded = [encode_prompt(tokenizer, prompt) for prompt in prompts]
    drawn = generate(
        model,
        tokenizer,
        [tokens for tokens in encoded for _ in range(n)],
        settings,
        seed=seed,
        sequence_ids=[candidate_id(one, j) for one in ids for j in range(n)],
        rows=rows,
        on_progress=on_progress,
    )
    return keep_best(prompts, drawn, scorer, n=n)


def check_best_of_n(n: int, settings: SamplingSettings) -> None:
    """Raise SettingsError if n is below 1, or the draws of one prompt would all be equal."""
    if n < 1:
        raise SettingsError(f"best-of-n needs n of at least 1, got {n}")
    if n > 1 and settings.temperature == 0.0:
        raise SettingsError(
            f"best-of-{n} at temperature 0 would draw the same response {n} times; "
            "raise the temperature"
        )


def candidate_id(sequence_id: int, candidate: int) -> int:
    """What stands for candidate j of a sequence in the random numbers; for j = 0 its own id."""
    return sequence_id + candidate * CANDIDATE_STRIDE


def keep_best(
    prompts: Sequence[Dialogue], drawn: Sequence[Candidate], scorer: Scorer, *, n: int
) -> list[BestOfN[Candidate]]:
    """Score n responses to each prompt, all of the first prompt first.

    Raises: ModelError if a score is not finite.
    """
    answers = [answered(prompts[place // n], response.text) for place, response in enumerate(drawn)]
    scores = _checked_scores(scorer(answers), n) if answers else []
    return [
        _with_choice(tuple(drawn[first : first + n]), tuple(scores[first : first + n]))
        for first in range(0, len(drawn), n)
    ]


def _checked_scores(scores: Tensor | Sequence[float], n: int) -> list[float]:
    values = torch.as_tensor(scores, dtype=torch.float64).flatten().tolist()
    for place, value in enumerate(values):
        if not math.isfinite(value):
            raise ModelError(
                f"the scorer gave {value} for response {place % n} to prompt {place // n}; "
                "a score must be a finite number"
            )
    return values


def _with_choice(
    candidates: tuple[Candidate, ...], scores: tuple[float, ...]
) -> BestOfN[Candidate]:
    return BestOfN(candidates=candidates, scores=scores, choice=scores.index(max(scores)))


def best_of_n_kl(n: int) -> float:
    """KL(best-of-n ‖ policy) = ln n − (n − 1)/n, in nats, for scores without ties.

    Stiennon et al. 2020, appendix G.3. Exact where no response is likely to be drawn twice,
    otherwise an upper bound.
    """
    if n < 1:
        raise SettingsError(f"best-of-n needs n of at least 1, got {n}")
    return math.log(n) - (n - 1) / n
