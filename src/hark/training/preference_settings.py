"""What a preference model's training can be told, with the papers' values."""

from __future__ import annotations

import math
from typing import Literal, Self

from pydantic import Field, model_validator

from hark.models.fitting import LongResponses
from hark.models.generation import SamplingSettings
from hark.models.lora import LoRASettings
from hark.training.examples import Paths
from hark.training.objectives import Ties
from hark.training.optimizer import OptimizerSettings
from hark.training.preference_data import PreferenceLoss, UseOfStrength
from hark.training.trainer import TrainingSettings


class PreferenceOptimizer(OptimizerSettings):
    """InstructGPT's: 9e-6, cosine to 10 %. Stiennon: 1.5e-5 or less; Ziegler: 5e-5 linear to 0."""

    learning_rate: float = Field(default=9e-6, gt=0)
    """The highest learning rate of the schedule (InstructGPT: 9e-6; Stiennon 1.3B: 1.5e-5)."""


class PreferenceSettings(TrainingSettings):
    """Train a preference model from a language model and comparisons."""

    model: str
    """What to start from: a language model (InstructGPT: the SFT model), or a preference model,
    such as one pretrained on ranked text, whose head is kept: directory, run or Hub name."""
    data: Paths
    """Files of judged comparisons."""
    comparisons: int | None = Field(default=None, ge=1)
    """Train on so many comparisons in all, drawn at random; without it on all there are."""
    shares: tuple[float, ...] = ()
    """Share of each file of data in comparisons, from 0 to 1 (HH: of helpful and harmless); the
    last may be left out and is what the others leave."""
    loss_weights: tuple[float, ...] = ()
    """Weight of each file's comparisons in the loss (HH: 1 for helpful, λ for harmless)."""
    labeler_folds: int | None = Field(default=None, ge=2)
    """Part the labelers into so many groups, to leave one out (InstructGPT, section 5: 5)."""
    held_out_fold: int | None = Field(default=None, ge=0)
    """The group of labelers, from 0, from whom nothing is learned; the evaluation tells them and
    the others apart."""
    evaluation_data: Paths = ()
    """Files of held-out comparisons."""
    evaluation_comparisons: int | None = Field(default=None, ge=1)
    """Take only so many comparisons of each file of evaluation_data, drawn at random, the same for
    every seed."""
    epochs: int = Field(default=1, ge=1)
    """Passes over the data; more than 1 over-fits (InstructGPT, appendix C.2)."""
    batch_size: int = Field(default=64, ge=1)
    """Comparisons (prompts) per step."""
    optimizer: PreferenceOptimizer = PreferenceOptimizer()
    """Adam and its schedule."""
    lora: LoRASettings | None = None
    """Train low-rank adapters (LoRA) instead of all weights; the model is left in model/ with its
    adapter merged, and the adapter alone in adapter/."""
    loss: PreferenceLoss = "ranking"
    """ranking: mean over all pairs; best_of_k: cross-entropy of the best of K (Ziegler)."""
    language_modelling_coefficient: float = Field(default=0.0, ge=0)
    """Weight of the language-modelling loss (mean −log p per token) of the best reply, added to the
    loss. Preference-model pretraining has it (Askell et al. 2021; 1 adds the two as they are),
    training on human comparisons does not: 0."""
    ties: Ties = "drop"
    """Tied pairs: drop them, or count each half as won and half as lost."""
    use_strength_as: UseOfStrength = "none"
    """What a comparison's strength does: nothing, weigh its loss, or be its margin of scores."""
    long_responses: LongResponses = "drop"
    """A response too long for the context: drop its comparison, or cut the response."""
    head_initial_std: float | None = Field(default=None, ge=0)
    """Standard deviation of a new head's weights; none is 1/√(width + 1) (Stiennon), or the head
    that a preference model has."""
    normalise: Literal["none", "demonstrations", "reference"] = "none"
    """demonstrations: bias for mean score 0 on them, after training (InstructGPT, Stiennon);
    reference: gain and bias for mean 0 and deviation 1 on samples of the starting model, before
    and after training (Ziegler)."""
    normalise_data: Paths = ()
    """Demonstrations, or the prompts to sample for (reference; else those of the data)."""
    normalise_samples: int = Field(default=256, ge=2)
    """Samples of the reference policy to normalise on."""
    sampling: SamplingSettings = SamplingSettings()
    """How the reference policy is sampled."""

    @model_validator(mode="after")
    def _refuse_ignored(self) -> Self:
        given = self.model_fields_set
        if self.loss == "best_of_k":
            if "ties" in given:
                raise ValueError("ties would be ignored by loss 'best_of_k'; leave it out")
            if self.use_strength_as == "margin":
                raise ValueError("loss 'best_of_k' has no margin: use_strength_as weight or none")
        if self.normalise == "none" and "normalise_data" in given and self.normalise_data:
            raise ValueError("normalise_data would be ignored; set normalise as well")
        if self.normalise == "demonstrations" and not self.normalise_data:
            raise ValueError("normalise 'demonstrations' needs them as normalise_data")
        if self.normalise != "reference":
            for name in ("normalise_samples", "sampling"):
                if name in given:
                    raise ValueError(f"{name} would be ignored unless normalise is 'reference'")
        if self.evaluation_every is not None and not self.evaluation_data:
            raise ValueError("evaluation_every would be ignored without evaluation_data")
        if self.evaluation_comparisons is not None and not self.evaluation_data:
            raise ValueError("evaluation_comparisons would be ignored without evaluation_data")
        return self

    @model_validator(mode="after")
    def _mixture_fits(self) -> Self:
        files = len(self.data)
        if self.shares and self.comparisons is None:
            raise ValueError("shares are of a number of comparisons: set comparisons as well")
        if self.shares and len(self.shares) not in (files, files - 1):
            raise ValueError(f"{len(self.shares)} shares for {files} files of data")
        if any(not 0 <= share <= 1 for share in self.shares):
            raise ValueError(f"shares {self.shares} must be between 0 and 1")
        total = sum(self.shares)
        if self.shares and (total > 1 + 1e-9 or (len(self.shares) == files and total < 1 - 1e-9)):
            raise ValueError(f"shares {self.shares} add up to {total:g}, not to 1")
        if self.loss_weights and len(self.loss_weights) != files:
            raise ValueError(f"{len(self.loss_weights)} loss_weights for {files} files of data")
        if any(not 0 <= weight < math.inf for weight in self.loss_weights):
            raise ValueError(f"loss_weights {self.loss_weights} must not be negative")
        if (self.labeler_folds is None) != (self.held_out_fold is None):
            raise ValueError("labeler_folds and held_out_fold need each other")
        if self.held_out_fold is not None and self.held_out_fold >= (self.labeler_folds or 0):
            raise ValueError(
                f"held_out_fold {self.held_out_fold} is none of {self.labeler_folds}, from 0"
            )
        return self
