"""Requests that come, go and differ while others are being drawn."""

from __future__ import annotations

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

from hark.models import engine as engines
from hark.models.decoders import SlotDecoder, supports_slots
from hark.models.engine import Engine, Finished, Request
from hark.models.generation import generate
from hark.models.sampling import SamplingSettings, seed_key, uniforms
from hark.models.tokenizer import HUMAN_ASSISTANT

LETTERS = "abcdefghijklmnopqrstuvwxyz .,!?:"
END = 1
CONTEXT = 64


def letter_tokenizer() -> PreTrainedTokenizerFast:
    vocabulary = {"<|pad|>": 0, "<|end|>": END}
    vocabulary |= {letter: 2 + place for place, letter in enumerate(LETTERS)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<|pad|>",
        eos_token="<|end|>",
        chat_template=HUMAN_ASSISTANT,
    )


def small_llama() -> PreTrainedModel:
    config = LlamaConfig(
        vocab_size=2 + len(LETTERS), hidden_size=32, intermediate_size=48, num_hidden_layers=2,
        num_attention_heads=2, max_position_embeddings=CONTEXT, initializer_range=0.3,
        eos_token_id=END, bos_token_id=None, pad_token_id=0,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return LlamaForCausalLM(config).eval()


TOKENIZER, LLAMA = letter_tokenizer(), small_llama()

WAYS = [
    SamplingSettings(max_response_tokens=15),
    SamplingSettings(max_response_tokens=9, temperature=0.6, top_p=0.8),
    SamplingSettings(max_response_tokens=12, temperature=0.0),
    SamplingSettings(max_response_tokens=14, top_k=5, stop=("e", "qq")),
    SamplingSettings(max_response_tokens=11, min_response_tokens=8),
]


def engine(rows: int) -> Engine:
    with torch.inference_mode():
        return Engine(LLAMA, TOKENIZER, rows=rows, capacity=CONTEXT, max_tokens=CONTEXT)


def request(number: int, *, settings: SamplingSettings | None = None) -> Request:
    """Requests that differ in prompt, settings, seed and sequence id."""
    settings = settings or WAYS[number % len(WAYS)]
    prompt = [2 + (7 * number + 3 * place) % len(LETTERS) for place in range(1 + 5 * number % 23)]
    return Request(
        prompt=prompt, settings=settings, limit=settings.max_response_tokens,
        seed=50 + number // 2, sequence_id=number % 3,
    )  # fmt: skip


def alone(wanted: Request) -> tuple[int, ...]:
    return generate(
        LLAMA, TOKENIZER, [wanted.prompt], wanted.settings, seed=wanted.seed,
        sequence_ids=[wanted.sequence_id],
    )[0].tokens  # fmt: skip


@torch.inference_mode()
def steps(running: Engine, count: int = 10**6) -> dict[int, Finished]:
    finished: dict[int, Finished] = {}
    while count > 0 and not running.is_idle:
        count -= 1
        finished |= {each.owner: each for each in running.step().finished}
    return finished


@pytest.mark.parametrize("rows", [1, 4, 64])
def test_requests_with_settings_of_their_own_draw_what_they_draw_alone(rows: int) -> None:
    wanted = [request(number) for number in range(20)]
    running = engine(rows)
    owners = running.submit(wanted)
    finished = steps(running)
    for owner, each in zip(owners, wanted, strict=True):
        assert tuple(finished[owner].tokens) == alone(each)
    assert {each.finish for each in finished.values()} == {"end", "length", "stop"}


def test_requests_may_come_while_others_are_drawn_and_after_all_have_ended() -> None:
    running, finished, wanted = engine(4), {}, {}
    for first in range(0, 18, 3):
        group = [request(number) for number in range(first, first + 3)]
        wanted |= dict(zip(running.submit(group), group, strict=True))
        finished |= steps(running, 2)
    finished |= steps(running)
    late = request(18)
    wanted[running.submit([late])[0]] = late
    finished |= steps(running)
    assert finished.keys() == wanted.keys()
    for owner, each in wanted.items():
        assert tuple(finished[owner].tokens) == alone(each)


def test_cancelled_requests_free_their_rows_and_disturb_nobody() -> None:
    running = engine(3)
    wanted = [request(number) for number in range(9)]
    owners = running.submit(wanted)
    finished = steps(running, 1)
    assert running.active == 3
    drawing = [running.rows.owners[row] for row in range(3)]
    waiting = [owner for owner in owners if owner not in drawing]
    gone = {drawing[0], drawing[2], waiting[0], waiting[-1]}
    running.cancel(gone)
    running.cancel({*gone, 10**6})
    assert running.active == 1
    finished |= steps(running)
    assert finished.keys() == set(owners) - gone
    for owner, each in finished.items():
        assert tuple(each.tokens) == alone(wanted[owner])
    assert running.active == 0


def test_all_may_be_cancelled() -> None:
    running = engine(2)
    owners = running.submit([request(number) for number in range(5)])
    steps(running, 2)
    running.cancel(owners)
    assert running.is_idle
    assert running.active == 0
    again = running.submit([request(3)])
    assert tuple(steps(running)[again[0]].tokens) == alone(request(3))


def test_a_step_tells_the_token_of_every_row_and_the_logits_behind_it() -> None:
    running = engine(4)
    plain = SamplingSettings(max_response_tokens=5)
    owners = running.submit([request(number, settings=plain) for number in range(3)])
    told: dict[int, list[int]] = {owner: [] for owner in owners}
    finished: dict[int, Finished] = {}
    with torch.inference_mode():
        while not running.is_idle:
            step = running.step()
            expected = torch.log_softmax(step.logits, dim=-1)
            rows = torch.arange(len(step.owners))
            assert torch.equal(step.logprobs, expected[rows, step.tokens])
            for owner, token in zip(step.owners, step.tokens.tolist(), strict=True):
                told[owner].append(token)
            finished |= {each.owner: each for each in step.finished}
    assert told == {owner: each.tokens for owner, each in finished.items()}


def test_prefills_keep_within_their_tokens_whatever_the_order(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    read: list[list[int]] = []
    prefill = SlotDecoder.prefill

    def note(self: SlotDecoder, prompts: list[list[int]]) -> object:
        read.append([len(prompt) + 1 for prompt in prompts])
        return prefill(self, prompts)

    supports_slots(LLAMA)
    running = engine(16)
    monkeypatch.setattr(SlotDecoder, "prefill", note)
    monkeypatch.setattr(engines, "PREFILL_TOKENS", 40)
    for length in (4, 10, 12, 30, 50, 3):
        prompt = list(range(2, 2 + length // 2)) + [5] * (length - length // 2)
        settings = SamplingSettings(max_response_tokens=2)
        running.submit([Request(prompt=prompt, settings=settings, limit=2, seed=0, sequence_id=0)])
    assert len(steps(running)) == 6
    # 3 · 12 ≤ 40, but 4 · 30 is more; 50 alone is more than 40, and read nevertheless.
    assert read == [[4, 10, 12], [30], [50], [3]]


def test_keys_of_rows_give_the_uniforms_of_their_seeds() -> None:
    ids, positions = torch.tensor([0, 5, 2**50]), torch.tensor([0, 1, 7])
    seeds = [0, -3, 2**63 + 11]
    keys = torch.tensor([seed_key(seed) for seed in seeds])
    together = uniforms(keys, ids, positions)
    for place, seed in enumerate(seeds):
        assert together[place] == uniforms(seed, ids, positions)[place]
