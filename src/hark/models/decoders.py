"""One decoding step of a model for rows of different lengths.

`SlotDecoder` keeps keys and values in slots, `PagedDecoder` on a CPU in pages. `RecomputingDecoder`
forwards every row from its beginning at each step: slow, but right for any causal model, and what
architectures get whose attention cannot be told the length of each row. `supports_slots` finds out
by trying.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Sequence
from typing import Any, Protocol
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from transformers import Cache, DynamicCache, PreTrainedModel

from hark.models.graph_decoder import GraphDecoder
from hark.models.key_value_pages import KeyValuePages
from hark.models.key_value_slots import KeyValueSlots
from hark.models.paged_attention import PAGE
from hark.models.prefill import ReadPrompt, read_end_to_end
from hark.models.tree_attention import attends_by_tree

log = logging.getLogger(__name__)


class Decoder(Protocol):
    """What generation asks of a model. Rows are the first slots; tensors are on its device."""

    def prefill(self, prompts: Sequence[Sequence[int]]) -> Any:
        """Read prompts (some may be empty); the result is for `admit`."""

    def admit(self, prefilled: Any, which: Tensor, slots: Tensor) -> None:
        """Put prompts `which` of a prefilled batch into `slots`; both [n] long."""

    def move(self, source: Tensor, target: Tensor, *, longest: int) -> None:
        """Copy slots `source`, of at most `longest` tokens, to `target`; both [n] long."""

    def step(self, tokens: Tensor, lengths: Tensor, *, longest: int) -> Tensor:
        """Append `tokens` [rows] to rows of `lengths` [rows] tokens; the next logits, [rows, V]."""


def choose_decoder(model: PreTrainedModel, *, slots: int, capacity: int) -> Decoder:
    """The fastest decoder that is right for `model`, with `slots` of `capacity` tokens."""
    if not supports_slots(model):
        return RecomputingDecoder(model, slots=slots, capacity=capacity)
    decoder = _cached_decoder(model)(model, slots=slots, capacity=capacity)
    if isinstance(decoder, SlotDecoder) and model.device.type == "cuda":
        return GraphDecoder(decoder, slots=slots, capacity=capacity)
    return decoder


def _cached_decoder(model: PreTrainedModel) -> type[SlotDecoder | PagedDecoder]:
    return PagedDecoder if attends_by_tree(model) else SlotDecoder


class SlotDecoder:
    """Decoding with a key-value cache in slots."""

    def __init__(self, model: PreTrainedModel, *, slots: int, capacity: int) -> None:
        self.model = model
        self.cache = KeyValueSlots(slots=slots, capacity=capacity)
        self.masks = _Masks(model, capacity)
        self.last_logits_only = _last_logits_only(model)

    def prefill(self, prompts: Sequence[Sequence[int]]) -> Cache:
        """Forward prompts padded on the right: causal attention never looks at the padding."""
        return _read_padded(self.model, prompts)

    def admit(self, prefilled: Cache, which: Tensor, slots: Tensor) -> None:
        """Copy the keys and values of the prompts; a prompt may be copied to several slots."""
        if len(prefilled.layers) > 0:
            self.cache.write(slots, prefilled, which)

    def move(self, source: Tensor, target: Tensor, *, longest: int) -> None:
        """Copy slots."""
        self.cache.move(source, target, longest=longest)

    def step(self, tokens: Tensor, lengths: Tensor, *, longest: int) -> Tensor:
        """One forward pass of one token for each row."""
        self.cache.at(lengths, longest=longest)
        output = self.model(
            tokens.unsqueeze(1),
            attention_mask=self._masks(lengths, longest),
            position_ids=lengths.unsqueeze(1),
            past_key_values=self.cache,
            use_cache=True,
            **self.last_logits_only,
        )
        return output.logits[:, -1]

    def _masks(self, lengths: Tensor, longest: int) -> Tensor | dict[str, Tensor]:
        return self.masks.of(lengths, longest + 1)


class PagedDecoder:
    """Decoding with a key-value cache in pages, for models for which `attends_by_tree` holds."""

    def __init__(self, model: PreTrainedModel, *, slots: int, capacity: int) -> None:
        self.model = model
        self.cache = KeyValuePages(rows=slots, capacity=capacity)
        self.masks = _Masks(model, capacity + PAGE)
        self.last_logits_only = _last_logits_only(model)

    def prefill(self, prompts: Sequence[Sequence[int]]) -> list[ReadPrompt]:
        """Forward prompts end to end, or padded where a sliding window cuts some: attention by
        tree knows none."""
        _, sliding, window = _attention_kinds(self.model)
        if not sliding or max(len(prompt) for prompt in prompts) <= window:
            return read_end_to_end(self.model, prompts)
        states = _read_padded(self.model, prompts)
        return [ReadPrompt(states, row, 0, len(prompt)) for row, prompt in enumerate(prompts)]

    def admit(self, prefilled: list[ReadPrompt], which: Tensor, slots: Tensor) -> None:
        """Copy the keys and values of the prompts; a prompt may be copied to several slots."""
        self.cache.write(slots.tolist(), [prefilled[place] for place in which.tolist()])

    def move(self, source: Tensor, target: Tensor, *, longest: int) -> None:
        """Give pages to other slots."""
        for old, new in zip(source.tolist(), target.tolist(), strict=True):
            self.cache.table.move(old, new)

    def step(self, tokens: Tensor, lengths: Tensor, *, longest: int) -> Tensor:
        """One forward pass of one token for each row."""
        self.cache.at(lengths, longest=longest)
        layout = self.cache.layout
        output = self.model(
            tokens.unsqueeze(1),
            attention_mask=self.masks.of(lengths, layout.widest * PAGE),
            position_ids=lengths.unsqueeze(1),
            past_key_values=self.cache,
            use_cache=True,
            page_layout=layout,
            **self.last_logits_only,
        )
        return output.logits[:, -1]


class _Masks:
    """Additive masks of one decoding step."""

    def __init__(self, model: PreTrainedModel, capacity: int) -> None:
        self.kinds = _attention_kinds(model)
        self.positions = torch.arange(capacity, device=model.device)
        self.visible = torch.zeros((), dtype=model.dtype, device=model.device)
        self.hidden = torch.full_like(self.visible, torch.finfo(model.dtype).min)

    def of(self, lengths: Tensor, width: int) -> Tensor | dict[str, Tensor]:
        """The additive mask [rows, 1, 1, width], or one for each kind of attention layer."""
        full, sliding, window = self.kinds
        distance = lengths.unsqueeze(1) - self.positions[:width]
        masks = {}
        if full:
            masks["full_attention"] = self._additive(distance >= 0)
        if sliding:
            masks["sliding_attention"] = self._additive((distance >= 0) & (distance < window))
        return masks if len(masks) > 1 else next(iter(masks.values()))

    def _additive(self, is_visible: Tensor) -> Tensor:
        return torch.where(is_visible, self.visible, self.hidden)[:, None, None, :]


class RecomputingDecoder:
    """Decoding without a cache; O(T²) forward work, for models that `SlotDecoder` cannot serve."""

    def __init__(self, model: PreTrainedModel, *, slots: int, capacity: int) -> None:
        self.model = model
        self.tokens = torch.zeros(slots, capacity, dtype=torch.long, device=model.device)

    def prefill(self, prompts: Sequence[Sequence[int]]) -> Tensor:
        """Nothing to compute yet: the prompts as one padded tensor [n, T]."""
        return _padded(prompts, device=self.model.device)

    def admit(self, prefilled: Tensor, which: Tensor, slots: Tensor) -> None:
        """Copy the tokens of the prompts."""
        self.tokens[slots, : prefilled.shape[1]] = prefilled[which]

    def move(self, source: Tensor, target: Tensor, *, longest: int) -> None:
        """Copy slots."""
        self.tokens[target, :longest] = self.tokens[source, :longest]

    def step(self, tokens: Tensor, lengths: Tensor, *, longest: int) -> Tensor:
        """Forward all rows from their beginnings; what stands beyond a row's end is not seen."""
        row_numbers = torch.arange(tokens.shape[0], device=tokens.device)
        self.tokens[row_numbers, lengths] = tokens
        logits = self.model(self.tokens[: len(tokens), : longest + 1], use_cache=False).logits
        return logits[row_numbers, lengths]


