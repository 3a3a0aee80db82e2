"""A labeler's speed, sides, pasting and pay, by hand."""

from __future__ import annotations

from typing import Any

import pytest

from hark.feedback.statistics_columns import Columns
from hark.feedback.statistics_labelers import Side, Work, at_least, work
from hark.feedback.statistics_labels import Label
from hark.feedback.studies import StudySettings

SETTINGS = StudySettings(name="s", title="S", task="vote", instructions="Choose.")

SAID = {"chosen": "x", "strength": 1, "axes": {}}


def label(number: int = 0, *, chosen: int | None = 0, shown_first: int = 0, **fields: Any) -> Label:
    """A vote for candidate `chosen` of two; `shown_first` is the place of the one on the left."""
    values: dict[str, Any] = {
        "id": f"e{number}",
        "kind": "vote",
        "author": "anon-1",
        "item_id": f"i{number}",
        "assignment_id": f"a{number}",
        "created_at": float(number),
        "use": "train",
        "late": False,
        "answer": {},
        "candidate_ids": ("x", "y"),
        "snapshots": ("m", "n"),
        "display_order": (shown_first, 1 - shown_first),
        "ranks": (1, 1) if chosen is None else (1 + chosen, 2 - chosen),
        "phase": "",
        "seconds": 10.0,
        "read_characters": 300,
        "written_characters": 0,
        "pasted_characters": 0,
    }
    return Label(**{**values, **fields})


def only(labels: list[Label], settings: StudySettings = SETTINGS) -> Work:
    (found,) = work(Columns.of(labels), settings)
    return found


def side(labels: list[Label]) -> Side | None:
    return only(labels).side


def kinds(found: Work) -> list[str]:
    return [one.kind for one in found.suspicions]


def test_labels_an_hour_are_of_activity_and_the_median_is_of_whole_labels() -> None:
    notes = label(0, kind="notes", seconds=30.0, ranks=None)
    summary = label(0, kind="summary", seconds=10.0, answer=SAID)  # 40 s with its notes
    quick = label(1, seconds=20.0)
    unknown = label(2, seconds=None)
    found = only([notes, summary, quick, unknown])
    assert found.labels == 3
    assert found.untimed == 1
    assert found.seconds == 60.0
    assert found.median_seconds == 30.0  # of 40 and 20
    assert found.labels_per_hour == pytest.approx(120)  # two with a time, in one minute


def test_who_goes_beyond_sixty_characters_a_second_is_suspect() -> None:
    # 300 characters: 5 s is 60 a second, which is allowed.
    assert kinds(only([label(n, seconds=5.0, shown_first=n % 2) for n in range(8)])) == []
    fast = only([label(n, seconds=4.9, shown_first=n % 2) for n in range(8)])
    assert kinds(fast) == ["speed"]
    assert fast.characters_per_second == pytest.approx(300 / 4.9)


def test_nothing_is_said_of_speed_before_eight_labels() -> None:
    assert kinds(only([label(n, seconds=0.1, shown_first=n % 2) for n in range(7)])) == []


def test_a_few_labels_at_a_glance_among_many_are_no_suspicion() -> None:
    labels = [label(n, seconds=0.5 if n < 4 else 20.0, shown_first=n % 2) for n in range(10)]
    assert kinds(only(labels)) == []


def test_one_side_is_counted_on_the_screen_not_in_the_item() -> None:
    # The chosen candidate is the item's first or second by turns, and always stands on the left.
    labels = [label(n, chosen=n % 2, shown_first=n % 2) for n in range(10)]
    found = side(labels)
    assert found is not None
    assert (found.first, found.last, found.labels) == (10, 0, 10)
    assert found.p == pytest.approx(2 / 2**10)


def test_ties_say_nothing_of_a_side() -> None:
    assert side([label(chosen=None)]) is None


