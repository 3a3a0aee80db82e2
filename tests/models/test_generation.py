from __future__ import annotations

import copy
import gc
import string
import weakref
from collections.abc import Callable

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor
from transformers import (
    BloomConfig,
    BloomForCausalLM,
    GPTNeoConfig,
    GPTNeoForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from hark.data.records import ask
from hark.errors import ModelError
from hark.models import decoders as hark_decoders
from hark.models import tree_attention
from hark.models.decoders import RecomputingDecoder, SlotDecoder, supports_slots
from hark.models.generation import Generated, SamplingSettings, generate
from hark.models.logprobs import response_logprobs
from hark.models.packing import PromptTree, pack_for
from hark.models.tokenizer import HUMAN_ASSISTANT, encode_prompt

VOCABULARY = 61
END = 1
CHARACTERS = string.ascii_letters + " \n:.,!?"


def character_tokenizer() -> PreTrainedTokenizerFast:
    """One token for each of 59 characters, besides padding (0) and end (1)."""
    vocabulary = {"<|pad|>": 0, "<|end|>": END}
    vocabulary |= {character: 2 + place for place, character in enumerate(CHARACTERS)}
    assert len(vocabulary) == VOCABULARY
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<|pad|>",
        eos_token="<|end|>",
        chat_template=HUMAN_ASSISTANT,
    )


TOKENIZER = character_tokenizer()


def random_prompts(lengths: list[int], seed: int = 0) -> list[list[int]]:
    generator = torch.Generator().manual_seed(seed)
    return [
        torch.randint(2, VOCABULARY, (length,), generator=generator).tolist() for length in lengths
    ]


def small_llama() -> PreTrainedModel:
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=64,
        initializer_range=0.3,
        eos_token_id=END,
        bos_token_id=None,
        pad_token_id=0,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return LlamaForCausalLM(config).eval()


LLAMA = small_llama()


def biased_towards(token: int, *, by: float) -> PreTrainedModel:
    """The same model with a head that adds `by` to one token's logit, whatever it read."""
    model = copy.deepcopy(LLAMA)
    head = torch.nn.Linear(32, VOCABULARY, bias=True)
    head.weight.data = model.lm_head.weight.data.clone()
    head.bias.data = by * (torch.arange(VOCABULARY) == token).float()
    model.lm_head = head
    return model


def decoded(tokens: tuple[int, ...]) -> str:
    return TOKENIZER.decode(list(tokens), skip_special_tokens=True)


def plain_greedy(model: PreTrainedModel, prompt: list[int], count: int) -> list[int]:
    """Transformers' own greedy generation of one prompt."""
    sequence = model.generate(
        torch.tensor([prompt]),
        attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
        do_sample=False,
        max_new_tokens=count,
        eos_token_id=END,
        pad_token_id=0,
        bos_token_id=None,
    )
    return sequence[0, len(prompt) :].tolist()


def plain_logprobs(
    model: PreTrainedModel, prompt: list[int], response: Generated, temperature: float = 1.0
) -> Tensor:
    """Log-probabilities of the response from one forward pass of prompt and response."""
    tokens = torch.tensor([[*prompt, *response.tokens]])
    with torch.no_grad():
        logits = model(tokens).logits[0, len(prompt) - 1 : -1].float()
    logprobs = torch.log_softmax(logits / temperature, dim=-1)
    return logprobs.gather(1, tokens[0, len(prompt) :, None]).squeeze(1)


def test_greedy_equals_transformers_in_every_family(family_model: PreTrainedModel) -> None:
    if getattr(family_model.config, "final_logit_softcapping", None):
        # The low cap of the fixture saturates: the highest logits would tie.
        family_model.config.final_logit_softcapping = 30.0
    # The longest goes beyond the sliding windows of 32; rows=2 makes slots change hands.
    prompts = random_prompts([3, 40, 1, 7, 25])
    settings = SamplingSettings(temperature=0.0, max_response_tokens=10)
    responses = generate(family_model, TOKENIZER, prompts, settings, seed=0, rows=2)
    assert supports_slots(family_model)
    for prompt, response in zip(prompts, responses, strict=True):
        assert list(response.tokens) == plain_greedy(family_model, prompt, 10)


def test_captured_logprobs_equal_a_forward_pass_in_every_family(
    family_model: PreTrainedModel,
) -> None:
    prompts = random_prompts([3, 38, 1, 7])
    settings = SamplingSettings(temperature=0.7, max_response_tokens=12)
    responses = generate(family_model, TOKENIZER, prompts, settings, seed=1, rows=3)
    for prompt, response in zip(prompts, responses, strict=True):
        expected = plain_logprobs(family_model, prompt, response, temperature=0.7)
        assert response.logprobs.shape == (len(response.tokens),)
        assert torch.allclose(response.logprobs, expected, atol=1e-5, rtol=0)


