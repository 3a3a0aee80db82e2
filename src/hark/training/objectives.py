"""Losses of language modelling and of preference models: tensors in, tensors out.

1. language modelling: mean negative log-likelihood per token (GPT-3, section 2; InstructGPT, 3.5)
2. pairs: −log σ(Δ) (Stiennon et al., 3.4), with soft labels (Constitutional AI, 4.1) and margins
   (Llama 2, 3.2.2)
3. rankings: the mean of the pair loss over all C(K,2) pairs of a prompt (InstructGPT, eq. 1)
4. choices: cross-entropy of the best of K (Ziegler et al., eq. 1)

Averages: a loss is the weighted mean over comparisons; within a comparison it is the plain mean
over its pairs. A comparison of many responses therefore weighs as much as a pair.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F


def weighted_mean(values: Tensor, weights: Tensor | None = None) -> Tensor:
    """Σ w·v / Σ w over all entries; the plain mean without weights. [n] -> []."""
    if weights is None:
        return values.mean()
    return (weights * values).sum() / weights.sum()


def language_modelling_loss(token_logprobs: Tensor, weights: Tensor | None = None) -> Tensor:
    """Mean negative log-likelihood in nats per token, from log-probabilities. [M] -> []."""
    return weighted_mean(-token_logprobs, weights)


def pair_losses(
    margins: Tensor,
    *,
    probabilities: Tensor | None = None,
    required_margins: Tensor | None = None,
) -> Tensor:
    """−[p·log σ(Δ − m) + (1−p)·log σ(−Δ − m)] for each pair. [n] -> [n].

    Δ (`margins`) is the score of the first response less that of the second; p (`probabilities`)
    is the probability that the first is better, 1 if not given; m (`required_margins`), 0 if not
    given, is how far the better one should lead.
    """
    required = torch.zeros_like(margins) if required_margins is None else required_margins
    first_better = -F.logsigmoid(margins - required)
    if probabilities is None:
        return first_better
    second_better = -F.logsigmoid(-margins - required)
    return probabilities * first_better + (1 - probabilities) * second_better


def pairwise_loss(
    chosen: Tensor,
    rejected: Tensor,
    *,
    weights: Tensor | None = None,
    required_margins: Tensor | None = None,
) -> Tensor:
    """Weighted mean of −log σ(r_chosen − r_rejected − m). [n], [n] -> []."""
    return weighted_mean(pair_losses(chosen - rejected, required_margins=required_margins), weights)


def soft_pair_loss(
    first: Tensor, second: Tensor, probabilities: Tensor, *, weights: Tensor | None = None
) -> Tensor:
    """Weighted mean cross-entropy against the probability that `first` is better. [n] -> []."""
    return weighted_mean(pair_losses(first - second, probabilities=probabilities), weights)


def ranking_loss(scores: Tensor, ranks: Sequence[int], *, ties: str = "drop") -> Tensor:
    """Mean of −log σ(r_better − r_worse) over all pairs of one ranking (InstructGPT, eq. 1).

    scores: [K]; ranks: K numbers, 1 is best, equal numbers are ties. `ties` "drop" leaves tied
    pairs out of sum and count; "half" counts each as a pair won with probability ½. Returns [].
    Raises: ValueError if every pair is tied and ties are dropped: nothing is left to average.
    """
    first, second, probabilities = ranked_pairs(ranks, ties=ties)
    if not first:
        raise ValueError(
            f"ranks {tuple(ranks)} are all tied: no pair is left when ties are dropped"
        )
    return pair_losses(
        scores[torch.tensor(first, device=scores.device)]
        - scores[torch.tensor(second, device=scores.device)],
        probabilities=torch.tensor(probabilities, dtype=scores.dtype, device=scores.device),
    ).mean()


def ranked_pairs(
    ranks: Sequence[int], *, ties: str = "drop"
) -> tuple[list[int], list[int], list[float]]:
    """The pairs of a ranking: indices of the better, of the worse, P(first is better).

    Tied pairs (ties="half") have probability ½, all others 1.
    """
    first, second, probabilities = [], [], []
    for i in range(len(ranks)):
        for j in range(i + 1, len(ranks)):
            if ranks[i] == ranks[j] and ties == "drop":
                continue
            better, worse = (i, j) if ranks[i] <= ranks[j] else (j, i)
            first.append(better)
            second.append(worse)
            probabilities.append(0.5 if ranks[i] == ranks[j] else 1.0)
    return first, second, probabilities


def best_of_k_loss(scores: Tensor, best: int | Tensor) -> Tensor:
    """−log( e^{r_best} / Σᵢ e^{rᵢ} ) (Ziegler et al., eq. 1); −log σ(Δ) for K = 2.

    scores: [K] and the index of the choice, or [n,K] and [n]. Returns [] or [n].
    """
    best = torch.as_tensor(best, device=scores.device)
    return -F.log_softmax(scores, dim=-1).gather(-1, best.unsqueeze(-1)).squeeze(-1)


def sum_by_comparison(values: Tensor, comparison_of: Tensor, count: int) -> Tensor:
    """Add up values that belong to the same comparison. [P] values and [P] indices -> [count]."""
    return values.new_zeros(count).index_add(0, comparison_of, values)