def test_at_least_is_the_tail_of_the_binomial() -> None:
    # P(X ≥ 3) of 4 fair coins: (4 + 1) / 16
    assert at_least(3, 4, 0.5) == pytest.approx(5 / 16)
    assert at_least(0, 4, 0.5) == 1.0
    # of 3 with chance 1/4: P(X ≥ 2) = 3 · (1/16) · (3/4) + 1/64 = 10/64
    assert at_least(2, 3, 0.25) == pytest.approx(10 / 64)


@pytest.mark.parametrize(
    ("left", "labels", "suspect"),
    [
        (10, 10, True),  # 2 · 2⁻¹⁰ = 0.002
        (8, 8, True),  # 2 · 2⁻⁸ = 0.0078
        (7, 7, False),  # too few
        (9, 10, False),  # 2 · 11/1024 = 0.021
        (70, 100, False),  # p = 8e-5, but a lean, not a side
        (75, 100, True),
    ],
)
def test_one_side_is_suspect_where_chance_and_a_lean_do_not_explain_it(
    left: int, labels: int, suspect: bool
) -> None:
    given = [label(n, chosen=0, shown_first=0 if n < left else 1) for n in range(labels)]
    assert kinds(only(given)) == (["one side"] if suspect else [])


def test_with_many_labelers_one_side_must_be_less_likely() -> None:
    one_sided = [label(n) for n in range(8)]  # p = 0.0078 alone
    others = [label(0, author="anon-2")]
    first, second = work(Columns.of([*one_sided, *others]), SETTINGS)
    assert first.suspicions == ()  # 2 labelers: 0.0156
    assert second.suspicions == ()


@pytest.mark.parametrize(
    ("written", "pasted", "suspect"),
    [(400, 300, True), (400, 200, False), (150, 150, False), (0, 0, False)],
)
def test_pasting_is_suspect_beyond_half_of_a_longer_text(
    written: int, pasted: int, suspect: bool
) -> None:
    found = only([label(written_characters=written, pasted_characters=pasted)])
    assert kinds(found) == (["pasting"] if suspect else [])
    assert found.pasted_share == (pasted / written if written else None)


def test_pay_is_by_the_hour_of_activity_and_by_the_label() -> None:
    paid = SETTINGS.model_copy(update={"pay_per_hour": 18.0, "pay_per_label": 0.5})
    labels = [label(n, seconds=100.0) for n in range(3)]
    # 300 s at 18 an hour are 1.50, and three labels at 0.50 are 1.50.
    assert only(labels, paid).cost == pytest.approx(3.0)
    assert only(labels).cost is None


def test_the_cost_is_of_time_that_the_servers_clock_allows() -> None:
    paid = SETTINGS.model_copy(update={"pay_per_hour": 36.0})
    # Handed out at 0 and kept at 100 s, the browser says 600; the next step 50 s later says 20.
    first = label(0, created_at=100.0, claimed_at=0.0, seconds=600.0, kind="notes", ranks=None)
    second = label(0, created_at=150.0, claimed_at=0.0, seconds=20.0)
    found = only([first, second], paid)
    assert (found.seconds, found.paid_seconds) == (620.0, 120.0)
    assert found.cost == pytest.approx(1.2)
    assert found.clocks_differ
    assert found.suspicions == ()


def test_without_the_servers_time_the_browsers_counts() -> None:
    unknown = label(0, created_at=100.0, claimed_at=None, seconds=600.0)
    slow = label(1, created_at=200.0, claimed_at=150.0, seconds=90.0)  # 40 s too many
    found = only([unknown, slow])
    assert (found.seconds, found.paid_seconds) == (690.0, 650.0)
    assert not found.clocks_differ


def test_a_correction_keeps_the_time_of_what_it_replaces() -> None:
    columns = Columns()
    columns.add(label(0, created_at=100.0, claimed_at=90.0, seconds=60.0), 1)
    row = columns.strike(1)
    columns.add(label(0, created_at=900.0, claimed_at=90.0, seconds=60.0), 2, replaces=row)
    (found,) = work(columns, SETTINGS)
    assert (found.labels, found.seconds, found.paid_seconds) == (1, 60.0, 10.0)


def test_nobody_has_done_nothing() -> None:
    assert work(Columns(), SETTINGS) == []
