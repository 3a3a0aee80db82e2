"""Where a PPO step's episodes come from: prompts in order, responses sampled, responses judged.

Which prompts a step has, and every random number of its samples, is a function of (seed, step).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from hark.data.records import Dialogue, Prompt, answered
from hark.errors import DataError
from hark.models.generation import Generated, generate_shared
from hark.models.shared_scores import shared_scores
from hark.models.tokenizer import decode_response, encode_prompt
from hark.training.ppo_settings import PPOSettings
from hark.training.ppo_state import PPOState
from hark.training.rewards import Scorer, check_scores, dealt_with_incomplete, tokens_to_score
from hark.training.rollout import Episodes
from hark.training.trainer import autocast, seed_of

PROMPT_ORDER, SAMPLING, MINIBATCHES, PRETRAINING = 1, 2, 3, 4
"""What a random number is for: the second part of every seed, after the run's own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodedPrompt:
    """A prompt ready to be answered."""

    dialogue: Dialogue
    """As people wrote it."""
    tokens: tuple[int, ...]
    """Up to where the assistant begins to speak."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodedPrompts:
    """The prompts of a run, and what became of those that are too long."""

    prompts: tuple[EncodedPrompt, ...]
    skipped: int
    cut: int


def encode_prompts(
    prompts: Sequence[Prompt],
    tokenizer: PreTrainedTokenizerBase,
    settings: PPOSettings,
    *,
    context: int,
) -> EncodedPrompts:
    """Encode all prompts and deal with those that leave no room for a response.

    Raises: DataError if one is too long and `long_prompts` is 'stop', or if none is left.
    """
    room = context - settings.max_response_tokens
    kept, skipped, cut = [], 0, 0
    for number, prompt in enumerate(prompts, start=1):
        tokens = tuple(encode_prompt(tokenizer, prompt.prompt))
        if len(tokens) > room:
            if settings.long_prompts == "stop" or room < 1:
                raise DataError(
                    f"prompt {number} of {len(prompts)} has {len(tokens)} tokens, which with a "
                    f"response of max_response_tokens {settings.max_response_tokens} exceeds the "
                    f"model's context of {context}; shorten it, or set long_prompts to 'skip' "
                    "or 'cut'"
                )
            if settings.long_prompts == "skip":
                skipped += 1
                continue
            tokens, cut = tokens[-room:], cut + 1
        kept.append(EncodedPrompt(dialogue=prompt.prompt, tokens=tokens))
    if not kept:
        raise DataError(
            f"no prompt is left to learn from: of {len(prompts)}, {skipped} were skipped as too "
            "long; give --data prompts that fit, or a model with a longer context"
        )
    return EncodedPrompts(prompts=tuple(kept), skipped=skipped, cut=cut)


def endless_order(start: int, count: int, *, total: int, seed: int) -> list[int]:
    """Items start … start + count − 1 of an endless sequence of passes over `total` items.

    Each pass visits every item once, in an order that is a function of (seed, pass).
    """
    places = np.arange(start, start + count)
    orders = {
        int(turn): np.random.default_rng([seed, int(turn)]).permutation(total)
        for turn in np.unique(places // total)
    }
    return [int(orders[int(place) // total][int(place) % total]) for place in places]


def prompts_of_step(
    prompts: Sequence[EncodedPrompt], settings: PPOSettings, step: int
) -> list[EncodedPrompt]:
    """The prompts that step `step`, counted from 0, answers."""
    chosen = endless_order(
        step * settings.prompts_per_step,
        settings.prompts_per_step,
        total=len(prompts),
        seed=seed_of(settings.seed, PROMPT_ORDER),
    )
    return [prompts[index] for index in chosen]


def sample(state: PPOState, prompts: Sequence[EncodedPrompt], settings: PPOSettings) -> Episodes:
    """y ~ π(· | x): sample `responses_per_prompt` responses to each prompt from the policy."""
    repeated = [prompt for prompt in prompts for _ in range(settings.responses_per_prompt)]
    first = state.step * settings.batch_episodes
    with state.watch.phase("generate"), autocast(state.policy, settings):
        drawn = generate_shared(
            state.policy,
            state.tokenizer,
            [list(prompt.tokens) for prompt in repeated],
            settings.sampling,
            seed=seed_of(settings.seed, SAMPLING),
            sequence_ids=range(first, first + len(repeated)),
            rows=settings.generation_rows,
        )
    read = [_as_scored(response, state.tokenizer, settings) for response in drawn]
    return Episodes(
        dialogues=tuple(prompt.dialogue for prompt in repeated),
        prompts=tuple(prompt.tokens for prompt in repeated),
        prompt_of=tuple(index // settings.responses_per_prompt for index in range(len(repeated))),
        responses=tuple(response.tokens for response in drawn),
        texts=tuple(text for text, _ in read),
        is_complete=torch.tensor([is_complete for _, is_complete in read]),
        logprobs=torch.cat([response.logprobs for response in drawn]),
    )


def judge(
    state: PPOState, episodes: Episodes, score: Scorer, settings: PPOSettings
) -> tuple[Tensor, Tensor]:
    """r(x, y): score each response as a whole, then deal with those that have no end.

    Returns: [N] scores as given, plus the bias; [N] scores that enter the reward.
    """
    dialogues = [
        answered(prompt, text)
        for prompt, text in zip(episodes.dialogues, episodes.texts, strict=True)
    ]
    with state.watch.phase("score"), torch.no_grad():
        raw = (
            shared_scores(lambda own: check_scores(score(own), len(own)), dialogues)
            + settings.reward_bias
        )
    return raw, dealt_with_incomplete(
        raw,
        episodes.is_complete,
        rule=settings.incomplete_responses,
        replacement=settings.incomplete_score,
        penalty=settings.incomplete_penalty,
    )


def _as_scored(
    response: Generated, tokenizer: PreTrainedTokenizerBase, settings: PPOSettings
) -> tuple[str, bool]:
    """The text the scorer reads, and whether the response came to an end by itself."""
    if settings.score_until is None:
        return response.text, response.finish != "length"
    count = tokens_to_score(
        response.tokens,
        _contains(settings.score_until, tokenizer),
        first_position=settings.score_until_from,
    )
    return decode_response(tokenizer, response.tokens[:count]), count is not None


def _contains(text: str, tokenizer: PreTrainedTokenizerBase) -> Callable[[int], bool]:
    # Special tokens are skipped: their names are not text.
    return lambda token: text in tokenizer.decode([token], skip_special_tokens=True)
