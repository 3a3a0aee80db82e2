"""hark's SFT on tokenized demonstrations, in the batches that the peer has taken."""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.ours.steps import stage_settings, timed_fit
from benchmarks.peers.serving import Answer, serve
from hark.models import flops
from hark.models.language_model import load_language_model
from hark.models.packing import PromptTree
from hark.models.tokenizer import load_tokenizer
from hark.training.sft import SFTBatch, SFTSettings, batch_loss, micro_batches
from hark.training.trainer import MicroBatch


def prepare(settings: dict[str, Any]) -> Any:
    rows = [json.loads(line) for line in Path(settings["data"]).read_text().splitlines()]
    trees = [PromptTree(tuple(row["prompt"]), (tuple(row["response"]),)) for row in rows]
    tokenizer = load_tokenizer(settings["model"])

    def repeat(request: dict[str, Any]) -> Answer:
        told = SFTSettings.parse(stage_settings(settings, request["dtype"]))
        model = load_language_model(settings["model"], device=told.device)
        batches = [[trees[place] for place in batch] for batch in request["batches"]]

        def batch(step: int) -> Sequence[MicroBatch[SFTBatch]]:
            return micro_batches(model, batches[step], limit=told.pass_tokens(told.device))

        answer = timed_fit(
            told, model, tokenizer, stage="sft", steps=len(batches), batch=batch,
            loss=functools.partial(batch_loss, model),
            useful_flops=flops.language_model,
        )  # fmt: skip
        tokens = sum(tree.tokens for batch in batches for tree in batch)
        return answer | {"amount": tokens, "batches": request["batches"]}

    return repeat


if __name__ == "__main__":
    serve(prepare)
