"""Comparisons as a preference model reads them: one packed prompt with its K branches.

All pairs of a comparison are in one batch element (InstructGPT, 3.5): each response passes the
model once, however many pairs it is part of.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, Self

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from hark.data.records import Comparison
from hark.errors import DataError, SettingsError
from hark.models.fitting import CutCounts, LongResponses
from hark.models.packing import PackedBatch, PromptTree, pack_for
from hark.training.examples import Located, encode_tree
from hark.training.objectives import Ties, ranked_pairs

PreferenceLoss = Literal["ranking", "best_of_k"]
UseOfStrength = Literal["none", "weight", "margin"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PreferenceExample:
    """One comparison, encoded."""

    tree: PromptTree
    """The prompt and its K responses."""
    first: tuple[int, ...]
    """P indices of responses: the better of each pair, or the first where the label is soft."""
    second: tuple[int, ...]
    """P indices: the other response of each pair."""
    probabilities: tuple[float, ...]
    """P probabilities that `first` is the better one."""
    best: int
    """Index of the response that ranks first; −1 where the judgement names none."""
    weight: float
    """Weight of this comparison in the mean."""
    required_margin: float
    """How far the better response should lead, in units of score."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PreferenceBatch:
    """C comparisons with N responses and P pairs in all, packed for one forward pass."""

    packed: PackedBatch
    first: Tensor
    """[P] which of the N responses."""
    second: Tensor
    """[P] which of the N responses."""
    probabilities: Tensor
    """[P] that the first is the better one."""
    required_margins: Tensor
    """[P]"""
    comparison_of: Tensor
    """[P] which of the C comparisons."""
    pair_counts: Tensor
    """[C] pairs of each comparison."""
    weights: Tensor
    """[C]"""
    slots: Tensor
    """[C,K] which of the N responses; −1 beyond a comparison's own K."""
    best: Tensor
    """[C] place in `slots` of the response that ranks first."""

    def to(self, device: torch.device | str) -> Self:
        moved = {
            name: getattr(self, name).to(device)
            for name in self.__dataclass_fields__  # every field is a tensor or moves like one
        }
        return replace(self, **moved)


def prepare_comparison(
    located: Located[Comparison],
    tokenizer: PreTrainedTokenizerBase,
    *,
    context: int,
    long_responses: LongResponses,
    loss: PreferenceLoss,
    ties: Ties,
    use_strength_as: UseOfStrength,
) -> tuple[PreferenceExample | None, CutCounts]:
    """Encode one judged comparison; None if it does not fit and is dropped.

    Raises: DataError, which names the record, if it teaches nothing or contradicts the settings.
    """
    comparison, where = located.record, located.where
    first, second, probabilities = _pairs(comparison, where, ties=ties)
    best = -1 if comparison.best is None else comparison.best
    if loss == "best_of_k" and best < 0:
        raise DataError(
            f"{where}: loss 'best_of_k' needs one response ranked above all others, got "
            f"{_judgement(comparison)}; use loss 'ranking' or leave the record out"
        )
    weight, margin = _weight_and_margin(comparison, where, use_strength_as)
    tree, cuts = encode_tree(
        tokenizer, comparison.prompt, comparison.responses,
        context=context, long_responses=long_responses, where=where, allow_empty=True,
    )  # fmt: skip
    if tree is None:
        return None, cuts
    example = PreferenceExample(
        tree=tree, first=tuple(first), second=tuple(second), probabilities=tuple(probabilities),
        best=best, weight=weight, required_margin=margin,
    )  # fmt: skip
    return example, cuts


def _pairs(
    comparison: Comparison, where: str, *, ties: Ties
) -> tuple[list[int], list[int], list[float]]:
    if comparison.probability is not None:
        return [0], [1], [comparison.probability]
    if comparison.ranks is None:
        raise DataError(
            f"{where}: nobody has judged this comparison; give it ranks or a probability, or leave "
            "it out"
        )
    pairs = ranked_pairs(comparison.ranks, ties=ties)
    if not pairs[0]:
        raise DataError(
            f"{where}: all {len(comparison.ranks)} responses are tied, so no pair is left when "
            "ties are dropped; set ties to 'half' or leave the record out"
        )
    return pairs


