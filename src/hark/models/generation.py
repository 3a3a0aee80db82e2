"""Sampling responses from a language model, as an inference engine does.

Rows of one batch stand at different lengths, each in its own key-value slot. A row retires when it
draws the end token, completes a stop string or reaches its limit, and the next prompt takes its
place at once; when no prompt waits, the last rows close the gaps so that no dead row is computed.
Prompts are prefilled in batches of similar length, a prompt asked for several times only once.
Log-probabilities are captured while sampling (see `sampling` for which). Every token is a function
of its logits and of (seed, sequence id, place in the response): the same whether a prompt is alone
or in a crowd, up to the rounding of the logits.

The prefill reads all of a prompt but its last token, which is the first token the decoding reads.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from hark.errors import ModelError
from hark.models.active_rows import ActiveRows
from hark.models.decoders import choose_decoder
from hark.models.language_model import context_length
from hark.models.parallel import whole
from hark.models.processes import gather_shares, own_share
from hark.models.sampling import SamplingSettings, choose_tokens, uniforms
from hark.models.stop_strings import StopStrings
from hark.models.tokenizer import end_token_ids

__all__ = ["Generated", "SamplingSettings", "generate", "generate_shared"]

_PREFILL_TOKENS = 16384
"""Most tokens, padding included, of one prefill: bounds the memory of its activations."""


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
    finish: Literal["end", "length", "stop"]
    """What ended it: an end token, the limit of tokens, or a stop string."""


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
    with _evaluation_mode(model), torch.inference_mode():
        engine = _Engine(model, tokenizer, prompts, settings, limits, seed, ids, rows)
        finished = engine.run(on_progress or (lambda count: None))
    return [_generated(finished[index], engine.stop) for index in range(len(prompts))]


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
    """`generate`, each process of the run answering its share; all processes get all responses."""
    ids = range(len(prompts)) if sequence_ids is None else sequence_ids
    with whole(model):
        drawn = generate(
            model, tokenizer, own_share(prompts), settings, seed=seed,
            sequence_ids=own_share(ids), rows=rows, on_progress=on_progress,
        )  # fmt: skip
    return gather_shares(drawn)


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


@dataclass(frozen=True, slots=True)
class _Finished:
    tokens: list[int]
    logprobs: list[float]
    finish: Literal["end", "length", "stop"]


class _Engine:
    """The state between decoding steps. Waiting prompts are prefilled, admitted, decoded, retired.

    `gaps` are the rows without a response; they are filled or closed before each step.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        prompts: Sequence[Sequence[int]],
        settings: SamplingSettings,
        limits: Sequence[int],
        seed: int,
        sequence_ids: Sequence[int],
        rows: int,
    ) -> None:
        self.prompts, self.settings, self.limits = prompts, settings, limits
        self.seed, self.sequence_ids = seed, sequence_ids
        self.device = model.device
        self.ends = torch.tensor(end_token_ids(tokenizer), device=self.device)
        self.stop = StopStrings(tokenizer, settings.stop)
        count = min(rows, len(prompts))
        capacity = max(len(p) - 1 + limit for p, limit in zip(prompts, limits, strict=True))
        self.decoder = choose_decoder(model, slots=count, capacity=capacity)
        self.rows = ActiveRows(count, max(limits), device=self.device)
        self.gaps = list(range(count))
        self.waiting = _alike_and_longest_first(prompts)
        self.staged: deque[tuple[int, int]] = deque()
        self.prefilled: Any = None
        self.finished: dict[int, _Finished] = {}

    def run(self, on_progress: Callable[[int], None]) -> dict[int, _Finished]:
        """Finish all prompts; the results by index of the prompt."""
        while len(self.finished) < len(self.prompts):
            self._fill_gaps()
            self._close_gaps()
            self._decode_step()
            if self.gaps:
                on_progress(len(self.gaps))
        return self.finished

    def _prefill(self) -> None:
        """Read the next prompts into `prefilled`; `staged` says who is to be admitted from it."""
        longest = len(self.prompts[self.waiting[0][0]])
        batch: list[list[int]] = []
        while self.waiting and len(batch) < min(
            self.rows.capacity, max(1, _PREFILL_TOKENS // longest)
        ):
            batch.append(self.waiting.popleft())
        self.prefilled = self.decoder.prefill([self.prompts[same[0]][:-1] for same in batch])
        self.staged.extend((index, place) for place, same in enumerate(batch) for index in same)

    def _fill_gaps(self) -> None:
        """Put waiting prompts into the rows that have become free."""
        while self.gaps and (self.staged or self.waiting):
            if not self.staged:
                self._prefill()
            count = min(len(self.gaps), len(self.staged))
            slots = [self.gaps.pop() for _ in range(count)]
            indices, places = zip(*(self.staged.popleft() for _ in range(count)), strict=True)
            self.decoder.admit(self.prefilled, self._long(places), self._long(slots))
            self.rows.admit(
                slots,
                owners=indices,
                last_tokens=[self.prompts[index][-1] for index in indices],
                lengths=[len(self.prompts[index]) - 1 for index in indices],
                limits=[self.limits[index] for index in indices],
                sequence_ids=[self.sequence_ids[index] for index in indices],
            )

    def _close_gaps(self) -> None:
        """Move the last rows into the gaps that stayed, so that live rows come first."""
        if self.gaps:
            source, target = self.rows.close(self.gaps)
            if source:
                longest = self.rows.longest
                self.decoder.move(self._long(source), self._long(target), longest=longest)
            self.gaps = []

    def _decode_step(self) -> None:
        """Draw one token for each row and retire the rows that it ends."""
        rows = self.rows
        logits = self.decoder.step(rows.next_tokens, rows.lengths, longest=rows.longest)
        uniform = uniforms(self.seed, rows.sequence_ids, rows.produced)
        forbidden = self._too_early_to_end(logits)
        tokens, logprobs = choose_tokens(logits, uniform, self.settings, forbidden)
        is_end = (tokens.unsqueeze(1) == self.ends).any(dim=1)
        is_done = is_end | (rows.produced + 1 >= rows.limits)
        rows.append(tokens, logprobs)
        stopped = self._stopped(tokens)
        self.gaps = sorted({*is_done.nonzero().flatten().tolist(), *stopped})
        for row in self.gaps:
            drawn, drawn_logprobs = rows.response(row)
            finish: Literal["end", "length", "stop"] = "stop" if row in stopped else "length"
            if bool(is_end[row]):
                finish = "end"
            self.finished[rows.owners[row]] = _Finished(drawn, drawn_logprobs, finish)

    def _too_early_to_end(self, logits: Tensor) -> Tensor | None:
        """[rows, V] bool, True at the end tokens of responses below the minimum length."""
        if self.settings.min_response_tokens == 0:
            return None
        is_short = self.rows.produced < self.settings.min_response_tokens
        is_end = torch.zeros(logits.shape[-1], dtype=torch.bool, device=self.device)
        is_end[self.ends] = True
        return is_short.unsqueeze(1) & is_end

    def _stopped(self, tokens: Tensor) -> set[int]:
        """The rows whose text has just completed a stop string."""
        if not self.settings.stop:
            return set()
        drawn = enumerate(tokens.tolist())
        candidates = [row for row, token in drawn if self.stop.may_complete(token)]
        return {row for row in candidates if self.stop.found(self.rows.response(row)[0])}

    def _long(self, numbers: Sequence[int]) -> Tensor:
        return torch.tensor(numbers, dtype=torch.long, device=self.device)


def _alike_and_longest_first(prompts: Sequence[Sequence[int]]) -> deque[list[int]]:
    """Indices of equal prompts together, the longest prompt first.

    Similar lengths waste little padding, and too long a prompt for the memory shows at once.
    """
    alike: dict[tuple[int, ...], list[int]] = {}
    for index, prompt in enumerate(prompts):
        alike.setdefault(tuple(prompt), []).append(index)
    return deque(sorted(alike.values(), key=lambda same: -len(prompts[same[0]])))


def _generated(finished: _Finished, stop: StopStrings) -> Generated:
    """Decode; outside inference mode, so that the log-probabilities may enter a loss."""
    tokens = finished.tokens
    return Generated(
        tokens=tuple(tokens),
        logprobs=torch.tensor(finished.logprobs, dtype=torch.float32),
        text=stop.text_before(tokens[:-1] if finished.finish == "end" else tokens),
        finish=finished.finish,
    )