def test_many_rows_that_come_and_go_leave_each_other_alone(
    make_family: Callable[..., PreTrainedModel],
) -> None:
    model = make_family("qwen2-tied")  # decodes from pages, of which some are holes meanwhile
    prompts = random_prompts([(7 * place) % 34 + 1 for place in range(40)])
    settings = SamplingSettings(max_response_tokens=30)
    responses = generate(model, TOKENIZER, prompts, settings, seed=8, rows=10)
    assert len({len(response.tokens) for response in responses}) > 5
    for prompt, response in zip(prompts, responses, strict=True):
        expected = plain_logprobs(model, prompt, response)
        assert torch.allclose(response.logprobs, expected, atol=1e-5, rtol=0)


def test_the_ratio_of_ppo_starts_at_one() -> None:
    prompts = random_prompts([4, 9])
    settings = SamplingSettings(temperature=0.7, top_p=0.8, max_response_tokens=8)
    responses = generate(LLAMA, TOKENIZER, prompts, settings, seed=2)
    trees = [
        PromptTree(tuple(prompt), (response.tokens,))
        for prompt, response in zip(prompts, responses, strict=True)
    ]
    batch = pack_for(LLAMA, trees, pad_token_id=0)
    with torch.no_grad():
        current = response_logprobs(LLAMA, batch, temperature=0.7)
    order = torch.argsort(batch.response_of, stable=True)
    behaviour = torch.cat([response.logprobs for response in responses])
    ratio = (current[order] - behaviour).exp()
    assert torch.allclose(ratio, torch.ones_like(ratio), atol=1e-5)


def test_a_response_does_not_depend_on_its_neighbours_or_the_number_of_rows() -> None:
    prompts = random_prompts([3, 30, 1, 7, 12, 12, 5, 26] * 3)
    settings = SamplingSettings(max_response_tokens=16)
    alone = [
        generate(LLAMA, TOKENIZER, [prompt], settings, seed=5, sequence_ids=[index])[0].tokens
        for index, prompt in enumerate(prompts)
    ]
    for rows in (1, 4, 64):
        crowd = generate(LLAMA, TOKENIZER, prompts, settings, seed=5, rows=rows)
        assert [response.tokens for response in crowd] == alone
    reverse = generate(
        LLAMA, TOKENIZER, prompts[::-1], settings, seed=5, sequence_ids=range(23, -1, -1), rows=4
    )
    assert [response.tokens for response in reverse[::-1]] == alone
    # Lengths differ, so that rows retired and were refilled at different times.
    assert len({len(tokens) for tokens in alone}) > 2


def test_seed_and_sequence_id_decide_what_is_drawn() -> None:
    prompt = random_prompts([6])[0]
    settings = SamplingSettings(max_response_tokens=12)

    def drawn(seed: int, sequence_id: int) -> tuple[int, ...]:
        ids = [sequence_id]
        return generate(LLAMA, TOKENIZER, [prompt], settings, seed=seed, sequence_ids=ids)[0].tokens

    assert drawn(0, 0) == drawn(0, 0)
    assert len({drawn(0, 0), drawn(1, 0), drawn(0, 1)}) == 3


def test_first_tokens_follow_the_exact_distribution() -> None:
    prompt = random_prompts([5])[0]
    draws = 4000
    settings = SamplingSettings(max_response_tokens=1, temperature=1.3)
    responses = generate(LLAMA, TOKENIZER, [prompt] * draws, settings, seed=3, rows=500)
    counts = torch.bincount(torch.tensor([r.tokens[0] for r in responses]), minlength=VOCABULARY)
    with torch.no_grad():
        logits = LLAMA(torch.tensor([prompt])).logits[0, -1]
    expected = draws * torch.softmax(logits.double() / 1.3, dim=-1)
    # Cells expected below 5 are pooled, as the chi-square approximation asks.
    large = expected >= 5
    cells = torch.cat([counts[large].double(), counts[~large].sum()[None].double()])
    wanted = torch.cat([expected[large], expected[~large].sum()[None]])
    chi_square = float(((cells - wanted) ** 2 / wanted).sum())
    freedom = len(cells) - 1
    assert freedom > 10
    assert chi_square < freedom + 4 * (2 * freedom) ** 0.5


