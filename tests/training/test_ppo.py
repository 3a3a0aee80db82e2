"""PPO in a tiny world: a Llama of two layers that speaks in bytes."""

import gzip
import itertools
import json
from collections.abc import Callable
from typing import Any

import pytest
import torch
from tests.training.conftest import PPOWorld

from hark.data.records import Prompt, ask
from hark.errors import DataError, ModelError, RunError, SettingsError
from hark.models.language_model import load_language_model
from hark.models.scalar_head import load_scalar_model
from hark.runs.metrics import read_metrics
from hark.training import ppo_state
from hark.training.ppo import ppo_step
from hark.training.ppo_episodes import encode_prompts, prompts_of_step


def weights(directory):
    return load_language_model(directory).state_dict()


def assert_same_weights(one, other):
    assert one.keys() == other.keys()
    for name in one:
        assert torch.equal(one[name], other[name]), name


def test_a_tiny_model_learns_what_is_rewarded(ppo_world):
    settings = ppo_world.settings(
        total_episodes=20 * 64,
        batch_episodes=64,
        minibatch_episodes=32,
        inner_epochs=2,
        max_response_tokens=8,
        incomplete_responses="keep",
        kl_coefficient=0.01,
        value_learning_rate=1e-3,
        optimizer={"learning_rate": 4e-3, "warmup_steps": 0},
        ema_decay=None,
        checkpoint_every=1000,
    )
    run, results = ppo_world.train(settings)
    metrics = read_metrics(run.path / "metrics.jsonl")
    # At random about a tenth of the bytes are letters.
    assert metrics[0]["score"] < 1.5
    assert results["score"] > 3.0
    assert metrics[-1]["kl"] > metrics[0]["kl"]
    assert results["value_explained_variance"] > metrics[0]["value_explained_variance"]


def test_what_a_run_leaves_behind(ppo_world):
    settings = ppo_world.settings(samples_every=2, samples=3)
    run, results = ppo_world.train(
        settings, evaluate=lambda model, step: {"evaluated_step": float(step)}
    )
    metrics = read_metrics(run.path / "metrics.jsonl")
    steps = [record for record in metrics if "score" in record]
    assert [record["step"] for record in steps] == [1, 2, 3, 4]
    assert [r["evaluated_step"] for r in metrics if "evaluated_step" in r] == [0, 4]
    assert results["episodes"] == 64
    assert results["evaluated_step"] == 4
    # The model is the moving average: neither the start nor the last weights.
    product, last = weights(run.model_path), weights(run.checkpoint_path(4))
    assert_same_weights(product, weights(run.checkpoint_path(4) / "ema"))
    name = "model.layers.0.mlp.up_proj.weight"
    assert not torch.equal(product[name], last[name])
    assert not torch.equal(product[name], weights(ppo_world.directory / "sft")[name])
    load_scalar_model(run.path / "value")
    samples = [json.loads(line) for line in run.samples_path(2).read_text().splitlines()]
    assert len(samples) == 3
    assert samples[0].keys() == {"prompt", "response", "score", "kl", "complete"}
    assert samples[0]["prompt"][0]["role"] == "user"
    timing = read_metrics(run.path / "timing.jsonl")
    assert {"generate_seconds", "reference_seconds", "score_seconds", "value_seconds",
            "update_seconds", "other_seconds"} <= timing[0].keys()  # fmt: skip


def test_a_profile_names_the_phases_and_changes_nothing(ppo_world):
    runs = [
        ppo_world.train(
            ppo_world.settings(
                total_episodes=8, batch_episodes=4, minibatch_episodes=4, max_response_tokens=2,
                name=name, profile_steps=steps,
            )
        )[0]
        for name, steps in (("plain", 0), ("traced", 1))
    ]  # fmt: skip
    plain, traced = ((run.path / "metrics.jsonl").read_text() for run in runs)
    assert plain == traced
    assert_same_weights(*(weights(run.model_path) for run in runs))
    with gzip.open(runs[1].profile_path / "trace.json.gz", "rt") as file:
        names = {event.get("name") for event in json.load(file)["traceEvents"]}
    assert {"data", "generate", "score", "reference", "value", "update", "checkpoint"} <= names


class InterruptionError(Exception):
    pass


