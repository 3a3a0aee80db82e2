"""Recorded steps, with a recorder that works on the CPU: torch.fx keeps the operations of a step on
the very tensors they read and wrote, and runs them again, as a CUDA graph does with kernels. What
Python decides in a step is frozen, and a step that reads a number back cannot be recorded.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.fx.experimental.proxy_tensor import make_fx
from transformers import PreTrainedModel

from hark.models import engine as engines
from hark.models.decoders import Decoder, SlotDecoder, choose_decoder
from hark.models.engine import Engine, Request
from hark.models.graph_decoder import Computation, GraphDecoder, Recorder, rounded_up
from hark.models.sampling import SamplingSettings

SLOTS, CAPACITY = 10, 48
Texts = list[list[int]]


def fx_recorder(_device: torch.device) -> Recorder:
    def record(computation: Computation) -> Computation:
        return make_fx(computation)()

    return record


def graph_decoder(
    model: PreTrainedModel, recorder: Callable[[torch.device], Recorder] | None = None
) -> GraphDecoder:
    decoder = SlotDecoder(model, slots=SLOTS, capacity=CAPACITY)
    return GraphDecoder(decoder, slots=SLOTS, capacity=CAPACITY, recorder=recorder or fx_recorder)


@pytest.fixture
def counted() -> tuple[list[str], Callable[[torch.device], Recorder]]:
    """A recorder that writes down what it is asked for."""
    events: list[str] = []

    def recorder(device: torch.device) -> Recorder:
        def record(computation: Computation) -> Computation:
            events.append("record")
            recorded = fx_recorder(device)(computation)

            def replay() -> Tensor:
                events.append("replay")
                return recorded()

            return replay

        return record

    return events, recorder


def decoded(decoder: Decoder, texts: Texts, known: list[int], steps: int) -> Tensor:
    """[steps, rows, V] logits after prompts of `known` tokens, then token by token of the texts."""
    slots = torch.arange(len(texts))
    prompts = [text[:length] for text, length in zip(texts, known, strict=True)]
    decoder.admit(decoder.prefill(prompts), slots, slots)
    tokens = torch.tensor(texts)
    logits = []
    for step in range(steps):
        lengths = torch.tensor(known) + step
        found = decoder.step(tokens[slots, lengths], lengths, longest=max(known) + step)
        logits.append(found)
    return torch.stack(logits)


def texts_of(count: int, vocabulary: int = 61) -> Texts:
    return [[(11 * place + 7 * row) % vocabulary for place in range(40)] for row in range(count)]


@torch.inference_mode()
def test_recorded_steps_say_what_plain_ones_say(
    family_model: PreTrainedModel,
    counted: tuple[list[str], Callable[[torch.device], Recorder]],
) -> None:
    texts, known = texts_of(3), [5, 1, 9]
    events, recorder = counted
    got = decoded(graph_decoder(family_model, recorder), texts, known, steps=6)
    assert events == ["record", *["replay"] * 5]
    expected = decoded(
        SlotDecoder(family_model, slots=SLOTS, capacity=CAPACITY), texts, known, steps=6
    )
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))


@torch.inference_mode()
def test_each_shape_is_recorded_once_when_it_comes_again(
    make_family: Callable[..., PreTrainedModel],
    counted: tuple[list[str], Callable[[torch.device], Recorder]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("hark.models.graph_decoder.LENGTH_UNIT", 16)
    events, recorder = counted
    model = make_family("llama-tied")
    decoder = graph_decoder(model, recorder)
    plain = SlotDecoder(model, slots=SLOTS, capacity=CAPACITY)
    texts, known = texts_of(9), [12, *[3] * 8]
    # 13, 14, 15 and 16 positions are one shape, the next four another.
    got, expected = (decoded(which, texts, known, steps=8) for which in (decoder, plain))
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)
    assert events == ["record", *["replay"] * 3, "record", *["replay"] * 3]
    # Row 0 ends; the last takes its place, and eight rows are a shape of their own.
    for which in (decoder, plain):
        which.move(torch.tensor([8]), torch.tensor([0]), longest=20)
    del events[:]
    tokens = torch.tensor(texts)[[8, *range(1, 8)]]
    for step in range(8, 12):
        lengths = torch.full((8,), 3 + step)
        got, expected = (
            which.step(tokens[:, 3 + step], lengths, longest=3 + step) for which in (decoder, plain)
        )
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)
    assert events == ["record", *["replay"] * 3]


@torch.inference_mode()
def test_a_result_stays_when_the_step_is_replayed(
    make_family: Callable[..., PreTrainedModel],
) -> None:
    result = torch.zeros(8, 3)
    decoder = graph_decoder(
        make_family("llama-tied"), lambda _: lambda computation: lambda: result.add_(1.0)
    )
    tokens = lengths = torch.zeros(2, dtype=torch.long)
    found = [decoder.step(tokens, lengths, longest=0) for _ in range(3)]
    assert found[1].tolist() == [[1.0] * 3] * 2
    assert found[2].tolist() == [[2.0] * 3] * 2


@torch.inference_mode()
@pytest.mark.parametrize("family", ["llama-tied", "gpt2-tied-no-pad", "qwen2-tied"])
def test_under_autocast_matrices_are_copied_and_nothing_changes(
    make_family: Callable[..., PreTrainedModel], family: str
) -> None:
    model = make_family(family)
    decoder, plain = graph_decoder(model), SlotDecoder(model, slots=SLOTS, capacity=CAPACITY)
    texts = texts_of(8)
    slots, prompts = torch.arange(8), [text[:4] for text in texts]
    tokens, lengths = torch.tensor(texts)[:, 4:], torch.full((8,), 4)
    with torch.autocast("cpu", torch.bfloat16):
        for each in (plain, decoder):
            each.admit(each.prefill(prompts), slots, slots)
        for step in range(3):
            got = decoder.step(tokens[:, step], lengths + step, longest=4 + step)
            # Over as many positions, so that kernels round alike.
            expected = plain.step(tokens[:, step], lengths + step, longest=CAPACITY - 1)
            assert torch.equal(got, expected)
    # The head is tied to the embedding, which autocast leaves alone.
    assert model.get_input_embeddings().weight.dtype == torch.float32
    copies = decoder._copies[torch.bfloat16]
    assert copies["model.lm_head.weight"].dtype == torch.bfloat16
    assert not [name for name in copies if "norm" in name or "ln_" in name or "emb" in name]


class Asking(nn.Module):
    """Reads a number back in the middle of a step."""

    def forward(self, hidden: Tensor) -> Tensor:
        return hidden * 1.0 if float(hidden.abs().max()) > 0 else hidden


@torch.inference_mode()
def test_what_cannot_be_recorded_is_decoded_as_ever_and_said_once(
    make_family: Callable[..., PreTrainedModel], caplog: pytest.LogCaptureFixture
) -> None:
    model = make_family("llama-tied")
    model.model.norm = nn.Sequential(model.model.norm, Asking())
    texts, known = texts_of(2), [3, 6]
    with caplog.at_level(logging.WARNING):
        got = decoded(graph_decoder(model), texts, known, steps=5)
    expected = decoded(SlotDecoder(model, slots=SLOTS, capacity=CAPACITY), texts, known, steps=5)
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)
    (record,) = caplog.records
    assert record.getMessage().startswith("decoding steps of LlamaForCausalLM cannot be recorded (")


def test_shapes_worked_by_hand(make_family: Callable[..., PreTrainedModel]) -> None:
    # Multiples of 64 up to 1024, then of 128, from 2048 on of 256.
    assert [rounded_up(count, 64) for count in (1, 64, 65, 1000, 1024, 1025, 2100)] == [
        64, 64, 128, 1024, 1024, 1152, 2304,
    ]  # fmt: skip
    assert [rounded_up(count, 8) for count in (1, 9, 65, 129)] == [8, 16, 72, 144]
    decoder = graph_decoder(make_family("llama-tied"))
    assert decoder.shape(3, longest=10) == (8, CAPACITY)
    assert decoder.shape(9, longest=10) == (SLOTS, CAPACITY)


def test_an_engine_draws_the_same(
    make_family: Callable[..., PreTrainedModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, events = make_family("llama-tied"), []

    def recording(_device: torch.device) -> Recorder:
        return lambda computation: events.append("record") or fx_recorder(_device)(computation)

    def choose(model: PreTrainedModel, *, slots: int, capacity: int) -> Decoder:
        decoder = SlotDecoder(model, slots=slots, capacity=capacity)
        return GraphDecoder(decoder, slots=slots, capacity=capacity, recorder=recording)

    def drawn() -> list[tuple[list[int], str]]:
        requests = [
            Request(
                prompt=text[: 1 + place % 5], settings=SamplingSettings(), limit=9 + place % 4,
                seed=0, sequence_id=place,
            )
            for place, text in enumerate(texts_of(14))
        ]  # fmt: skip
        engine = Engine(model, None, rows=6, capacity=20, max_tokens=12)
        owners, finished = engine.submit(requests), {}
        while not engine.is_idle:
            finished |= {each.owner: each for each in engine.step().finished}
        return [(finished[owner].tokens, finished[owner].finish) for owner in owners]

    monkeypatch.setattr(engines, "end_token_ids", lambda tokenizer: (1,))
    with torch.inference_mode():
        expected = drawn()
        monkeypatch.setattr(engines, "choose_decoder", choose)
        # More prompts than rows: rows end, are filled and close up, all in one recorded shape.
        assert drawn() == expected
    assert events == ["record"]


@torch.inference_mode()
def test_a_cpu_decodes_without(make_family: Callable[..., PreTrainedModel]) -> None:
    decoder = choose_decoder(make_family("llama-tied"), slots=2, capacity=8)
    assert not isinstance(decoder, GraphDecoder)
