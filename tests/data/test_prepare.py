"""The whole hygiene: planted faults go, for the stated reason, and the review lists them."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hark.data.formats import read_comparisons, read_prompts
from hark.data.prepare import Prepared, PrepareSettings, prepare
from hark.data.records import Comparison, Demonstration, Prompt, ask
from hark.data.review import review_lines, write_prepared
from hark.errors import SettingsError

SUBJECTS = [
    "tea",
    "rain",
    "gold",
    "bees",
    "salt",
    "wind",
    "bread",
    "moss",
    "clay",
    "fog",
    "silk",
    "rust",
    "tar",
    "yeast",
    "glass",
]
VERBS = [
    "Explain",
    "Describe",
    "Rewrite a tale about",
    "Sing of",
    "List five uses of",
    "Draw a plan for",
]


def clean(count: int, users: int = 12) -> list[Prompt]:
    """Prompts without fault, each unlike the others."""
    return [
        Prompt(
            prompt=ask(f"{VERBS[i % 6]} {SUBJECTS[i % 15]} and {SUBJECTS[i * 7 % 13]} no. {i}"),
            user=f"u{i % users}",
            id=f"p{i}",
        )
        for i in range(count)
    ]


def everything(prepared: Prepared[Prompt]) -> list[Prompt]:
    return [*prepared.splits.train, *prepared.splits.validation, *prepared.splits.test]


def test_clean_records_all_stay() -> None:
    records = clean(90)
    prepared = prepare(records, PrepareSettings(validation_share=0.2, test_share=0.1))
    assert prepared.removed == []
    assert sorted(one.id or "" for one in everything(prepared)) == sorted(
        one.id or "" for one in records
    )
    assert prepared.splits.validation
    assert prepared.splits.train


LONG = "Here is a long introduction that many requests of one kind begin with, word for word, so: "


def planted() -> list[Prompt]:
    records = clean(20)
    records.append(Prompt(prompt=ask(records[3].prompt[0].content.upper()), user="u3"))  # 20
    records.append(Prompt(prompt=ask(LONG + "name a tree now"), user="a"))  # 21
    records.append(Prompt(prompt=ask(LONG + "what is a fjord?"), user="b"))  # 22
    poem = "Could you write a short poem about the autumn wind in the old oak tree"
    records.append(Prompt(prompt=ask(poem), user="c"))  # 23
    records.append(Prompt(prompt=ask(poem + ", please"), user="d"))  # 24
    records.append(Prompt(prompt=ask("word " * 100), user="e"))  # 25
    records.append(
        Prompt(prompt=ask("Write to me at jo.doe@example.com, will you?"), user="f")
    )  # 26
    return records


def test_planted_faults_are_removed_for_the_right_reason() -> None:
    options = PrepareSettings(
        validation_share=0, prefix_characters=90, maximum_prompt_characters=300
    )
    prepared = prepare(planted(), options)
    assert [(one.index, one.reason, one.partner) for one in prepared.removed] == [
        (20, "exact duplicate", 3),
        (22, "shared prefix", 21),
        (24, "near duplicate", 23),
        (25, "prompt too long", None),
        (26, "personal data", None),
    ]
    assert len(everything(prepared)) == 22
    assert prepared.counts["personal data"] == 1


def test_each_setting_switches_its_step_off() -> None:
    def reasons(**changes: object) -> set[str]:
        options = {"validation_share": 0, "prefix_characters": 90, "maximum_prompt_characters": 300}
        given = PrepareSettings.parse(options | changes)
        return {one.reason for one in prepare(planted(), given).removed}

    assert "shared prefix" not in reasons(prefix_characters=None)
    assert "near duplicate" not in reasons(near_duplicate_threshold=None)
    assert "prompt too long" not in reasons(maximum_prompt_characters=None)
    assert "personal data" not in reasons(personal_data="keep")
    assert "over the cap per user" in reasons(prompts_per_user=1)
    assert "over the cap per user" not in reasons(prompts_per_user=None)
    with pytest.raises(SettingsError, match="prompts_per_usr"):
        PrepareSettings.parse({"prompts_per_usr": 3})
    with pytest.raises(SettingsError, match="validation_share"):
        PrepareSettings.parse({"validation_share": 1.5})


@settings(deadline=None, max_examples=8)
@given(seed=st.integers(0, 99), users=st.integers(1, 4))
def test_users_are_capped_and_on_one_side(seed: int, users: int) -> None:
    records = [
        Prompt(prompt=ask(f"{i * 7919} {SUBJECTS[i % 15]}?"), user=f"u{i % users}")
        for i in range(300 * users)
    ]
    options = PrepareSettings(
        seed=seed, validation_share=0.3, test_share=0.2, near_duplicate_threshold=None
    )
    prepared = prepare(records, options)
    counts = Counter(one.user for one in everything(prepared))
    assert set(counts.values()) == {200}
    splits = prepared.splits
    for a, b in ((splits.train, splits.validation), (splits.train, splits.test)):
        assert not {one.user for one in a} & {one.user for one in b}
    assert not {one.user for one in splits.validation} & {one.user for one in splits.test}
    assert prepared.counts == {"over the cap per user": 100 * users}


def mails() -> list[Prompt]:
    return [
        Prompt(prompt=ask(f"{SUBJECTS[i]}: {SUBJECTS[i]}@example.com"), user=f"u{i}")
        for i in range(12)
    ]


def test_personal_data_is_looked_for_in_train_only_unless_in_all() -> None:
    share = {"validation_share": 0.5}
    prepared = prepare(mails(), PrepareSettings.parse(share))
    assert prepared.splits.train == []
    assert prepared.splits.validation
    assert len(prepared.findings) == len(prepared.removed) == 12 - len(prepared.splits.validation)
    both = prepare(mails(), PrepareSettings.parse(share | {"personal_data_splits": "all"}))
    assert everything(both) == []
    assert [finding.index for finding in both.findings] == list(range(12))


def test_personal_data_can_be_masked_instead() -> None:
    prepared = prepare(mails(), PrepareSettings(validation_share=0, personal_data="mask"))
    assert prepared.masked == 12
    assert prepared.removed == []
    assert prepared.splits.train[0].prompt == ask("tea: [e-mail address]")
    assert prepared.splits.train[0].user == "u0"


def test_demonstrations_and_comparisons() -> None:
    shown = [
        Demonstration(prompt=ask("Q"), response="call 415-555-0132"),
        Demonstration(prompt=ask("R"), response="A"),
    ]
    options = PrepareSettings(validation_share=0)
    assert prepare(shown, options).splits.train == shown[1:]
    pairs = [
        Comparison(prompt=ask("Q"), responses=("a", "b"), ranks=ranks)
        for ranks in ((1, 2), (2, 1), (1, 2))
    ]
    assert prepare(pairs, options).splits.train == pairs[:2]


def test_the_review_lists_every_case_and_gives_nothing_away(tmp_path: Path) -> None:
    options = PrepareSettings(
        validation_share=0.3, personal_data_splits="all", prefix_characters=90
    )
    prepared = prepare(planted(), options)
    paths = write_prepared(tmp_path / "clean", prepared)
    assert read_prompts(paths["train"]) == prepared.splits.train
    assert read_prompts(paths["validation"]) == prepared.splits.validation
    assert "test" not in paths
    rows = [json.loads(line) for line in paths["removed"].read_text().splitlines()]
    assert [row["index"] for row in rows] == [20, 22, 24, 26]
    assert rows[0]["partner"] == 3
    (found,) = [json.loads(line) for line in paths["personal_data"].read_text().splitlines()]
    assert (found["index"], found["kind"]) == (26, "e-mail address")
    review = paths["review"].read_text()
    assert "27 records were given." in review
    assert "| removed: exact duplicate | 1 |" in review
    assert (
        "record 22: the first 90 characters of the prompt are alike; record 21 was kept" in review
    )
    for path in (paths["removed"], paths["personal_data"], paths["review"]):
        assert "jo.doe" not in path.read_text()
    kept = len(prepared.splits.train) + len(prepared.splits.validation)
    assert kept + len(prepared.removed) == prepared.total == 27


def test_nothing_removed_is_a_review_too(tmp_path: Path) -> None:
    pairs = [Comparison(prompt=ask("Q"), responses=("a", "b"), ranks=(1, 2))]
    prepared = prepare(pairs, PrepareSettings(validation_share=0))
    paths = write_prepared(tmp_path, prepared)
    assert read_comparisons(paths["train"]) == pairs
    assert paths["removed"].read_text() == ""
    assert not any("##" in line for line in review_lines(prepared))
