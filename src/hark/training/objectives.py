"""Losses of preference models: tensors in, tensors out.

1. pairs: −log σ(Δ) (Stiennon et al. 2020, 3.4), with soft labels (Bai et al. 2022b, 4.1) and
   margins (Touvron et al. 2023, 3.2.2)
2. rankings: the mean of the pair loss over all C(K,2) pairs of a prompt (InstructGPT, eq. 1)
3. choices: cross-entropy of the best of K (Ziegler et al. 2019, eq. 1)

The loss of language modelling is the negative log-likelihood per token, which
`hark.models.logprobs` gives; `mean_over_tokens` makes replies of tokens.

Averages: within a comparison, the plain mean over its pairs; over comparisons, a weighted mean,
which the training loop takes. A comparison of many responses therefore weighs as much as a pair.

Shape letters: `P` pairs, `C` comparisons, `K` responses to one prompt.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

Ties = Literal["drop", "half"]


def pair_losses(
    margins: Tensor,
    *,
    probabilities: Tensor | None = None,
    required_margins: Tensor | None = None,
) -> Tensor:
    """−[p·log σ(Δ − m) + (1−p)·log σ(−Δ − m)] for each pair. [P] -> [P].

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


def mean_over_pairs(values: Tensor, comparison_of: Tensor, pair_counts: Tensor) -> Tensor:
    """The mean of `values` over the pairs of each comparison. [P] -> [C].

    comparison_of: [P] which comparison a pair belongs to; pair_counts: [C] how many each has.
    """
    sums = values.new_zeros(len(pair_counts)).index_add(0, comparison_of, values)
    return sums / pair_counts


def mean_over_tokens(values: Tensor, comparison_of: Tensor, comparisons: int) -> Tensor:
    """The mean of `values` over the tokens of each comparison, 0 for one without any. [L] -> [C].

    comparison_of: [L] which comparison a token belongs to.
    """
    zeros = values.new_zeros(comparisons)
    sums = zeros.index_add(0, comparison_of, values)
    counts = zeros.index_add(0, comparison_of, torch.ones_like(values))
    return sums / counts.clamp(min=1)


def ranked_pairs(ranks: Sequence[int], *, ties: Ties) -> tuple[list[int], list[int], list[float]]:
    """The pairs of a ranking: indices of the better, of the worse, P(first is better).

    1 is best and equal ranks are ties. "drop" leaves tied pairs out, so that they count neither in
    the sum nor in the number of pairs; "half" gives them probability ½. All other pairs have 1.
    """
    first, second, probabilities = [], [], []
    for i, j in itertools.combinations(range(len(ranks)), 2):
        tied = ranks[i] == ranks[j]
        if tied and ties == "drop":
            continue
        better, worse = (i, j) if ranks[i] <= ranks[j] else (j, i)
        first.append(better)
        second.append(worse)
        probabilities.append(0.5 if tied else 1.0)
    return first, second, probabilities


def best_of_k_losses(scores: Tensor, best: Tensor) -> Tensor:
    """−log( e^{r_best} / Σᵢ e^{rᵢ} ); −log σ(Δ) for K = 2. [C,K] and [C] indices -> [C].

    A score of −∞ stands for a response that is not there.
    """
    return F.cross_entropy(scores, best, reduction="none")
