"""hark alone on one GPU: how much of it training and decoding use, at 0.5 and 1 billion weights.

    python -m benchmarks.gpu [--demonstrations FILES --comparisons FILES --prompts FILES ...]

Weights are random, and so is what they say; texts are the playground's or those of the files.
Training is bfloat16 over float32 masters, decoding bfloat16. MFU is useful FLOP/s
(`hark.models.flops`: no padding, a shared prompt once, a backward pass two forward passes) as a
share of what the data sheet promises for dense bfloat16. The limit of decoding is the time that
memory needs to read, at each step, all weights and the keys and values of every row. The first
repetition of everything compiles and is not counted.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import gc
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.accelerator import Accelerator
from benchmarks.environments import ROOT
from benchmarks.inputs import Inputs, random_model, scalar_model
from benchmarks.ours import generation, ppo, preference, sft
from benchmarks.rounds import Spread
from benchmarks.table import publish, table
from hark.data.formats import write_prompts
from hark.data.records import Prompt
from hark.models import flops
from hark.models.decoders import choose_decoder
from hark.models.language_model import (
    Architecture,
    choose_device,
    load_language_model,
)
from hark.models.packing import PromptTree
from hark.models.scalar_head import load_scalar_model

SIZES = {
    "0.5b": Architecture(width=1280, layers=24, heads=10, mlp_width=3456, named_vocabulary=8192),
    "1b": Architecture(width=2048, layers=20, heads=16, mlp_width=5504, named_vocabulary=8192),
}
"""Of 0.49 and 1.03 billion weights, heads 128 wide."""
DTYPE = "bfloat16"


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One workload, some times."""

    workload: str
    unit: str
    rates: Sequence[float]
    """Units a second."""
    shares: Sequence[float]
    """Of the data sheet's products, or of the memory's limit."""
    is_of_memory: bool = False

    def row(self, size: str) -> tuple[str, ...]:
        rate, share = Spread.of(self.rates), Spread.of(self.shares)
        told = f"**{share.median:.1%}** ({share.low:.1%} to {share.high:.1%})"
        shares = ("", told) if self.is_of_memory else (told, "")
        return (size, self.workload, f"{rate.median:,.0f} {self.unit}/s", *shares)


@dataclass(frozen=True, kw_only=True)
class Workbench:
    """A model on the disk, records to work on, and the GPU."""

    inputs: Inputs
    work: Path
    asked: argparse.Namespace
    accelerator: Accelerator

    @property
    def settings(self) -> dict[str, Any]:
        """What every workload is told."""
        return {
            "model": str(self.inputs.directory), "work": str(self.work), "seed": self.asked.seed,
            "device": self.asked.device, "learning_rate": 1e-5,
        }  # fmt: skip

    def given(self, files: Sequence[str]) -> Inputs:
        """Records of these files, or of the playground."""
        return dataclasses.replace(self.inputs, files=tuple(files))

    def repeated(self, repeat: Callable[[], dict[str, Any]]) -> list[dict[str, Any]]:
        """Answers of a contender's repetitions, all but the first."""
        answers = []
        for _ in range(1 + self.asked.repetitions):
            answers.append(repeat())
            gc.collect()
            if self.asked.device != "cpu":
                torch.cuda.empty_cache()
        return answers[1:]

    def trained(
        self,
        workload: str,
        unit: str,
        answers: Sequence[dict[str, Any]],
        useful: Callable[[dict[str, Any]], int],
    ) -> Measured:
        """useful: FLOPs of an answer's work."""
        peak = self.accelerator.peak_flops
        return Measured(
            workload=workload, unit=unit,
            rates=[answer["amount"] / answer["seconds"] for answer in answers],
            shares=[useful(answer) / answer["seconds"] / peak for answer in answers],
        )  # fmt: skip


def supervised(bench: Workbench) -> Measured:
    """SFT on dialogues of natural length."""
    asked = bench.asked
    trees = bench.given(asked.demonstrations).demonstrations(asked.steps * asked.batch)
    rows = [{"prompt": tree.prompt, "response": tree.responses[0]} for tree in trees]
    repeat = sft.prepare(bench.settings | {"data": _written(bench.work / "sft.jsonl", rows)})
    starts = range(0, len(trees), asked.batch)
    batches = [list(range(start, start + asked.batch)) for start in starts]
    answers = bench.repeated(lambda: repeat({"dtype": DTYPE, "batches": batches}))
    shape = flops.Shape.of(bench.inputs.model)
    work = sum(flops.training(flops.language_model(shape, each)) for each in _lengths(trees))
    return bench.trained("SFT", "tokens", answers, lambda answer: work)


