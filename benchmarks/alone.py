"""hark by itself: how near training comes to the machine's rate, and what a token costs.

    python -m benchmarks.alone [--data DEMONSTRATIONS --pairs COMPARISONS]

Random weights of several widths. First SFT and preference training in useful FLOP/s, as a fraction
of the rate of matrix products measured in turn with them. Then language modelling on texts of equal
and of mixed lengths with the same number of tokens: seconds a token, relative to texts of 64.
"""

from __future__ import annotations

import argparse
import datetime
import gc
import itertools
import json
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence

import torch
from transformers import PreTrainedModel

from benchmarks.inputs import VOCABULARY, Inputs
from benchmarks.machine import Machine, product_rate
from benchmarks.options import pages, parser, set_up
from benchmarks.table import publish, table
from hark.models import flops
from hark.models.language_model import SIZES, Architecture, new_language_model
from hark.models.packing import PromptTree, pass_tokens
from hark.models.scalar_head import new_scalar_model
from hark.training import preference, sft
from hark.training.preference_data import PreferenceExample
from hark.training.trainer import MicroBatch

WIDTHS = {name: SIZES[name] for name in ("3m", "8m", "20m")}
LENGTHS = (64, 128, 256, 512, 1024)
ROW = 8192
"""Tokens of a step of the second table."""

Step = Callable[[], None]


def main() -> None:
    options = parser(__doc__.splitlines()[0], settings={}, tried=())
    options.add_argument("--pairs", nargs="+", default=[], help="files; the playground without")
    options.add_argument("--examples", type=int, default=64, help="of a step of the first table")
    asked = options.parse_args()
    set_up(asked)
    demonstrations = Inputs.of(asked).demonstrations(asked.examples)
    asked.data = asked.pairs
    pairs = Inputs.of(asked).comparisons(asked.examples, responses=2)
    sections = [
        f"## hark by itself ({datetime.datetime.now(datetime.UTC).date().isoformat()})",
        "",
        *near_the_limit(asked, demonstrations, pairs),
        "",
        *cost_of_length(asked),
        "",
        f"* {Machine.here()}; {asked.threads} threads, huge pages {pages(asked)}; torch "
        f"{torch.__version__}; random weights, vocabulary {VOCABULARY}; medians of "
        f"{asked.repetitions} repetitions in turn, forward and backward",
        "",
    ]
    publish("\n".join(sections), asked.append)


def near_the_limit(
    asked: argparse.Namespace, demonstrations: Sequence[PromptTree], pairs: Sequence[PromptTree]
) -> list[str]:
    """A table of useful FLOP/s and their fraction of the machine's."""
    rows = []
    for (name, shape), dtype in itertools.product(WIDTHS.items(), asked.dtypes):
        model = _model(shape, VOCABULARY, context=512)
        judge = new_scalar_model(model)
        works = {
            "SFT": (_sft_step(model, demonstrations, dtype), _useful(model, demonstrations, True)),
            "preference": (pairs_step(judge, pairs, dtype), _useful(judge, pairs, False)),
        }
        rate, seconds = _in_turn({work: step for work, (step, _) in works.items()}, dtype, asked)
        for work, (_, useful) in works.items():
            done = useful / seconds[work]
            rows.append(
                (f"{name}, width {shape.width}", work, dtype, f"{done / 1e9:.0f}",
                 f"{rate / 1e9:.0f}", f"{done / rate:.0%}")
            )  # fmt: skip
    return table(
        ("model", "training", "precision", "useful GFLOP/s", "matrix products", "fraction"), rows
    )


