"""Recorded decoding steps on a GPU beside plain ones."""

from __future__ import annotations

import contextlib
import logging

import pytest
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from hark.models.decoders import Decoder, SlotDecoder, choose_decoder
from hark.models.generation import generate
from hark.models.graph_decoder import GraphDecoder
from hark.models.language_model import Architecture, new_language_model
from hark.models.sampling import SamplingSettings
from hark.models.tokenizer import train_tokenizer

SMALL = Architecture(width=128, layers=3, heads=4, mlp_width=192, named_vocabulary=300)
SLOTS, CAPACITY, STEPS = 24, 400, 90


def make_model(device: torch.device, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    model = new_language_model(
        SMALL, vocabulary_size=300, context_length=512, seed=3, pad_token_id=0, eos_token_id=1
    )
    for parameter in model.parameters():
        parameter.data.mul_(3.0)
    return model.to(device, dtype)


def decoded(decoder: Decoder, device: torch.device) -> Tensor:
    """[steps, 20, V]: rows of unlike lengths over several shapes; the last six rows end halfway."""
    texts = torch.arange(20 * CAPACITY).view(20, CAPACITY).mul(7).remainder(298).add(2).to(device)
    known = [1 + 11 * row for row in range(20)]
    slots = torch.arange(20, device=device)
    prompts = [text[:length].tolist() for text, length in zip(texts, known, strict=True)]
    decoder.admit(decoder.prefill(prompts), slots, slots)
    logits = []
    for step in range(STEPS):
        rows = 20 if step < STEPS // 2 else 14
        lengths = torch.tensor(known[:rows], device=device) + step
        found = decoder.step(
            texts[slots[:rows], lengths], lengths, longest=max(known[:rows]) + step
        )
        logits.append(nn.functional.pad(found.float(), (0, 0, 0, 20 - rows)))
    return torch.stack(logits)


@torch.inference_mode()
@pytest.mark.parametrize("kind", ["float32", "bfloat16", "autocast"])
def test_recorded_steps_say_what_plain_ones_say(kind: str, device: torch.device) -> None:
    model = make_model(device, torch.bfloat16 if kind == "bfloat16" else torch.float32)
    precision = (
        torch.autocast(device.type, torch.bfloat16)
        if kind == "autocast"
        else contextlib.nullcontext()
    )
    with precision:
        recorded = choose_decoder(model, slots=SLOTS, capacity=CAPACITY)
        got = decoded(recorded, device)
        expected = decoded(SlotDecoder(model, slots=SLOTS, capacity=CAPACITY), device)
    if device.type == "cuda":
        assert isinstance(recorded, GraphDecoder)
        assert len([step for step in recorded._steps.values() if step is not None]) >= 3
    # On a CPU attention by pages is float32 where that over slots is bfloat16: two roundings of one
    # number, of which the worst of half a million is no measure. In all they differ by 2 %, and
    # either from float32 by 4 %; one row of twenty gone wrong would be 20 %.
    tolerance = 1e-4 if kind == "float32" else 5e-2
    assert float((got - expected).norm()) <= tolerance * float(expected.norm())


@torch.inference_mode()
def test_autocast_may_end_and_begin_between_steps(device: torch.device) -> None:
    model = make_model(device)
    tokens = lengths = torch.zeros(8, dtype=torch.long, device=device)
    decoder = choose_decoder(model, slots=8, capacity=64)
    found = []
    for _ in range(6):
        with torch.autocast(device.type, torch.bfloat16):
            found.append(decoder.step(tokens, lengths, longest=0))
        # Takes the memory of whatever the context has given back.
        torch.full((64, 128, 192), float("nan"), device=device)
    for one in found[1:]:
        assert torch.equal(one, found[0])


class Asking(nn.Module):
    """Reads a number back from the GPU in the middle of a step."""

    def forward(self, hidden: Tensor) -> Tensor:
        return hidden * 1.0 if float(hidden.abs().max()) > 0 else hidden


@torch.inference_mode()
def test_what_cannot_be_recorded_is_decoded_as_ever(
    device: torch.device, caplog: pytest.LogCaptureFixture
) -> None:
    model = make_model(device)
    expected = decoded(SlotDecoder(model, slots=SLOTS, capacity=CAPACITY), device)
    model.model.norm = nn.Sequential(model.model.norm, Asking())
    stream = torch.cuda.current_stream() if device.type == "cuda" else None
    with caplog.at_level(logging.WARNING):
        got = decoded(choose_decoder(model, slots=SLOTS, capacity=CAPACITY), device)
    assert float((got - expected).abs().max()) <= 1e-4 * float(expected.abs().max())
    if device.type == "cuda":
        assert torch.cuda.current_stream() == stream
        assert ["cannot be recorded" in one.getMessage() for one in caplog.records] == [True]


def test_responses_are_those_of_the_cpu(device: torch.device) -> None:
    tokenizer = train_tokenizer(["some text"], vocabulary_size=258)
    prompts = [[2 + (5 * row + place) % 250 for place in range(1 + row)] for row in range(30)]
    settings = SamplingSettings(max_response_tokens=24)
    drawn = [
        generate(make_model(where), tokenizer, prompts, settings, seed=1, rows=8)
        for where in (device, torch.device("cpu"))
    ]
    alike = [one.tokens == other.tokens for one, other in zip(*drawn, strict=True)]
    # A draw at the very border between two tokens may fall to either side.
    assert sum(alike) >= 28
    for one, other in zip(*drawn, strict=True):
        if one.tokens == other.tokens:
            torch.testing.assert_close(one.logprobs, other.logprobs, rtol=1e-3, atol=1e-3)
