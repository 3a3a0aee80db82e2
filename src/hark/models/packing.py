"""Rows without padding: prompts with their responses laid end to end.

A `PromptTree` is one prompt and its K responses. The prompt is computed once; each response is a
branch that sees the prompt and itself, never its siblings. Several trees share a row, and never see
each other. The result equals one padded forward pass per response to rounding, gradients included,
for the architectures in `PACKABLE`; others get one sequence per row (`pack_for` decides).

Shape letters: `N` responses, `M` response tokens laid end to end, `R` rows, `T` tokens in a row.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from hark.errors import DataError, SettingsError
from hark.models.tree_attention import attends_by_flex, attends_by_tree

PACKABLE = frozenset(
    {"llama", "gpt2", "gpt_neox", "qwen2", "qwen3", "gemma", "gemma2", "mistral", "gemma3_text"}
)
"""The `model_type`s for which the tests show that packing changes nothing."""

IN_PROMPT = -1

GPU_PASS_TOKENS = 8192
"""Most tokens of one pass on a GPU, unless a setting says otherwise: products at full rate."""
CPU_PASS_TOKENS = 4096
"""The same on a CPU: a pass that computes less stays nearer the processor, and leaves its memory to
the next (decision 0016)."""


@dataclass(frozen=True, slots=True)
class PromptTree:
    """One prompt and its responses, as token ids; neither may be empty."""

    prompt: tuple[int, ...]
    """Ends where the assistant begins to speak; its last token predicts each response's first."""
    responses: tuple[tuple[int, ...], ...]
    """Each with its end token, if it has one."""

    @property
    def tokens(self) -> int:
        """Length with the prompt counted once."""
        return len(self.prompt) + sum(len(response) for response in self.responses)

    @property
    def lengths(self) -> tuple[int, tuple[int, ...]]:
        """Tokens of the prompt, and of each response."""
        return len(self.prompt), tuple(len(response) for response in self.responses)

    @property
    def longest_sequence(self) -> int:
        """Length of the prompt with its longest response: what must fit the context."""
        return len(self.prompt) + max(len(response) for response in self.responses)

    def parts(self, max_tokens: int) -> list[PromptTree]:
        """The same responses in trees of at most `max_tokens` tokens, in order.

        A response that is longer with its prompt has a tree of its own. For passes in which the
        responses need not meet: any number of them then fits the memory.
        """
        if self.tokens <= max_tokens or len(self.responses) < 2:
            return [self]
        groups: list[list[tuple[int, ...]]] = []
        filled = max_tokens
        for response in self.responses:
            if not groups or filled + len(response) > max_tokens:
                groups.append([])
                filled = len(self.prompt)
            groups[-1].append(response)
            filled += len(response)
        return [PromptTree(self.prompt, tuple(group)) for group in groups]


def trees_by_prompt(
    prompts: Sequence[Sequence[int]], responses: Sequence[Sequence[int]]
) -> tuple[list[PromptTree], list[int]]:
    """Responses to the same prompt, wherever they stand, as one tree.

    prompts, responses: n of each, as token ids. Also the places of the responses, in the order in
    which the trees have them.
    """
    places: dict[tuple[int, ...], list[int]] = {}
    for place, prompt in enumerate(prompts):
        places.setdefault(tuple(prompt), []).append(place)
    trees = [
        PromptTree(prompt, tuple(tuple(responses[place]) for place in of_prompt))
        for prompt, of_prompt in places.items()
    ]
    return trees, [place for of_prompt in places.values() for place in of_prompt]


