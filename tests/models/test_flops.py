"""Useful arithmetic, counted by hand."""

from __future__ import annotations

from hark.models import flops
from hark.models.language_model import new_language_model
from hark.models.scalar_head import new_scalar_model

TINY = flops.Shape(matrices=100, layers=2, attention_width=4, width=3, vocabulary=10)


def test_trunk_counts_a_shared_prompt_once() -> None:
    # 3 + 2 + 1 = 6 tokens: 2 · 100 · 6 = 1200. Seen: prompt 1+2+3 = 6, responses 4+5 and 4: 19 in
    # all; 4 · 2 layers · 4 · 19 = 608.
    assert flops.trunk(TINY, (3, (2, 1))) == 1200 + 608


def test_language_model_has_logits_of_responses_only() -> None:
    # Three response tokens: 2 · 3 · 10 · 3 = 180.
    assert flops.language_model(TINY, (3, (2, 1))) == 1808 + 180


def test_generation_does_not_read_the_last_token() -> None:
    # 3 + 1 tokens are read: 800; seen 6 + 4 = 10: 320; two tokens are predicted: 120.
    assert flops.generation(TINY, (3, (2,))) == 800 + 320 + 120


def test_ppo_counts_every_pass() -> None:
    # Sequence (3, (2,)): trunk 2·100·5 + 32·15 = 1480, with logits 1600. Drawn 1240, reference
    # 1600, score and values 1480 each; then two epochs of 3 · (1600 + 1480).
    drawn, lm, trunk = 1240, 1600, 1480
    expected = drawn + lm + 2 * trunk + 2 * 3 * (lm + trunk)
    assert flops.ppo_episodes(TINY, TINY, (3, (2,)), inner_epochs=2) == expected


def test_ppo_with_a_shared_critic_trains_one_trunk() -> None:
    # As above; values are one more pass of the policy's trunk, and nothing that scores is a model.
    expected = 1240 + 1600 + 1480 + 2 * 3 * 1600
    assert flops.ppo_episodes(TINY, None, (3, (2,)), inner_epochs=2, scorers=()) == expected


def test_shape_leaves_learned_positions_out() -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(n_embd=8, n_layer=1, n_head=2, vocab_size=20, n_positions=50)
    # Keys, queries and values, their output, and an MLP four times as wide.
    assert flops.Shape.of(GPT2LMHeadModel(config)).matrices == (3 + 1 + 4 + 4) * 8 * 8


def test_shape_leaves_embeddings_and_norms_out() -> None:
    model = new_language_model(
        "0.5m", vocabulary_size=300, context_length=32, seed=0, pad_token_id=0, eos_token_id=1
    )
    # Width 96, three layers: four maps of attention and three of the MLP in each.
    layers = 3 * (4 * 96 * 96 + 3 * 96 * 256)
    assert flops.Shape.of(model) == flops.Shape(
        matrices=layers, layers=3, attention_width=96, width=96, vocabulary=300
    )
    # The head of a scalar model is one more matrix, of 96 weights.
    assert flops.Shape.of(new_scalar_model(model)).matrices == layers + 96


def test_adapters_spare_the_gradients_of_matrices() -> None:
    assert flops.training(10) == 30
    assert flops.training(10, adapted=True) == 20
    whole = flops.ppo_episodes(TINY, TINY, (3, (2,)), inner_epochs=2)
    adapted = flops.ppo_episodes(TINY, TINY, (3, (2,)), inner_epochs=2, adapted=True)
    # Two epochs of a language model's pass and a critic's, 1600 + 1480, once less each.
    assert whole - adapted == 2 * 3080