def test_equal_prompts_are_prefilled_once(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    prefill = SlotDecoder.prefill

    def count(self: SlotDecoder, prompts: list[list[int]]) -> object:
        read.append(len(prompts))
        return prefill(self, prompts)

    supports_slots(LLAMA)
    monkeypatch.setattr(SlotDecoder, "prefill", count)
    first, second = random_prompts([9, 4])
    prompts = [first, second] * 6
    settings = SamplingSettings(max_response_tokens=5)
    shared = generate(LLAMA, TOKENIZER, prompts, settings, seed=0, rows=4)
    assert read == [2]
    for index, response in enumerate(shared):
        alone = generate(LLAMA, TOKENIZER, [prompts[index]], settings, seed=0, sequence_ids=[index])
        assert alone[0].tokens == response.tokens


def test_an_end_token_ends_a_response_and_is_part_of_it() -> None:
    model = biased_towards(END, by=100.0)
    settings = SamplingSettings(max_response_tokens=4)
    responses = generate(model, TOKENIZER, random_prompts([3, 5]), settings, seed=0)
    for response in responses:
        assert response.tokens == (END,)
        assert response.finish == "end"
        assert response.text == ""


def test_the_end_token_waits_for_the_minimum_length() -> None:
    model = biased_towards(END, by=100.0)
    settings = SamplingSettings(min_response_tokens=4, max_response_tokens=9)
    for temperature in (0.0, 1.0):
        tempered = settings.model_copy(update={"temperature": temperature})
        response = generate(model, TOKENIZER, random_prompts([3]), tempered, seed=0)[0]
        assert len(response.tokens) == 5
        assert response.tokens[-1] == END
        assert END not in response.tokens[:-1]
        # The mask does not enter the log-probabilities: the model gave these tokens e^−100.
        assert (response.logprobs[:-1] < -80).all()


def test_the_maximum_length_ends_a_response() -> None:
    model = biased_towards(END, by=-100.0)
    settings = SamplingSettings(max_response_tokens=7)
    response = generate(model, TOKENIZER, random_prompts([3]), settings, seed=0)[0]
    assert response.finish == "length"
    assert len(response.tokens) == 7
    assert response.text == decoded(response.tokens).strip()


def test_a_stop_string_ends_a_response_and_its_text_is_cut_before_it() -> None:
    prompts = random_prompts([4] * 12)
    settings = SamplingSettings(max_response_tokens=30)
    model = biased_towards(END, by=-100.0)
    free = generate(model, TOKENIZER, prompts, settings, seed=4)
    # A stop string of two characters, drawn by response 0 in its middle.
    stop = decoded(free[0].tokens)[11:13]
    assert len(stop) == 2
    stopped = generate(
        model, TOKENIZER, prompts, settings.model_copy(update={"stop": ("zzz", stop)}), seed=4
    )
    assert stopped[0].finish == "stop"
    for before, after in zip(free, stopped, strict=True):
        text = decoded(before.tokens)
        place = text.find(stop)
        ends = [n for n in range(31) if stop in decoded(before.tokens[:n])]
        length = ends[0] if ends else 30
        assert after.tokens == before.tokens[:length]
        assert after.finish == ("stop" if place >= 0 else "length")
        assert after.text == (text[:place] if place >= 0 else text).strip()
        assert torch.allclose(after.logprobs, before.logprobs[:length], atol=1e-5)


def test_models_without_slots_are_recomputed(caplog: pytest.LogCaptureFixture) -> None:
    config = GPTNeoConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        num_layers=2,
        num_heads=2,
        attention_types=[[["global", "local"], 1]],
        window_size=4,
        max_position_embeddings=64,
        initializer_range=0.3,
        bos_token_id=None,
        eos_token_id=END,
    )
    model = GPTNeoForCausalLM(config).eval()
    prompts = random_prompts([3, 20, 1, 7])
    settings = SamplingSettings(temperature=0.0, max_response_tokens=8)
    responses = generate(model, TOKENIZER, prompts, settings, seed=0, rows=2)
    assert "without a cache" in caplog.text
    for prompt, response in zip(prompts, responses, strict=True):
        assert list(response.tokens) == plain_greedy(model, prompt, 8)
        expected = plain_logprobs(model, prompt, response)
        assert torch.allclose(response.logprobs, expected, atol=1e-5)


def test_alibi_is_found_to_need_recomputing() -> None:
    model = BloomForCausalLM(
        BloomConfig(vocab_size=VOCABULARY, hidden_size=32, n_layer=1, n_head=2)
    )
    with torch.no_grad():
        assert not supports_slots(model.eval())


def test_a_mask_that_shows_too_much_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def everything(self: SlotDecoder, lengths: Tensor, longest: int) -> Tensor:
        return torch.zeros(len(lengths), 1, 1, longest + 1)

    monkeypatch.setattr(SlotDecoder, "_masks", everything)
    with torch.no_grad():
        assert not supports_slots(small_llama())


def test_both_decoders_draw_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    prompts = random_prompts([3, 30, 1, 7, 12])
    settings = SamplingSettings(max_response_tokens=16)
    cached = generate(LLAMA, TOKENIZER, prompts, settings, seed=6, rows=3)
    monkeypatch.setattr(hark_decoders, "SlotDecoder", RecomputingDecoder)
    recomputed = generate(LLAMA, TOKENIZER, prompts, settings, seed=6, rows=3)
    assert [one.tokens for one in cached] == [one.tokens for one in recomputed]


