"""hark's log-likelihoods of the options of questions, each context read once.

Timed is, as for the peer, from text to numbers. The options have no end token, as in lm-eval.
"""

from __future__ import annotations

import time
from typing import Any

from transformers import PreTrainedModel

from benchmarks.peers.serving import Answer, serve
from hark.data.formats import read_questions
from hark.evaluation.multiple_choice import option_likelihoods
from hark.models.language_model import load_language_model
from hark.models.tokenizer import load_tokenizer


def prepare(settings: dict[str, Any]) -> Any:
    questions = read_questions(settings["data"])
    tokenizer = load_tokenizer(settings["model"])
    models: dict[str, PreTrainedModel] = {}

    def repeat(request: dict[str, Any]) -> Answer:
        dtype = request["dtype"]
        if dtype not in models:
            models[dtype] = load_language_model(settings["model"], dtype=dtype)
        began = time.perf_counter()
        found = option_likelihoods(models[dtype], tokenizer, questions)
        return {
            "seconds": time.perf_counter() - began,
            "amount": len(questions),
            "losses": [total for each in found for total in each.totals],
            "sequences": [[each.context_tokens, list(each.tokens)] for each in found],
        }

    return repeat


if __name__ == "__main__":
    serve(prepare)
