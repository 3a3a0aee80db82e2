from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hark.data.records import Comparison, ask
from hark.errors import DataError, SettingsError
from hark.models.language_model import load_language_model
from hark.models.tokenizer import load_tokenizer
from hark.training.examples import Located
from hark.training.preference_data import (
    PreferenceExample,
    collate,
    prepare_comparisons,
)


def comparison(*responses: str, **changes: Any) -> Comparison:
    return Comparison(prompt=ask("Where?"), responses=responses, **changes)


def prepare(model: Path, comparisons: list[Comparison], **changes: Any) -> list[PreferenceExample]:
    located = [
        Located(record=item, where=f"record {number} of 'c.jsonl'")
        for number, item in enumerate(comparisons, start=1)
    ]
    options: dict[str, Any] = {
        "context": 64, "long_responses": "drop", "loss": "ranking", "ties": "drop",
        "use_strength_as": "none",
    }  # fmt: skip
    examples, _ = prepare_comparisons(located, load_tokenizer(model), **{**options, **changes})
    return examples


def test_pairs_of_rankings_and_soft_labels(language_model: Path) -> None:
    ranking, soft = prepare(
        language_model,
        [comparison("a", "b", "c", ranks=(2, 1, 2)), comparison("a", "b", probability=0.3)],
    )
    assert (ranking.first, ranking.second) == ((1, 1), (0, 2))
    assert (ranking.probabilities, ranking.best) == ((1.0, 1.0), 1)
    assert (soft.first, soft.second, soft.probabilities) == ((0,), (1,), (0.3,))


def test_strength_is_ignored_or_a_weight_or_a_margin(language_model: Path) -> None:
    graded = comparison("a", "b", ranks=(1, 2), strength=3.0, weight=2.0)
    seen = {}
    for use in ("none", "weight", "margin"):
        (example,) = prepare(language_model, [graded], use_strength_as=use)
        seen[use] = (example.weight, example.required_margin)
    assert seen == {"none": (2.0, 0.0), "weight": (6.0, 0.0), "margin": (2.0, 3.0)}


def test_comparisons_of_weight_zero_are_left_out(language_model: Path) -> None:
    none, one = comparison("a", "b", ranks=(1, 2), weight=0.0), comparison("a", "b", ranks=(1, 2))
    assert len(prepare(language_model, [none, one])) == 1
    with pytest.raises(DataError, match="none of the 1 comparisons can be used"):
        prepare(language_model, [none])


@pytest.mark.parametrize(
    ("bad", "options", "named"),
    [
        (comparison("a", "b", ranks=(1, 1)), {}, "record 2 of 'c.jsonl': all 2 .* tied"),
        (comparison("a", "b"), {}, "record 2 of 'c.jsonl': nobody has judged"),
        (comparison("a", "b", ranks=(1, 2)), {"use_strength_as": "margin"}, "no strength"),
        (
            comparison("a", "b", ranks=(1, 2), strength=-1.0),
            {"use_strength_as": "weight"},
            "its weight is -1.0",
        ),
        (comparison("a", "b", "c", ranks=(1, 1, 2)), {"loss": "best_of_k"}, "needs one response"),
        (comparison("a", "b", probability=0.6), {"loss": "best_of_k"}, "got probability 0.6"),
    ],
)
def test_bad_records_are_named(
    language_model: Path, bad: Comparison, options: dict[str, Any], named: str
) -> None:
    good = comparison("a", "b", ranks=(1, 2), strength=1.0)
    with pytest.raises(DataError, match=named):
        prepare(language_model, [good, bad], **options)


def test_ties_as_half_accept_an_all_tied_ranking(language_model: Path) -> None:
    (example,) = prepare(language_model, [comparison("a", "b", ranks=(1, 1))], ties="half")
    assert example.probabilities == (0.5,)


def test_strength_that_no_record_has_is_a_wrong_setting(language_model: Path) -> None:
    with pytest.raises(SettingsError, match="use_strength_as 'weight' would be ignored"):
        prepare(language_model, [comparison("a", "b", ranks=(1, 2))], use_strength_as="weight")


def test_an_empty_response_is_the_end_token(language_model: Path) -> None:
    (example,) = prepare(language_model, [comparison("", "b", ranks=(2, 1))])
    assert len(example.tree.responses[0]) == 1


def test_collate_numbers_the_responses_of_all_comparisons(language_model: Path) -> None:
    examples = prepare(
        language_model,
        [
            comparison("a", "b", ranks=(2, 1)),
            comparison("a", "b", "c", ranks=(1, 2, 3), weight=0.5),
        ],
    )
    batch = collate(load_language_model(language_model), examples)
    assert batch.first.tolist() == [1, 2, 2, 3]
    assert batch.second.tolist() == [0, 3, 4, 4]
    assert batch.comparison_of.tolist() == [0, 1, 1, 1]
    assert batch.pair_counts.tolist() == [1, 3]
    assert batch.slots.tolist() == [[0, 1, -1], [2, 3, 4]]
    assert batch.best.tolist() == [1, 0]
    assert batch.weights.tolist() == [1.0, 0.5]


def test_a_ranking_computes_its_responses_and_not_its_pairs(language_model: Path) -> None:
    words = ("The cat.", "The dog.", "The hen.", "The fox.")
    (example,) = prepare(language_model, [comparison(*words, ranks=(1, 2, 3, 4))])
    batch = collate(load_language_model(language_model), [example])
    assert len(batch.first) == 6
    tokens = len(example.tree.prompt) + sum(len(part) for part in example.tree.responses)
    assert int(batch.packed.is_token.sum()) == tokens