@pytest.mark.parametrize("critic", ["preference_model", "shared"])
def test_an_interrupted_run_ends_as_if_it_had_not_been(ppo_world, critic):
    given = {
        "critic": critic,
        "kl_target": 0.5,
        "kl_horizon": 100.0,
        "inner_epochs": 2,
        "checkpoint_every": 2,
        "total_episodes": 80,
        "pretraining_data": ppo_world.directory / "texts.jsonl",
        "pretraining_row_tokens": 16,
        "pretraining_rows_per_episode": 0.5,
    }
    whole, _ = ppo_world.train(ppo_world.settings(**given))
    calls = []

    def interrupts_at_step_four(dialogues):
        calls.append(len(dialogues))
        if len(calls) == 4:
            raise InterruptionError
        return ppo_world.letters(dialogues)

    settings = ppo_world.settings(**given)
    with pytest.raises(InterruptionError):
        ppo_world.train(settings, score=interrupts_at_step_four)
    cut, _ = ppo_world.train(settings)
    # Resumed after step 2 of 5, step 3 is done once more.
    assert cut.resumed
    metrics = (whole.path / "metrics.jsonl").read_text()
    assert metrics == (cut.path / "metrics.jsonl").read_text()
    records = read_metrics(whole.path / "metrics.jsonl")
    assert [record["step"] for record in records] == [1, 2, 3, 4, 5]
    assert len({record["kl_coefficient"] for record in records}) > 2
    assert_same_weights(weights(whole.model_path), weights(cut.model_path))
    values = [load_scalar_model(run.path / "value").state_dict() for run in (whole, cut)]
    assert_same_weights(*values)


def test_kl_penalty_brings_a_strayed_policy_back(ppo_world):
    # Scores are all 0: only the penalty speaks. With its sign flipped the policy strays further.
    settings = ppo_world.settings(
        batch_episodes=64,
        kl_coefficient=1.0,
        incomplete_responses="keep",
        optimizer={"learning_rate": 2e-3, "warmup_steps": 0},
    )
    state = ppo_world.state(settings)
    with torch.no_grad():
        # Input and output embedding are one: the logits are eight times as large.
        state.policy.get_input_embeddings().weight.mul_(8)
    encoded = encode_prompts(ppo_world.prompts, state.tokenizer, settings, context=48)
    divergence = []
    for step in range(8):
        prompts = prompts_of_step(encoded.prompts, settings, step)
        _, metrics = ppo_step(state, prompts, lambda d: torch.zeros(len(d)), settings)
        divergence.append(metrics["kl"])
    assert divergence[0] > 0.5
    assert divergence[-1] < 0.7 * divergence[0]


def test_the_controller_is_fed_the_sum_over_a_response(ppo_world):
    # Every step: β ← β(1 + clip(KL/target − 1, ±0.2)·16/horizon) with KL of whole responses.
    settings = ppo_world.settings(kl_target=0.05, kl_horizon=100.0)
    run, _ = ppo_world.train(settings)
    records = read_metrics(run.path / "metrics.jsonl")
    for now, later in itertools.pairwise(records):
        error = min(max(now["kl"] / 0.05 - 1, -0.2), 0.2)
        assert later["kl_coefficient"] == pytest.approx(
            now["kl_coefficient"] * (1 + error * 16 / 100)
        )
        assert now["kl"] == pytest.approx(now["kl_per_token"] * now["response_tokens"], rel=1e-4)
    assert records[0]["kl_coefficient"] == settings.kl_coefficient


def test_the_same_seed_gives_the_same_run_and_another_seed_another(ppo_world):
    texts = {}
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        run, _ = ppo_world.train(ppo_world.settings(total_episodes=32, seed=seed))
        texts[name] = (run.path / "metrics.jsonl").read_text()
    assert texts["a"] == texts["b"] != texts["c"]


def test_samples_do_not_depend_on_packing(ppo_world):
    # Micro-batches and rows change rounding at most.
    records = []
    for given in ({}, {"micro_batch_tokens": 32, "generation_rows": 3}):
        run, _ = ppo_world.train(ppo_world.settings(total_episodes=32, **given))
        records.append(read_metrics(run.path / "metrics.jsonl"))
    for one, many in zip(*records, strict=True):
        assert one == pytest.approx(many, rel=1e-3, abs=1e-4)