@dataclass(frozen=True, kw_only=True)
class PackedBatch:
    """Trees laid out in rows, and where to find each response token again.

    Responses are numbered in the order of the trees, then of their branches, whatever the layout;
    `M` runs over response 0's tokens, then response 1's, and so on.
    """

    tokens: Tensor
    """[R, T] long; the padding id where `is_token` is False."""
    positions: Tensor
    """[R, T] long; place in the prompt-plus-response sequence, from 0."""
    is_token: Tensor
    """[R, T] bool; False only for padding."""
    group: Tensor
    """[R, T] long; which tree, −1 for padding."""
    branch: Tensor
    """[R, T] long; which response of the tree, −1 for the prompt (and padding)."""
    targets: Tensor
    """[M] long; token ids of the responses."""
    predictors: Tensor
    """[M] long; index into R·T of the token whose hidden state predicts each target."""
    response_of: Tensor
    """[M] long; which of the N responses."""
    step_of: Tensor
    """[M] long; place in its response, from 0."""
    ends: Tensor
    """[N] long; index into R·T of each response's last token."""
    one_sequence_per_row: bool = False
    """True: rows are right-padded sequences and a plain [R, T] mask is enough."""
    trees: tuple[tuple[int, ...], ...] = ()
    """Lengths of each tree's prompt and responses, where all lie end to end in one row without
    padding (`tree_attention`); empty for other layouts."""

    @property
    def response_count(self) -> int:
        """N."""
        return self.ends.numel()

    @property
    def lengths(self) -> Tensor:
        """[N] long: tokens in each response."""
        return torch.bincount(self.response_of, minlength=self.response_count)

    def to(self, device: torch.device | str) -> PackedBatch:
        """The same batch on another device."""
        moved: dict[str, Any] = {
            field.name: _moved(value, torch.device(device))
            for field in dataclasses.fields(self)
            if isinstance(value := getattr(self, field.name), Tensor)
        }
        return dataclasses.replace(self, **moved)

    def attends(self) -> Tensor:
        """[R, T, T] bool: token i (dim 1) sees token j (dim 2).

        A token sees itself and what precedes it in its own prompt and its own branch. Padding sees
        padding, so that no row of the softmax is empty.
        """
        same_tree = self.group[:, :, None] == self.group[:, None, :]
        of_prompt = (self.branch == IN_PROMPT)[:, None, :]
        same_branch = self.branch[:, :, None] == self.branch[:, None, :]
        return (same_tree & (of_prompt | same_branch)).tril()

    def attention_mask(self, dtype: torch.dtype) -> Tensor:
        """What the model's forward pass takes as `attention_mask`.

        [R, 1, T, T] in `dtype`, 0 where a token attends and the least finite number elsewhere; for
        one sequence per row, [R, T] long with 1 for tokens.
        """
        if self.one_sequence_per_row:
            return self.is_token.long()
        hidden = torch.finfo(dtype).min
        mask = torch.zeros((), dtype=dtype, device=self.tokens.device)
        return torch.where(self.attends(), mask, hidden)[:, None]

    def padded(self, values: Tensor) -> Tensor:
        """[M] -> [N, longest response], zero after each response's end; differentiable."""
        blank = values.new_zeros(self.response_count, int(self.lengths.max()))
        return blank.index_put((self.response_of, self.step_of), values)

    def is_response(self) -> Tensor:
        """[N, longest response] bool: True at the tokens of each response."""
        return self.padded(torch.ones_like(self.targets, dtype=torch.bool))

    def flat(self, padded: Tensor) -> Tensor:
        """[N, longest response] -> [M], the inverse of `padded`."""
        return padded[self.response_of, self.step_of]


