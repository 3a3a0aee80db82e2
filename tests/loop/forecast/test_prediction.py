"""Whole forecasts: sizes through references, what is said, what is assumed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hark.cli import main
from hark.errors import DataError, ModelError, SettingsError
from hark.loop.forecast.hardware import Basis, load_hardware
from hark.loop.forecast.lengths import (
    Said,
    by_stage,
    lengths_of_stage,
    numbers_by_stage,
)
from hark.loop.forecast.prediction import Forecast, Question, StageForecast, forecast
from hark.loop.plan import Request, plan_recipe
from hark.loop.recipe import load_recipe

SAID = Said(
    examples={"": 1000, "ppo": 50}, prompt_tokens={"": 100}, response_tokens={"": 50},
    responses={"": 4},
)  # fmt: skip


def of(
    recipe: str = "instructgpt", *, gpu: str = "h100", gpus: int = 8, said: Said = SAID,
    overrides: tuple[str, ...] = (), use: tuple[str, ...] = (), dtype: str = "bfloat16",
    **parameters: str,
) -> Forecast:  # fmt: skip
    plan = plan_recipe(
        load_recipe(recipe),
        Request(overrides=overrides, replacements=use, dry_run=True, every_stage={"dtype": dtype}),
    )
    device = load_hardware().device(gpu)
    question = Question(
        device=device, devices=gpus, price_per_hour=2.0, parameters=parameters, said=said
    )
    return forecast(plan, question)


def stage(found: Forecast, name: str) -> StageForecast:
    return next(each for each in found.stages if each.name == name)


def test_sizes_follow_the_references_and_a_stage_may_have_its_own() -> None:
    found = of(base="70b", preference="7b")
    billions = {each.name: round(each.parameters.value / 1e9) for each in found.stages}
    assert billions == {
        "base": 69, "sft": 69, "preference": 7, "sft_chosen": 69, "rl_start": 69, "ppo": 69,
        "ppo_ptx": 69, "compare": 69,
    }  # fmt: skip
    assert found.left_out == ("report",)
    ppo = {term.name: term.bytes for term, _ in stage(found, "ppo").memory if term.when == "always"}
    policy, critic = 68_976_648_192, 6_607_347_712  # Llama 2 70B; 7B less its head, plus one row
    assert ppo["weights"] == 4 * (policy + critic) / 8
    assert ppo["frozen: reference, moving average, preference model"] == (
        2 * 4 * policy + 2 * critic
    ) / 8  # fmt: skip
    loading = [term.bytes for term, _ in stage(found, "ppo").memory if term.when == "loading"]
    # The policy is read whole beside shards of preference model, reference and moving average.
    assert loading == [4 * (policy + 2 * policy / 8) + 2 * critic / 8]
    assert not stage(found, "ppo").fits


def test_a_preset_is_counted_and_a_guess_is_extrapolated() -> None:
    preset, guess = stage(of(), "base"), stage(of(base="7b"), "base")
    assert preset.parameters.basis == Basis.MEASURED
    assert guess.parameters.basis == Basis.EXTRAPOLATED
    weights = [(t.name, basis) for t, basis in preset.memory if t.name == "weights"]
    assert weights == [("weights", Basis.MEASURED)]
    # No GPU was measured.
    assert preset.hours.basis == Basis.EXTRAPOLATED


def test_steps_follow_the_examples_and_the_settings() -> None:
    found = of()
    # 1000 demonstrations in batches of 32, 16 epochs: 32 steps an epoch.
    assert stage(found, "sft").steps == 32 * 16
    assert stage(found, "preference").steps == 16
    assert stage(found, "ppo").steps == 256_000 // 512


def test_cost_is_hours_times_devices_times_price() -> None:
    found = stage(of(), "sft")
    assert found.hours.value == pytest.approx(found.steps * found.step_seconds / 3600)
    assert found.cost.value == pytest.approx(found.hours.value * 8 * 2.0)


def test_one_device_sends_nothing_and_more_devices_need_less_memory_each() -> None:
    alone, many = stage(of(gpus=1), "ppo"), stage(of(gpus=8), "ppo")
    assert all(phase.communication_bytes == 0 for phase in alone.phases)
    assert all(phase.communication_bytes > 0 for phase in many.phases)
    assert many.peak_bytes.value < alone.peak_bytes.value


def test_the_largest_model_fits_and_one_a_quarter_larger_does_not() -> None:
    largest = stage(of(), "sft").largest
    assert largest is not None
    millions = largest.value / 1e6
    assert stage(of(base=f"{millions * 0.85:.0f}m"), "sft").fits
    assert not stage(of(base=f"{millions * 1.25:.0f}m"), "sft").fits


def test_activation_checkpointing_trades_memory_for_time() -> None:
    plain = stage(of(base="7b", gpus=1), "sft")
    changed = of(base="7b", gpus=1, overrides=("sft.activation_checkpointing=true",))
    thrifty = stage(changed, "sft")

    def activations(found: StageForecast) -> float:
        return sum(term.bytes for term, _ in found.memory if term.name == "activations")

    assert activations(thrifty) < activations(plain) / 5
    assert thrifty.step_seconds > plain.step_seconds


def test_adapters_need_no_reference_and_hardly_any_moments() -> None:
    whole = stage(of(base="7b", preference="7b"), "ppo")
    adapted = stage(of(base="7b", preference="7b", overrides=("ppo.lora.rank=16",)), "ppo")
    terms = {term.name: term.bytes for term, _ in adapted.memory}
    # r·(inputs + outputs) of seven layers in each of 32 blocks, policy and critic; a scalar head.
    adapter = 32 * 16 * (8 * 4096 + 3 * (4096 + 11008))
    assert terms["optimizer moments"] == 8 * (2 * adapter + 4096) / 8
    assert terms["frozen: moving average, preference model"] == (
        4 * adapter + 2 * 6_607_347_712
    ) / 8  # fmt: skip
    assert adapted.peak_bytes.value < whole.peak_bytes.value
    assert adapted.hours.value < whole.hours.value
    assert adapted.largest is not None
    assert whole.largest is not None
    assert adapted.largest.value > whole.largest.value
    assert adapted.notes == ("the adapters' own products are not counted",)


def test_pretraining_text_is_a_phase_of_its_own() -> None:
    found = of()
    names = [phase.name for phase in stage(found, "ppo_ptx").phases]
    assert names == ["generate", "score", "reference", "value", "update", "pretraining"]
    assert [phase.name for phase in stage(found, "ppo").phases] == names[:-1]


@pytest.mark.parametrize(
    "recipe",
    ["quickstart", "instructgpt", "hh", "hh-small", "stiennon-summarise", "ziegler-sentiment"],
)
def test_every_recipe_is_forecast(recipe: str) -> None:
    found = of(recipe, said=Said(), **{"": "124m"})
    assert found.stages
    for each in found.stages:
        assert each.hours.value > 0
        assert each.peak_bytes.value > 0
        assert each.steps > 0


def test_a_model_without_a_size_is_asked_for() -> None:
    with pytest.raises(ModelError, match="--parameters"):
        of(use=("base=someone/unknown",))


def test_files_are_counted_and_characters_divided_by_four_without_a_tokenizer(
    tmp_path: Path,
) -> None:
    path = tmp_path / "d.jsonl"
    rows = [{"prompt": "x" * 40, "completion": "y" * (20 * n)} for n in (1, 3)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = lengths_of_stage("sft", "sft", [str(path)], Said(), model=None, responses=1)
    assert found.examples == 2
    # 40 / 4 tokens of prompt, 20 / 4 and 60 / 4 of response with an end token each.
    assert found.sample == ((10, (6,)), (10, (16,)))
    assert found.basis == Basis.EXTRAPOLATED
    assert "characters ÷ 4" in found.note
    said = lengths_of_stage("sft", "sft", [str(path)], SAID, model=None, responses=1)
    # How many responses there are is for comparisons alone.
    assert said.sample[0] == (100, (50,))
    assert (said.examples, said.basis) == (1000, Basis.MEASURED)
    with pytest.raises(DataError):
        lengths_of_stage("sft", "sft", ["absent.jsonl"], Said(), model=None, responses=1)


def test_responses_drawn_are_no_longer_than_their_limit() -> None:
    found = lengths_of_stage("ppo", "ppo", [], SAID, model=None, responses=1, limit=32)
    assert found.sample == ((100, (32,)),)


def test_a_recipe_that_says_its_steps_needs_no_data() -> None:
    base = stage(of("quickstart", gpu="cpu-1", gpus=1, said=Said(), dtype="float32"), "base")
    assert base.steps == 1500
    assert base.hours.basis == Basis.CALIBRATED


def test_what_nobody_says_is_assumed_and_called_so() -> None:
    found = lengths_of_stage("p", "ppo", ["${inputs.prompts}"], Said(), model=None, responses=2)
    assert found.basis == Basis.EXTRAPOLATED
    assert "assumed" in found.note
    assert len(found.sample[0][1]) == 2


def test_rankings_have_as_many_responses_as_said_and_others_do_not() -> None:
    found = lengths_of_stage("pm", "preference", [], SAID, model=None, responses=1)
    assert found.sample == ((100, (50,) * 4),)
    asked = Said(responses={"ppo": 4})
    with pytest.raises(SettingsError, match="--responses 'ppo=…' would be ignored"):
        lengths_of_stage("ppo", "ppo", [], asked, model=None, responses=1)


def test_numbers_are_for_all_stages_or_for_one() -> None:
    assert by_stage("--parameters", ["7b", "ppo=70b"], ["ppo"]) == {"": "7b", "ppo": "70b"}
    with pytest.raises(SettingsError, match=r"no stage 'pop' \(did you mean 'ppo'\?\)"):
        by_stage("--parameters", ["pop=7b"], ["ppo"])
    for wrong in ("x", "0", "0.3", "-1", "inf", "nan"):
        with pytest.raises(SettingsError, match="number of at least 1"):
            numbers_by_stage("--examples", [wrong], [])


def run(capsys: pytest.CaptureFixture[str], *tokens: str) -> tuple[int, str, str]:
    status = main.run(["plan", *tokens])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_the_command_prints_tables_that_say_what_is_extrapolated(
    capsys: pytest.CaptureFixture[str],
) -> None:
    status, out, _ = run(capsys, "instructgpt", "--gpus", "8", "--parameters", "base=7b")
    assert status == 0
    for word in ("optimizer moments", "key-value cache", "forward_backward", "e extrapolated",
                 "rates: assumed", "not counted"):  # fmt: skip
        assert word in out


def test_with_json_every_figure_has_a_basis(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = run(
        capsys, "hh", "--gpu", "a100-80gb", "--gpus", "16", "--price", "1.5", "--json"
    )
    assert status == 0
    record: dict[str, Any] = json.loads(out)
    ppo = record["stages"]["ppo"]
    assert ppo["parameters"]["basis"] == "measured"
    assert {term["basis"] for term in ppo["memory"]} <= {"measured", "calibrated", "extrapolated"}
    assert {phase["basis"] for phase in ppo["phases"].values()} == {"extrapolated"}
    assert record["price_per_hour"] == 1.5


@pytest.mark.parametrize(
    ("tokens", "said"),
    [
        ((), "give a recipe"),
        (("hh", "--gpu", "tpu"), "unknown device 'tpu'"),
        (("hh", "--gpus", "0"), "at least one device"),
        (("hh", "--parameters", "big"), "not a number of parameters"),
        (("hh", "--hardware", "absent.yaml"), "cannot read settings file"),
    ],
)
def test_a_mistake_is_one_sentence(
    capsys: pytest.CaptureFixture[str], tokens: tuple[str, ...], said: str
) -> None:
    status, _, err = run(capsys, *tokens)
    assert status == 2
    assert said in err
    assert "Traceback" not in err
