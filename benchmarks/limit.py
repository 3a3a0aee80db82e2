"""How much faster a step of preference training could be, whoever computes it.

    python -m benchmarks.limit [--model SFT_RUN --data COMPARISONS ...]

Added up as if nothing stood between them: the step's products with weights, done again with nothing
else; attention's products, at the rate of a large product in float32; and all other steps of
the layers, as if they did nothing but read what goes into them and write what comes out, once, as
fast as a copy. Beside each stands what hark takes. Left out, which makes the limit a generous one:
exponentials, embeddings, the loss, conversions of weights and the optimizer.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import datetime
import gc
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from unittest import mock

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import PretrainedConfig

from benchmarks.alone import pairs_step
from benchmarks.inputs import Inputs
from benchmarks.machine import product_rate
from benchmarks.options import parser, set_up
from benchmarks.sides import circumstances
from benchmarks.table import publish, table
from hark.models import cpu_attention, flops
from hark.models.packing import PromptTree
from hark.models.scalar_head import new_scalar_model

PRODUCTS = frozenset(
    {"aten::mm", "aten::addmm", "aten::mkldnn_linear_backward_weights", "mkldnn::_linear_pointwise"}
)
COPIES = 20
"""Of which the median counts."""
STREAM = 4
"""Bytes of a number of the residual stream, which is float32 in both precisions."""

Work = Callable[[], Any]


@dataclass(frozen=True, kw_only=True)
class Times:
    """Seconds of a step: all of it, and of its parts what hark takes and the least there can be."""

    step: float
    products: float
    attention: float
    least_attention: float
    least_else: float

    @property
    def all_else(self) -> float:
        return self.step - self.products - self.attention

    @property
    def least(self) -> float:
        return self.products + self.least_attention + self.least_else

    def row(self, name: str) -> tuple[str, ...]:
        """Milliseconds, and how many times as fast a step could be."""
        seconds = (
            self.step, self.products, self.attention, self.least_attention, self.all_else,
            self.least_else, self.least,
        )  # fmt: skip
        return (name, *(f"{1e3 * each:.1f}" for each in seconds), f"{self.step / self.least:.2f}")


HEADINGS = (
    "precision", "step, ms", "products with weights", "attention", "at least", "all else",
    "at least", "together at least", "faster at most",
)  # fmt: skip


def main() -> None:
    options = parser(__doc__.splitlines()[0], settings={}, tried=())
    options.add_argument("--batch-size", type=int, default=16, help="pairs of a step")
    asked = options.parse_args()
    set_up(asked)
    inputs = Inputs.of(asked)
    trees = inputs.comparisons(asked.batch_size, responses=2)
    tokens = sum(len(tree.prompt) + sum(map(len, tree.responses)) for tree in trees)
    rows, rates = [], []
    for dtype in asked.dtypes:
        found, at = measure(inputs, trees, tokens, dtype, asked)
        rows += [times.row(name) for name, times in found.items()]
        rates.append(f"{dtype}: {at}")
    lines = [
        f"## What a step cannot be done without ({datetime.datetime.now(datetime.UTC).date()})",
        "",
        *table(HEADINGS, rows),
        "",
        *(
            f"* {each}"
            for each in circumstances(
                inputs, asked, f"{len(trees)} pairs, {tokens:,} tokens, forward and backward"
            )
        ),
        *(f"* {each}; medians of {asked.repetitions} repetitions in turn" for each in rates),
        "",
    ]
    publish("\n".join(lines), asked.append)


def measure(
    inputs: Inputs,
    trees: Sequence[PromptTree],
    tokens: int,
    dtype: str,
    asked: argparse.Namespace,
) -> tuple[dict[str, Times], str]:
    """Times of a step, by name; and the rates that they were reckoned with."""
    model = new_scalar_model(inputs.model, seed=asked.seed)
    config = model.config.get_text_config()
    step = pairs_step(model, trees, dtype)
    products = _products_of(step)
    rates = {name: [] for name in ("float32", dtype, "copy")}
    taken = {name: [] for name in ("step", "products", "attention")}
    for repetition in range(asked.repetitions + 1):
        gc.collect()
        for name, into in rates.items():
            into.append(
                _copy_rate(tokens, config.hidden_size) if name == "copy" else product_rate(name)
            )
        seconds = {"step": _seconds(step), "products": _seconds(products)}
        with _attention_timed() as passes:
            step()
        seconds["attention"] = sum(passes)
        if repetition:  # the first warms up
            for name, into in taken.items():
                into.append(seconds[name])
    rate = {name: statistics.median(each) for name, each in rates.items()}
    shape = flops.Shape.of(model)
    attention = sum(attention_work(shape, tree) for tree in trees)
    moved = moved_bytes(config, tokens, torch.float32 if dtype == "float32" else torch.bfloat16)
    times = Times(
        **{name: statistics.median(each) for name, each in taken.items()},
        least_attention=attention / rate["float32"],
        least_else=moved / rate["copy"],
    )
    found = {dtype: times}
    if dtype != "float32":
        found[f"the same, attention in {dtype} too"] = dataclasses.replace(
            times, least_attention=attention / rate[dtype]
        )
    at = ", ".join(
        f"{name} {rate[name] / 1e9:.0f} GFLOP/s" for name in dict.fromkeys(("float32", dtype))
    )
    return found, (
        f"products {at}, copies {rate['copy'] / 1e9:.0f} GB/s; attention {attention / 1e9:.1f} "
        f"GFLOP, other steps {moved / 1e6:.0f} MB"
    )


def attention_work(shape: flops.Shape, tree: PromptTree) -> int:
    """Operations of attention in a step on a comparison, forward and backward; in the last layer
    of the tokens that are scored."""
    lengths = tuple(map(len, tree.responses))
    others = dataclasses.replace(shape, matrices=0, layers=shape.layers - 1)
    seen = sum(len(tree.prompt) + length for length in lengths)
    whole = flops.trunk(others, (len(tree.prompt), lengths))
    return flops.training(whole + 4 * shape.attention_width * seen)


def moved_bytes(config: PretrainedConfig, tokens: int, branch: torch.dtype) -> int:
    """What all steps but products read and write, forward and backward, if it is done once.

    A norm with the addition before it reads stream and branch and writes their sum and the norm;
    backward it reads the gradients of both and the sum, and writes those of stream and branch. A
    gate reads two tensors and writes one, backward it reads three and writes two. Attention reads
    queries, keys and values and writes its output; backward it reads these and the output's
    gradient and writes three gradients. The last layer is its first norm: its other steps are for
    the tokens that are scored.
    """
    width, size = config.hidden_size, branch.itemsize
    head = getattr(config, "head_dim", None) or width // config.num_attention_heads
    heads, of_keys = config.num_attention_heads, config.num_key_value_heads
    norm = width * (5 * STREAM + 4 * size)
    gate = 8 * config.intermediate_size * size
    attention = 6 * (heads + of_keys) * head * size
    return tokens * ((config.num_hidden_layers - 1) * (2 * norm + gate + attention) + norm)


def _products_of(step: Work) -> Work:
    """A step's products of matrices, and nothing else of it."""
    calls: list[tuple[Any, tuple[Any, ...]]] = []

    class Recording(TorchDispatchMode):
        def __torch_dispatch__(
            self, operation: Any, types: Any, given: tuple[Any, ...] = (), named: Any = None
        ) -> Any:
            if operation.name().partition(".")[0] in PRODUCTS:
                calls.append((operation, given))
            return operation(*given, **(named or {}))

    with Recording():
        step()

    def again() -> None:
        with torch.no_grad():
            for operation, given in calls:
                operation(*given)

    return again


@contextlib.contextmanager
def _attention_timed() -> Iterator[list[float]]:
    """The seconds of each pass of attention within the block."""
    taken: list[float] = []

    def timed(run: Callable[..., None]) -> Callable[..., None]:
        return lambda *given: taken.append(_seconds(lambda: run(*given)))

    with contextlib.ExitStack() as patches:
        for loop in (cpu_attention.attention, cpu_attention.attention_gradients):
            patches.enter_context(mock.patch.object(loop, "run", timed(loop.run)))
        yield taken


def _copy_rate(rows: int, columns: int) -> float:
    """Bytes read and written a second by copies of a tensor of the residual stream's shape."""
    source = torch.randn(rows, columns)
    out = source.clone()
    seconds = statistics.median(_seconds(lambda: out.copy_(source)) for _ in range(COPIES))
    return 2 * source.nbytes / seconds


def _seconds(work: Work) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