def pack(
    trees: Sequence[PromptTree],
    *,
    pad_token_id: int | None = None,
    row_tokens: int | None = None,
    share_prompts: bool = True,
    one_sequence_per_row: bool = False,
    end_to_end: bool = False,
) -> PackedBatch:
    """Lay trees out in rows, longest first, each in the first row with room (deterministic).

    row_tokens: width of a row; None takes the longest tree, rounded up to a multiple of 8. A tree
        longer than `row_tokens` widens all rows: it cannot be cut without losing what it sees.
    share_prompts: False repeats the prompt for each response (the padded computation, packed).
    one_sequence_per_row: repeats prompts and gives each response a right-padded row of its own.
    end_to_end: one row without padding, in the order given; a dense mask of it would be large.
    pad_token_id: any id the model has, since padding is masked; None means 0.

    Raises: DataError for an empty prompt, an empty response, or a tree without responses.
    """
    if row_tokens is not None and row_tokens < 1:
        raise SettingsError(f"row_tokens is {row_tokens}; give a positive number of tokens")
    _refuse_empty(trees)
    if one_sequence_per_row or not share_prompts:
        trees = [PromptTree(tree.prompt, (one,)) for tree in trees for one in tree.responses]
    sizes = [tree.tokens for tree in trees]
    if one_sequence_per_row:
        width, rows = max(sizes), [[index] for index in range(len(sizes))]
    elif end_to_end:
        width, rows = sum(sizes), [list(range(len(sizes)))]
    else:
        width = max(row_tokens or 0, max(sizes))
        width = width if row_tokens else -(-width // 8) * 8
        rows = _first_fit_decreasing(sizes, width)
    batch = _lay_out(trees, rows, width, pad_token_id or 0, one_sequence_per_row)
    if not end_to_end or one_sequence_per_row:
        return batch
    lengths = ((len(tree.prompt), *map(len, tree.responses)) for tree in trees)
    return dataclasses.replace(batch, trees=tuple(lengths))


def pack_for(
    model: PreTrainedModel | Sequence[PreTrainedModel],
    trees: Sequence[PromptTree],
    *,
    pad_token_id: int | None = None,
    row_tokens: int | None = None,
    share_prompts: bool = True,
) -> PackedBatch:
    """`pack` as densely as `model` allows: end to end, shared rows, or one sequence per row.

    model: one, or all that are to read the batch.
    row_tokens: asks for shared rows of this width.
    """
    models = model if isinstance(model, Sequence) else [model]
    longest = max((tree.longest_sequence for tree in trees if tree.responses), default=0)
    fits = all(supports_packing(each) and longest <= _attention_window(each) for each in models)
    by_tree = all(attends_by_tree(each) or attends_by_flex(each) for each in models)
    return pack(
        trees,
        pad_token_id=pad_token_id,
        row_tokens=row_tokens if fits else None,
        share_prompts=share_prompts,
        one_sequence_per_row=not fits,
        end_to_end=fits and row_tokens is None and by_tree,
    )


def supports_packing(model: PreTrainedModel) -> bool:
    """Whether the model honours a [R, 1, T, T] mask and position ids (a tested `model_type`)."""
    return model.config.model_type in PACKABLE


def pack_texts(
    documents: Sequence[Sequence[int]], *, row_tokens: int, pad_token_id: int | None = None
) -> PackedBatch:
    """Documents side by side, each attending only to itself.

    A document is a prompt of one token and a response of the rest; longer ones are cut into pieces
    of `row_tokens`. A piece of one token has nothing to predict and is left out.
    """
    pieces = [
        tuple(document[start : start + row_tokens])
        for document in documents
        for start in range(0, len(document), row_tokens)
    ]
    trees = [PromptTree(piece[:1], (piece[1:],)) for piece in pieces if len(piece) > 1]
    return pack(trees, row_tokens=row_tokens, pad_token_id=pad_token_id)


def text_rows(token_ids: Sequence[int] | Tensor, row_tokens: int) -> Tensor:
    """Cut a stream of documents, each ended by its end token, into [R, row_tokens] long.

    Plain causal rows as in GPT-2 and GPT-3: attention may cross the end of a document, no mask is
    needed, and a remainder shorter than a row is dropped.
    Raises: DataError if the stream does not fill one row.
    """
    stream = torch.as_tensor(token_ids, dtype=torch.long)
    rows = stream.numel() // row_tokens
    if rows == 0:
        raise DataError(
            f"the text has {stream.numel()} tokens, fewer than one row of {row_tokens}; "
            "give more text or a shorter row"
        )
    return stream[: rows * row_tokens].view(rows, row_tokens)


def pass_tokens(device: torch.device | str) -> int:
    """How many tokens a device computes fastest in one pass, about."""
    return CPU_PASS_TOKENS if torch.device(device).type == "cpu" else GPU_PASS_TOKENS


def plan_batches(
    trees: Sequence[PromptTree], max_tokens: int, *, shares: int = 1
) -> list[list[int]]:
    """Group indices of trees, longest first, so that each group has at most `max_tokens` tokens.

    Trees of like length share a group, which keeps rows full; groups have about as much each. A
    tree longer than `max_tokens` gets a group of its own.
    shares: make a multiple of so many groups, of nearly equal size, where there are trees enough:
        that many processes then have as much to do.
    """
    if shares > 1:
        return _even_groups([tree.tokens for tree in trees], max_tokens, shares)
    groups: list[list[int]] = []
    filled, total = 0, sum(tree.tokens for tree in trees)
    enough = total / max(1, math.ceil(total / max_tokens))
    for index in sorted(range(len(trees)), key=lambda i: (-trees[i].tokens, i)):
        if not groups or filled >= enough or filled + trees[index].tokens > max_tokens:
            groups.append([])
            filled = 0
        groups[-1].append(index)
        filled += trees[index].tokens
    return groups


def rows_per_pass(rows: int, row_tokens: int, max_tokens: int, *, shares: int = 1) -> int:
    """How many of `rows` rows of one length make a pass of at most `max_tokens`, at least one.

    shares: as in `plan_batches`.
    """
    most = max(1, max_tokens // row_tokens)
    if shares == 1:
        return most
    return -(-rows // (shares * -(-rows // (shares * most))))


def _even_groups(sizes: Sequence[int], most: int, shares: int) -> list[list[int]]:
    """The longest first, each to the group that has least; a multiple of `shares` groups."""
    order = sorted(range(len(sizes)), key=lambda i: (-sizes[i], i))
    count = shares * max(1, -(-sum(sizes) // (most * shares)))
    while True:
        groups: list[list[int]] = [[] for _ in range(count)]
        filled = [0] * count
        for index in order:
            least = filled.index(min(filled))
            groups[least].append(index)
            filled[least] += sizes[index]
        if max(filled) <= most or count >= len(sizes):
            return [group for group in groups if group]
        count += shares


def _moved(tensor: Tensor, device: torch.device) -> Tensor:
    """To a GPU from memory that cannot be paged out, so that nobody waits for the copy."""
    if device.type == "cuda" and tensor.device.type == "cpu":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def _refuse_empty(trees: Sequence[PromptTree]) -> None:
    if not trees:
        raise DataError(
            "nothing to pack: the batch has no prompt; check that the data is not empty"
        )
    for index, tree in enumerate(trees):
        if not tree.prompt:
            raise DataError(f"prompt {index} of the batch has zero tokens; remove it from the data")
        if not tree.responses:
            raise DataError(f"prompt {index} of the batch has no response; remove it from the data")
        if any(not response for response in tree.responses):
            raise DataError(
                f"a response to prompt {index} of the batch has zero tokens; "
                "remove it from the data or let it end with the end token"
            )


def _attention_window(model: PreTrainedModel) -> float:
    """Longest sequence in which every layer still sees everything.

    A mask we pass replaces the model's own sliding windows, which is exact only for sequences that
    no window cuts.
    """
    config = model.config.get_text_config()
    window = getattr(config, "sliding_window", None)
    slides = getattr(config, "use_sliding_window", True)
    return window if window and slides else float("inf")


def _first_fit_decreasing(sizes: Sequence[int], width: int) -> list[list[int]]:
    """Indices of each row."""
    rows: list[list[int]] = []
    room: list[int] = []
    for index in sorted(range(len(sizes)), key=lambda i: (-sizes[i], i)):
        row = next((r for r, free in enumerate(room) if free >= sizes[index]), len(rows))
        if row == len(rows):
            rows.append([])
            room.append(width)
        rows[row].append(index)
        room[row] -= sizes[index]
    return rows


def _lay_out(
    trees: Sequence[PromptTree], rows: list[list[int]], width: int, pad: int, separate: bool
) -> PackedBatch:
    size = len(rows) * width
    tokens, positions = np.full(size, pad, np.int64), np.zeros(size, np.int64)
    group, branch = np.full(size, -1, np.int64), np.full(size, IN_PROMPT, np.int64)
    starts = _tree_starts(trees, rows, width)
    targets, predictors, steps, ends = [], [], [], []
    for index, (tree, start) in enumerate(zip(trees, starts, strict=True)):
        first = cursor = start + len(tree.prompt)
        tokens[start:first] = tree.prompt
        positions[start:first] = np.arange(len(tree.prompt))
        for number, response in enumerate(tree.responses):
            end, place = cursor + len(response), np.arange(len(response))
            tokens[cursor:end] = response
            positions[cursor:end] = len(tree.prompt) + place
            branch[cursor:end] = number
            # The first token is predicted by the prompt's last, which all branches share.
            predictors.append(np.where(place == 0, first - 1, cursor + place - 1))
            targets.append(np.asarray(response, np.int64))
            steps.append(place)
            ends.append(end - 1)
            cursor = end
        group[start:cursor] = index
    lengths = [len(step) for step in steps]

    def in_rows(array: np.ndarray) -> Tensor:
        return torch.from_numpy(array).view(len(rows), width)

    return PackedBatch(
        tokens=in_rows(tokens),
        positions=in_rows(positions),
        is_token=in_rows(group) >= 0,
        group=in_rows(group),
        branch=in_rows(branch),
        targets=torch.from_numpy(np.concatenate(targets)),
        predictors=torch.from_numpy(np.concatenate(predictors)),
        response_of=torch.from_numpy(np.repeat(np.arange(len(lengths)), lengths)),
        step_of=torch.from_numpy(np.concatenate(steps)),
        ends=torch.tensor(ends),
        one_sequence_per_row=separate,
    )


def _tree_starts(trees: Sequence[PromptTree], rows: list[list[int]], width: int) -> list[int]:
    """Index into R·T of each tree's first token."""
    starts = [0] * len(trees)
    for number, row in enumerate(rows):
        cursor = number * width
        for index in row:
            starts[index] = cursor
            cursor += trees[index].tokens
    return starts
