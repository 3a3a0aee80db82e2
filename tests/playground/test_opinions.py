"""The playground's opinions pull apart where they should, and are noisy as they say."""

from __future__ import annotations

from pathlib import Path
from statistics import fmean

import pytest

from hark.data.formats import read_comparisons, read_demonstrations
from hark.data.ranked_texts import read_ranked, unbinarised
from hark.data.records import Comparison
from hark.playground.gold import grade
from hark.playground.labelers import LabelerPopulation, LabelerSettings
from hark.playground.opinions import (
    OpinionSettings,
    binary_comparisons,
    ceiling,
    harmless_comparisons,
    helpful_comparisons,
    voted_questions,
    write_opinions,
)
from hark.playground.tasks import read_prompt

SMALL = OpinionSettings(
    helpful=30, harmless=30, overall=40, binary=20, questions=30, held_out=25, seed=3
)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("opinions")
    write_opinions(directory, SMALL)
    return directory


def by(weight: float) -> LabelerPopulation:
    return LabelerPopulation(
        LabelerSettings(
            harmlessness_weight=weight, harmlessness_weight_spread=0.0, noise=0.0, tie_threshold=0.0
        )
    )


def test_refusing_is_wrong_on_harmless_requests_and_right_on_harmful_ones() -> None:
    """What a one-sided preference model is to get wrong about the other kind."""

    def refusals_won(comparisons: list[Comparison], weight: float) -> list[bool]:
        won = []
        for judged in map(by(weight), comparisons):
            safety = [grade(judged.prompt, each).harmlessness for each in judged.responses]
            refuses = [each.startswith(("I", "Sorry", "No")) for each in judged.responses]
            if weight == 1.0 and safety[0] != safety[1]:
                won.append((safety[0] > safety[1]) == (judged.ranks == (1, 2)))
            elif weight == 0.0 and refuses[0] != refuses[1] and judged.ranks is not None:
                won.append(refuses[judged.ranks.index(1)])
        return won

    assert fmean(refusals_won(helpful_comparisons(200, 0), 0.0)) < 0.35
    assert fmean(refusals_won(harmless_comparisons(200, 0), 1.0)) == 1.0


def test_requests_are_of_their_kind() -> None:
    families = [
        {getattr(read_prompt(each.prompt), "family", None) for each in draw(60, 1)}
        for draw in (helpful_comparisons, harmless_comparisons)
    ]
    assert "harmful" not in families[0]
    assert len(families[0]) > 5
    assert families[1] == {"harmful"}


def test_files_hold_out_requests_and_say_the_same_in_two_ways(written: Path) -> None:
    for kind in ("helpful", "harmless", "overall", "binary"):
        learned, held_out = (
            read_comparisons(str(written / f"{kind}{end}.jsonl")) for end in ("", "-heldout")
        )
        assert len(learned) >= getattr(SMALL, kind) - 3
        assert len(held_out) >= 22
        assert not {each.prompt for each in learned} & {each.prompt for each in held_out}
    preferred = read_demonstrations(str(written / "helpful-preferred.jsonl"))
    for demonstration, judged in zip(
        preferred, read_comparisons(str(written / "helpful.jsonl")), strict=True
    ):
        assert judged.ranks is not None
        assert demonstration.response == judged.responses[judged.ranks.index(1)]
    ranked = read_comparisons(str(written / "voted-ranked.jsonl"))
    good = [
        text
        for text, is_good in map(
            unbinarised, read_comparisons(str(written / "voted-binarised.jsonl"))
        )
        if is_good
    ]
    assert good == [each.responses[0] for each in ranked]
    assert len(read_ranked(str(written / "voted.jsonl"))) == 30


def test_votes_follow_quality_length_and_place() -> None:
    def follows(better: list[float], votes: list[int]) -> list[bool]:
        return [
            (better[i] > better[j]) == (votes[i] > votes[j])
            for i in range(3)
            for j in range(i)
            if better[i] != better[j] and votes[i] != votes[j]
        ]

    agreed: dict[str, list[bool]] = {"quality": [], "length": [], "first": []}
    for question in voted_questions(400, 0):
        votes = [each.votes for each in question.answers]
        quality = [grade(question.prompt, each.text).overall for each in question.answers]
        agreed["quality"] += follows(quality, votes)
        agreed["length"] += follows([len(each.text.split()) for each in question.answers], votes)
        agreed["first"] += follows([1.0, 0.0, 0.0], votes)
    shares = {name: fmean(each) for name, each in agreed.items()}
    assert 0.55 < shares["quality"] < 0.85
    assert shares["first"] > 0.52
    assert shares["length"] > 0.5


def test_the_ceiling_is_how_often_noisy_labelers_agree_with_the_truth() -> None:
    comparisons = harmless_comparisons(600, 0)
    settings = LabelerSettings(
        harmlessness_weight=1.0, harmlessness_weight_spread=0.0, noise=0.2, tie_threshold=0.0
    )
    population = LabelerPopulation(settings)
    credit = []
    for judged in map(population, comparisons):
        first, second = (grade(judged.prompt, each).harmlessness for each in judged.responses)
        credit.append(0.5 if first == second else (first > second) == (judged.ranks == (1, 2)))
    assert ceiling(population, comparisons) == pytest.approx(fmean(credit), abs=0.05)
    quiet = LabelerPopulation(settings.model_copy(update={"noise": 0.0}))
    told_apart = [each for each in comparisons if abs(_gap(each)) > 0]
    assert ceiling(quiet, told_apart) == 1.0


def _gap(comparison: Comparison) -> float:
    first, second = (grade(comparison.prompt, each).harmlessness for each in comparison.responses)
    return first - second


def test_binary_pairs_have_a_right_and_a_wrong_answer() -> None:
    made = binary_comparisons(100, 0)
    assert len(made) > 90
    graded = [[grade(each.prompt, text).helpfulness for text in each.responses] for each in made]
    assert fmean(right > wrong for right, wrong in graded) > 0.95
