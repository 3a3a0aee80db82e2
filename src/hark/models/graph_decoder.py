"""Decoding on a GPU by replaying recorded steps (CUDA graphs).

A step of a small batch is hundreds of short kernels, and to start them one by one takes the host
longer than to compute them takes the GPU. A recorded step starts them all at once, but repeats the
very same: same addresses, same shapes. So each step is brought into one of few shapes, at most an
eighth larger unless it is small (`rounded_up`); rows that only fill up write into slots that hold
no response. A shape is recorded when it comes for the second time: the first time runs as ever and
lets libraries allocate what they need.

Under autocast a copy of the matrices is kept in its precision, because autocast's own copies end
with its context, and a recorded step would go on reading where they were.

Where recording fails (a model that asks the GPU for a number in the middle of a step, say) decoding
goes on without, and says so once.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from transformers.pytorch_utils import Conv1D

if TYPE_CHECKING:
    from hark.models.decoders import SlotDecoder

log = logging.getLogger(__name__)

ROW_UNIT, LENGTH_UNIT = 8, 64
"""The least that rows of a step, and positions that they attend to, are rounded up to."""

Computation = Callable[[], Tensor]
Recorder = Callable[[Computation], Computation]
"""From a computation on tensors that stay where they are to one that repeats it."""

_one_recording = threading.Lock()
"""CUDA allows one at a time, and a server has a thread with an engine for each model."""


class GraphDecoder:
    """A `SlotDecoder` whose steps are recorded and replayed.

    To be used while the weights stay as they are and where they are, as any decoder with a cache.
    """

    def __init__(
        self,
        decoder: SlotDecoder,
        *,
        slots: int,
        capacity: int,
        recorder: Callable[[torch.device], Recorder] | None = None,
    ) -> None:
        """recorder: makes what records on a device; CUDA graphs unless something else is given."""
        self.decoder = decoder
        self.slots, self.capacity = slots, capacity
        device = decoder.model.device
        self._device = device.type
        self.tokens = torch.zeros(slots, dtype=torch.long, device=device)
        self.lengths = torch.zeros(slots, dtype=torch.long, device=device)
        self._record: Recorder | None = (recorder or cuda_recorder)(device)
        self._stepping = _Stepping(decoder)
        self._copies: dict[torch.dtype | None, dict[str, Tensor]] = {None: {}}
        self._steps: dict[tuple[int, int, torch.dtype | None], Computation | None] = {}

    def prefill(self, prompts: Sequence[Sequence[int]]) -> Any:
        """As `SlotDecoder`."""
        return self.decoder.prefill(prompts)

    def admit(self, prefilled: Any, which: Tensor, slots: Tensor) -> None:
        """As `SlotDecoder`."""
        self.decoder.admit(prefilled, which, slots)

    def move(self, source: Tensor, target: Tensor, *, longest: int) -> None:
        """As `SlotDecoder`."""
        self.decoder.move(source, target, longest=longest)

    def step(self, tokens: Tensor, lengths: Tensor, *, longest: int) -> Tensor:
        """As `SlotDecoder`, in a shape that comes again."""
        rows = tokens.shape[0]
        rounded, end = self.shape(rows, longest)
        self.tokens[:rows], self.lengths[:rows] = tokens, lengths
        # Whatever lies there, in slots of no response: a token at place 0, which sees itself.
        self.tokens[rows:rounded], self.lengths[rows:rounded] = 0, 0
        autocast = torch.is_autocast_enabled(self._device)
        dtype = torch.get_autocast_dtype(self._device) if autocast else None
        # A copy, because the next step in this shape writes where this one's result lies.
        return self._computation(rounded, end, dtype)()[:rows].clone()

    def shape(self, rows: int, longest: int) -> tuple[int, int]:
        """Rows, and positions to attend to, that a step of so many is computed with."""
        return (
            min(self.slots, rounded_up(rows, ROW_UNIT)),
            min(self.capacity, rounded_up(longest + 1, LENGTH_UNIT)),
        )

    def _computation(self, rows: int, end: int, dtype: torch.dtype | None) -> Computation:
        """One step in this shape: recorded, or as ever."""

        def compute() -> Tensor:
            # The cache would keep what is cast while recording, which nothing has computed yet.
            with torch.autocast(
                self._device, dtype, enabled=dtype is not None, cache_enabled=False
            ):
                return functional_call(
                    self._stepping, self._copied(dtype),
                    (self.tokens[:rows], self.lengths[:rows], end - 1), tie_weights=False,
                )  # fmt: skip

        shape = rows, end, dtype
        if self._record is None or shape not in self._steps:
            self._steps[shape] = None
            return compute
        recorded = self._steps[shape]
        if recorded is None:
            recorded = self._steps[shape] = self._recorded(compute)
        return recorded

    def _recorded(self, compute: Computation) -> Computation:
        assert self._record is not None
        try:
            return self._record(compute)
        except RuntimeError as error:
            log.warning(
                "decoding steps of %s cannot be recorded (%s); their kernels are started one by "
                "one, which is right but slow",
                type(self.decoder.model).__name__, " ".join(str(error).split())[:200],
            )  # fmt: skip
            self._record = None
            self._steps.clear()
            return compute

    def _copied(self, dtype: torch.dtype | None) -> dict[str, Tensor]:
        """The matrices as autocast would cast them, by their names in `_Stepping`."""
        if dtype not in self._copies:
            self._copies[dtype] = {
                f"model.{name}": weight.detach().to(dtype)
                for name, weight in _matrices(self.decoder.model)
            }
        return self._copies[dtype]


class _Stepping(nn.Module):
    """A decoder's step as a module, so that it can be called with other weights."""

    def __init__(self, decoder: SlotDecoder) -> None:
        super().__init__()
        self.model = decoder.model
        self.step = decoder.step

    def forward(self, tokens: Tensor, lengths: Tensor, longest: int) -> Tensor:
        return self.step(tokens, lengths, longest=longest)


def cuda_recorder(device: torch.device) -> Recorder:
    """Records CUDA graphs, which share their memory: no two may run at once."""
    pool = torch.cuda.graph_pool_handle()

    def record(computation: Computation) -> Computation:
        graph = torch.cuda.CUDAGraph()
        with (
            _one_recording,
            torch.cuda.device(device),
            # Brings the stream back where recording fails, as `graph` itself does not.
            torch.cuda.stream(torch.cuda.current_stream(device)),
            # What other threads do meanwhile is no part of it.
            torch.cuda.graph(graph, pool=pool, capture_error_mode="thread_local"),
        ):
            result = computation()

        def replay() -> Tensor:
            graph.replay()
            return result

        return replay

    return record


def rounded_up(count: int, least: int) -> int:
    """The next multiple of `least`, or of an eighth of the power of two below where that is more.

    Shapes are then few, as many for each doubling, and at most an eighth of each is in vain.
    """
    unit = max(least, 1 << max(0, count.bit_length() - 4))
    return -(-count // unit) * unit


def _matrices(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """What autocast casts: weights and biases of linear maps; embeddings it leaves alone."""
    for name, module in model.named_modules():
        if isinstance(module, (nn.Linear, Conv1D)):
            for kind in ("weight", "bias"):
                if getattr(module, kind, None) is not None:
                    yield f"{name}.{kind}", getattr(module, kind)
