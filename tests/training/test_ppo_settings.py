import pytest

from hark.errors import SettingsError
from hark.training.ppo_settings import PPOSettings

NEEDED = {"model": "sft", "preference_model": "pm", "data": "prompts.jsonl"}


def parse(**given):
    return PPOSettings.parse(NEEDED | given)


def test_defaults_are_those_of_instructgpt():
    settings = parse()
    assert settings.steps == 500
    assert (settings.batch_episodes, settings.minibatch_episodes) == (512, 64)
    assert (settings.inner_epochs, settings.updates_per_step) == (1, 8)
    assert (settings.kl_coefficient, settings.kl_target) == (0.02, None)
    assert (settings.pretraining_coefficient, settings.ema_decay) == (27.8, 0.992)
    assert (settings.clip_range, settings.temperature, settings.discount) == (0.2, 1.0, 1.0)
    assert settings.value_optimizer.learning_rate == 9e-6
    assert settings.optimizer.warmup_steps == 10
    assert settings.optimizer.initial_learning_rate_fraction == 0.1
    # 8 pretraining examples for each of the 64 episodes of an update.
    assert settings.pretraining_rows_per_update == 512


def test_changing_one_setting_of_the_optimizer_keeps_the_others():
    settings = parse(optimizer={"learning_rate": 1e-5})
    assert settings.optimizer.schedule == "constant"
    assert settings.optimizer.epsilon == 1e-5
    assert settings.value_optimizer.epsilon == 1e-5


def test_one_path_or_several():
    assert parse(preference_model="a").preference_model == ("a",)
    two = parse(preference_model=["a", "b"])
    assert two.weights == (1.0, 1.0)
    assert parse(preference_model=["a", "b"], preference_weights=[2, 0.5]).weights == (2.0, 0.5)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"total_episodes": 1000}, "total_episodes 1000 is not a multiple of batch_episodes 512"),
        ({"minibatch_episodes": 60}, "batch_episodes 512 is not a multiple of minibatch_episodes"),
        ({"responses_per_prompt": 5}, "minibatch_episodes 64 is not a multiple of responses_per"),
        ({"min_response_tokens": 200}, "min_response_tokens 200 is larger than max_response"),
        ({"preference_weights": [1, 2]}, "2 preference_weights for 1 preference models"),
        ({"score_until": ".", "max_response_tokens": 16}, "score_until_from 16 leaves no position"),
        ({"kl_coeficient": 0.1}, "did you mean 'kl_coefficient'"),
        ({"temperature": 0}, "'temperature'"),
        ({"ema_decay": 1.0}, "'ema_decay'"),
    ],
)
def test_numbers_that_do_not_fit_are_refused(given, message):
    with pytest.raises(SettingsError, match=message):
        parse(**given)


@pytest.mark.parametrize(
    "given",
    [
        {"critic": "shared", "value_model": "v"},
        {"critic": "shared", "value_learning_rate": 1e-5},
        {"value_coefficient": 0.5},
        {"kl_horizon": 100.0},
        {"incomplete_penalty": 2.0},
        {"incomplete_responses": "subtract", "incomplete_score": -2.0},
        {"score_until_from": 4},
        {"pretraining_coefficient": 1.0},
        {"pretraining_rows_per_episode": 1.0},
        {"pretraining_row_tokens": 64},
    ],
)
def test_settings_that_would_be_ignored_are_refused(given):
    name = list(given)[-1]
    with pytest.raises(SettingsError, match=f"{name} would be ignored"):
        parse(**given)
