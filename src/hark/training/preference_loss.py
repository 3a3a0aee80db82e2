"""The loss of a batch of comparisons, in one packed forward pass.

Preference-model pretraining adds a language-modelling loss: Askell et al. (2112.00861).
Departures there:

1. It is taken on the best reply's own tokens, not on the question before it: both replies share it.
2. It is a mean over a reply's tokens and then over comparisons, as the ranking loss is; comparisons
   that name no best reply (ties, soft labels) have none.
3. Where the language model's output matrix is not its embedding, it stays as it was.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel

from hark.errors import SettingsError
from hark.models.language_model import backbone
from hark.models.logprobs import hidden_states, logprobs_of_hidden
from hark.models.processes import world_size
from hark.models.scalar_head import scores_of_hidden
from hark.training.objectives import (
    best_of_k_losses,
    mean_over_pairs,
    mean_over_tokens,
    pair_losses,
)
from hark.training.preference_data import PreferenceBatch, PreferenceLoss
from hark.training.trainer import LossReport, WeightedSum


@dataclass(frozen=True, slots=True)
class LanguageModelling:
    """The second loss of preference-model pretraining."""

    coefficient: float
    """μ."""
    language_model: PreTrainedModel
    """Reads the preference model's hidden states; of its own it has an output matrix at most."""


def with_language_modelling(
    model: PreTrainedModel, language_model: PreTrainedModel, coefficient: float
) -> LanguageModelling:
    """Give the language model the preference model's transformer in place of its own.

    Raises: SettingsError in several processes, where the two would not be sharded alike.
    """
    if world_size() > 1:
        raise SettingsError(
            "language_modelling_coefficient works in one process: start it without torchrun"
        )
    setattr(language_model, language_model.base_model_prefix, backbone(model))
    if language_model.config.get_text_config().tie_word_embeddings:
        language_model.get_output_embeddings().weight = model.get_input_embeddings().weight
    return LanguageModelling(coefficient, language_model)


def batch_loss(
    model: PreTrainedModel,
    batch: PreferenceBatch,
    *,
    loss: PreferenceLoss,
    language: LanguageModelling | None = None,
) -> LossReport:
    """Weighted sums over the comparisons of a batch of the loss and of the pairs put right."""
    packed = batch.packed
    tokens, comparison_of_token = tokens_of_best(batch) if language else (packed.ends[:0],) * 2
    read = torch.cat([packed.ends, packed.predictors[tokens]])
    hidden = hidden_states(model, packed, read)
    scores = scores_of_hidden(model, hidden[: len(packed.ends)])
    margins = scores[batch.first] - scores[batch.second]
    losses = _preference_losses(scores, margins, batch, loss)
    right = pairs_right(margins.detach(), batch.probabilities)
    accuracy = mean_over_pairs(right, batch.comparison_of, batch.pair_counts)
    weight = float(batch.weights.sum())
    sums = {"accuracy": WeightedSum((batch.weights * accuracy).sum(), weight)}
    if language is not None:
        logprobs, _ = logprobs_of_hidden(
            language.language_model, hidden[len(packed.ends) :], packed.targets[tokens]
        )
        replies = -mean_over_tokens(logprobs, comparison_of_token, len(batch.weights))
        losses = losses + language.coefficient * replies
        sums["reply_loss"] = WeightedSum((batch.weights * replies).sum(), weight)
    return LossReport(loss=(batch.weights * losses).sum(), sums=sums)


def _preference_losses(
    scores: Tensor, margins: Tensor, batch: PreferenceBatch, loss: PreferenceLoss
) -> Tensor:
    """[C]"""
    if loss == "best_of_k":
        return best_of_k_losses(scores_by_comparison(scores, batch), batch.best)
    pairs = pair_losses(
        margins, probabilities=batch.probabilities, required_margins=batch.required_margins
    )
    return mean_over_pairs(pairs, batch.comparison_of, batch.pair_counts)


def tokens_of_best(batch: PreferenceBatch) -> tuple[Tensor, Tensor]:
    """Which response tokens [L] belong to the best reply of a comparison, and of which [L]."""
    named = batch.best >= 0
    responses = batch.slots.gather(1, batch.best.clamp(min=0)[:, None]).squeeze(1)
    comparison_of = batch.slots.new_full((batch.packed.response_count,), -1)
    comparison_of[responses[named]] = torch.nonzero(named).squeeze(1)
    of_tokens = comparison_of[batch.packed.response_of]
    tokens = torch.nonzero(of_tokens >= 0).squeeze(1)
    return tokens, of_tokens[tokens]


def scores_by_comparison(scores: Tensor, batch: PreferenceBatch) -> Tensor:
    """[N] -> [C,K], −∞ beyond a comparison's own K."""
    by_slot = scores[batch.slots.clamp(min=0)]
    return by_slot.masked_fill(batch.slots < 0, float("-inf"))


def pairs_right(margins: Tensor, probabilities: Tensor) -> Tensor:
    """1 where the score agrees with the label, 0 where not, ½ if either is undecided. [P]"""
    agreement = torch.sign(margins) * torch.sign(probabilities - 0.5)
    return (agreement + 1) / 2