def test_without_average_the_last_weights_are_saved(ppo_world):
    run, _ = ppo_world.train(ppo_world.settings(ema_decay=None))
    assert_same_weights(weights(run.model_path), weights(run.checkpoint_path(4)))
    assert not (run.checkpoint_path(4) / "ema").exists()


def test_a_prompt_too_long_is_an_error_or_left_out_or_cut(ppo_world):
    prompts = [*ppo_world.prompts, Prompt(prompt=ask("long " * 20))]
    with pytest.raises(DataError, match=r"prompt 6 of 6 has \d+ tokens.*context of 48"):
        ppo_world.train(ppo_world.settings(total_episodes=16), prompts=prompts)
    counts = {}
    for way in ("skip", "cut"):
        settings = ppo_world.settings(total_episodes=16, long_prompts=way)
        _, results = ppo_world.train(settings, prompts=prompts)
        counts[way] = (results["prompts"], results["prompts_skipped"], results["prompts_cut"])
    assert counts == {"skip": (5, 1, 0), "cut": (6, 0, 1)}
    with pytest.raises(DataError, match="no prompt is left"):
        ppo_world.train(
            ppo_world.settings(total_episodes=16, long_prompts="skip"),
            prompts=prompts[-1:],
        )


def test_a_score_that_is_not_a_number_stops_the_run(ppo_world):
    with pytest.raises(RunError, match="nan for response 1 of 16"):
        ppo_world.train(
            ppo_world.settings(),
            score=lambda dialogues: torch.full((len(dialogues),), float("nan")),
        )


def test_diverging_stops_the_run_and_keeps_the_checkpoint(ppo_world):
    settings = ppo_world.settings(
        optimizer={"learning_rate": 1e30, "warmup_steps": 0},
        minibatch_episodes=16,
    )
    with pytest.raises(RunError, match=r"PPO diverged.*step 2.*learning_rate"):
        ppo_world.train(settings)
    assert len(list(ppo_world.output.glob("*/checkpoints/step-000001"))) == 1


def test_a_critic_needs_something_to_start_from(ppo_world):
    settings = ppo_world.settings(preference_model=())
    with pytest.raises(SettingsError, match="value_model, or set critic to 'shared'"):
        ppo_world.train(settings)
    with pytest.raises(ModelError, match=r"cannot start from the first preference_model.*'shared'"):
        ppo_world.train(ppo_world.settings(preference_model="./sentiment"))
    run, _ = ppo_world.train(
        ppo_world.settings(preference_model=(), value_model=str(ppo_world.directory / "preference"))
    )
    assert (run.path / "value").is_dir()


def test_evaluation_every_without_an_evaluation_is_refused(ppo_world):
    with pytest.raises(SettingsError, match="evaluation_every would be ignored"):
        ppo_world.train(ppo_world.settings(evaluation_every=2))


def test_signs_of_collapse_are_shown_once_and_kept(ppo_world, capsys):
    settings = ppo_world.settings(total_episodes=160, kl_warning=1e-6, incomplete_responses="keep",
        kl_coefficient=0.0,
    )  # fmt: skip
    run, results = ppo_world.train(settings)
    found = read_metrics(run.path / "warnings.jsonl")
    assert [record["sign"] for record in found].count("kl_explosion") == 1
    assert any("Raise kl_coefficient" in warning for warning in results["warnings"])
    assert capsys.readouterr().err.count("KL reached") == 1


@pytest.mark.parametrize(
    ("given", "models"), [({}, 4), ({"critic": "shared"}, 3), ({"lora": {"rank": 2}}, 2)]
)
def test_each_model_is_cut_before_the_next_is_read(
    ppo_world: PPOWorld, monkeypatch: pytest.MonkeyPatch, given: dict[str, Any], models: int
) -> None:
    done: list[str] = []

    def noted(what: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            done.append(what)
            return function(*arguments, **named)

        return call

    for name in ("load_language_model", "load_scalar_model"):
        monkeypatch.setattr(ppo_state, name, noted("read", getattr(ppo_state, name)))
    monkeypatch.setattr(ppo_state.parallel, "shard", noted("cut", ppo_state.parallel.shard))
    ppo_world.state(ppo_world.settings(ema_decay=0.9, **given))
    # A head on the policy's trunk is cut by itself, and is not read.
    assert done == ["read", "cut"] * models + ["cut"] * (given.get("critic") == "shared")
