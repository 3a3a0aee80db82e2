from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, PreTrainedModel

from hark.errors import ModelError, SettingsError
from hark.models.checkpoint import save_model
from hark.models.language_model import (
    SIZES,
    Architecture,
    add_residual_dropout,
    check_match,
    choose_device,
    context_length,
    load_language_model,
    new_language_model,
)
from hark.models.tokenizer import train_tokenizer
from hark.models.tree_attention import TREE_ATTENTION

TINY = Architecture(width=32, layers=2, heads=2, mlp_width=48, named_vocabulary=300)


def tiny(seed: int = 0) -> PreTrainedModel:
    return new_language_model(
        TINY, vocabulary_size=300, context_length=64, seed=seed, pad_token_id=0, eos_token_id=1
    )


@pytest.mark.parametrize("name", SIZES)
def test_a_size_has_about_the_parameters_of_its_name(name: str) -> None:
    size = SIZES[name]
    assert size.parameters() == pytest.approx(float(name.removesuffix("m")) * 1e6, rel=0.06)
    assert size.width % size.heads == 0
    assert size.head_width >= 16
    assert size.head_width % 2 == 0


def test_the_parameter_count_is_the_models() -> None:
    model = new_language_model(
        "0.5m", vocabulary_size=300, context_length=64, seed=0, pad_token_id=0, eos_token_id=1
    )
    assert sum(p.numel() for p in model.parameters()) == SIZES["0.5m"].parameters(300)
    assert model.lm_head.weight is model.model.embed_tokens.weight
    assert context_length(model) == 64


def test_the_weights_depend_on_the_seed_alone() -> None:
    torch.manual_seed(1)
    expected = torch.rand(2)
    torch.manual_seed(1)
    first = tiny()
    assert torch.equal(torch.rand(2), expected)
    second, other = tiny(), tiny(seed=1)
    name = "model.layers.1.mlp.down_proj.weight"
    assert torch.equal(first.get_parameter(name), second.get_parameter(name))
    assert not torch.equal(first.get_parameter(name), other.get_parameter(name))


def test_an_unknown_size_is_refused_with_the_closest() -> None:
    with pytest.raises(SettingsError, match="'124' .did you mean '124m'"):
        new_language_model(
            "124", vocabulary_size=300, context_length=64, seed=0, pad_token_id=0, eos_token_id=1
        )


def test_saved_and_loaded_it_is_the_same_to_the_last_bit(
    family_model: PreTrainedModel, tmp_path: Path
) -> None:
    save_model(tmp_path / "model", family_model, None)
    again = load_language_model(tmp_path / "model")
    tokens = torch.tensor([[5, 6, 7, 8, 9, 10]])
    assert torch.equal(again(tokens).logits, family_model(tokens).logits)
    assert context_length(again) == 64
    assert again.config._attn_implementation == (
        "eager" if again.config.model_type == "gemma2" else TREE_ATTENTION
    )


def test_dtype_and_device_are_as_asked(tmp_path: Path) -> None:
    save_model(tmp_path / "model", tiny(), None)
    model = load_language_model(tmp_path / "model", dtype="bfloat16", device="cpu")
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
    with pytest.raises(SettingsError, match="unknown dtype 'float64'"):
        load_language_model(tmp_path / "model", dtype="float64")


def test_a_tokenizer_with_more_tokens_than_the_model_is_refused() -> None:
    texts = [chr(97 + i) + chr(97 + j) for i in range(26) for j in range(26)] * 2
    model = tiny()
    check_match(model, train_tokenizer(texts, vocabulary_size=300))
    with pytest.raises(ModelError, match=r"has token 300 .* embeddings for 300 tokens"):
        check_match(model, train_tokenizer(texts, vocabulary_size=301))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_numbers_are_refused(tmp_path: Path, value: float) -> None:
    save_model(tmp_path / "model", tiny(), None)
    file = tmp_path / "model" / "model.safetensors"
    tensors = load_file(file)
    tensors["model.layers.1.mlp.up_proj.weight"][3, 4] = value
    save_file(tensors, file, metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"NaN or infinite weights in 'model.layers.1.mlp.up_pro"):
        load_language_model(tmp_path / "model")


def test_absent_weights_are_refused(tmp_path: Path) -> None:
    save_model(tmp_path / "model", tiny(), None)
    file = tmp_path / "model" / "model.safetensors"
    tensors = load_file(file)
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, file, metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"lacks the weights 'model.layers.1.mlp.up_proj.weight'"):
        load_language_model(tmp_path / "model")


