"""Stages that train adapters: what they change, what they keep in memory, what they leave."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from hark.errors import SettingsError
from hark.models.language_model import load_language_model
from hark.models.lora import trained_weights
from hark.models.scalar_head import load_scalar_model
from hark.models.tokenizer import load_tokenizer
from hark.runs.metrics import read_metrics
from hark.runs.run import Run
from hark.training import preference, sft
from hark.training.ppo_episodes import encode_prompts, sample
from hark.training.ppo_passes import behaviour_logprobs, minibatches, reference_logprobs
from hark.training.ppo_settings import PPOSettings
from hark.training.preference_settings import PreferenceSettings
from hark.training.sft import SFTSettings

StartRun = Callable[..., Run]
WriteLines = Callable[..., Path]
PowerCut = Callable[..., AbstractContextManager[None]]

LORA = {"rank": 4, "alpha": 8.0}
ANIMALS = ("cat", "dog", "hen", "fox", "owl", "cow")
DEMONSTRATIONS = [
    {"prompt": f"Where did the {animal} sit?", "completion": f"The {animal} sat on the mat."}
    for animal in ANIMALS
]
COMPARISONS = [
    {"prompt": row["prompt"], "chosen": row["completion"], "rejected": row["completion"][::-3]}
    for row in DEMONSTRATIONS
]
ADAPTER_FILES = {"adapter_config.json", "adapter_model.safetensors", "tokenizer.json"}


@pytest.fixture
def sft_settings(language_model: Path, write_lines: WriteLines) -> Callable[..., SFTSettings]:
    data = write_lines("demonstrations.jsonl", DEMONSTRATIONS)

    def make(**changes: Any) -> SFTSettings:
        values: dict[str, Any] = {
            "model": str(language_model), "data": [data], "epochs": 4, "batch_size": 3,
            "optimizer": {"learning_rate": 1e-2}, "lora": LORA, "evaluation_data": [data],
        }  # fmt: skip
        return SFTSettings.parse(values | changes)

    return make


def weights_at(path: Path) -> dict[str, torch.Tensor]:
    return load_file(path / "model.safetensors")


def assert_same(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> None:
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_sft_learns_and_changes_nothing_outside_the_adapted_layers(
    sft_settings: Callable[..., SFTSettings], language_model: Path, start_run: StartRun
) -> None:
    with start_run("sft", sft_settings()) as run:
        sft.train(sft_settings(), run)
    records = read_metrics(run.path / "metrics.jsonl")
    losses = [record["evaluation_loss"] for record in records if "evaluation_loss" in record]
    assert losses[-1] < losses[0] - 0.2
    before, after = weights_at(language_model), weights_at(run.model_path)
    assert before.keys() == after.keys()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {name for name in before if "_proj" in name}
    assert not ADAPTER_FILES - {path.name for path in (run.path / "adapter").iterdir()}
    # The adapter alone stands for the model: it names its base, and brings the tokenizer.
    read = load_language_model(run.path / "adapter").state_dict()
    product = load_language_model(run.model_path).state_dict()
    assert all(torch.allclose(read[name], product[name], atol=1e-6) for name in product)
    assert len(load_tokenizer(run.path / "adapter")) == 300
    (run.path / "adapter" / "tokenizer_config.json").unlink()
    assert len(load_tokenizer(run.path / "adapter")) == 300


@pytest.mark.parametrize(
    "given",
    [
        {
            "residual_dropout": 0.1,
            "lora": LORA | {"dropout": 0.2},
            "activation_checkpointing": True,
        },
        {"choose_by": "loss", "dtype": "bfloat16"},
    ],
)
def test_an_interrupted_sft_ends_as_if_it_had_not_been(
    sft_settings: Callable[..., SFTSettings],
    start_run: StartRun,
    power_cut: PowerCut,
    given: dict[str, Any],
) -> None:
    paths = []
    for name in ("undisturbed", "disturbed"):
        settings = sft_settings(name=name, checkpoint_every=2, **given)
        if name == "disturbed":
            with (
                power_cut("hark.training.sft.examples_of_step", call=6),
                start_run("sft", settings) as run,
            ):
                sft.train(settings, run)
            checkpoint = run.checkpoint_path(4)
            assert run.latest_checkpoint() == checkpoint
            assert not list(checkpoint.glob("model*"))
        with start_run("sft", settings) as run:
            run.finish(sft.train(settings, run))
        paths.append(run.path)
    adapter = "adapter/adapter_model.safetensors"
    for file in ("metrics.jsonl", "model/model.safetensors", adapter, "results.json"):
        assert (paths[0] / file).read_bytes() == (paths[1] / file).read_bytes()


def test_an_interrupted_preference_run_keeps_head_and_bias(
    language_model: Path, write_lines: WriteLines, start_run: StartRun, power_cut: PowerCut
) -> None:
    data = write_lines("comparisons.jsonl", COMPARISONS)
    paths = []
    for name in ("undisturbed", "disturbed"):
        values: dict[str, Any] = {
            "model": str(language_model), "data": [data], "batch_size": 2, "epochs": 2,
            "optimizer": {"learning_rate": 1e-2}, "checkpoint_every": 2, "name": name,
            "lora": LORA, "normalise": "reference", "normalise_samples": 4,
            "sampling": {"max_response_tokens": 4},
        }  # fmt: skip
        settings = PreferenceSettings.parse(values)
        if name == "disturbed":
            with (
                power_cut("hark.training.preference.examples_of_step", call=4),
                start_run("preference", settings) as run,
            ):
                preference.train(settings, run)
        with start_run("preference", settings) as run:
            results = preference.train(settings, run)
            run.finish(results)
        paths.append(run.path)
    adapter = "adapter/adapter_model.safetensors"
    for file in ("metrics.jsonl", "model/model.safetensors", "model/config.json", adapter):
        assert (paths[0] / file).read_bytes() == (paths[1] / file).read_bytes()
    config = json.loads((paths[0] / "adapter" / "adapter_config.json").read_text())
    assert config["task_type"] == "SEQ_CLS"
    assert config["modules_to_save"] == ["score"]
    read = load_scalar_model(paths[0] / "adapter")
    product = load_scalar_model(paths[0] / "model")
    assert read.config.reward_bias == product.config.reward_bias == results["reward_bias"] != 0.0
    assert torch.equal(read.score.weight, product.score.weight)
    base = weights_at(language_model)
    changed = {
        name
        for name, tensor in product.state_dict().items()
        if name in base and not torch.equal(tensor, base[name])
    }
    assert changed == {name for name in base if "_proj" in name}


def ppo_lora(ppo_world: Any, **given: Any) -> PPOSettings:
    settings: PPOSettings = ppo_world.settings(lora=LORA, **given)
    return settings


@pytest.mark.parametrize("critic", ["preference_model", "shared"])
def test_ppo_starts_from_its_reference_to_the_bit(ppo_world: Any, critic: str) -> None:
    settings = ppo_lora(ppo_world, critic=critic, recompute_behaviour_logprobs=True)
    state = ppo_world.state(settings)
    encoded = encode_prompts(ppo_world.prompts, state.tokenizer, settings, context=48)
    episodes = sample(state, (encoded.prompts * 4)[:16], settings)
    epoch = minibatches(episodes, state.readers, settings, step=0, epoch=0)
    of_policy = behaviour_logprobs(state, episodes, epoch, settings)
    assert torch.equal(reference_logprobs(state, epoch, settings), of_policy)
    with torch.no_grad():
        for tensor in trained_weights(state.policy).values():
            tensor.add_(0.05)
    assert not torch.allclose(behaviour_logprobs(state, episodes, epoch, settings), of_policy)
    # The reference stays where it was, and the policy learns on after having stood in for it.
    assert torch.equal(reference_logprobs(state, epoch, settings), of_policy)
    trained = [name for name, p in state.policy.named_parameters() if p.requires_grad]
    assert len(trained) == len(trained_weights(state.policy))


@pytest.mark.parametrize(("critic", "copies"), [("preference_model", 2), ("shared", 1)])
def test_ppo_keeps_no_second_copy_of_what_is_frozen(
    ppo_world: Any, critic: str, copies: int
) -> None:
    state = ppo_world.state(ppo_lora(ppo_world, critic=critic))
    plain = load_language_model(ppo_world.directory / "sft")
    count = sum(parameter.numel() for parameter in plain.parameters())
    models = [state.policy, state.critic, state.reference, state.average]
    parameters = {p for model in models if model is not None for p in model.parameters()}
    frozen = sum(p.numel() for p in parameters if not p.requires_grad)
    assert frozen == copies * count
    assert state.average_adapter is not None
    # 4·(inputs + outputs) for each of the 2 blocks' matrices: four of 32×32, three of 32×48.
    adapter = 2 * 4 * (4 * (32 + 32) + 3 * (32 + 48))
    assert sum(tensor.numel() for tensor in state.average_adapter.values()) == adapter
    trained = sum(p.numel() for p in parameters if p.requires_grad)
    assert trained == copies * adapter + 32  # and the critic's head
    optimizers = [state.policy_optimizer, state.value_optimizer]
    held = [p for each in optimizers if each for g in each.param_groups for p in g["params"]]
    assert sum(p.numel() for p in held) == trained


@pytest.mark.parametrize("critic", ["preference_model", "shared"])
def test_an_interrupted_ppo_ends_as_if_it_had_not_been(
    ppo_world: Any, power_cut: PowerCut, critic: str
) -> None:
    runs = []
    for name in ("undisturbed", "disturbed"):
        settings = ppo_lora(
            ppo_world, name=name, critic=critic, inner_epochs=2, activation_checkpointing=True
        )
        if name == "disturbed":
            with power_cut("hark.training.ppo.prompts_of_step", call=4):
                ppo_world.train(settings)
        runs.append(ppo_world.train(settings, evaluate=None)[0])
    whole, cut = runs
    assert cut.resumed
    assert not list(cut.checkpoint_path(4).rglob("model*"))
    products = ("model/model.safetensors", "value/model.safetensors", "metrics.jsonl")
    for file in (*products, "adapter/adapter_model.safetensors"):
        assert (whole.path / file).read_bytes() == (cut.path / file).read_bytes(), file
    # The product is the moving average: neither the base nor the last weights.
    name = "model.layers.0.mlp.up_proj.weight"
    last = load_language_model(cut.checkpoint_path(4)).state_dict()[name]
    product = weights_at(cut.model_path)[name]
    assert not torch.equal(product, weights_at(ppo_world.directory / "sft")[name])
    assert not torch.allclose(product, last, atol=1e-6)
    read = load_language_model(cut.path / "adapter").state_dict()[name]
    assert torch.allclose(read, product, atol=1e-6)


def test_ppo_evaluates_the_average_and_leaves_the_policy_alone(ppo_world: Any) -> None:
    seen = []

    def evaluate(model: Any, step: int) -> dict[str, float]:
        seen.append({name: tensor.clone() for name, tensor in trained_weights(model).items()})
        return {"evaluation_score": 0.0}

    settings = ppo_lora(ppo_world, total_episodes=32)
    run, _ = ppo_world.train(settings, evaluate=evaluate)
    of_product = load_file(run.path / "adapter" / "adapter_model.safetensors")
    of_policy = load_file(run.checkpoint_path(2) / "adapter_model.safetensors")
    assert_same(seen[-1], of_product)
    assert any(not torch.equal(of_policy[name], seen[-1][name]) for name in of_policy)
    # θ̄ after four updates is in between: nearer to the start than to the policy.
    name = next(name for name in of_policy if "lora_B" in name)
    assert float(of_product[name].norm()) < 0.1 * float(of_policy[name].norm())


def test_ppo_may_start_from_an_adapter(
    ppo_world: Any, sft_settings: Callable[..., SFTSettings], start_run: StartRun
) -> None:
    """Given as the model it is merged, and the sum is the base of the policy's own adapter."""
    path = ppo_world.directory / "sft"
    settings = sft_settings(model=str(path), epochs=1, long_responses="cut")
    with start_run("sft", settings) as run:
        sft.train(settings, run)
    state = ppo_world.state(ppo_lora(ppo_world, model=str(run.path / "adapter")))
    name = "model.layers.1.self_attn.q_proj"
    merged = weights_at(run.model_path)[f"{name}.weight"]
    assert torch.allclose(state.policy.get_submodule(name).base_layer.weight, merged, atol=1e-6)
    assert not torch.allclose(weights_at(path)[f"{name}.weight"], merged, atol=1e-4)


def test_ppo_refuses_dropout(ppo_world: Any) -> None:
    with pytest.raises(SettingsError, match=r"lora\.dropout would be ignored"):
        ppo_world.settings(lora=LORA | {"dropout": 0.1})
