"""hark's `generate` on the same prompts.

Asked to `check`, it takes the most probable tokens of the first prompts instead.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from benchmarks.peers.serving import Answer, serve
from hark.models.generation import generate
from hark.models.language_model import load_language_model
from hark.models.sampling import SamplingSettings
from hark.models.tokenizer import load_tokenizer


def prepare(settings: dict[str, Any]) -> Any:
    prompts = [json.loads(line) for line in Path(settings["data"]).read_text().splitlines()]
    tokenizer = load_tokenizer(settings["model"])
    models: dict[str, PreTrainedModel] = {}

    def repeat(request: dict[str, Any]) -> Answer:
        dtype = request["dtype"]
        if dtype not in models:
            device = settings.get("device", "cpu")
            models[dtype] = load_language_model(settings["model"], dtype=dtype, device=device)
        checking = "check" in request
        chosen = prompts[: request["check"]] if checking else prompts
        sampling = SamplingSettings(
            max_response_tokens=request["tokens"] if checking else settings["tokens"],
            temperature=0.0 if checking else 1.0,
        )
        began = time.perf_counter()
        drawn = generate(
            models[dtype], tokenizer, chosen, sampling, seed=settings["seed"],
            rows=settings["rows"],
        )  # fmt: skip
        seconds = time.perf_counter() - began
        answer: Answer = {
            "seconds": seconds,
            "amount": sum(len(one.tokens) for one in drawn),
            "sequences": [[len(p), [len(r.tokens)]] for p, r in zip(chosen, drawn, strict=True)],
        }
        if checking:
            answer["losses"] = [float(one.logprobs.mean()) for one in drawn]
            answer["batches"] = [one.tokens for one in drawn]
        return answer

    return repeat


if __name__ == "__main__":
    serve(prepare)