_supports_slots: WeakKeyDictionary[PreTrainedModel, bool] = WeakKeyDictionary()


def supports_slots(model: PreTrainedModel) -> bool:
    """Whether decoding from slots gives the model's own logits; tried once for each model.

    Attention that does not take a mask and positions for each row (ALiBi built from a 2-D mask,
    recurrent layers) either raises or gives other logits than a plain forward pass.
    """
    if model not in _supports_slots:
        _supports_slots[model] = _can_be_masked(model) and _slots_agree(model)
        if not _supports_slots[model]:
            log.warning(
                "%s cannot decode from a key-value cache in slots; generating without a cache, "
                "which is right but slow",
                type(model).__name__,
            )
    return _supports_slots[model]


def _attention_kinds(model: PreTrainedModel) -> tuple[bool, bool, int]:
    """Whether the model has full and sliding attention layers, and the sliding window."""
    config = model.config.get_text_config(decoder=True)
    window = getattr(config, "sliding_window", None) or 0
    kinds = getattr(config, "layer_types", None)
    if kinds is None:
        return window == 0, window > 0, window
    return "full_attention" in kinds, "sliding_attention" in kinds, window


def _can_be_masked(model: PreTrainedModel) -> bool:
    """Whether all layers are attention that a mask describes, however long the text."""
    config = model.config.get_text_config(decoder=True)
    kinds = set(getattr(config, "layer_types", None) or ())
    # GPT-Neo builds the mask of its local layers inside, from the length of the longest row.
    return kinds <= {"full_attention", "sliding_attention"} and config.model_type != "gpt_neo"


