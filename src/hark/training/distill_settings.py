"""What context distillation can be told. Defaults are those of Bai et al. (2022)."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from hark.models.sampling import SamplingSettings
from hark.training.examples import Paths
from hark.training.optimizer import OptimizerSettings, Schedule
from hark.training.trainer import TrainingSettings


class DistillOptimizer(OptimizerSettings):
    """HH: 0.05 of pretraining's learning rate, decayed to 0."""

    learning_rate: float = Field(default=3e-5, gt=0)
    """The highest learning rate: 0.05 of GPT-3's 6e-4. Small models need more: 1e-4 to 1e-3."""
    schedule: Schedule = "linear"
    """How it falls: constant, linear or cosine."""
    final_learning_rate_fraction: float = Field(default=0.0, ge=0, le=1)
    """Where it ends, as a fraction of the highest (HH: 0)."""


class DistillSettings(TrainingSettings):
    """Teach a model to behave without a context as it does with it."""

    model: str
    """The language model, teacher and start of the student: directory, run or Hub name."""
    context: Path
    """A text file: what stands before everything, such as a preamble and a few dialogues."""
    data: Paths
    """Files of texts, which the teacher reads after the context."""
    question_data: Paths = ()
    """Files of prompts, which the teacher answers after the context."""
    text_share: float = Field(default=0.5, gt=0, lt=1)
    """Share of the predicted tokens that are of texts (HH: half); the rest are of answers."""
    tokens: int = Field(default=350_000_000, ge=1)
    """Predicted tokens to train on, as far as the data go (HH: 350 M)."""
    classes: int = Field(default=50, ge=1)
    """k: how many of the teacher's log-probabilities are kept for each token (HH: 50)."""
    row_tokens: int | None = Field(default=None, ge=2)
    """Most tokens of one piece of text; without it, all that the context leaves of the model's."""
    sampling: SamplingSettings = SamplingSettings()
    """How the teacher's answers are drawn."""
    evaluation_data: Paths = ()
    """Files of held-out texts."""
    epochs: int = Field(default=1, ge=1)
    """Passes over what the teacher wrote down."""
    batch_size: int = Field(default=32, ge=1)
    """Sequences per step (HH: 32)."""
    optimizer: DistillOptimizer = DistillOptimizer()
    """Adam and its schedule."""

    @model_validator(mode="after")
    def _refuse_ignored(self) -> Self:
        for name in ("text_share", "sampling"):
            if name in self.model_fields_set and not self.question_data:
                raise ValueError(f"{name} would be ignored without question_data")
        if self.evaluation_every is not None and not self.evaluation_data:
            raise ValueError("evaluation_every would be ignored without evaluation_data")
        return self
