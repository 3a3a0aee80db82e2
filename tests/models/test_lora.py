"""Adapters beside frozen weights, in memory and in peft's files."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import peft
import pytest
import torch
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    PreTrainedModel,
)

from hark.errors import ModelError, RunError, SettingsError
from hark.models.checkpoint import (
    TrainingState,
    optimizer_tensors,
    save_adapter,
    save_checkpoint,
    save_model,
)
from hark.models.flops import Shape
from hark.models.language_model import add_residual_dropout, load_language_model
from hark.models.logprobs import response_logprobs
from hark.models.lora import (
    LoRASettings,
    adapter_off,
    adapter_set_to,
    add_adapter,
    has_adapter,
    restore_adapter,
    trained_weights,
)
from hark.models.packing import PromptTree, pack_for
from hark.models.parallel import recompute_blocks
from hark.models.scalar_head import load_scalar_model, new_scalar_model, response_scores

pytestmark = pytest.mark.filterwarnings(
    # What peft still asks of transformers.
    "ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"
)

TREES = [
    PromptTree((5, 6, 7), ((8, 9, 10), (11, 12))),
    PromptTree((20, 21), ((22, 23, 24, 25),)),
]
MakeFamily = Callable[..., PreTrainedModel]


def logprobs(model: PreTrainedModel) -> Tensor:
    return response_logprobs(model, pack_for(model, TREES))


def scores(model: PreTrainedModel) -> Tensor:
    return response_scores(model, pack_for(model, TREES))


def with_effect(model: PreTrainedModel) -> None:
    """Give B, which starts at zero, and a head other weights."""
    generator = torch.Generator().manual_seed(7)
    for name, tensor in trained_weights(model).items():
        if "lora_A" not in name:
            tensor.copy_(0.3 * torch.randn(tensor.shape, generator=generator))


def adapted(model: PreTrainedModel, base: str | Path = "base", **given: object) -> PreTrainedModel:
    add_adapter(
        model, LoRASettings.parse({"rank": 3, "alpha": 6.0} | given), base=str(base), seed=0
    )
    return model


def test_without_effect_and_switched_off_it_is_the_base_to_the_bit(
    family_model: PreTrainedModel,
) -> None:
    with torch.no_grad():
        before = logprobs(family_model)
        adapted(family_model)
        assert torch.equal(logprobs(family_model), before)
        with_effect(family_model)
        changed = logprobs(family_model)
        with adapter_off(family_model):
            assert torch.equal(logprobs(family_model), before)
        assert torch.equal(logprobs(family_model), changed)
    assert float((changed - before).abs().max()) > 0.01


def test_only_adapters_of_the_blocks_are_trained(family_model: PreTrainedModel) -> None:
    base = {name: parameter.clone() for name, parameter in family_model.named_parameters()}
    matrices = Shape.of(family_model)
    assert not has_adapter(family_model)
    adapted(family_model)
    assert has_adapter(family_model)
    assert Shape.of(family_model) == matrices
    # r·(inputs + outputs) for each matrix of a block; GPT-2 keeps its matrices transposed.
    expected = sum(3 * sum(w.shape) for n, w in base.items() if ".0." in n and w.dim() == 2) * 2
    trained = [p for p in family_model.parameters() if p.requires_grad]
    assert sum(parameter.numel() for parameter in trained) == expected
    optimizer = torch.optim.AdamW(trained, lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        logprobs(family_model).sum().backward()
        optimizer.step()
    # Step counters aside, two moments for each trained weight.
    moments = [t for t in optimizer_tensors(optimizer).values() if t.dim()]
    assert sum(tensor.numel() for tensor in moments) == 2 * expected
    found = {
        name.replace(".base_layer.", "."): parameter
        for name, parameter in family_model.named_parameters()
        if "lora_" not in name
    }
    assert found.keys() == base.keys()
    assert all(torch.equal(found[name], base[name]) for name in base)
    assert all(float(t.abs().max()) > 0 for t in trained_weights(family_model).values())


def test_the_merged_product_computes_what_the_adapter_does(
    family_model: PreTrainedModel, tmp_path: Path
) -> None:
    save_model(tmp_path / "base", family_model, None)
    adapted(family_model, tmp_path / "base")
    with_effect(family_model)
    save_model(tmp_path / "merged", family_model, None)
    save_adapter(tmp_path / "adapter", family_model, None)
    merged = load_language_model(tmp_path / "merged")
    with torch.no_grad():
        expected = logprobs(family_model)
        assert torch.allclose(logprobs(merged), expected, atol=1e-5)
        # A plain directory: the same files and names of weights as the base.
        base = load_language_model(tmp_path / "base")
        assert merged.state_dict().keys() == base.state_dict().keys()
        names = [sorted(p.name for p in (tmp_path / name).iterdir()) for name in ("base", "merged")]
        assert names[0] == names[1]
        # The adapter by itself, read by hark and by peft.
        ours = load_language_model(tmp_path / "adapter")
        assert torch.allclose(logprobs(ours), expected, atol=1e-5)
        assert all(parameter.requires_grad for parameter in ours.parameters())
        plain = AutoModelForCausalLM.from_pretrained(tmp_path / "base")
        tokens = torch.tensor([[5, 6, 7, 8, 9]])
        theirs = peft.PeftModel.from_pretrained(plain, tmp_path / "adapter")
        assert torch.allclose(theirs(tokens).logits, family_model(tokens).logits, atol=1e-5)
        theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "adapter")
        assert torch.allclose(theirs(tokens).logits, family_model(tokens).logits, atol=1e-5)


def test_a_scalar_head_is_trained_and_goes_into_both_products(
    make_family: MakeFamily, tmp_path: Path
) -> None:
    language_model = make_family("llama-tied")
    save_model(tmp_path / "base", language_model, None)
    model = adapted(new_scalar_model(language_model, seed=3), tmp_path / "base")
    with_effect(model)
    model.config.reward_bias = 0.25
    assert model.score.weight.requires_grad
    save_model(tmp_path / "merged", model, None)
    save_adapter(tmp_path / "adapter", model, None)
    with torch.no_grad():
        expected = scores(model)
        for name in ("merged", "adapter"):
            assert torch.allclose(scores(load_scalar_model(tmp_path / name)), expected, atol=1e-5)
        plain = AutoModelForSequenceClassification.from_pretrained(
            tmp_path / "merged", num_labels=1
        )
        plain.load_state_dict(new_scalar_model(language_model).state_dict())
        theirs = peft.PeftModel.from_pretrained(plain, tmp_path / "adapter")
        tokens = torch.tensor([[20, 21, 22, 23, 24, 25]])
        assert float(theirs(tokens).logits) == pytest.approx(float(expected[2]) - 0.25, abs=1e-5)
    # An adapter on top of a preference model, as PPO's critic is one.
    critic = adapted(load_scalar_model(tmp_path / "merged"), tmp_path / "merged")
    with_effect(critic)
    save_adapter(tmp_path / "critic", critic, None)
    with torch.no_grad():
        expected, found = scores(critic), scores(load_scalar_model(tmp_path / "critic"))
    assert torch.allclose(found, expected, atol=1e-5)


def test_an_adapter_made_by_peft_is_a_model(make_family: MakeFamily, tmp_path: Path) -> None:
    save_model(tmp_path / "base", make_family("qwen3-untied"), None)
    base = AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    config = peft.LoraConfig(
        target_modules=["q_proj", "up_proj"], r=2, use_rslora=True, use_dora=True,
        modules_to_save=["lm_head"], task_type="CAUSAL_LM",
    )  # fmt: skip
    theirs = peft.get_peft_model(base, config)
    with torch.no_grad():
        for name, parameter in theirs.named_parameters():
            if parameter.requires_grad and "lora_A" not in name:
                parameter.add_(0.1)
    theirs.save_pretrained(tmp_path / "adapter")
    tokens = torch.tensor([[5, 6, 7, 8, 9]])
    ours = load_language_model(tmp_path / "adapter", dtype="float32")
    with torch.no_grad():
        assert torch.allclose(ours(tokens).logits, theirs(tokens).logits, atol=1e-5)
    assert not has_adapter(ours)
    assert load_language_model(tmp_path / "adapter", dtype="bfloat16").dtype == torch.bfloat16


def test_what_is_wrong_with_an_adapter_is_said(make_family: MakeFamily, tmp_path: Path) -> None:
    save_model(tmp_path / "base", make_family("llama-tied"), None)
    model = adapted(make_family("llama-tied"), tmp_path / "base")
    save_adapter(tmp_path / "adapter", model, None)
    with pytest.raises(ModelError, match="adapter of a language model, not of a preference"):
        load_scalar_model(tmp_path / "adapter")
    file = tmp_path / "adapter" / "adapter_config.json"
    config = json.loads(file.read_text())
    assert config["base_model_name_or_path"] == str(tmp_path / "base")

    def point_at(base: str | None) -> None:
        file.write_text(json.dumps(config | {"base_model_name_or_path": base}))

    point_at(str(tmp_path / "gone"))
    with pytest.raises(ModelError, match="no model directory '.*gone'"):
        load_language_model(tmp_path / "adapter")
    for nothing in (None, str(tmp_path / "adapter")):
        point_at(nothing)
        with pytest.raises(ModelError, match="does not name.*set base_model_name_or_path"):
            load_language_model(tmp_path / "adapter")
    save_model(tmp_path / "other", make_family("gpt2-tied-no-pad"), None)
    point_at(str(tmp_path / "other"))
    with pytest.raises(ModelError, match="does not fit the model '.*other'"):
        load_language_model(tmp_path / "adapter")
    point_at(str(tmp_path / "base"))
    (tmp_path / "adapter" / "adapter_model.safetensors").unlink()
    with pytest.raises(ModelError, match="no usable adapter_model.safetensors"):
        load_language_model(tmp_path / "adapter")
    for damaged in ("{", "[]"):
        file.write_text(damaged)
        with pytest.raises(ModelError, match="write the adapter once more"):
            load_language_model(tmp_path / "adapter")


def test_without_peft_the_way_out_is_said(
    make_family: MakeFamily, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make_family("llama-tied")
    save_model(tmp_path / "base", model, None)
    save_adapter(tmp_path / "adapter", adapted(model, tmp_path / "base"), None)
    monkeypatch.setitem(sys.modules, "peft", None)
    for use in (
        lambda: load_language_model(tmp_path / "adapter"),
        lambda: adapted(make_family("llama-tied")),
    ):
        with pytest.raises(ModelError, match=r"pip install 'hark\[lora\]'"):
            use()


def test_unknown_target_modules_are_refused(make_family: MakeFamily) -> None:
    with pytest.raises(SettingsError, match=r"'q_porj'.*v_proj.*did you mean 'q_proj'"):
        adapted(make_family("llama-tied"), target_modules=["q_porj"])
    with pytest.raises(SettingsError, match="'lm_head'"):
        adapted(make_family("llama-untied-no-pad"), target_modules=["lm_head"])


def test_a_few_target_modules_learn_with_recomputed_layers(make_family: MakeFamily) -> None:
    gradients = []
    for recompute in (False, True):
        model = adapted(make_family("llama-tied"), target_modules=["q_proj"], rank=2)
        with_effect(model)
        assert len(trained_weights(model)) == 2 * 2
        if recompute:
            recompute_blocks(model)
        logprobs(model).sum().backward()
        gradients.append([p.grad for p in model.parameters() if p.requires_grad])
    assert all(torch.equal(*pair) for pair in zip(*gradients, strict=True))
    assert all(gradient.abs().sum() > 0 for gradient in gradients[0])


def test_dropout_is_on_adapters_and_residuals_in_training_only(make_family: MakeFamily) -> None:
    model = adapted(make_family("llama-tied"), dropout=0.5)
    with_effect(model)
    with torch.no_grad():
        evaluated = logprobs(model)
        model.train()
        assert not torch.allclose(logprobs(model), evaluated, atol=1e-3)
        with adapter_off(model):
            off = logprobs(model)
            model.eval()
            assert torch.equal(logprobs(model), off)
    # Residual dropout is after the adapter: at p → 1 nothing of it is left.
    model = make_family("llama-tied")
    adapted(model)
    with_effect(model)
    add_residual_dropout(model, 1 - 1e-9)
    model.train()
    with torch.no_grad(), adapter_off(model):
        off = logprobs(model)
    with torch.no_grad():
        assert torch.equal(logprobs(model), off)


def test_autocast_decides_the_precision(make_family: MakeFamily) -> None:
    model = adapted(make_family("llama-tied"))
    with_effect(model)
    with torch.no_grad():
        expected = logprobs(model)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = logprobs(model)
    assert not torch.equal(found, expected)
    assert torch.allclose(found, expected, atol=0.1)


def test_other_weights_for_a_while(make_family: MakeFamily) -> None:
    model = adapted(make_family("llama-tied"))
    before = {name: tensor.clone() for name, tensor in trained_weights(model).items()}
    zeros = {name: torch.zeros_like(tensor) for name, tensor in before.items()}
    with adapter_set_to(model, zeros):
        assert all(not t.any() for t in trained_weights(model).values())
    assert all(torch.equal(t, before[name]) for name, t in trained_weights(model).items())


def test_a_checkpoint_holds_the_adapter_alone(make_family: MakeFamily, tmp_path: Path) -> None:
    model = adapted(make_family("gpt2-tied-no-pad"), tmp_path / "base")
    with_effect(model)
    save_model(tmp_path / "base", make_family("gpt2-tied-no-pad"), None)
    save_checkpoint(
        tmp_path / "step-000001", models={"": model}, tokenizer=None, state=TrainingState(step=1)
    )
    assert not list((tmp_path / "step-000001").glob("model*.safetensors"))
    resumed = make_family("gpt2-tied-no-pad")
    add_adapter(
        resumed,
        LoRASettings(rank=3, alpha=6.0),
        base="",
        seed=9,
        checkpoint=tmp_path / "step-000001",
    )
    for name, tensor in trained_weights(resumed).items():
        assert torch.equal(tensor, trained_weights(model)[name])
    with torch.no_grad():
        loaded = load_language_model(tmp_path / "step-000001")
        assert torch.allclose(logprobs(loaded), logprobs(model), atol=1e-5)
    other = adapted(make_family("gpt2-tied-no-pad"), rank=4)
    with pytest.raises(RunError, match="resume with the model and the lora settings"):
        restore_adapter(other, tmp_path / "step-000001")


def test_the_same_seed_gives_the_same_adapter(make_family: MakeFamily) -> None:
    state = torch.get_rng_state()
    one, two = (trained_weights(adapted(make_family("llama-tied"))) for _ in range(2))
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert torch.equal(torch.get_rng_state(), state)
