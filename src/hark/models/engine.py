"""An inference engine: responses of one model, each with settings of its own, drawn side by side.

Rows of one batch stand at different lengths, each in its own key-value slot. A row retires when it
draws the end token, completes a stop string or reaches its limit, and the next request takes its
place at once; when no request waits, the last rows close the gaps so that no dead row is computed.
Requests may come and be cancelled between any two steps. Prompts are prefilled in batches, a prompt
asked for several times in one submission only once.

Every token is a function of its logits and of (seed, sequence id, place in the response): the same
whether a request is alone or in a crowd, up to the rounding of the logits. Log-probabilities are
captured while sampling (see `sampling` for which).

The prefill reads all of a prompt but its last token, which is the first token the decoding reads.
"""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from hark.models.active_rows import ActiveRows
from hark.models.decoders import choose_decoder
from hark.models.sampling import SamplingSettings, choose_tokens, seed_key, uniforms
from hark.models.stop_strings import StopStrings
from hark.models.tokenizer import end_token_ids

PREFILL_TOKENS = 16384
"""Most tokens, padding included, of one prefill: bounds the memory of its activations."""
CPU_PREFILL_TOKENS = 4096
"""The same on a CPU, where fresh memory costs more than larger products gain (decision 0011)."""

Finish = Literal["end", "length", "stop"]
"""What ended a response: an end token, the limit of tokens, or a stop string."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One response to be drawn, filled by who wants it."""

    prompt: Sequence[int]
    """Token ids, at least one."""
    settings: SamplingSettings
    limit: int
    """The most tokens of the response; what `settings` say of it is not read."""
    seed: int
    sequence_id: int
    """With the seed, decides every draw; below 2⁶³."""


@dataclass(frozen=True, slots=True)
class Finished:
    """A response that has ended, filled by the engine."""

    owner: int
    """The number that `Engine.submit` gave the request."""
    tokens: list[int]
    """As drawn: with the end token if there is one, and with the tokens of a stop string."""
    logprobs: list[float]
    finish: Finish


@dataclass(frozen=True, slots=True)
class Step:
    """What one step drew, filled by the engine: a token for each row."""

    owners: list[int]
    """[rows] the number of the request that each row answers."""
    tokens: Tensor
    """[rows] long."""
    logprobs: Tensor
    """[rows] float32."""
    logits: Tensor
    """[rows, V], of which the tokens were drawn."""
    finished: list[Finished]
    """The responses that these tokens ended."""


