import pytest

from hark.training.collapse import SIGNS, signs_of_collapse

HEALTHY = {
    "score": 0.0,
    "kl": 2.0,
    "entropy": 2.0,
    "response_tokens": 20.0,
    "incomplete_share": 0.05,
    "repetition": 0.02,
    "value_explained_variance": 0.3,
}
MAX_TOKENS = 64


def history(steps=30, **end):
    """`steps` healthy steps in which the named metrics move in a straight line to `end`."""
    return [
        HEALTHY
        | {
            name: HEALTHY[name] + (value - HEALTHY[name]) * step / (steps - 1)
            for name, value in end.items()
        }
        for step in range(steps)
    ]


def signs(steps):
    return {sign.sign for sign in signs_of_collapse(steps, max_response_tokens=MAX_TOKENS)}


def test_a_healthy_run_raises_no_sign():
    assert signs(history()) == set()
    assert signs(history(score=3.0, kl=10.0, entropy=1.2, value_explained_variance=0.8)) == set()


def test_the_first_steps_raise_no_sign():
    assert signs([]) == set()
    assert signs(history(steps=3, kl=1000.0, entropy=0.0)) == set()


@pytest.mark.parametrize(
    ("end", "expected"),
    [
        ({"kl": -3.0}, {"negative_kl"}),
        ({"kl": 90.0}, {"kl_explosion"}),
        ({"kl": 90.0, "score": 5.0}, {"kl_explosion", "reward_hacking"}),
        ({"entropy": 0.1}, {"entropy_collapse"}),
        ({"entropy": 0.1, "score": 5.0}, {"entropy_collapse", "reward_hacking"}),
        ({"response_tokens": 64.0, "incomplete_share": 1.0}, {"length_at_limit"}),
        ({"response_tokens": 1.0}, {"length_vanishing"}),
        ({"repetition": 0.8}, {"repetition"}),
        ({"repetition": 0.8, "score": 2.0}, {"repetition", "reward_hacking"}),
    ],
)
def test_each_sign(end, expected):
    steps = history(steps=60, **end) + [HEALTHY | end] * 5
    assert signs(steps) == expected


def test_a_critic_that_learns_nothing():
    idle = [HEALTHY | {"value_explained_variance": -0.2}] * 20
    assert signs(idle) == {"idle_critic"}
    assert signs(idle[:-1]) == set()


def test_steps_without_explained_variance_do_not_count():
    undefined = {name: HEALTHY[name] for name in HEALTHY if name != "value_explained_variance"}
    assert signs([undefined] * 40) == set()


def test_responses_that_were_always_cut_are_not_a_change():
    cut = [HEALTHY | {"response_tokens": 64.0, "incomplete_share": 1.0}] * 40
    assert signs(cut) == set()


def test_a_high_target_raises_the_limit_of_kl():
    steps = history(steps=60, kl=80.0) + [HEALTHY | {"kl": 80.0}] * 5
    found = signs_of_collapse(steps, max_response_tokens=MAX_TOKENS, kl_target=30.0)
    assert found == []


def test_each_message_names_something_to_change():
    every = history(
        steps=60, kl=90.0, score=5.0, entropy=0.1, repetition=0.9, value_explained_variance=-1.0
    )
    every += [every[-1]] * 20
    found = signs_of_collapse(every, max_response_tokens=MAX_TOKENS)
    assert len(found) >= 5
    for sign in found:
        assert sign.sign in SIGNS
        assert any(
            word in sign.message for word in ("kl_coefficient", "value_learning_rate", "samples")
        ), sign.message
