from __future__ import annotations

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

from hark.data.records import Dialogue, ask
from hark.errors import ModelError, SettingsError
from hark.models.best_of_n import best_of_n, best_of_n_kl
from hark.models.generation import SamplingSettings, generate
from hark.models.tokenizer import encode_prompt, train_tokenizer

SETTINGS = SamplingSettings(max_response_tokens=6)
PROMPTS = [ask("one"), ask("two and more"), ask("three")]


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return train_tokenizer(["one two three and more"], vocabulary_size=270)


@pytest.fixture(scope="module")
def model(tokenizer: PreTrainedTokenizerFast) -> PreTrainedModel:
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=64,
        initializer_range=0.1,
        bos_token_id=None,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return LlamaForCausalLM(config).eval()


def sum_of_characters(dialogues: list[Dialogue]) -> torch.Tensor:
    """A scorer that depends on every character of the last turn."""
    return torch.tensor([float(sum(map(ord, dialogue[-1].content))) for dialogue in dialogues])


@pytest.mark.parametrize(
    ("n", "nats"), [(1, 0.0), (4, 0.6363), (16, 1.8351), (64, 3.1745), (512, 5.2403)]
)
def test_divergence_worked_by_hand(n: int, nats: float) -> None:
    # n = 4: ln 4 − 3/4 = 1.3863 − 0.75.
    assert best_of_n_kl(n) == pytest.approx(nats, abs=5e-5)


def test_divergence_equals_a_simulation() -> None:
    # The best of n uniform scores has density n·u^(n−1) against 1: KL = E[ln n + (n−1) ln u].
    n = 8
    best = torch.rand(200_000, n, generator=torch.Generator().manual_seed(0)).double().amax(1)
    log_ratio = torch.log(torch.tensor(float(n))) + (n - 1) * best.log()
    assert float(log_ratio.mean()) == pytest.approx(best_of_n_kl(n), abs=0.01)


def test_the_candidate_with_the_highest_score_is_kept(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast
) -> None:
    seen: list[Dialogue] = []

    def scorer(dialogues: list[Dialogue]) -> torch.Tensor:
        seen.extend(dialogues)
        return sum_of_characters(dialogues)

    results = best_of_n(model, tokenizer, PROMPTS, scorer, SETTINGS, n=5, seed=0)
    assert [dialogue[0] for dialogue in seen] == [p[0] for p in PROMPTS for _ in range(5)]
    for place, result in enumerate(results):
        texts = [candidate.text for candidate in result.candidates]
        assert [d[-1].content for d in seen[place * 5 : place * 5 + 5]] == texts
        assert len(set(texts)) == 5
        assert result.best.text == max(texts, key=lambda text: sum(map(ord, text)))
        assert max(result.scores) == result.scores[result.choice]
    assert {result.choice for result in results} != {0}


def test_candidates_of_a_smaller_n_come_first_and_one_is_plain_sampling(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast
) -> None:
    def tokens(n: int) -> list[list[tuple[int, ...]]]:
        results = best_of_n(model, tokenizer, PROMPTS, sum_of_characters, SETTINGS, n=n, seed=3)
        return [[candidate.tokens for candidate in result.candidates] for result in results]

    six = tokens(6)
    assert [candidates[:2] for candidates in six] == tokens(2)
    encoded = [encode_prompt(tokenizer, prompt) for prompt in PROMPTS]
    plain = generate(model, tokenizer, encoded, SETTINGS, seed=3)
    assert [candidates[0] for candidates in six] == [response.tokens for response in plain]


def test_ties_go_to_the_first_and_scorers_may_return_a_list(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast
) -> None:
    def indifferent(dialogues: list[Dialogue]) -> list[float]:
        return [0.0, 2.0, 2.0] * (len(dialogues) // 3)

    results = best_of_n(model, tokenizer, PROMPTS, indifferent, SETTINGS, n=3, seed=0)
    assert [result.choice for result in results] == [1, 1, 1]


def test_what_makes_no_sense_is_refused(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast
) -> None:
    def not_a_number(dialogues: list[Dialogue]) -> list[float]:
        return [0.0] * (len(dialogues) - 1) + [float("nan")]

    with pytest.raises(ModelError, match="nan for response 1 to prompt 2"):
        best_of_n(model, tokenizer, PROMPTS, not_a_number, SETTINGS, n=2, seed=0)
    with pytest.raises(SettingsError, match="at least 1, got 0"):
        best_of_n(model, tokenizer, PROMPTS, sum_of_characters, SETTINGS, n=0, seed=0)
    with pytest.raises(SettingsError, match="at least 1, got 0"):
        best_of_n_kl(0)
    greedy = SamplingSettings(temperature=0.0)
    with pytest.raises(SettingsError, match="same response 4 times"):
        best_of_n(model, tokenizer, PROMPTS, sum_of_characters, greedy, n=4, seed=0)


def test_no_prompts_give_no_results(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast
) -> None:
    assert best_of_n(model, tokenizer, [], sum_of_characters, SETTINGS, n=4, seed=0) == []