class Engine:
    """The state between decoding steps. Waiting requests are prefilled, admitted, decoded, retired.

    `gaps` are the rows without a response; they are filled or closed before each step. To be used
    in inference mode, with the model in evaluation mode, by one thread.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        rows: int,
        capacity: int,
        max_tokens: int,
    ) -> None:
        """rows: responses drawn at once; capacity: of each, tokens of the prompt but one and of the
        response together; max_tokens: the largest limit of any request."""
        self.device = model.device
        self.ends = torch.tensor(end_token_ids(tokenizer), device=self.device)
        self.decoder = choose_decoder(model, slots=rows, capacity=capacity)
        self.rows = ActiveRows(rows, max_tokens, device=self.device)
        self.requests: dict[int, Request] = {}
        """Those that have not ended, by number."""
        self.gaps: list[int] = []
        self.waiting: deque[list[int]] = deque()
        """Numbers of requests with one prompt, together."""
        self.staged: deque[tuple[int, int]] = deque()
        """Request and place in `prefilled` of those to be admitted from it."""
        self.prefilled: Any = None
        self._submitted = 0
        # Bounded: a server meets ever new stop strings.
        self._stop_strings = functools.lru_cache(maxsize=128)(
            functools.partial(StopStrings, tokenizer)
        )

    @property
    def is_idle(self) -> bool:
        """Whether every request has ended."""
        return not self.requests

    @property
    def active(self) -> int:
        """How many responses are being drawn."""
        return self.rows.count - len(self.gaps)

    def submit(self, requests: Sequence[Request]) -> list[int]:
        """Queue requests, the longest prompt first; their numbers, in the order given."""
        owners = [self._submitted + place for place in range(len(requests))]
        self._submitted += len(requests)
        self.requests.update(zip(owners, requests, strict=True))
        self.waiting.extend(
            [owners[place] for place in same]
            for same in _alike_and_longest_first([request.prompt for request in requests])
        )
        return owners

    def cancel(self, owners: Collection[int]) -> None:
        """Forget requests, wherever they stand; those that have ended make no difference."""
        gone = {owner for owner in owners if self.requests.pop(owner, None) is not None}
        left = ([owner for owner in same if owner not in gone] for same in self.waiting)
        self.waiting = deque(same for same in left if same)
        self.staged = deque(item for item in self.staged if item[0] not in gone)
        rows = [row for row in range(self.rows.count) if self.rows.owners[row] in gone]
        self.gaps = sorted({*self.gaps, *rows})

    def step(self) -> Step:
        """Admit what fits and draw one token for each row; to be called while not idle."""
        self._fill_gaps()
        self._close_gaps()
        return self._decode_step()

    def _prefill(self) -> None:
        """Read the next prompts into `prefilled`; `staged` says who is to be admitted from it."""
        batch: list[list[int]] = []
        longest = 0
        most = PREFILL_TOKENS
        if self.device.type == "cpu":
            most = min(most, CPU_PREFILL_TOKENS)
        while self.waiting and len(batch) < self.rows.capacity:
            longest = max(longest, len(self.requests[self.waiting[0][0]].prompt))
            if batch and (len(batch) + 1) * longest > most:
                break
            batch.append(self.waiting.popleft())
        self.prefilled = self.decoder.prefill([self.requests[one[0]].prompt[:-1] for one in batch])
        self.staged.extend((owner, place) for place, same in enumerate(batch) for owner in same)

    def _fill_gaps(self) -> None:
        """Put waiting requests into free rows."""
        pending = len(self.requests) - self.active
        self.gaps += self.rows.open(pending - len(self.gaps))
        while self.gaps and (self.staged or self.waiting):
            if not self.staged:
                self._prefill()
            count = min(len(self.gaps), len(self.staged))
            slots = [self.gaps.pop() for _ in range(count)]
            owners, places = zip(*(self.staged.popleft() for _ in range(count)), strict=True)
            self.decoder.admit(self.prefilled, self._long(places), self._long(slots))
            admitted = [self.requests[owner] for owner in owners]
            self.rows.admit(
                slots,
                owners=owners,
                last_tokens=[request.prompt[-1] for request in admitted],
                lengths=[len(request.prompt) - 1 for request in admitted],
                limits=[request.limit for request in admitted],
                seed_keys=[seed_key(request.seed) for request in admitted],
                sequence_ids=[request.sequence_id for request in admitted],
            )

    def _close_gaps(self) -> None:
        """Move the last rows into the gaps that stayed, so that live rows come first."""
        if self.gaps:
            source, target = self.rows.close(self.gaps)
            if source:
                longest = self.rows.longest
                self.decoder.move(self._long(source), self._long(target), longest=longest)
            self.gaps = []

    def _decode_step(self) -> Step:
        """Draw one token for each row and retire the rows that it ends."""
        rows = self.rows
        owners = rows.owners[: rows.count]
        logits = self.decoder.step(rows.next_tokens, rows.lengths, longest=rows.longest)
        tokens, logprobs = self._draw(logits)
        is_end = (tokens.unsqueeze(1) == self.ends).any(dim=1)
        is_done = is_end | (rows.produced + 1 >= rows.limits)
        rows.append(tokens, logprobs)
        stopped = self._stopped(tokens)
        self.gaps = sorted({*is_done.nonzero().flatten().tolist(), *stopped})
        finished = []
        for row in self.gaps:
            finish: Finish = "stop" if row in stopped else "length"
            if bool(is_end[row]):
                finish = "end"
            finished.append(Finished(owners[row], *rows.response(row), finish))
            del self.requests[owners[row]]
        return Step(owners, tokens, logprobs, logits, finished)

    def _draw(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens and log-probabilities, [rows] each; rows drawn in one way are drawn together."""
        rows = self.rows
        uniform = uniforms(rows.seed_keys, rows.sequence_ids, rows.produced)
        alike: dict[tuple[float, ...], list[int]] = {}
        for row in range(rows.count):
            alike.setdefault(_way(self._settings(row)), []).append(row)
        if len(alike) == 1:
            settings = self._settings(0)
            return choose_tokens(
                logits, uniform, settings, self._too_early_to_end(settings, rows.produced, logits)
            )
        tokens = torch.zeros_like(rows.next_tokens)
        logprobs = torch.zeros(len(tokens), device=self.device)
        for members in alike.values():
            which, settings = self._long(members), self._settings(members[0])
            own = logits[which]
            forbidden = self._too_early_to_end(settings, rows.produced[which], own)
            tokens[which], logprobs[which] = choose_tokens(own, uniform[which], settings, forbidden)
        return tokens, logprobs

    def _settings(self, row: int) -> SamplingSettings:
        return self.requests[self.rows.owners[row]].settings

    def _too_early_to_end(
        self, settings: SamplingSettings, produced: Tensor, logits: Tensor
    ) -> Tensor | None:
        """[rows, V] bool, True at the end tokens of responses below the minimum length."""
        if settings.min_response_tokens == 0:
            return None
        is_short = produced < settings.min_response_tokens
        is_end = torch.zeros(logits.shape[-1], dtype=torch.bool, device=self.device)
        is_end[self.ends] = True
        return is_short.unsqueeze(1) & is_end

    def _stopped(self, tokens: Tensor) -> set[int]:
        """The rows whose text has just completed a stop string."""
        stops = [self._settings(row).stop for row in range(self.rows.count)]
        if not any(stops):
            return set()
        found = set()
        for row, (token, stop) in enumerate(zip(tokens.tolist(), stops, strict=True)):
            strings = self._stop_strings(stop) if stop else None
            if (
                strings
                and strings.may_complete(token)
                and strings.found(self.rows.response(row)[0])
            ):
                found.add(row)
        return found

    def _long(self, numbers: Sequence[int]) -> Tensor:
        return torch.tensor(numbers, dtype=torch.long, device=self.device)


def _way(settings: SamplingSettings) -> tuple[float, ...]:
    """What `choose_tokens` and the minimum length read: rows alike in it are drawn together."""
    return (
        settings.temperature, settings.top_p, settings.top_k, settings.min_response_tokens,
    )  # fmt: skip


def _alike_and_longest_first(prompts: Sequence[Sequence[int]]) -> list[list[int]]:
    """Indices of equal prompts together, the longest prompt first.

    Similar lengths waste little padding, and too long a prompt for the memory shows at once.
    """
    alike: dict[tuple[int, ...], list[int]] = {}
    for index, prompt in enumerate(prompts):
        alike.setdefault(tuple(prompt), []).append(index)
    return sorted(alike.values(), key=lambda same: -len(prompts[same[0]]))
