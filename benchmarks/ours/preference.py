"""hark's preference training on tokenized comparisons, in the order of the file."""

from __future__ import annotations

import functools
import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.ours.steps import stage_settings, timed_fit
from benchmarks.peers.serving import Answer, serve
from hark.models import flops
from hark.models.packing import PromptTree
from hark.models.scalar_head import load_scalar_model
from hark.models.tokenizer import load_tokenizer
from hark.training.preference import micro_batches
from hark.training.preference_data import PreferenceBatch, PreferenceExample
from hark.training.preference_loss import batch_loss
from hark.training.preference_settings import PreferenceSettings
from hark.training.trainer import MicroBatch


def prepare(settings: dict[str, Any]) -> Any:
    rows = [json.loads(line) for line in Path(settings["trees"]).read_text().splitlines()]
    examples = [_best_first(row["prompt"], row["responses"]) for row in rows]
    tokenizer = load_tokenizer(settings["model"])
    size, steps = settings["comparisons_per_step"], settings["steps"]

    def repeat(request: dict[str, Any]) -> Answer:
        told = PreferenceSettings.parse(stage_settings(settings, request["dtype"]))
        model = load_scalar_model(settings["model"], device=told.device)

        def batch(step: int) -> Sequence[MicroBatch[PreferenceBatch]]:
            chosen = examples[step * size : (step + 1) * size]
            return micro_batches(model, chosen, limit=told.pass_tokens(told.device))

        answer = timed_fit(
            told, model, tokenizer, stage="preference", steps=steps, batch=batch,
            loss=functools.partial(batch_loss, model, loss=told.loss),
            useful_flops=flops.trunk,
        )  # fmt: skip
        return answer | {"amount": steps * size}

    return repeat


def _best_first(prompt: list[int], responses: list[list[int]]) -> PreferenceExample:
    """Responses in order of rank, without ties."""
    first, second = zip(*itertools.combinations(range(len(responses)), 2), strict=True)
    return PreferenceExample(
        tree=PromptTree(tuple(prompt), tuple(map(tuple, responses))), first=first, second=second,
        probabilities=(1.0,) * len(first), best=0, weight=1.0, required_margin=0.0,
    )  # fmt: skip


if __name__ == "__main__":
    serve(prepare)
