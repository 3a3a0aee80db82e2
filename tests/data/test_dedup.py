"""Planted duplicates go, for the right reason, and their look-alikes stay."""

from __future__ import annotations

import pytest

from hark.data.dedup import jaccard, near_duplicates, remove_duplicates, shared_prefixes, shingles
from hark.data.records import Comparison, Demonstration, Message, Prompt, ask

LONG = "Please read the following letter from a farmer to his neighbour and tell me in one line "


def prompts(*texts: str) -> list[Prompt]:
    return [Prompt(prompt=ask(text)) for text in texts]


def removed(records: list[Prompt], **options: object) -> list[tuple[int, int, str]]:
    found = remove_duplicates(records, **options)  # type: ignore[arg-type]
    assert len(found.kept) + len(found.removed) == len(records)
    return [(one.index, one.partner, one.reason) for one in found.removed]


def test_exact_duplicates_but_for_case_and_space() -> None:
    records = prompts("What is tea?", "Why?", " what  is TEA?\n", "What is tea!")
    assert removed(records, threshold=None) == [(2, 0, "exact duplicate")]


def test_long_shared_prefixes() -> None:
    records = prompts(
        LONG + "what he asks of him, please.", "Other", LONG + "why it was written at all, then."
    )
    assert len(LONG) == 88
    assert removed(records, prefix_characters=88, threshold=None) == [(2, 0, "shared prefix")]
    assert removed(records, prefix_characters=100, threshold=None) == []
    assert removed(records, prefix_characters=None, threshold=None) == []


def test_a_prefix_shorter_than_the_limit_is_none() -> None:
    assert shared_prefixes(["abc", "abcd", "abcde", "abcdx"], 4) == {2: 1, 3: 1}


def test_system_turns_are_no_prefix() -> None:
    system = Message("system", "You are a helpful assistant. " * 10)
    records = [Prompt(prompt=(system, *ask(text))) for text in ("What is tea?", "Who was Ada?")]
    assert removed(records) == []


def test_near_duplicates() -> None:
    records = prompts(
        "Could you write a short poem about the autumn wind in the old oak tree?",
        "Explain how a bicycle stays upright when it is moving.",
        "Could you write a short poem about the autumn wind in the old oak trees?",
    )
    assert removed(records) == [(2, 0, "near duplicate")]
    assert removed(records, threshold=0.99) == []
    (one,) = remove_duplicates(records).removed
    # 71 characters give 67 shingles; the plural shares 66 of them and adds 2: 66 / 69 = 96 %.
    assert one.explanation == "96% of the prompts' shingles are shared"


def test_prompts_with_other_numbers_are_no_duplicates() -> None:
    text = "A train leaves the station with {} people on board; how many are left when {} get off?"
    assert removed(prompts(text.format(41, 17), text.format(43, 19)), prefix_characters=None) == []
    assert removed(prompts(text.format(41, 17), text.format(41, 17) + "!")) == [
        (1, 0, "near duplicate")
    ]


def test_a_seed_changes_the_sketch_and_not_the_outcome() -> None:
    texts = [
        f"Tell me something about {animal} and what {animal} eat in winter."
        for animal in ("horses", "horsess", "bears", "owls", "owlls")
    ]
    assert near_duplicates(texts, threshold=0.7, seed=1).keys() == {1, 4}
    assert near_duplicates(texts, threshold=0.7, seed=2) == near_duplicates(
        texts, threshold=0.7, seed=1
    )


def test_all_pairs_above_the_threshold_are_found() -> None:
    words = ["red", "green", "blue", "black", "white", "brown", "pink", "grey", "gold", "silver"]
    texts = [" ".join(words[i:] + words[:i]) + tail for i in range(10) for tail in ("", " paint")]
    found = near_duplicates(texts, threshold=0.7)
    kept = [index for index in range(len(texts)) if index not in found]
    for a in kept:
        for b in kept:
            if a < b:
                assert jaccard(shingles(texts[a], 5), shingles(texts[b], 5)) < 0.7


def test_pairs_of_one_prompt_stay_or_go_together() -> None:
    def pair(prompt: str, winner: str) -> Comparison:
        return Comparison(prompt=ask(prompt), responses=(winner, "no"), ranks=(1, 2))

    poem = "Could you write a short poem about the autumn wind in the old oak tree"
    records = [pair(poem, "a"), pair(poem, "b"), pair(poem + "?", "c"), pair(poem, "A ")]
    found = remove_duplicates(records)
    assert [record.responses[0] for record in found.kept] == ["a", "b"]
    assert [(one.index, one.partner, one.reason) for one in found.removed] == [
        (2, 0, "near duplicate"),
        (3, 0, "exact duplicate"),
    ]


def test_a_second_opinion_is_no_duplicate() -> None:
    opinions = [
        Comparison(prompt=ask("Q"), responses=("a", "b"), ranks=(1, 2), labeler=labeler)
        for labeler in ("l1", "l2", "l1")
    ]
    assert [one.index for one in remove_duplicates(opinions).removed] == [2]
    answers = [Demonstration(prompt=ask("Q"), response=text) for text in ("x", "y", "X")]
    assert [one.index for one in remove_duplicates(answers).removed] == [2]


@pytest.mark.parametrize("text", ["", "ab", "abcde"])
def test_shingles_of_short_texts(text: str) -> None:
    assert shingles(text, 5) == {text}
