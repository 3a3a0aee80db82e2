"""Golden values: Krippendorff's published example, and small ones worked by hand."""

from __future__ import annotations

import pytest

from hark.feedback.agreement import Level, krippendorff_alpha, percent_agreement

OBSERVERS = (
    "1 2 3 3 2 1 4 1 2 . . .",
    "1 2 3 3 2 2 4 1 2 5 . 3",
    ". 3 3 3 2 3 4 2 2 5 1 .",
    "1 2 3 3 2 4 4 1 2 5 1 .",
)
"""Four observers, twelve units, values missing: section C of the 2011 paper."""
PUBLISHED = [
    [int(value) for value in unit if value != "."]
    for unit in zip(*(line.split() for line in OBSERVERS), strict=True)
]


@pytest.mark.parametrize(
    ("level", "alpha"), [("nominal", 0.743), ("ordinal", 0.815), ("interval", 0.849)]
)
def test_the_published_example(level: Level, alpha: float) -> None:
    got = krippendorff_alpha(PUBLISHED, level)
    assert got.value == pytest.approx(alpha, abs=5e-4)
    assert (got.state, got.units, got.values) == ("defined", 11, 40)


def test_two_observers_by_hand() -> None:
    """Units (0,0) (1,1) (0,1) (0,0): 5 zeros, 3 ones.

    Observed: the third unit alone, 2·1·1/(2 − 1) = 2. Expected: 2·5·3 = 30.
    α = 1 − 7·2/30 = 8/15. Of four pairs three agree.
    """
    units = [[0, 0], [1, 1], [0, 1], [0, 0]]
    assert krippendorff_alpha(units, "nominal").value == pytest.approx(8 / 15)
    assert percent_agreement(units).value == 0.75


def test_levels_part_where_distance_matters() -> None:
    """Units (1,3) (1,1) (2,2): counts 3, 2, 1, so n = 6.

    Interval: observed 2·4 = 8; expected 2(3·2·1 + 3·1·4 + 2·1·1) = 40; α = 1 − 5·8/40 = 0.
    Nominal: observed 2; expected 2(6 + 3 + 2) = 22; α = 1 − 10/22 = 6/11.
    Ordinal: midranks 1.5, 4, 5.5; δ² of (1,2) 6.25, (1,3) 16, (2,3) 2.25; observed 32;
    expected 2(6·6.25 + 3·16 + 2·2.25) = 180; α = 1 − 160/180 = 1/9.
    """
    units = [[1, 3], [1, 1], [2, 2]]
    assert krippendorff_alpha(units, "interval").value == pytest.approx(0)
    assert krippendorff_alpha(units, "nominal").value == pytest.approx(6 / 11)
    assert krippendorff_alpha(units, "ordinal").value == pytest.approx(1 / 9)


def test_perfect_disagreement_is_worse_than_chance() -> None:
    """(0,1) twice: observed 4, expected 2·2·2 = 8, α = 1 − 3·4/8 = −½."""
    assert krippendorff_alpha([[0, 1], [1, 0]], "nominal").value == pytest.approx(-0.5)


def test_perfect_agreement_is_one() -> None:
    assert krippendorff_alpha([[1, 1], [2, 2, 2]], "interval").value == 1


@pytest.mark.parametrize("units", [[], [[1], [2]], [[]]])
def test_nothing_to_compare_is_a_state(units: list[list[float]]) -> None:
    for got in (krippendorff_alpha(units, "ordinal"), percent_agreement(units)):
        assert (got.value, got.state, got.units) == (None, "nothing to compare", 0)


def test_no_variation_is_a_state_and_not_perfect_agreement() -> None:
    got = krippendorff_alpha([[1, 1], [1, 1, 1]], "nominal")
    assert (got.value, got.state) == (None, "no variation")
    assert percent_agreement([[1, 1], [1, 1, 1]]).value == 1


def test_lonely_values_count_for_nothing() -> None:
    units = [[0, 0], [1, 1], [0, 1], [0, 0]]
    assert krippendorff_alpha([*units, [7]], "interval") == krippendorff_alpha(units, "interval")


def test_each_item_weighs_the_same_in_percent() -> None:
    """(1,1) agrees 1; (1,1,2): one pair of three. Mean 2/3."""
    assert percent_agreement([[1, 1], [1, 1, 2]]).value == pytest.approx(2 / 3)
