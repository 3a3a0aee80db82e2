"""lm-eval's `hf` model on questions with several options; runs in lm-eval's own environment.

Timed is `loglikelihood`, from text to numbers: tokens, batches sorted by length, sums.
"""

import json
import time
from pathlib import Path
from typing import Any

from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM

from serving import Answer, serve


def prepare(settings: dict[str, Any]) -> Any:
    rows = [json.loads(line) for line in Path(settings["data"]).read_text().splitlines()]
    requests = [
        Instance(request_type="loglikelihood", doc={}, idx=i, arguments=(row["context"], option))
        for row in rows
        for i, option in enumerate(row["options"])
    ]
    models: dict[tuple[str, int], HFLM] = {}

    def repeat(request: dict[str, Any]) -> Answer:
        key = (request["dtype"], request["batch"])
        if key not in models:
            models[key] = HFLM(
                pretrained=settings["model"], dtype=request["dtype"], device="cpu",
                batch_size=request["batch"], softmax_dtype="float32",
            )  # fmt: skip
        began = time.perf_counter()
        answers = models[key].loglikelihood(requests, disable_tqdm=True)
        seconds = time.perf_counter() - began
        return {
            "seconds": seconds,
            "amount": len(rows),
            "losses": [float(logprob) for logprob, _ in answers],
        }

    return repeat


if __name__ == "__main__":
    serve(prepare)