def _slots_agree(model: PreTrainedModel) -> bool:
    """Compare three steps of rows of unequal lengths with plain forward passes."""
    # In the weights' own precision: rounding under a caller's autocast says nothing of the method.
    with torch.autocast(model.device.type, enabled=False):
        return _slots_agree_as_stored(model)


def _slots_agree_as_stored(model: PreTrainedModel) -> bool:
    vocabulary = model.get_input_embeddings().num_embeddings
    texts = [[(11 * place + start) % vocabulary for place in range(6)] for start in (3, 5)]
    known = [3, 1]
    try:
        decoder = _cached_decoder(model)(model, slots=2, capacity=6)
        slots = torch.arange(2, device=model.device)
        prompts = [text[:length] for text, length in zip(texts, known, strict=True)]
        decoder.admit(decoder.prefill(prompts), slots, slots)
        tokens = torch.tensor(texts, device=model.device)
        expected = model(tokens, use_cache=False).logits.float()
        tolerance = 1e-3 if model.dtype in (torch.float32, torch.float64) else 5e-2
        tolerance *= float(expected.max() - expected.min())
        for step in range(3):
            lengths = torch.tensor(known, device=model.device) + step
            logits = decoder.step(tokens[slots, lengths], lengths, longest=max(known) + step)
            difference = (logits.float() - expected[slots, lengths]).abs().max()
            if not difference <= tolerance:
                return False
    except Exception:  # whatever an architecture raises here says the same: not with slots
        log.debug("decoding from slots failed", exc_info=True)
        return False
    return True


def _read_padded(model: PreTrainedModel, prompts: Sequence[Sequence[int]]) -> Cache:
    """Keys and values of prompts padded on the right, each a row."""
    cache = DynamicCache()
    tokens = _padded(prompts, device=model.device)
    if tokens.shape[1] > 0:
        model(tokens, past_key_values=cache, use_cache=True, **_last_logits_only(model))
    return cache


def _last_logits_only(model: PreTrainedModel) -> dict[str, int]:
    """The argument that keeps a forward pass from computing logits that nobody reads."""
    takes_it = "logits_to_keep" in inspect.signature(model.forward).parameters
    return {"logits_to_keep": 1} if takes_it else {}


def _padded(prompts: Sequence[Sequence[int]], *, device: torch.device) -> Tensor:
    """[n, T] long, padded on the right with each prompt's last token.

    Any token would do; transformers warns when it meets the pad token without a mask.
    """
    longest = max(len(prompt) for prompt in prompts)
    rows = [
        [*prompt, *[prompt[-1] if prompt else 0] * (longest - len(prompt))] for prompt in prompts
    ]
    return torch.tensor(rows, dtype=torch.long, device=device)
