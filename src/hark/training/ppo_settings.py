"""What PPO can be told. Defaults are InstructGPT's where the paper gives them (appendix C.4).

The paper does not give the policy's peak learning rate, λ of GAE, the value clip, Adam's ε or
gradient clipping for PPO: those defaults are Ziegler's and Stiennon's where they give one, else
ours, and each says so.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from hark.models.lora import LoRASettings
from hark.models.sampling import SamplingSettings
from hark.training.examples import Paths
from hark.training.optimizer import OptimizerSettings, Schedule
from hark.training.rewards import Incomplete
from hark.training.trainer import TrainingSettings


def _one_or_several(value: Any) -> Any:
    return (value,) if isinstance(value, str | int | float) else value


Names = Annotated[tuple[str, ...], BeforeValidator(_one_or_several)]
Numbers = Annotated[tuple[float, ...], BeforeValidator(_one_or_several)]


class PolicyOptimizerSettings(OptimizerSettings):
    """Adam for the policy: warm-up over 10 steps from a tenth, then constant."""

    learning_rate: float = Field(default=5e-6, gt=0)
    """The policy's learning rate after the warm-up. InstructGPT does not give its own; of those it
    scanned (2.55e-6 to 2.55e-5), rates above 8.05e-6 diverged without the pretraining mix."""
    schedule: Schedule = "constant"
    """How it falls after the warm-up, step by step: constant (InstructGPT), linear (Ziegler) or
    halving (HH online)."""
    warmup_steps: int = Field(default=10, ge=0)
    """PPO steps of linear warm-up."""
    epsilon: float = Field(default=1e-5, gt=0)
    """Adam's ε (Ziegler)."""


