"""Shapes beside real models and published counts."""

from __future__ import annotations

from pathlib import Path

import pytest
from transformers import GPT2Config, LlamaConfig, LlamaForCausalLM

from hark.errors import ModelError, SettingsError
from hark.loop.forecast.shapes import (
    PUBLISHED,
    ModelShape,
    describe_count,
    shape_of_count,
    shape_of_name,
    shape_of_parameters,
)
from hark.models import flops
from hark.models.language_model import SIZES, new_language_model


def test_a_preset_has_the_shape_of_the_model_it_makes() -> None:
    model = new_language_model(
        "0.5m", vocabulary_size=300, context_length=64, seed=0, pad_token_id=0, eos_token_id=1
    )
    shape = ModelShape.of_preset(SIZES["0.5m"], 300, origin="size 0.5m")
    assert shape.parameters == sum(p.numel() for p in model.parameters())
    block = model.model.layers[0]
    assert shape.block_parameters == sum(p.numel() for p in block.parameters())
    assert shape.arithmetic == flops.Shape.of(model)
    assert shape.counted


def test_a_directory_is_read_by_its_configuration_alone(tmp_path: Path) -> None:
    config = LlamaConfig(
        vocab_size=61, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, tie_word_embeddings=False,
    )  # fmt: skip
    config.save_pretrained(tmp_path)
    shape, model = ModelShape.of_directory(tmp_path), LlamaForCausalLM(config)
    assert shape.parameters == sum(p.numel() for p in model.parameters())
    block = model.model.layers[0]
    assert shape.block_parameters == sum(p.numel() for p in block.parameters())
    assert (shape.key_value_width, shape.attention_width, shape.mlp_width) == (16, 32, 48)
    # The head's 61 · 32 weights give way to one row of 32.
    assert shape.scalar_parameters == shape.parameters - 61 * 32 + 32
    assert shape.counted


def test_another_family_is_counted_too(tmp_path: Path) -> None:
    GPT2Config(vocab_size=61, n_embd=32, n_layer=3, n_head=2).save_pretrained(tmp_path)
    shape = ModelShape.of_directory(tmp_path)
    assert (shape.layers, shape.width, shape.mlp_width, shape.tied) == (3, 32, 128, True)


@pytest.mark.parametrize(
    ("name", "billions"),
    [("1b", 1.236), ("3b", 3.21), ("7b", 6.74), ("8b", 8.03), ("13b", 13.02), ("70b", 68.98),
     ("405b", 405.9)],
)  # fmt: skip
def test_published_shapes_have_their_published_counts(name: str, billions: float) -> None:
    assert PUBLISHED[name].parameters / 1e9 == pytest.approx(billions, rel=2e-3)


@pytest.mark.parametrize("count", [8e6, 124e6, 1.5e9, 30e9, 175e9, 1e12])
def test_a_count_between_gives_about_as_many_parameters(count: float) -> None:
    shape = shape_of_parameters(count)
    assert shape.parameters == pytest.approx(count, rel=0.12)
    assert not shape.counted


def test_the_rule_grows_with_the_count() -> None:
    sizes = [shape_of_parameters(10 ** (6 + step / 4)).parameters for step in range(26)]
    assert sizes == sorted(sizes)


def test_a_hub_name_says_its_size_or_is_refused() -> None:
    shape = shape_of_name("meta-llama/Llama-2-70b-hf")
    assert shape.layers == 80
    assert "guessed from the name" in shape.origin
    with pytest.raises(ModelError, match="--parameters 7b"):
        shape_of_name("someone/good-model")


@pytest.mark.parametrize("text", ["", "7", "b", "seven b", "7b7b", "-7b"])
def test_what_is_not_a_count_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match="350m, 7b"):
        shape_of_count(text)


def test_counts_are_described_in_three_figures() -> None:
    assert [describe_count(n) for n in (68.98e9, 124e6, 950, 1.2e12)] == [
        "69B", "124M", "950", "1.2T",
    ]  # fmt: skip
