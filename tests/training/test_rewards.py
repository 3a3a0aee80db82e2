import pytest
import torch

from hark.data.records import answered, ask
from hark.errors import RunError, SettingsError
from hark.training.advantages import generalised_advantages
from hark.training.rewards import (
    check_scores,
    dealt_with_incomplete,
    token_rewards,
    tokens_to_score,
    weighted_scorer,
)
from hark.training.rollout import flat, is_response, padded


def test_kl_penalty_at_every_token_and_score_at_the_last():
    # Responses of 3 and 2 tokens, β = ½, scores 1 and −1:
    # −½·(0.1 0.2 0.3 | −0.1 0.4) = (−0.05 −0.1 −0.15 | 0.05 −0.2), then + 1 and − 1 at the ends.
    rewards = token_rewards(
        torch.tensor([1.0, -1.0]),
        torch.tensor([0.1, 0.2, 0.3, -0.1, 0.4]),
        torch.zeros(5),
        torch.tensor([3, 2]),
        kl_coefficient=0.5,
    )
    torch.testing.assert_close(rewards, torch.tensor([-0.05, -0.1, 0.85, 0.05, -1.2]))


def test_the_two_masks_around_the_end_token():
    # Response 1: a b <end>; response 2: c <end>, padded by one.
    # Policy mask: the end token is an action, the padding is not. Value mask: the same places; the
    # state after <end> is terminal. The score lands at <end> itself, not one place later.
    lengths = torch.tensor([3, 2])
    mask = is_response(lengths)
    assert mask.tolist() == [[True, True, True], [True, True, False]]
    zeros = torch.zeros(5)
    rewards = token_rewards(torch.tensor([7.0, 9.0]), zeros, zeros, lengths, kl_coefficient=0.1)
    assert padded(rewards, lengths).tolist() == [[0, 0, 7], [0, 9, 0]]
    # The value of the state before <end> learns the score, and nothing is bootstrapped after it:
    # A at <end> is score − V there.
    values = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0])
    advantages, returns = generalised_advantages(rewards, values, lengths)
    assert padded(advantages, lengths)[0, 2] == 7 - 3
    assert padded(advantages, lengths)[1].tolist() == pytest.approx([5 - 4 + 0.95 * 4, 9 - 5, 0])
    assert padded(returns, lengths)[1, 1] == 9
    # Whatever stands in the padding takes no part.
    spoilt = padded(values, lengths, fill=float("nan"))
    assert flat(spoilt, lengths).tolist() == values.tolist()


@pytest.mark.parametrize(
    ("rule", "expected"),
    [("replace", [2.0, -1.0]), ("subtract", [2.0, 2.5]), ("keep", [2.0, 3.0])],
)
def test_rules_for_responses_without_an_end(rule, expected):
    scores = dealt_with_incomplete(
        torch.tensor([2.0, 3.0]),
        torch.tensor([True, False]),
        rule=rule,
        replacement=-1.0,
        penalty=0.5,
    )
    assert scores.tolist() == expected


def test_truncation_for_the_score_starts_at_its_position():
    def is_stop(token):
        return token == 9

    # The 9 at position 1 does not count; that at position 3 does, and is read.
    assert tokens_to_score([5, 9, 5, 9, 5], is_stop, first_position=2) == 4
    assert tokens_to_score([5, 9, 9, 5], is_stop, first_position=2) == 3
    assert tokens_to_score([5, 9, 5, 5], is_stop, first_position=2) is None
    assert tokens_to_score([9], is_stop, first_position=2) is None


def test_several_scorers_are_summed_by_weight():
    def length(dialogues):
        return torch.tensor([float(len(dialogue[-1].content)) for dialogue in dialogues])

    def ones(dialogues):
        return torch.ones(len(dialogues))

    score = weighted_scorer([length, ones], [0.5, 3.0])
    dialogues = [answered(ask("a"), "four"), answered(ask("a"), "ab")]
    assert score(dialogues).tolist() == [5.0, 4.0]
    with pytest.raises(SettingsError, match="2 scorers with 1 weights"):
        weighted_scorer([length, ones], [1.0])


def test_scores_must_be_finite_and_one_for_each_response():
    with pytest.raises(RunError, match="nan for response 2 of 3"):
        check_scores(torch.tensor([1.0, float("nan"), 2.0]), 3)
    with pytest.raises(RunError, match=r"shape \(2, 1\) for 2 responses"):
        check_scores(torch.ones(2, 1), 2)