def cost_of_length(asked: argparse.Namespace) -> list[str]:
    """A table of the cost of a token in texts of several lengths."""
    rows = []
    for (name, shape), dtype in itertools.product(WIDTHS.items(), asked.dtypes):
        model = _model(shape, VOCABULARY, context=max(LENGTHS))
        texts = {str(length): [length] * (ROW // length) for length in LENGTHS}
        texts["mixed"] = _mixed(ROW)
        steps = {
            kind: _sft_step(model, [_text(length) for length in lengths], dtype)
            for kind, lengths in texts.items()
        }
        _, seconds = _in_turn(steps, dtype, asked)
        each = {kind: seconds[kind] / sum(texts[kind]) for kind in texts}
        done = {
            kind: _useful(model, [_text(length) for length in lengths], True) / sum(lengths)
            for kind, lengths in texts.items()
        }
        label = f"{name}, width {shape.width}"
        rows += [
            (label, dtype, f"{1e6 * each['64']:.0f}", *_relative(each)),
            (label, "arithmetic", "", *_relative(done)),
        ]
    kinds = [*map(str, LENGTHS), "mixed"]
    return table(("model", "precision", "µs a token at 64", *kinds), rows)


def _relative(costs: Mapping[str, float]) -> list[str]:
    """Costs of a token, in those of texts of 64 tokens."""
    return [f"{cost / costs['64']:.2f}" for cost in costs.values()]


def _in_turn(
    steps: Mapping[str, Step], dtype: str, asked: argparse.Namespace
) -> tuple[float, dict[str, float]]:
    """The median rate of products, and the median seconds of each step."""
    rates: list[float] = []
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for repetition in range(asked.repetitions + 1):
        rates.append(product_rate(dtype))
        for name, step in steps.items():
            gc.collect()
            began = time.perf_counter()
            step()
            if repetition:  # the first warms up
                seconds[name].append(time.perf_counter() - began)
    found = {name: statistics.median(times) for name, times in seconds.items()}
    print(json.dumps(found), file=sys.stderr, flush=True)
    return statistics.median(rates), found


def _sft_step(model: PreTrainedModel, trees: Sequence[PromptTree], dtype: str) -> Step:
    batches = sft.micro_batches(model, trees, limit=pass_tokens("cpu"))
    return lambda: _train(model, batches, lambda batch: sft.batch_loss(model, batch).loss, dtype)


def pairs_step(model: PreTrainedModel, trees: Sequence[PromptTree], dtype: str) -> Step:
    examples = [
        PreferenceExample(
            tree=tree, first=(0,), second=(1,), probabilities=(1.0,), best=0, weight=1.0,
            required_margin=0.0,
        )
        for tree in trees
    ]  # fmt: skip
    batches = preference.micro_batches(model, examples, limit=pass_tokens("cpu"))
    return lambda: _train(
        model, batches,
        lambda batch: preference.batch_loss(model, batch, loss="ranking").loss, dtype,
    )  # fmt: skip


def _train(
    model: PreTrainedModel,
    batches: Sequence[MicroBatch],
    loss: Callable[..., torch.Tensor],
    dtype: str,
) -> None:
    for micro_batch in batches:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == "bfloat16"):
            value = loss(micro_batch.batch)
        value.backward()
    for parameter in model.parameters():
        parameter.grad = None


def _useful(model: PreTrainedModel, trees: Sequence[PromptTree], is_language: bool) -> int:
    shape = flops.Shape.of(model)
    count = flops.language_model if is_language else flops.trunk
    lengths = ((len(tree.prompt), tuple(map(len, tree.responses))) for tree in trees)
    return sum(flops.training(count(shape, each)) for each in lengths)


def _model(shape: Architecture, vocabulary: int, *, context: int) -> PreTrainedModel:
    return new_language_model(
        shape, vocabulary_size=vocabulary, context_length=context, seed=0, pad_token_id=0,
        eos_token_id=1,
    )  # fmt: skip


def _text(length: int) -> PromptTree:
    """A text: each token after the first is predicted."""
    tokens = torch.randint(2, VOCABULARY, (length,), generator=torch.Generator().manual_seed(0))
    return PromptTree((1,), (tuple(tokens.tolist()[1:]),))


def _mixed(total: int) -> list[int]:
    """Lengths from 64 to 1,024, equally spread, about `total` tokens."""
    lengths = [64, 1024, 320, 704, 448, 896, 192, 576, 832, 128, 768, 256, 960, 384, 640]
    taken = list(itertools.takewhile(lambda end: end <= total, itertools.accumulate(lengths)))
    return lengths[: len(taken)]


if __name__ == "__main__":
    main()
