"""The responses being drawn: one row each, the live rows always the first ones."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


class ActiveRows:
    """What is known of each response being drawn, apart from its keys and values.

    Tensors are on the model's device; properties give the part of the live rows. Lengths are also
    kept on the host, where reading the longest costs no synchronisation.
    """

    def __init__(self, capacity: int, max_tokens: int, *, device: torch.device) -> None:
        def numbers(*shape: int) -> Tensor:
            return torch.zeros(*shape, dtype=torch.long, device=device)

        self.capacity = capacity
        self.count = 0
        self.owners = [-1] * capacity
        """[rows] which prompt each row answers."""
        self._host_lengths = [0] * capacity
        self._next_tokens = numbers(capacity)
        self._lengths = numbers(capacity)
        self._produced = numbers(capacity)
        self._limits = numbers(capacity)
        self._seed_keys = numbers(capacity)
        self._sequence_ids = numbers(capacity)
        self._tokens = numbers(capacity, max_tokens)
        self._logprobs = torch.zeros(capacity, max_tokens, device=device)

    @property
    def next_tokens(self) -> Tensor:
        """[rows] long, the token that the model reads next."""
        return self._next_tokens[: self.count]

    @property
    def lengths(self) -> Tensor:
        """[rows] long, how many tokens the model has read."""
        return self._lengths[: self.count]

    @property
    def produced(self) -> Tensor:
        """[rows] long, how many tokens have been drawn."""
        return self._produced[: self.count]

    @property
    def limits(self) -> Tensor:
        """[rows] long, how many tokens may be drawn."""
        return self._limits[: self.count]

    @property
    def seed_keys(self) -> Tensor:
        """[rows] long, `seed_key` of each row's seed."""
        return self._seed_keys[: self.count]

    @property
    def sequence_ids(self) -> Tensor:
        """[rows] long."""
        return self._sequence_ids[: self.count]

    @property
    def longest(self) -> int:
        """The largest of `lengths`."""
        return max(self._host_lengths[: self.count], default=0)

    def open(self, count: int) -> list[int]:
        """Add at most `count` rows, as many as there is capacity for, and say which."""
        first, self.count = self.count, max(self.count, min(self.capacity, self.count + count))
        return list(range(first, self.count))

    def admit(
        self,
        rows: Sequence[int],
        *,
        owners: Sequence[int],
        last_tokens: Sequence[int],
        lengths: Sequence[int],
        limits: Sequence[int],
        seed_keys: Sequence[int],
        sequence_ids: Sequence[int],
    ) -> None:
        """Begin a response in each of `rows`; all arguments have one value for each."""
        places = torch.tensor(rows, device=self._lengths.device)
        values = torch.tensor(
            [last_tokens, lengths, limits, seed_keys, sequence_ids], device=places.device
        )
        self._next_tokens[places], self._lengths[places] = values[0], values[1]
        self._limits[places] = values[2]
        self._seed_keys[places], self._sequence_ids[places] = values[3], values[4]
        self._produced[places] = 0
        for row, owner, length in zip(rows, owners, lengths, strict=True):
            self.owners[row], self._host_lengths[row] = owner, length

    def append(self, tokens: Tensor, logprobs: Tensor) -> None:
        """Add the token just drawn to each live row; both arguments [rows]."""
        places = self.produced.unsqueeze(1)
        self._tokens[: self.count].scatter_(1, places, tokens.unsqueeze(1))
        self._logprobs[: self.count].scatter_(1, places, logprobs.unsqueeze(1))
        self._next_tokens[: self.count] = tokens
        self.lengths.add_(1)
        self.produced.add_(1)
        self._host_lengths = [length + 1 for length in self._host_lengths]

    def response(self, row: int) -> tuple[list[int], list[float]]:
        """The tokens drawn in a row so far and their log-probabilities."""
        count = int(self._produced[row])
        return self._tokens[row, :count].tolist(), self._logprobs[row, :count].tolist()

    def close(self, gaps: Sequence[int]) -> tuple[list[int], list[int]]:
        """Drop the rows `gaps`, moving live rows from the end into them.

        Returns:
            Which rows were moved, and where to.
        """
        dead = set(gaps)
        self.count -= len(dead)
        source = [row for row in range(self.count, self.count + len(dead)) if row not in dead]
        target = sorted(row for row in dead if row < self.count)
        if source:
            for tensor in (
                self._next_tokens,
                self._lengths,
                self._produced,
                self._limits,
                self._seed_keys,
                self._sequence_ids,
                self._tokens,
                self._logprobs,
            ):
                tensor[target] = tensor[source]
        for old, new in zip(source, target, strict=True):
            self.owners[new], self._host_lengths[new] = self.owners[old], self._host_lengths[old]
        return source, target
