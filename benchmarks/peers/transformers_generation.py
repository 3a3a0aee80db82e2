"""Transformers' `generate` on sorted batches, and its continuous batching; needs only transformers.

Asked to `check`, it takes the most probable tokens of the first prompts instead, and says how
probable each was.
"""

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, ContinuousBatchingConfig, GenerationConfig

from serving import Answer, serve

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
PAGE = 32
"""Tokens of a page of the key-value cache: few, as little of a page should stay empty."""

Drawn = list[list[int]]


def prepare(settings: dict[str, Any]) -> Any:
    prompts = [json.loads(line) for line in Path(settings["data"]).read_text().splitlines()]
    models: dict[str, Any] = {}

    def repeat(request: dict[str, Any]) -> Answer:
        dtype = request["dtype"]
        if dtype not in models:
            models[dtype] = load(settings["model"], DTYPES[dtype])
        model = models[dtype]
        if "check" in request:
            return most_probable(model, prompts[: request["check"]], settings, request)
        config = generation_config(settings, settings["tokens"], sample=True)
        torch.manual_seed(settings["seed"])
        began = time.perf_counter()
        drawn = drawing(request)(model, prompts, config, request)
        seconds = time.perf_counter() - began
        return {
            "seconds": seconds,
            "amount": sum(map(len, drawn)),
            "sequences": [[len(p), [len(r)]] for p, r in zip(prompts, drawn, strict=True)],
        }

    return repeat


def load(path: str, dtype: torch.dtype) -> Any:
    return AutoModelForCausalLM.from_pretrained(path, dtype=dtype).eval()


def generation_config(settings: dict[str, Any], tokens: int, *, sample: bool) -> GenerationConfig:
    """Plain sampling at temperature 1 from the whole distribution, or the most probable token."""
    whole = {"temperature": 1.0, "top_k": 0, "top_p": 1.0} if sample else {}
    return GenerationConfig(
        max_new_tokens=tokens, do_sample=sample, eos_token_id=settings["ends"],
        pad_token_id=settings["pad"], **whole,
    )  # fmt: skip


def drawing(request: dict[str, Any]) -> Any:
    """How a request wants responses drawn."""
    return continuously if "requests" in request else in_batches


@torch.inference_mode()
def in_batches(
    model: Any, prompts: Drawn, config: GenerationConfig, request: dict[str, Any]
) -> Drawn:
    """Prompts of like length together, padded on the left; ends are cut, end tokens kept."""
    order = sorted(range(len(prompts)), key=lambda i: -len(prompts[i]))
    drawn: Drawn = [[] for _ in prompts]
    for start in range(0, len(order), request["batch"]):
        chosen = order[start : start + request["batch"]]
        tokens, mask = padded([prompts[i] for i in chosen], config.pad_token_id)
        output = model.generate(input_ids=tokens, attention_mask=mask, generation_config=config)
        for i, row in zip(chosen, output[:, tokens.shape[1] :].tolist(), strict=True):
            drawn[i] = until_end(row, config.eos_token_id)
    return drawn


def continuously(
    model: Any, prompts: Drawn, config: GenerationConfig, request: dict[str, Any]
) -> Drawn:
    """`generate_batch`, told how many requests share a batch and given room for just those.

    Left to itself it takes most of the machine's memory for the cache, and minutes to fill it.
    """
    longest = max(map(len, prompts)) + config.max_new_tokens
    pages = request["requests"] * -(-longest // PAGE)
    batching = ContinuousBatchingConfig(
        page_size=PAGE, num_blocks=pages, max_batch_tokens=request["batch_tokens"],
        max_requests_per_batch=request["requests"], allow_block_sharing=False,
    )  # fmt: skip
    asked_attention = model.config._attn_implementation
    outputs = model.generate_batch(
        inputs=prompts, generation_config=config, continuous_batching_config=batching, warmup=False
    )
    model.set_attn_implementation(asked_attention)
    failed = [output.error for output in outputs.values() if output.error]
    if failed or len(outputs) != len(prompts):
        raise RuntimeError(f"continuous batching failed: {failed[:1] or 'requests are missing'}")
    ordered = sorted(outputs.items(), key=lambda item: int(item[0].rpartition("_")[2]))
    return [list(output.generated_tokens) for _, output in ordered]


def most_probable(
    model: Any, prompts: Drawn, settings: dict[str, Any], request: dict[str, Any]
) -> Answer:
    """What is drawn at temperature 0, and the mean log-probability of its tokens."""
    config = generation_config(settings, request["tokens"], sample=False)
    drawn = drawing(request)(model, prompts, config, request)
    means = [mean_logprob(model, *pair) for pair in zip(prompts, drawn, strict=True)]
    return {"seconds": 1.0, "amount": 1.0, "losses": means, "batches": drawn}


@torch.inference_mode()
def mean_logprob(model: Any, prompt: list[int], response: list[int]) -> float:
    """Of the tokens of a response, in a forward pass of its own."""
    logits = model(torch.tensor([prompt + response])).logits[0, len(prompt) - 1 : -1]
    chosen = torch.tensor(response)[:, None]
    return float(logits.float().log_softmax(-1).gather(-1, chosen).mean())


def padded(prompts: Drawn, pad: int) -> tuple[torch.Tensor, torch.Tensor]:
    """[rows, longest] tokens and mask, padded on the left."""
    width = max(map(len, prompts))
    rows = [[pad] * (width - len(prompt)) + prompt for prompt in prompts]
    mask = [[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts]
    return torch.tensor(rows), torch.tensor(mask)


def until_end(row: list[int], ends: Sequence[int]) -> list[int]:
    """A response up to its first end token, which is kept."""
    for place, token in enumerate(row):
        if token in ends:
            return row[: place + 1]
    return row


if __name__ == "__main__":
    serve(prepare)
