import json
import math

import numpy as np
import pytest

from hark.data.records import ask
from hark.errors import HarkError
from hark.evaluation.intervals import clustered_mean
from hark.evaluation.policies import PolicyEvaluation, evaluate_policy
from hark.evaluation.winrate import judge_by_scorer

PROMPTS = [ask(f"question {n}") for n in range(30)]
REPLIES = [f"a reply of {'very ' * (n % 4)}few words" for n in range(30)]


def by_length(dialogues):
    return np.array([float(len(dialogue[-1].content)) for dialogue in dialogues])


def longer_than_short():
    return judge_by_scorer(by_length, PROMPTS, REPLIES, ["short"] * 30)


def test_a_row_holds_what_was_measured_and_none_for_the_rest():
    loss = clustered_mean([3.0, 3.2])
    row = evaluate_policy(
        "ppo",
        PROMPTS,
        REPLIES,
        judgements=longer_than_short(),
        judge_score=by_length,
        helpfulness=by_length,
        language_loss=loss,
    )
    assert row.win_rate.wins == 30
    assert row.helpfulness.value == pytest.approx(np.mean([len(reply) for reply in REPLIES]))
    assert row.judge_score == row.helpfulness
    # 5 words and 0, 1, 2, 3 times "very" in turn: 28 replies average 1.5, the last two 0 and 1.
    assert row.response_words.value == pytest.approx(5 + (28 * 1.5 + 0 + 1) / 30)
    assert (row.harmlessness, row.divergence, row.language_loss) == (None, None, loss)


def test_the_baseline_has_no_win_rate():
    assert evaluate_policy("sft", PROMPTS, REPLIES).win_rate is None


def test_rows_survive_json():
    row = evaluate_policy(
        "ppo",
        PROMPTS,
        REPLIES,
        judgements=longer_than_short(),
        preference=by_length,
    )
    assert PolicyEvaluation.from_json(json.loads(json.dumps(row.to_json()))) == row


def test_grades_that_are_not_numbers_name_the_policy():
    def broken(dialogues):
        return np.array([1.0, math.nan, *[0.0] * (len(dialogues) - 2)])

    with pytest.raises(HarkError, match="1 of 30 preference scores of 'ppo' are not finite, the f"):
        evaluate_policy("ppo", PROMPTS, REPLIES, preference=broken)


def test_one_reply_and_one_judgement_for_each_prompt():
    with pytest.raises(HarkError, match="30 prompts but 29 judgements of 'ppo'"):
        evaluate_policy("ppo", PROMPTS, REPLIES, judgements=longer_than_short()[1:])
    with pytest.raises(HarkError, match="30 prompts but 1 responses of 'ppo'"):
        evaluate_policy("ppo", PROMPTS, REPLIES[:1])