def preferring(bench: Workbench, responses: int) -> Measured:
    """Preference training on pairs, or on rankings of `responses`."""
    asked, kind = bench.asked, "pairs" if responses == 2 else "rankings"
    size = max(1, 2 * asked.batch // responses)
    records = bench.given(asked.comparisons)
    trees = records.comparisons(asked.steps * size, responses=responses)
    rows = [{"prompt": tree.prompt, "responses": tree.responses} for tree in trees]
    model = scalar_model(bench.inputs, bench.work / "scalar")
    repeat = preference.prepare(
        bench.settings
        | {
            "model": str(model), "trees": _written(bench.work / f"{kind}.jsonl", rows),
            "comparisons_per_step": size, "steps": asked.steps,
        }
    )  # fmt: skip
    answers = bench.repeated(lambda: repeat({"dtype": DTYPE}))
    shape = flops.Shape.of(load_scalar_model(model))
    work = sum(flops.training(flops.trunk(shape, each)) for each in _lengths(trees))
    name = kind if responses == 2 else f"{kind} of K = {responses}"
    return bench.trained(f"preference model, {name}", kind, answers, lambda answer: work)


def reinforced(bench: Workbench) -> Measured:
    """PPO with a critic of its own, one inner epoch."""
    asked = bench.asked
    prompts = bench.given(asked.prompts).prompts(asked.steps * asked.episodes, room=asked.tokens)
    write_prompts(bench.work / "prompts.jsonl", [Prompt(prompt=one) for one, _ in prompts])
    judge = scalar_model(bench.inputs, bench.work / "scalar")
    repeat = ppo.prepare(
        bench.settings
        | {
            "preference_model": str(judge), "prompts": str(bench.work / "prompts.jsonl"),
            "batch_episodes": asked.episodes, "inner_epochs": 1, "max_tokens": asked.tokens,
        }
    )  # fmt: skip
    answers = bench.repeated(lambda: repeat({"dtype": DTYPE}))
    policy = flops.Shape.of(bench.inputs.model)
    scalar = flops.Shape.of(load_scalar_model(judge))

    def useful(answer: dict[str, Any]) -> int:
        return sum(
            flops.ppo_episodes(policy, scalar, (prompt, tuple(responses)), inner_epochs=1)
            for prompt, responses in answer["sequences"]
        )

    return bench.trained("PPO", "episodes", answers, useful)


def generating(bench: Workbench) -> Measured:
    """Whole responses, from prompts to text, with an engine as in PPO."""
    asked = bench.asked
    prompts = bench.given(asked.prompts).prompts(4 * asked.rows, room=asked.tokens)
    data = bench.work / "tokens.jsonl"
    data.write_text("".join(json.dumps(tokens) + "\n" for _, tokens in prompts))
    repeat = generation.prepare(
        bench.settings | {"data": str(data), "tokens": asked.tokens, "rows": asked.rows}
    )
    answers = bench.repeated(lambda: repeat({"dtype": DTYPE}))

    def limit(answer: dict[str, Any]) -> float:
        sequences = [(prompt, responses[0]) for prompt, responses in answer["sequences"]]
        steps = -(-answer["amount"] // asked.rows)
        return read_bytes(bench.inputs.model, steps, sequences) / bench.accelerator.peak_bandwidth

    return Measured(
        workload=f"generation, {asked.rows} rows, prompts and sampling included",
        unit="new tokens", is_of_memory=True,
        rates=[answer["amount"] / answer["seconds"] for answer in answers],
        shares=[limit(answer) / answer["seconds"] for answer in answers],
    )  # fmt: skip


@torch.inference_mode()
def decoding(bench: Workbench) -> Measured:
    """Decoding steps alone, all rows from one length to another."""
    asked, device = bench.asked, choose_device(bench.asked.device)
    model = load_language_model(bench.inputs.directory, dtype=DTYPE, device=device)
    rows, start, steps = asked.rows, asked.tokens, asked.tokens
    decoder = choose_decoder(model, slots=rows, capacity=start + steps)
    slots = torch.arange(rows, device=device)
    prompts = [[2 + (row + place) % 500 for place in range(start)] for row in range(rows)]
    prefilled = decoder.prefill(prompts)
    seconds = []
    for _ in range(2 + asked.repetitions):  # the first runs as ever, the second records
        decoder.admit(prefilled, slots, slots)
        began = time.perf_counter()
        tokens = torch.zeros(rows, dtype=torch.long, device=device)
        lengths = torch.full((rows,), start, device=device)
        for step in range(steps):
            tokens = decoder.step(tokens, lengths, longest=start + step).argmax(-1)
            lengths = lengths + 1
        tokens.tolist()  # waits
        seconds.append(time.perf_counter() - began)
    read = read_bytes(model, steps, [(start, steps)] * rows)
    return Measured(
        workload=f"decoding steps, {rows} rows of {start} to {start + steps} tokens",
        unit="new tokens", is_of_memory=True,
        rates=[rows * steps / one for one in seconds[2:]],
        shares=[read / bench.accelerator.peak_bandwidth / one for one in seconds[2:]],
    )  # fmt: skip


def read_bytes(model: Any, steps: int, sequences: Sequence[tuple[int, int]]) -> int:
    """What decoding has to read in bfloat16: all weights at each step, and the keys and values of
    what precedes each new token. sequences: tokens of each prompt and of its response."""
    config = model.config.get_text_config()
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    of_token = 2 * 2 * config.num_hidden_layers * heads * width
    weights = 2 * sum(weight.numel() for weight in model.parameters())
    seen = sum(prompt * new + new * (new + 1) // 2 for prompt, new in sequences)
    return steps * weights + seen * of_token


WORKLOADS: dict[str, Callable[[Workbench], Iterator[Measured]]] = {
    "sft": lambda bench: iter([supervised(bench)]),
    "preference": lambda bench: (preferring(bench, responses) for responses in (2, 9)),
    "ppo": lambda bench: iter([reinforced(bench)]),
    "decoding": lambda bench: (measure(bench) for measure in (decoding, generating)),
}


def main() -> None:
    asked = _options().parse_args()
    if not torch.cuda.is_available():
        raise SystemExit(
            "benchmarks.gpu measures a GPU, and torch finds none that CUDA can use here; run it on "
            "a machine with one (the other benchmarks need none)"
        )
    asked.device = "cuda"
    accelerator = Accelerator.here(
        peak_tflops=asked.peak_tflops, peak_gigabytes=asked.peak_gigabytes
    )
    today = datetime.datetime.now(datetime.UTC).date()
    publish(measure_all(asked, accelerator, SIZES, today), asked.append)


def measure_all(
    asked: argparse.Namespace,
    accelerator: Accelerator,
    sizes: dict[str, Architecture],
    day: datetime.date,
) -> str:
    """A section with one row for each workload of each size."""
    rows = []
    for size in asked.sizes:
        work = (asked.work / f"gpu-{size}").absolute()
        work.mkdir(parents=True, exist_ok=True)
        inputs = Inputs.of(
            argparse.Namespace(
                work=work, model=str(random_model(work / "model", sizes[size])), data=(),
                seed=asked.seed,
            )
        )  # fmt: skip
        bench = Workbench(inputs=inputs, work=work, asked=asked, accelerator=accelerator)
        for workload in asked.workloads:
            for measured in WORKLOADS[workload](bench):
                rows.append(measured.row(size))
                print(" | ".join(rows[-1]), flush=True)
    own = bool(asked.demonstrations or asked.comparisons or asked.prompts)
    notes = [
        f"{accelerator}; torch {torch.__version__}, CUDA {torch.version.cuda}",
        f"random weights, vocabulary {inputs.model.config.vocab_size}, context {inputs.context}, "
        f"{'the texts given' if own else 'texts of the playground'}; {asked.repetitions} "
        "repetitions after one that compiles",
        f"a step: {asked.batch} demonstrations, {asked.batch} pairs, "
        f"{max(1, 2 * asked.batch // 9)} rankings, or {asked.episodes} episodes of up to "
        f"{asked.tokens} new tokens; {asked.steps} steps a repetition",
    ]
    headings = ("weights", "workload", "rate", "MFU", "of the memory's limit")
    lines = [f"## One GPU: {accelerator.name} ({day.isoformat()})", "", *table(headings, rows)]
    return "\n".join([*lines, "", *(f"* {note}" for note in notes), ""])


def _options() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(
        description=(__doc__ or "").splitlines()[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    options.add_argument("--sizes", nargs="+", default=list(SIZES), choices=list(SIZES))
    options.add_argument("--workloads", nargs="+", default=list(WORKLOADS), choices=list(WORKLOADS))
    for kind in ("demonstrations", "comparisons", "prompts"):
        options.add_argument(
            f"--{kind}", nargs="+", default=[], help="files; the playground without"
        )
    options.add_argument("--batch", type=int, default=64, help="demonstrations, or pairs, a step")
    options.add_argument("--episodes", type=int, default=128, help="of a step of PPO")
    options.add_argument("--tokens", type=int, default=128, help="of a response, at most")
    options.add_argument("--rows", type=int, default=64, help="responses drawn side by side")
    options.add_argument("--steps", type=int, default=4, help="of one repetition")
    options.add_argument("--repetitions", type=int, default=3)
    options.add_argument("--peak-tflops", type=float, help="dense bfloat16, of the data sheet")
    options.add_argument("--peak-gigabytes", type=float, help="a second, of memory")
    options.add_argument("--work", type=Path, default=ROOT / "runs" / "benchmarks")
    options.add_argument("--append", type=Path, help="a Markdown page to add the results to")
    options.add_argument("--seed", type=int, default=0)
    return options


def _lengths(trees: Sequence[PromptTree]) -> Iterator[flops.Sequence]:
    return ((len(tree.prompt), tuple(map(len, tree.responses))) for tree in trees)


def _written(path: Path, rows: Sequence[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


if __name__ == "__main__":
    main()