class PPOSettings(TrainingSettings):
    """Reinforcement learning from a preference model with PPO."""

    help_panels: ClassVar[dict[str, str]] = {
        "model": "What goes in",
        "temperature": "Sampling",
        "total_episodes": "Episodes",
        "kl_coefficient": "Reward",
        "discount": "Advantages",
        "clip_range": "Losses",
        "pretraining_data": "Pretraining mix (PPO-ptx)",
        "ema_decay": "What comes out",
    }

    model: str
    """The SFT model, where the policy starts and the reference that the KL penalty holds it to:
    directory, run or Hub name."""
    preference_model: Names = ()
    """Preference model(s) that judge the responses; the first also initialises the critic."""
    preference_weights: Numbers = ()
    """One weight for each preference model; their weighted sum is the score. All 1 if left out."""
    reward_bias: float = 0.0
    """Added to every score."""
    data: Paths
    """Files of prompts."""
    long_prompts: Literal["stop", "skip", "cut"] = "stop"
    """Prompts that, with a longest response, exceed the model's context: 'stop' with an error,
    'skip' them (InstructGPT), or 'cut' them to their end."""

    temperature: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    """Divides the logits in sampling and in the policy's and the reference's log-probabilities
    (InstructGPT 1, Ziegler and Stiennon 0.7)."""
    max_response_tokens: int = Field(default=128, ge=1)
    """A response ends after this many tokens, its end token included (HH: 128)."""
    min_response_tokens: int = Field(default=0, ge=0)
    """The end token cannot be drawn earlier."""
    stop: tuple[str, ...] = ()
    """A response also ends when its text contains one of these."""
    generation_rows: int = Field(default=64, ge=1)
    """Responses that are sampled side by side; the samples do not depend on it."""

    total_episodes: int = Field(default=256_000, ge=1)
    """Episodes in the whole run; an episode is one response to one prompt."""
    batch_episodes: int = Field(default=512, ge=1)
    """Episodes sampled in one PPO step."""
    responses_per_prompt: int = Field(default=1, ge=1)
    """Responses sampled for each prompt of a step."""
    minibatch_episodes: int = Field(default=64, ge=1)
    """Episodes of one update."""
    inner_epochs: int = Field(default=1, ge=1)
    """Times each step's episodes are trained on, in a fresh order each time (Ziegler: 4)."""

    kl_coefficient: float = Field(default=0.02, ge=0)
    """β, the weight of the KL penalty for each token; the initial value if kl_target is set."""
    kl_target: float | None = Field(default=None, gt=0)
    """Adapt β to keep the KL of a whole response at this many nats (Ziegler: 6). Fixed without."""
    kl_horizon: float = Field(default=10_000.0, gt=0)
    """Episodes over which β follows an error (Ziegler: 10 000)."""
    incomplete_responses: Incomplete = "replace"
    """Responses that do not end by themselves: 'replace' their score by incomplete_score (Ziegler,
    Stiennon), 'subtract' incomplete_penalty from it, or 'keep' it."""
    incomplete_score: float = -1.0
    """The score of such a response under 'replace'; it should be below that of most others."""
    incomplete_penalty: float = Field(default=1.0, ge=0)
    """What such a response loses under 'subtract'."""
    score_until: str | None = None
    """The scorer reads a response up to its first token that contains this text, and a response
    without one is incomplete; the policy is trained on the whole (Ziegler: '.')."""
    score_until_from: int = Field(default=16, ge=0)
    """Tokens before this position do not count for score_until (Ziegler: 16)."""
    whiten_rewards: bool = False
    """Divide rewards by their deviation, keeping their mean (Ziegler)."""

    discount: float = Field(default=1.0, gt=0, le=1)
    """γ of GAE."""
    gae_lambda: float = Field(default=0.95, ge=0, le=1)
    """λ of GAE (Ziegler, Stiennon; InstructGPT does not give it)."""
    whiten_advantages: bool = True
    """Give the advantages of a step mean 0 and variance 1."""

    clip_range: float = Field(default=0.2, gt=0)
    """ε of the policy's probability ratio."""
    value_clip_range: float | None = Field(default=0.2, gt=0)
    """How far a value may move from its old one before its loss is clipped (Ziegler: 0.2; on the
    scale of the scores). None turns it off."""
    optimizer: PolicyOptimizerSettings = PolicyOptimizerSettings()
    """Adam for the policy and, except for the learning rate, for the critic."""
    lora: LoRASettings | None = None
    """Train low-rank adapters (LoRA) of policy and critic instead of all weights; the reference is
    then the policy with its adapter off. The policy is left in model/ with its adapter merged, and
    the adapter alone in adapter/."""
    critic: Literal["preference_model", "shared"] = "preference_model"
    """A network of its own that starts as the preference model (Stiennon, InstructGPT), or a head
    on the policy's trunk that starts at zero (Ziegler)."""
    value_model: str | None = None
    """A scalar model from which the critic starts instead of the first preference model."""
    value_learning_rate: float = Field(default=9e-6, gt=0)
    """The critic's learning rate; a shared critic has the policy's."""
    value_coefficient: float = Field(default=0.1, gt=0)
    """Weight of the value loss against the policy's for a shared critic (Ziegler: 0.1)."""
    recompute_behaviour_logprobs: bool = False
    """Take old log-probabilities from a forward pass instead of from sampling, whose cache rounds
    differently by about 1e-6; the first ratio is then exactly 1."""

    pretraining_data: Paths = ()
    """Texts whose language-model loss is mixed in: PPO-ptx. Without it: PPO."""
    pretraining_coefficient: float = Field(default=27.8, gt=0)
    """γ, the weight of the pretraining loss (mean over tokens) against the policy loss."""
    pretraining_rows_per_episode: float = Field(default=8.0, gt=0)
    """Rows of pretraining text for each episode of an update (InstructGPT: 8 examples)."""
    pretraining_row_tokens: int = Field(default=256, ge=2)
    """Tokens of one row of pretraining text."""

    ema_decay: float | None = Field(default=0.992, gt=0, lt=1)
    """The model saved is the moving average of the weights after each update with this decay; none
    saves the last weights. Rollouts always use the current weights."""
    checkpoint_every: int = Field(default=20, ge=1)
    """PPO steps between checkpoints."""
    evaluation_every: int | None = Field(default=None, ge=1)
    """PPO steps between evaluations; without it, before the first and after the last step."""
    samples_every: int = Field(default=10, ge=1)
    """PPO steps between files of samples."""
    samples: int = Field(default=16, ge=0)
    """Episodes written to each file of samples."""
    kl_warning: float = Field(default=50.0, gt=0)
    """Warn when the KL of a whole response exceeds this many nats."""

    @property
    def steps(self) -> int:
        """PPO steps of the whole run."""
        return self.total_episodes // self.batch_episodes

    @property
    def prompts_per_step(self) -> int:
        """Prompts answered in one PPO step."""
        return self.batch_episodes // self.responses_per_prompt

    @property
    def updates_per_step(self) -> int:
        """Updates taken in one PPO step."""
        return self.inner_epochs * (self.batch_episodes // self.minibatch_episodes)

    @property
    def pretraining_rows_per_update(self) -> int:
        """Rows of pretraining text mixed into one update, at least one."""
        return max(1, round(self.pretraining_rows_per_episode * self.minibatch_episodes))

    @property
    def sampling(self) -> SamplingSettings:
        """How rollouts are drawn: from the whole distribution, which the ratio supposes."""
        return SamplingSettings(
            temperature=self.temperature,
            max_response_tokens=self.max_response_tokens,
            min_response_tokens=self.min_response_tokens,
            stop=self.stop,
        )

    @property
    def value_optimizer(self) -> OptimizerSettings:
        """Adam for a critic of its own."""
        return self.optimizer.model_copy(update={"learning_rate": self.value_learning_rate})

    @property
    def weights(self) -> tuple[float, ...]:
        """One weight for each preference model."""
        return self.preference_weights or (1.0,) * len(self.preference_model)

    @model_validator(mode="after")
    def _numbers_fit(self) -> Self:
        _require_multiple(self, "total_episodes", "batch_episodes")
        _require_multiple(self, "batch_episodes", "minibatch_episodes")
        _require_multiple(self, "minibatch_episodes", "responses_per_prompt")
        if self.batch_episodes < 2 and self.whiten_advantages:
            raise ValueError("whiten_advantages needs batch_episodes of 2 or more")
        if self.min_response_tokens > self.max_response_tokens:
            raise ValueError(
                f"min_response_tokens {self.min_response_tokens} is larger than "
                f"max_response_tokens {self.max_response_tokens}"
            )
        weights, models = len(self.preference_weights), len(self.preference_model)
        if weights not in (0, models):
            raise ValueError(
                f"{weights} preference_weights for {models} preference models: give each one weight"
            )
        if self.lora is not None and self.lora.dropout:
            raise ValueError(
                "lora.dropout would be ignored: PPO runs without dropout; leave it out"
            )
        if self.score_until is not None and self.score_until_from >= self.max_response_tokens:
            raise ValueError(
                f"score_until_from {self.score_until_from} leaves no position below "
                f"max_response_tokens {self.max_response_tokens}"
            )
        return self

    @model_validator(mode="after")
    def _refuse_ignored(self) -> Self:
        shared, ptx = self.critic == "shared", bool(self.pretraining_data)
        ignored = {
            "value_model": (shared, "critic 'shared' starts from the policy's trunk"),
            "value_learning_rate": (shared, "critic 'shared' has the policy's learning rate"),
            "value_coefficient": (not shared, "only critic 'shared' has a loss in common"),
            "kl_horizon": (self.kl_target is None, "set kl_target"),
            "incomplete_score": (self.incomplete_responses != "replace", "it is for 'replace'"),
            "incomplete_penalty": (self.incomplete_responses != "subtract", "it is for 'subtract'"),
            "score_until_from": (self.score_until is None, "set score_until"),
            "pretraining_coefficient": (not ptx, "set pretraining_data"),
            "pretraining_rows_per_episode": (not ptx, "set pretraining_data"),
            "pretraining_row_tokens": (not ptx, "set pretraining_data"),
        }
        for name, (is_ignored, why) in ignored.items():
            if is_ignored and name in self.model_fields_set:
                raise ValueError(f"{name} would be ignored: {why}, or leave it out")
        return self


def _require_multiple(settings: PPOSettings, whole: str, part: str) -> None:
    total, size = getattr(settings, whole), getattr(settings, part)
    if total % size:
        raise ValueError(f"{whole} {total} is not a multiple of {part} {size}")
