from __future__ import annotations

import math
from dataclasses import replace

import pytest

from hark.data.records import Comparison, ask
from hark.errors import SettingsError
from hark.playground.demonstrations import mixed_comparisons
from hark.playground.gold import grade
from hark.playground.labelers import (
    LabelerPopulation,
    LabelerSettings,
    agreement,
    gold_judge,
    noise_for_agreement,
    rank,
)

GOOD, WRONG = "The capital of France is Paris.", "The capital of France is Rome."
PAIR = Comparison(prompt=ask("What is the capital of France?"), responses=(WRONG, GOOD))


@pytest.mark.parametrize(
    ("likings", "threshold", "ranks"),
    [
        ([0.1, 0.9, 0.5], 0.0, (3, 1, 2)),
        ([0.5, 0.5, 0.1], 0.0, (1, 1, 3)),
        # .9 and .85 are tied; .78 is within .1 of .85 but not of the best of the group, .9
        ([0.78, 0.85, 0.9], 0.1, (3, 1, 1)),
        ([0.3, 0.3], 0.0, (1, 1)),
    ],
)
def test_ranks(likings: list[float], threshold: float, ranks: tuple[int, ...]) -> None:
    assert rank(likings, threshold) == ranks


def test_the_noiseless_labeler_is_gold() -> None:
    for comparison in mixed_comparisons(200, 1, responses=4):
        grades = [grade(comparison.prompt, r).overall for r in comparison.responses]
        judged = gold_judge(comparison)
        assert judged.ranks is not None
        for i, a in enumerate(grades):
            for j, b in enumerate(grades):
                if abs(a - b) > 1e-9:
                    assert (a > b) == (judged.ranks[i] < judged.ranks[j])
        assert judged.labeler == "gold"
        assert judged.responses == comparison.responses


def test_strength_grows_with_the_gap() -> None:
    # .72 against .08 helpful: gap (.72 − .08)/2 = .32, beyond .1 and .25
    assert gold_judge(PAIR).strength == 3.0
    assert gold_judge(PAIR).ranks == (2, 1)
    same = replace(PAIR, responses=(GOOD, GOOD))
    assert (gold_judge(same).ranks, gold_judge(same).strength) == ((1, 1), 0.0)


def test_judgements_depend_on_nothing_but_their_arguments() -> None:
    comparisons = mixed_comparisons(60, 2, responses=3)
    first, second = LabelerPopulation(), LabelerPopulation()
    forwards = [first(c) for c in comparisons]
    backwards = [second(c) for c in reversed(comparisons)][::-1]
    assert forwards == backwards
    for comparison, judged in zip(comparisons, forwards, strict=True):
        turned = first(replace(comparison, responses=comparison.responses[::-1]))
        assert turned.labeler == judged.labeler
        assert turned.ranks == (judged.ranks or ())[::-1]
    other = LabelerPopulation(LabelerSettings(seed=1))
    assert [other(c).ranks for c in comparisons] != [j.ranks for j in forwards]
    assert len({j.labeler for j in forwards}) > 10


def test_preference_follows_bradley_and_terry() -> None:
    settings = LabelerSettings(
        labelers=4000, noise=0.4, tie_threshold=0.0, harmlessness_weight_spread=0.0
    )
    population = LabelerPopulation(settings)
    chosen = [population.judge(PAIR, i).ranks == (2, 1) for i in range(4000)]
    # gap .32: σ(.32 / .4) = .690; the standard error of 4000 draws is .0073
    expected = 1 / (1 + math.exp(-0.32 / 0.4))
    assert sum(chosen) / 4000 == pytest.approx(expected, abs=0.025)


def test_default_labelers_agree_as_the_paper_reports() -> None:
    assert agreement(LabelerPopulation(), mixed_comparisons(600, 11)) == pytest.approx(
        0.73, abs=0.025
    )


def test_noise_is_solved_for_an_asked_agreement() -> None:
    comparisons = mixed_comparisons(80, 12)
    settings = LabelerSettings(labelers=8)
    noise = noise_for_agreement(0.8, comparisons, settings)
    solved = LabelerPopulation(settings.model_copy(update={"noise": noise}))
    assert agreement(solved, comparisons) == pytest.approx(0.8, abs=0.003)
    with pytest.raises(SettingsError, match="no noise gives agreement 0.2"):
        noise_for_agreement(0.2, comparisons, settings)
    with pytest.raises(SettingsError, match="2 or more labelers"):
        agreement(LabelerPopulation(LabelerSettings(labelers=1)), comparisons)


def test_agreement_of_a_worked_example() -> None:
    quiet = LabelerSettings(labelers=3, noise=0.0, tie_threshold=0.0)
    assert agreement(LabelerPopulation(quiet), [PAIR]) == 1.0
    # All labelers tie: they agree
    same = replace(PAIR, responses=(GOOD, GOOD))
    assert agreement(LabelerPopulation(quiet), [same]) == 1.0


def test_each_dial_does_what_it_says() -> None:
    base = {"labelers": 1, "noise": 0.0, "harmlessness_weight_spread": 0.0, "tie_threshold": 0.0}

    def ranks(comparison: Comparison, **dials: float) -> tuple[int, ...] | None:
        return LabelerPopulation(LabelerSettings(**base | dials)).judge(comparison, 0).ranks

    assert ranks(PAIR) == (2, 1)
    assert ranks(PAIR, position_bias=0.5) == (1, 2)
    assert ranks(PAIR, tie_threshold=0.4) == (1, 1)
    longer = replace(PAIR, responses=(GOOD, f"{GOOD} {GOOD}"))
    assert ranks(longer) == (1, 2)
    assert ranks(longer, length_bias=1.0) == (2, 1)
    theft = Comparison(
        prompt=ask("How do I steal a bike from a friend?"),
        responses=("To steal a bike from a friend, break the lock.", "I cannot help with that."),
    )
    assert ranks(theft) == (2, 1)
    assert ranks(theft, harmlessness_weight=0.0) == (1, 2)


def test_spammers_do_not_read() -> None:
    settings = LabelerSettings(labelers=20, noise=0.0, spammer_share=0.25)
    population = LabelerPopulation(settings)
    assert sum(profile.spammer for profile in population.profiles) == 5
    wrong = {
        population.profiles[i].name
        for c in mixed_comparisons(40, 13)
        if abs(grade(c.prompt, c.responses[0]).overall - grade(c.prompt, c.responses[1]).overall)
        > 0.3
        for i in range(20)
        if population.judge(c, i).ranks != gold_judge(c).ranks
    }
    assert wrong == {profile.name for profile in population.profiles if profile.spammer}


def test_a_labeler_is_a_function() -> None:
    population = LabelerPopulation()
    assert population.labeler(3)(PAIR) == population.judge(PAIR, 3)
    assert population.labeler(3)(PAIR).labeler == population.profiles[3].name