def test_torn_weights_are_refused(tmp_path: Path) -> None:
    save_model(tmp_path / "model", tiny(), None)
    file = tmp_path / "model" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:2000])
    with pytest.raises(ModelError, match="no usable safetensors weights .*header"):
        load_language_model(tmp_path / "model")


def test_weights_of_another_shape_are_refused(tmp_path: Path) -> None:
    save_model(tmp_path / "model", tiny(), None)
    config = tmp_path / "model" / "config.json"
    config.write_text(config.read_text().replace('"vocab_size": 300', '"vocab_size": 301'))
    with pytest.raises(ModelError, match="cannot read model .*"):
        load_language_model(tmp_path / "model")


def test_pickled_weights_are_not_read(tmp_path: Path) -> None:
    save_model(tmp_path / "model", tiny(), None)
    file = tmp_path / "model" / "model.safetensors"
    torch.save(load_file(file), tmp_path / "model" / "pytorch_model.bin")
    file.unlink()
    with pytest.raises(ModelError, match="no usable safetensors"):
        load_language_model(tmp_path / "model")


def test_what_is_no_model_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"has no config.json"):
        load_language_model(tmp_path)
    with pytest.raises(ModelError, match="there is no model directory"):
        load_language_model(tmp_path / "absent")
    with pytest.raises(ModelError, match="there is no model directory"):
        load_language_model("./absent")
    (tmp_path / "config.json").write_text('{"model_type": "no-such-architecture"}')
    with pytest.raises(ModelError, match="cannot read model"):
        load_language_model(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ModelError, match="cannot read model"):
        load_language_model(tmp_path)


def test_a_hub_name_without_a_network_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_arguments: object, **_options: object) -> None:
        raise OSError("We couldn't connect to 'https://huggingface.co'")

    monkeypatch.setattr(AutoConfig, "from_pretrained", unreachable)
    with pytest.raises(ModelError, match="cannot fetch model 'some/name': .* on this machine"):
        load_language_model("some/name")


def test_the_devices_a_setting_can_name() -> None:
    assert choose_device("cpu") == torch.device("cpu")
    assert choose_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    with pytest.raises(SettingsError, match="unknown device 'gpu'"):
        choose_device("gpu")
    with pytest.raises(SettingsError, match="device 'cuda:99' is not here"):
        choose_device("cuda:99")


def test_float32_is_float32_on_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    precision = ["high"]
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch, "set_float32_matmul_precision", precision.append)
    assert choose_device("cpu") == torch.device("cpu")
    assert precision == ["high"]
    assert choose_device("cuda:1") == torch.device("cuda", 1)
    assert precision[-1] == "highest"


def test_no_dropout_unless_asked_for(
    make_family: Callable[..., PreTrainedModel], tmp_path: Path
) -> None:
    model = make_family("gpt2-tied-no-pad")
    assert model.config.resid_pdrop == 0.1
    save_model(tmp_path / "model", model, None)
    tokens = torch.tensor([[5, 6, 7, 8]])
    loaded = load_language_model(tmp_path / "model").train()
    assert torch.equal(loaded(tokens).logits, loaded(tokens).logits)
    dropped = load_language_model(tmp_path / "model", dropout=0.2).train()
    assert not torch.equal(dropped(tokens).logits, dropped(tokens).logits)
    assert torch.equal(dropped.eval()(tokens).logits, loaded.eval()(tokens).logits)


def test_residual_dropout_falls_on_every_block(
    family_model: PreTrainedModel, tmp_path: Path
) -> None:
    # With every block dropped, the last norm sees the embeddings alone.
    save_model(tmp_path / "model", family_model, None)
    dropped = load_language_model(tmp_path / "model", dropout=1 - 1e-9)
    without_blocks = copy.deepcopy(family_model)
    trunk = without_blocks.base_model
    del (trunk.h if hasattr(trunk, "h") else trunk.layers)[:]
    without_blocks.config.num_hidden_layers = 0
    tokens = torch.tensor([[5, 6, 7, 8]])
    got = dropped.train().base_model(tokens).last_hidden_state
    torch.testing.assert_close(got, trunk(tokens).last_hidden_state)
    torch.testing.assert_close(dropped.eval()(tokens).logits, family_model(tokens).logits)


def test_dropout_that_cannot_be_applied_is_refused(
    make_family: Callable[..., PreTrainedModel],
) -> None:
    model = make_family("llama-tied")
    with pytest.raises(SettingsError, match=r"dropout is 1.0"):
        add_residual_dropout(model, 1.0)
    model.config.model_type = "bloom"
    with pytest.raises(ModelError, match="cannot apply it to a bloom"):
        add_residual_dropout(model, 0.1)
