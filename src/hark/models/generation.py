"""Sampling responses from a language model, as an inference engine does.

`engine` says how; log-probabilities are captured on the way (see `sampling` for which).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from hark.errors import ModelError
from hark.models.engine import Engine, Finish, Finished, Request
from hark.models.language_model import context_length
from hark.models.parallel import whole
from hark.models.processes import gather_pieces, own_piece
from hark.models.sampling import SamplingSettings
from hark.models.stop_strings import StopStrings

__all__ = ["Generated", "SamplingSettings", "generate", "generate_shared"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Generated:
    """One response, filled by `generate`."""

    tokens: tuple[int, ...]
    """As drawn: with the end token if there is one, and with the tokens of a stop string."""
    logprobs: Tensor
    """[len(tokens)] float32 on the CPU: behaviour log-probabilities, of the tempered distribution
    before top-p, top-k and minimum length."""
    text: str
    """Decoded, stripped, without end token, cut before the first stop string."""
    finish: Finish
    """What ended it: an end token, the limit of tokens, or a stop string."""

    @property
    def token_count(self) -> int:
        """Tokens drawn, the end token included."""
        return len(self.tokens)


def generate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Sequence[int]],
    settings: SamplingSettings,
    *,
    seed: int,
    sequence_ids: Sequence[int] | None = None,
    rows: int = 64,
    on_progress: Callable[[int], None] | None = None,
    clip_to_context: bool = False,
) -> list[Generated]:
    """Draw one response to each prompt.

    Args:
        prompts: token ids, at least one in each. For several responses to a prompt, repeat it.
        seed: with `sequence_ids`, decides every draw.
        sequence_ids: one number for each prompt, which stands for it in the random numbers; the
            places in `prompts` by default. Equal ids draw equal random numbers.
        rows: how many responses are drawn at the same time; no effect on what is drawn.
        on_progress: called with how many responses have ended since the last call.
        clip_to_context: lower the limit of a response that would not fit the model's context
            instead of raising.

    Returns:
        One `Generated` for each prompt, in order.

    Raises:
        ModelError: a prompt is empty, or does not fit the context with its response.
    """
    limits = _response_limits(prompts, settings, context_length(model), clip=clip_to_context)
    ids = range(len(prompts)) if sequence_ids is None else sequence_ids
    assert len(ids) == len(prompts), "one sequence id for each prompt"
    assert rows >= 1, "at least one row at a time"
    if len(prompts) == 0:
        return []
    requests = [
        Request(prompt=prompt, settings=settings, limit=limit, seed=seed, sequence_id=int(one))
        for prompt, limit, one in zip(prompts, limits, ids, strict=True)
    ]
    with _evaluation_mode(model), torch.inference_mode():
        finished = _finish(model, tokenizer, requests, rows, on_progress or (lambda count: None))
    stop = StopStrings(tokenizer, settings.stop)
    return [_generated(each, stop) for each in finished]


def _finish(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    requests: Sequence[Request],
    rows: int,
    on_progress: Callable[[int], None],
) -> list[Finished]:
    """Draw all responses, with an engine just large enough."""
    engine = Engine(
        model,
        tokenizer,
        rows=min(rows, len(requests)),
        capacity=max(len(request.prompt) - 1 + request.limit for request in requests),
        max_tokens=max(request.limit for request in requests),
    )
    owners = engine.submit(requests)
    finished: dict[int, Finished] = {}
    while not engine.is_idle:
        ended = engine.step().finished
        finished |= {each.owner: each for each in ended}
        if ended:
            on_progress(len(ended))
    return [finished[owner] for owner in owners]


def generate_shared(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Sequence[int]],
    settings: SamplingSettings,
    *,
    seed: int,
    sequence_ids: Sequence[int] | None = None,
    rows: int = 64,
    on_progress: Callable[[int], None] | None = None,
) -> list[Generated]:
    """`generate`, each process of the run answering its share; all processes get all responses.

    Several responses to a prompt should be neighbours: one process then reads it for all of them.
    """
    ids = range(len(prompts)) if sequence_ids is None else sequence_ids
    with whole(model):
        drawn = generate(
            model, tokenizer, own_piece(prompts), settings, seed=seed,
            sequence_ids=own_piece(ids), rows=rows, on_progress=on_progress,
        )  # fmt: skip
    return gather_pieces(drawn)


def _response_limits(
    prompts: Sequence[Sequence[int]], settings: SamplingSettings, context: int, *, clip: bool
) -> list[int]:
    """The most tokens each response may have."""
    limits = []
    for index, prompt in enumerate(prompts):
        room = context - len(prompt)
        if len(prompt) == 0:
            raise ModelError(f"prompt {index} has no tokens; give it at least one to start from")
        if room < (1 if clip else settings.max_response_tokens):
            raise ModelError(
                f"prompt {index} has {len(prompt)} tokens, which with a response of up to "
                f"{settings.max_response_tokens} does not fit the model's context of {context}; "
                "shorten the prompt or lower max_response_tokens"
            )
        limits.append(min(room, settings.max_response_tokens))
    return limits


@contextlib.contextmanager
def _evaluation_mode(model: PreTrainedModel) -> Iterator[None]:
    """Dropout off; afterwards every module is as it was."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


def _generated(finished: Finished, stop: StopStrings) -> Generated:
    """Decode; outside inference mode, so that the log-probabilities may enter a loss."""
    tokens = finished.tokens
    return Generated(
        tokens=tuple(tokens),
        logprobs=torch.tensor(finished.logprobs, dtype=torch.float32),
        text=stop.text_before(tokens[:-1] if finished.finish == "end" else tokens),
        finish=finished.finish,
    )
