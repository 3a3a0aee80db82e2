"""Is a preference model trained by hark as accurate as one trained by TRL?

From the same initial weights (trunk and head) on the same pairs of tokens, with the same optimiser
and schedule, for several seeds; both are scored by hark on the same held-out comparisons.

    python -m benchmarks.reward_accuracy --model SFT_RUN --data TRAIN ... --held-out PAIRS ...
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.environments import ROOT, TRL, peer_python
from hark.data.formats import read_comparisons
from hark.data.records import Comparison, answered
from hark.evaluation.intervals import Estimate, clustered_mean
from hark.loop.stages import run_stage
from hark.models.checkpoint import save_model
from hark.models.language_model import context_length, load_language_model
from hark.models.scalar_head import ModelScorer, load_scalar_model, new_scalar_model
from hark.models.tokenizer import encode_prompt, encode_response, load_tokenizer
from hark.runs.run import resolve_model
from hark.training.preference_settings import PreferenceSettings


def main() -> None:
    asked = _arguments()
    torch.set_num_threads(asked.threads)
    work = Path(asked.output)
    work.mkdir(parents=True, exist_ok=True)
    source = resolve_model(asked.model)
    train = _pairs(asked.data, source, work)
    chosen = np.random.default_rng(0).permutation(len(train))[: asked.pairs]
    train = [train[place] for place in sorted(chosen)]
    held_out = _pairs(asked.held_out, source, work)
    print(f"{len(train)} training pairs, {len(held_out)} held-out pairs", flush=True)
    _write_pairs(work, train, source)
    right: dict[str, list[np.ndarray[Any, Any]]] = {"hark": [], "TRL": []}
    for seed in range(asked.seeds):
        for name, model in (("hark", _train_hark), ("TRL", _train_trl)):
            right[name].append(_right(model(asked, work, source, seed), held_out))
            print(f"seed {seed} {name}: {right[name][-1].mean():.4f}", flush=True)
    clusters = [[comparison.prompt for comparison in held_out]]
    report = {
        name: clustered_mean(np.mean(values, axis=0), clusters=clusters)
        for name, values in (
            *right.items(),
            ("hark − TRL", list(np.array(right["hark"]) - np.array(right["TRL"]))),
        )
    }
    for name, estimate in report.items():
        print(_line(name, estimate))
    outcome = {
        "seeds": {name: [float(each.mean()) for each in values] for name, values in right.items()},
        **{name: estimate.to_json() for name, estimate in report.items()},
    }
    (work / "result.json").write_text(json.dumps(outcome, indent=2))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True, help="language model (SFT) to start from")
    parser.add_argument("--data", nargs="+", required=True, help="files of training comparisons")
    parser.add_argument("--held-out", nargs="+", required=True)
    parser.add_argument("--pairs", type=int, default=2400, help="training pairs, drawn with seed 0")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--learning-rate", type=float, default=3e-4)
    parser.add_argument("--warmup-steps", type=int, default=20)
    parser.add_argument("--head-initial-std", type=float, help="of the new head, for both")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--output", default=str(ROOT / "runs" / "reward-accuracy"))
    return parser.parse_args()


def _pairs(paths: Sequence[str], source: Path, work: Path) -> list[Comparison]:
    """Pairs with a preference that both programs can read whole: none is cut or dropped."""
    tokenizer, room = load_tokenizer(source), context_length(load_language_model(source))

    def fits(pair: Comparison) -> bool:
        prompt = len(encode_prompt(tokenizer, pair.prompt))
        lengths = [len(encode_response(tokenizer, pair.prompt, text)) for text in pair.responses]
        return prompt + max(lengths) <= room

    read = read_comparisons(list(paths), on_bad_line="skip", skipped_directory=work / "skipped")
    pairs = [
        pair for pair in read if len(pair.responses) == 2 and all(map(str.strip, pair.responses))
    ]
    return [pair for pair in pairs if pair.ranks[0] != pair.ranks[1] and fits(pair)]


def _best_first(pair: Comparison) -> tuple[str, str]:
    first, second = pair.responses
    return (first, second) if pair.ranks[0] < pair.ranks[1] else (second, first)


def _write_pairs(work: Path, pairs: Sequence[Comparison], source: Path) -> None:
    tokenizer = load_tokenizer(source)
    with (work / "pairs.jsonl").open("w") as ours, (work / "tokens.jsonl").open("w") as theirs:
        for pair in pairs:
            better, worse = _best_first(pair)
            prompt = [{"role": turn.role, "content": turn.content} for turn in pair.prompt]
            row = {
                "prompt": prompt,
                "chosen": [{"role": "assistant", "content": better}],
                "rejected": [{"role": "assistant", "content": worse}],
            }
            ours.write(json.dumps(row) + "\n")
            before = encode_prompt(tokenizer, pair.prompt)
            tokens = {
                "chosen_ids": before + encode_response(tokenizer, pair.prompt, better),
                "rejected_ids": before + encode_response(tokenizer, pair.prompt, worse),
            }
            theirs.write(json.dumps(tokens) + "\n")


def _train_hark(asked: argparse.Namespace, work: Path, source: Path, seed: int) -> Path:
    settings = PreferenceSettings.parse(
        {
            "model": str(source),
            "data": [str(work / "pairs.jsonl")],
            "output": str(work / "hark"),
            "seed": seed,
            "dtype": asked.dtype,
            "batch_size": asked.batch_size,
            "head_initial_std": asked.head_initial_std,
            "optimizer": {
                "learning_rate": asked.learning_rate,
                "warmup_steps": asked.warmup_steps,
                "initial_learning_rate_fraction": 0.0,
            },
        }
    )
    outcome = run_stage("preference", settings, command=["benchmarks"], reuse_complete=True)
    return outcome.run_path / "model"


def _train_trl(asked: argparse.Namespace, work: Path, source: Path, seed: int) -> Path:
    output, initial = work / f"trl-{seed}", work / f"initial-{seed}"
    if not (output / "result.json").exists():
        model = new_scalar_model(
            load_language_model(source), initial_std=asked.head_initial_std, seed=seed
        )
        save_model(initial, model, load_tokenizer(source))
        given = {
            "model": str(initial), "data": str(work / "tokens.jsonl"), "output": str(output),
            "seed": seed, "dtype": asked.dtype, "threads": asked.threads,
            "batch_size": asked.batch_size, "learning_rate": asked.learning_rate,
            "warmup_steps": asked.warmup_steps,
        }  # fmt: skip
        settings = work / f"trl-{seed}.json"
        settings.write_text(json.dumps(given))
        script = Path(__file__).parent / "peers" / "trl_reward.py"
        subprocess.run([peer_python(*TRL), script, settings], check=True)
    return output


def _right(model: Path, pairs: Sequence[Comparison]) -> np.ndarray[Any, Any]:
    """1 for each pair whose better response has the higher score, ½ for equal scores."""
    score = ModelScorer(load_scalar_model(model), load_tokenizer(model))
    both = [answered(pair.prompt, text) for pair in pairs for text in _best_first(pair)]
    scores = score(both).numpy().reshape(-1, 2)
    return (np.sign(scores[:, 0] - scores[:, 1]) + 1) / 2


def _line(name: str, estimate: Estimate) -> str:
    return f"{name}: {estimate.value:.4f} ({estimate.low:.4f} to {estimate.high:.4f})"


if __name__ == "__main__":
    main()