def _judgement(comparison: Comparison) -> str:
    if comparison.probability is not None:
        return f"probability {comparison.probability:g}"
    return f"ranks {comparison.ranks}"


def _weight_and_margin(
    comparison: Comparison, where: str, use_strength_as: UseOfStrength
) -> tuple[float, float]:
    strength = 0.0
    if use_strength_as != "none":
        if comparison.strength is None:
            raise DataError(
                f"{where}: it has no strength to use as {use_strength_as}; give it one or set "
                "use_strength_as to 'none'"
            )
        strength = comparison.strength
    weight = comparison.weight * (strength if use_strength_as == "weight" else 1.0)
    margin = strength if use_strength_as == "margin" else 0.0
    for name, value in (("weight", weight), ("margin", margin)):
        if not (math.isfinite(value) and value >= 0):
            raise DataError(f"{where}: its {name} is {value}; it must be finite and not negative")
    return weight, margin


def prepare_comparisons(
    comparisons: Sequence[Located[Comparison]],
    tokenizer: PreTrainedTokenizerBase,
    *,
    context: int,
    long_responses: LongResponses,
    loss: PreferenceLoss,
    ties: Ties,
    use_strength_as: UseOfStrength,
) -> tuple[list[PreferenceExample], CutCounts]:
    """Encode all comparisons; those of weight 0 are left out, as they teach nothing.

    Raises: SettingsError if strengths are asked for and no record has one; DataError for a bad
    record, or if none is left.
    """
    if use_strength_as != "none" and all(item.record.strength is None for item in comparisons):
        raise SettingsError(
            f"use_strength_as '{use_strength_as}' would be ignored: none of the "
            f"{len(comparisons)} comparisons has a strength; set it to 'none'"
        )
    examples: list[PreferenceExample] = []
    total = CutCounts()
    for located in comparisons:
        example, cuts = prepare_comparison(
            located, tokenizer, context=context, long_responses=long_responses, loss=loss,
            ties=ties, use_strength_as=use_strength_as,
        )  # fmt: skip
        total += cuts
        if example is not None and example.weight > 0:
            examples.append(example)
    if not examples:
        raise DataError(
            f"none of the {len(comparisons)} comparisons can be used: {total.records_dropped} were "
            f"too long for the context of {context} tokens, the others have weight 0; set "
            "long_responses to 'cut' or use a model with a longer context"
        )
    return examples, total


def collate(model: PreTrainedModel, examples: Sequence[PreferenceExample]) -> PreferenceBatch:
    """Pack comparisons for one forward pass."""
    sizes = [len(example.tree.responses) for example in examples]
    starts = [sum(sizes[:place]) for place in range(len(sizes))]
    slots = torch.full((len(examples), max(sizes)), -1, dtype=torch.long)
    for place, (start, size) in enumerate(zip(starts, sizes, strict=True)):
        slots[place, :size] = torch.arange(start, start + size)
    pairs = [
        (start + i, start + j, probability, example.required_margin, place)
        for place, (start, example) in enumerate(zip(starts, examples, strict=True))
        for i, j, probability in zip(
            example.first, example.second, example.probabilities, strict=True
        )
    ]
    first, second, probabilities, margins, comparison_of = zip(*pairs, strict=True)
    return PreferenceBatch(
        packed=pack_for(model, [example.tree for example in examples]),
        first=torch.tensor(first),
        second=torch.tensor(second),
        probabilities=torch.tensor(probabilities, dtype=torch.float32),
        required_margins=torch.tensor(margins, dtype=torch.float32),
        comparison_of=torch.tensor(comparison_of),
        pair_counts=torch.tensor([len(example.first) for example in examples]),
        weights=torch.tensor([example.weight for example in examples], dtype=torch.float32),
        slots=slots,
        best=torch.tensor([example.best for example in examples]),
    )