def test_the_model_is_left_as_it_was() -> None:
    model = small_llama()
    model.train()
    model.model.layers[0].eval()
    before = [module.training for module in model.modules()]
    response = generate(
        model, TOKENIZER, random_prompts([3]), SamplingSettings(max_response_tokens=3), seed=0
    )[0]
    assert [module.training for module in model.modules()] == before
    # Not an inference tensor: it may take part in a loss.
    weight = torch.ones(len(response.tokens), requires_grad=True)
    (weight * response.logprobs).sum().backward()
    assert torch.equal(weight.grad, response.logprobs)


def test_progress_counts_every_response_once() -> None:
    reported: list[int] = []
    generate(
        LLAMA,
        TOKENIZER,
        random_prompts([3, 4, 5, 6, 7]),
        SamplingSettings(max_response_tokens=6),
        seed=0,
        rows=2,
        on_progress=reported.append,
    )
    assert sum(reported) == 5
    assert len(reported) > 1


def test_no_prompts_give_no_responses() -> None:
    assert generate(LLAMA, TOKENIZER, [], SamplingSettings(), seed=0) == []


def test_an_empty_prompt_is_refused() -> None:
    with pytest.raises(ModelError, match="prompt 1 has no tokens"):
        generate(LLAMA, TOKENIZER, [[3], []], SamplingSettings(max_response_tokens=4), seed=0)


def test_a_response_that_would_leave_the_context_is_refused_or_clipped() -> None:
    model = biased_towards(END, by=-100.0)
    prompts = random_prompts([10, 60])
    settings = SamplingSettings(max_response_tokens=8)
    with pytest.raises(ModelError, match=r"prompt 1 has 60 tokens.* 8 .*context of 64"):
        generate(model, TOKENIZER, prompts, settings, seed=0)
    clipped = generate(model, TOKENIZER, prompts, settings, seed=0, clip_to_context=True)
    assert [len(response.tokens) for response in clipped] == [8, 4]
    with pytest.raises(ModelError, match="prompt 0 has 64 tokens"):
        generate(model, TOKENIZER, random_prompts([64]), settings, seed=0, clip_to_context=True)


def test_bfloat16_models_generate(make_family: Callable[..., PreTrainedModel]) -> None:
    model = make_family("llama-tied").to(torch.bfloat16)
    prompts = random_prompts([3, 12, 7])
    settings = SamplingSettings(max_response_tokens=6)
    responses = generate(model, TOKENIZER, prompts, settings, seed=0)
    for prompt, response in zip(prompts, responses, strict=True):
        assert response.logprobs.dtype == torch.float32
        expected = plain_logprobs(model, prompt, response)
        assert torch.allclose(response.logprobs, expected, atol=0.2)


def test_a_dialogue_becomes_a_prompt_that_can_be_continued() -> None:
    prompt = encode_prompt(TOKENIZER, ask("Hi"))
    settings = SamplingSettings(max_response_tokens=4)
    assert generate(LLAMA, TOKENIZER, [prompt], settings, seed=0)[0].tokens


def test_autocast_still_decodes_from_slots() -> None:
    config = LlamaConfig(
        hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, vocab_size=64, max_position_embeddings=64,
    )  # fmt: skip
    model = LlamaForCausalLM(config).eval()
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
        assert supports_slots(model)
        decoder = SlotDecoder(model, slots=1, capacity=4)
        decoder.admit(decoder.prefill([[3, 5]]), torch.tensor([0]), torch.tensor([0]))
        logits = decoder.step(torch.tensor([7]), torch.tensor([2]), longest=2)
        plain = model(torch.tensor([[3, 5, 7]]), use_cache=False).logits[0, -1]
    torch.testing.assert_close(logits[0].float(), plain.float(), atol=2e-2, rtol=0)


@pytest.mark.parametrize("decoder", [hark_decoders.PagedDecoder, SlotDecoder])
def test_keys_and_values_are_gone_when_the_responses_are_there(
    decoder: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without waiting for a collection of cycles: the memory is for what comes next."""
    monkeypatch.setattr(hark_decoders, "_cached_decoder", lambda model: decoder)
    made: list[weakref.ref[object]] = []

    def remembering(model: PreTrainedModel, **room: int) -> object:
        own = decoder(model, **room)
        made.append(weakref.ref(own.cache))
        return own

    monkeypatch.setattr("hark.models.engine.choose_decoder", remembering)
    gc.disable()
    try:
        settings = SamplingSettings(max_response_tokens=4)
        model = small_llama()
        model.set_attn_implementation(tree_attention.TREE_ATTENTION)
        generate(model, TOKENIZER, random_prompts([5, 9]), settings, seed=0)
        assert made
        assert made[0]() is None
    finally:
        gc.enable()
