"""What this machine reaches: its peaks measured, and the rates of real small training steps.

A handful of models are made, trained for a few steps and sampled from, with the functions that the
stages themselves use. The rates are those with which `work` comes nearest to the times, by least
squares of relative errors with rates kept positive.
"""

from __future__ import annotations

import contextlib
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np
import torch
from scipy.optimize import lsq_linear
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from hark.loop.forecast import work
from hark.loop.forecast.hardware import Basis, Device, PassRates, Rates
from hark.loop.forecast.shapes import ModelShape
from hark.loop.forecast.work import Lengths, Share, Work
from hark.models import cpu_linear
from hark.models.generation import SamplingSettings, generate
from hark.models.language_model import DTYPES, Architecture, new_language_model
from hark.models.packing import PromptTree
from hark.models.tokenizer import padding_id, train_tokenizer
from hark.runs.settings import Dtype
from hark.training import sft
from hark.training.optimizer import OptimizerSettings, build_optimizer, update

Clock = Callable[[], float]

VOCABULARY = 1024
REPEATS = 3
"""Times each step is measured, after one that is not."""
DRAWN_TOKENS = 16
"""Of each response that is sampled."""
PRODUCT_SIZE = 1024
COPIED_NUMBERS = 2**25


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One step to measure."""

    size: Architecture
    prompts: int
    prompt_tokens: int
    """Mean; lengths go from half to one and a half of it."""
    response_tokens: int
    pass_tokens: int = 8192


def _size(width: int, layers: int, mlp_width: int) -> Architecture:
    return Architecture(
        width=width, layers=layers, heads=max(1, width // 32), mlp_width=mlp_width,
        named_vocabulary=VOCABULARY,
    )  # fmt: skip


POINTS = (
    Point(size=_size(64, 2, 192), prompts=16, prompt_tokens=24, response_tokens=32),
    Point(size=_size(64, 4, 192), prompts=16, prompt_tokens=48, response_tokens=48,
          pass_tokens=512),
    Point(size=_size(128, 3, 384), prompts=16, prompt_tokens=60, response_tokens=40),
    Point(size=_size(192, 3, 512), prompts=16, prompt_tokens=48, response_tokens=60),
    Point(size=_size(256, 4, 768), prompts=12, prompt_tokens=80, response_tokens=60),
)  # fmt: skip
"""Widths and lengths apart from each other, so that the three parts of the work can be told."""


@dataclass(frozen=True, slots=True)
class Timed:
    """What was to be done, and the seconds that it took."""

    work: Work
    seconds: float


def calibrate(
    dtype: Dtype = "float32",
    *,
    points: Sequence[Point] = POINTS,
    clock: Clock | None = None,
) -> Device:
    """Measure this machine's CPU; about half a minute.

    clock: seconds; by default those of this process where it has one thread, which leaves out what
        other programs take, else the wall's.
    """
    threads = torch.get_num_threads()
    if clock is None:
        clock = time.process_time if threads == 1 else time.perf_counter
    peaks = {name: _product_rate(name, clock) / 1e12 for name in DTYPES}
    blank = _device(threads, peaks, _bandwidth(clock) / 1e9)
    tokenizer = train_tokenizer(["a"], vocabulary_size=258)
    measured: dict[str, list[Timed]] = {}
    data_seconds = []
    for point in points:
        found, packing = measure(point, tokenizer, dtype, clock)
        data_seconds.append(packing)
        for rate, timed in found.items():
            measured.setdefault(rate, []).append(timed)
    fitted = {rate: fit(timed, blank, dtype) for rate, timed in measured.items()}
    rates = Rates(
        **fitted,
        basis="calibrated",
        source=f"measured by hark on {date.today()}, {dtype}, {threads} threads",
        dtype=dtype,
        widths=(min(p.size.width for p in points), max(p.size.width for p in points)),
        fit_error=max(
            abs(each.work.seconds(blank, fitted[rate], dtype) / each.seconds - 1)
            for rate in ("training", "forward")
            for each in measured[rate]
        ),
        data_seconds_per_token=float(f"{statistics.median(data_seconds):.3g}"),
        link=1.0,
    )
    return blank.model_copy(update={"rates": rates})


def measure(
    point: Point, tokenizer: PreTrainedTokenizerBase, dtype: Dtype, clock: Clock
) -> tuple[dict[str, Timed], float]:
    """Take the steps of one point; what was timed by kind of rate, and packing per token."""
    model, shape = _model(point, tokenizer)
    trees = _trees(point)
    lengths = Lengths(
        examples=len(trees),
        sample=tuple((len(tree.prompt), tuple(map(len, tree.responses))) for tree in trees),
        basis=Basis.MEASURED, note="",
    )  # fmt: skip
    seconds: dict[str, list[float]] = {}
    settings = OptimizerSettings()
    optimizer = build_optimizer(model.parameters(), settings)

    @contextlib.contextmanager
    def timed(name: str) -> Iterator[None]:
        began = clock()
        yield
        seconds.setdefault(name, []).append(clock() - began)

    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bfloat16"):
        for _ in range(1 + REPEATS):
            with timed("data"):
                batches = sft.micro_batches(model, trees, limit=point.pass_tokens)
            with timed("training"):
                for each in batches:
                    (sft.batch_loss(model, each.batch).loss / len(trees)).backward()
            with timed("update"):
                update(optimizer, step=0, total_steps=1, settings=settings)
            with timed("forward"), torch.no_grad():
                for each in batches:
                    sft.batch_loss(model, each.batch)
            with timed("decoding"):
                _generate(model, tokenizer, trees)
    medians = {name: statistics.median(values[1:]) for name, values in seconds.items()}
    share = Share(examples=len(trees), lengths=lengths, passes=len(batches))
    works = _works(point, shape, share, dtype)
    # A prefill is about a forward pass over the prompts.
    asked = sum(len(tree.prompt) for tree in trees) / sum(tree.tokens for tree in trees)
    medians["decoding"] = max(1e-9, medians["decoding"] - asked * medians["forward"])
    found = {name: Timed(works[name], medians[name]) for name in works}
    return found, medians["data"] / share.tokens


def _works(point: Point, shape: ModelShape, share: Share, dtype: Dtype) -> dict[str, Work]:
    """What the steps of a point have to do, by kind of rate."""
    forward = work.forward(shape, share, dtype=dtype, sharded=False)
    return {
        "training": work.training(forward),
        "forward": forward,
        "update": work.update(shape.parameters, shape.layers, devices=1),
        "decoding": work.decoding(
            shape, _drawn(share.lengths), responses=point.prompts, rows=point.prompts,
            weight_bytes=4 if dtype == "float32" else 2,
        ),
    }  # fmt: skip


def fit(timed: Sequence[Timed], device: Device, dtype: Dtype) -> PassRates:
    """The rates that bring work nearest to the seconds it took.

    Products are bound to their peak: products and traffic grow alike with the width, and noise
    could trade the one for the other.
    """
    parts = np.array([each.work.parts(device, dtype) for each in timed])
    seconds = np.array([each.seconds for each in timed])
    has_products = bool(parts[:, 0].any())
    lower = [1.0 if has_products else 0.0, 0.0, 0.0]
    found = lsq_linear(parts / seconds[:, None], np.ones(len(timed)), bounds=(lower, np.inf)).x
    # What explains less than a thousandth of the time anywhere is noise.
    found[(found * parts / seconds[:, None]).max(axis=0) < 1e-3] = 0.0
    products, traffic, block_seconds = (float(f"{each:.4g}") for each in found)
    return PassRates(
        products=1 / products if has_products else 1.0,
        traffic=1 / traffic if traffic else None,
        block_seconds=block_seconds,
    )


def _model(point: Point, tokenizer: PreTrainedTokenizerBase) -> tuple[PreTrainedModel, ModelShape]:
    model = new_language_model(
        point.size, vocabulary_size=VOCABULARY, context_length=512, seed=0,
        pad_token_id=padding_id(tokenizer), eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    return model, ModelShape.of_preset(point.size, VOCABULARY, origin="calibration")


def _trees(point: Point) -> list[PromptTree]:
    draw = np.random.default_rng(0)

    def some(mean: int) -> tuple[int, ...]:
        length = int(draw.integers(mean // 2, mean * 3 // 2 + 1))
        return tuple(int(token) for token in draw.integers(2, 256, length))

    return [
        PromptTree(some(point.prompt_tokens), (some(point.response_tokens),))
        for _ in range(point.prompts)
    ]


def _generate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    trees: Sequence[PromptTree],
) -> None:
    sampling = SamplingSettings(max_response_tokens=DRAWN_TOKENS, min_response_tokens=DRAWN_TOKENS)
    prompts = [tree.prompt for tree in trees]
    generate(model, tokenizer, prompts, sampling, seed=0, rows=len(prompts))


def _drawn(lengths: Lengths) -> Lengths:
    """The same prompts with the responses that `_generate` draws."""
    sample = tuple((prompt, (DRAWN_TOKENS,)) for prompt, _ in lengths.sample)
    return Lengths(examples=lengths.examples, sample=sample, basis=lengths.basis, note="")


def _product_rate(dtype: str, clock: Clock) -> float:
    """Operations a second of square matrix products: the best of several, by the better library."""
    left, right = (torch.rand(PRODUCT_SIZE, PRODUCT_SIZE, dtype=DTYPES[dtype]) for _ in range(2))
    out = torch.empty_like(left)
    best = _best(lambda: torch.mm(left, right, out=out), clock)
    if dtype == "float32" and cpu_linear.HAS_PRODUCT:
        best = min(best, _best(lambda: cpu_linear.product(left, right), clock))
    return float(2 * PRODUCT_SIZE**3 / best)


def _bandwidth(clock: Clock) -> float:
    """Bytes a second read and written by a copy: the best of several."""
    source = torch.ones(COPIED_NUMBERS)
    target = torch.zeros(COPIED_NUMBERS)
    return 8 * COPIED_NUMBERS / _best(lambda: target.copy_(source), clock)


def _best(function: Callable[[], Any], clock: Clock) -> float:
    times = []
    for _ in range(2 + REPEATS):
        began = clock()
        function()
        times.append(clock() - began)
    return min(times)


def _device(threads: int, peaks: dict[str, float], bandwidth: float) -> Device:
    """This machine without rates; those of the peaks stand in."""
    peak = PassRates(products=1.0, block_seconds=0.0)
    processor = platform.processor() or platform.machine()
    return Device(
        description=f"{threads} threads of this machine ({processor})",
        source="matrix products and a copy, measured by hark",
        memory_gigabytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9,
        bfloat16_teraflops=peaks["bfloat16"],
        float32_teraflops=peaks["float32"],
        memory_gigabytes_per_second=bandwidth,
        link_gigabytes_per_second=bandwidth,
        network_gigabytes_per_second=1.25,
        devices_per_machine=1,
        price_per_hour=0.0,
        price_source="yours; give --price",
        is_cpu=True,
        rates=Rates(
            basis="assumed", source="peaks", training=peak, forward=peak, decoding=peak,
            update=peak, data_seconds_per_token=0.0,
        ),
    )  # fmt: skip
