"""One row for each policy: the table that ends an evaluation.

The columns of InstructGPT's account (sections 4.1 and 4.2): preference over the baseline, what a
held-out judge thinks of helpfulness and harmlessness, the score that training maximised, how far
the policy has moved, and what the movement cost on plain text.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from hark.data.records import Dialogue, answered
from hark.errors import HarkError
from hark.evaluation.intervals import Estimate, clustered_mean
from hark.evaluation.scores import Scorer, score
from hark.evaluation.winrate import Judgement, WinRate, win_rate


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyEvaluation:
    """What was measured of one policy; None where it was not."""

    name: str
    win_rate: WinRate | None = None
    """Against the baseline; None for the baseline itself."""
    judge_score: Estimate | None = None
    """Mean score by the judge, where it gives one grade."""
    helpfulness: Estimate | None = None
    """Mean grade by the judge; higher is better."""
    harmlessness: Estimate | None = None
    preference_score: Estimate | None = None
    """Mean score by the preference model that training maximised."""
    divergence: Estimate | None = None
    """KL from the reference policy, nats a response."""
    language_loss: Estimate | None = None
    """Held-out text, nats a token."""
    multiple_choice: Estimate | None = None
    """Share of multiple-choice questions answered right, by the likeliest option."""
    response_words: Estimate | None = None
    """Mean length; judges like long replies, so a win rate is read beside it."""

    @property
    def grade(self) -> float | None:
        """Mean of the grades of helpfulness and harmlessness; None unless both were measured."""
        parts = (self.helpfulness, self.harmlessness)
        known = [each.value for each in parts if each is not None and each.value is not None]
        return sum(known) / 2 if len(known) == 2 else None

    def to_json(self) -> dict[str, Any]:
        """Plain values, ready for results.json."""
        values: dict[str, Any] = {"name": self.name}
        for field in fields(self)[1:]:
            measured = getattr(self, field.name)
            values[field.name] = None if measured is None else measured.to_json()
        return values

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> PolicyEvaluation:
        """The inverse of `to_json`."""
        read: dict[str, Any] = {"name": values["name"]}
        for field in fields(cls)[1:]:
            measured = values.get(field.name)
            kind = WinRate if field.name == "win_rate" else Estimate
            read[field.name] = None if measured is None else kind.from_json(measured)
        return cls(**read)


def evaluate_policy(
    name: str,
    prompts: Sequence[Dialogue],
    responses: Sequence[str],
    *,
    judgements: Sequence[Judgement] | None = None,
    judge_score: Scorer | None = None,
    helpfulness: Scorer | None = None,
    harmlessness: Scorer | None = None,
    preference: Scorer | None = None,
    divergence: Estimate | None = None,
    language_loss: Estimate | None = None,
    multiple_choice: Estimate | None = None,
    seed: int = 0,
) -> PolicyEvaluation:
    """Measure one policy's replies, one for each prompt.

    `judgements` compare them with a baseline's; the scorers give grades to single replies;
    `divergence`, `language_loss` and `multiple_choice` are measured by their own modules and passed
    through.

    Raises: HarkError if lists differ in length or a score is not finite.
    """
    if len(prompts) != len(responses):
        raise HarkError(
            f"{len(prompts)} prompts but {len(responses)} responses of '{name}': give one for each"
        )
    if judgements is not None and len(judgements) != len(prompts):
        raise HarkError(
            f"{len(prompts)} prompts but {len(judgements)} judgements of '{name}': "
            "give one for each"
        )
    dialogues = [answered(prompt, text) for prompt, text in zip(prompts, responses, strict=True)]

    def graded(scorer: Scorer | None, what: str) -> Estimate | None:
        if scorer is None:
            return None
        return mean_by_prompt(score(scorer, dialogues, what=f"{what} of '{name}'"), prompts, seed)

    words = np.array([len(text.split()) for text in responses], dtype=float)
    return PolicyEvaluation(
        name=name,
        win_rate=None if judgements is None else win_rate(judgements, seed=seed),
        judge_score=graded(judge_score, "judge's scores"),
        helpfulness=graded(helpfulness, "helpfulness grades"),
        harmlessness=graded(harmlessness, "harmlessness grades"),
        preference_score=graded(preference, "preference scores"),
        divergence=divergence,
        language_loss=language_loss,
        multiple_choice=multiple_choice,
        response_words=mean_by_prompt(words, prompts, seed),
    )


def mean_by_prompt(
    values: Sequence[float] | np.ndarray[Any, Any], prompts: Sequence[Hashable], seed: int = 0
) -> Estimate:
    """Mean of one value for each reply, clustered by prompt."""
    return clustered_mean(values, clusters=[list(prompts)], seed=seed)
