"""hark's log-likelihoods of the options of questions, each context read once.

Timed is, as for the peer, from text to numbers. The options have no end token, as in lm-eval.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from benchmarks.peers.serving import Answer, serve
from hark.evaluation.likelihood import sequence_logprobs
from hark.models.language_model import load_language_model
from hark.models.packing import PromptTree
from hark.models.tokenizer import load_tokenizer, padding_id


def prepare(settings: dict[str, Any]) -> Any:
    rows = [json.loads(line) for line in Path(settings["data"]).read_text().splitlines()]
    tokenizer = load_tokenizer(settings["model"])
    models: dict[str, PreTrainedModel] = {}

    def encode(texts: list[str]) -> list[tuple[int, ...]]:
        return [tuple(ids) for ids in tokenizer(texts, add_special_tokens=False)["input_ids"]]

    def repeat(request: dict[str, Any]) -> Answer:
        dtype = request["dtype"]
        if dtype not in models:
            models[dtype] = load_language_model(settings["model"], dtype=dtype)
        began = time.perf_counter()
        contexts = encode([row["context"] for row in rows])
        options = iter(encode([option for row in rows for option in row["options"]]))
        trees = [
            PromptTree(context, tuple(next(options) for _ in row["options"]))
            for context, row in zip(contexts, rows, strict=True)
        ]
        logprobs = sequence_logprobs(
            models[dtype], trees, pad_token_id=padding_id(tokenizer),
            batch_tokens=settings["batch_tokens"],
        )  # fmt: skip
        return {
            "seconds": time.perf_counter() - began,
            "amount": len(rows),
            "losses": [float(value) for value in logprobs],
            "sequences": [
                [len(tree.prompt), [len(response) for response in tree.responses]] for tree in trees
            ],
        }

    return repeat


if __name__ == "__main__":
    serve(prepare)
