"""A form for settings, and back."""

from __future__ import annotations

from typing import Any

import pytest

from hark.errors import SettingsError
from hark.feedback.studies import StudySettings
from hark.web.pages.manage_fields import PANELS, Field, fields_of, read_form

GIVEN: dict[str, Any] = {
    "name": "s",
    "title": "A study",
    "task": "ranking",
    "instructions": "Rank.\nTwice.",
    "overlap": 2,
    "gold_fraction": 0.1,
    "maximum_labels": 1_234_567,
    "pay_per_hour": 12.345678,
    "sampling": {"seed": 123_456_789},
    "categories": {"violence": "Fights: and wounds.", "slurs": "Slurs."},
    "screening": {"flag_agreement": None, "ranking_agreement": 0.8, "demonstration_grade": 6.0},
}


def sent(fields: list[Field] | tuple[Field, ...]) -> dict[str, str]:
    """What a browser sends of a form that nobody touched."""
    form: dict[str, str] = {}
    for field in fields:
        if field.kind == "group":
            form |= {field.name: "on"} if field.value and field.optional else {}
            form |= sent(field.fields)
        elif field.kind == "check":
            form |= {field.name: "on"} if field.value else {}
        else:
            form[field.name] = str(field.value).replace("\n", "\r\n")
    return form


@pytest.mark.parametrize("screening", [True, False])
def test_a_form_that_nobody_touched_gives_the_same_settings(screening: bool) -> None:
    given = GIVEN if screening else {**GIVEN, "screening": None}
    before = StudySettings.parse(given)
    fields = fields_of(StudySettings, before.model_dump(mode="json"))
    assert StudySettings.parse(read_form(fields, sent(fields))) == before


def test_every_setting_has_an_input_with_its_help() -> None:
    fields = fields_of(StudySettings, {})
    assert [one.name for one in fields] == list(StudySettings.model_fields)
    kinds = {one.name: one.kind for one in fields}
    assert (kinds["task"], kinds["overlap"], kinds["instructions"]) == ("choice", "number", "long")
    by_name = {one.name: one for one in fields}
    assert by_name["overlap"].help == "Labelers for each item."
    assert by_name["gold_fraction"].maximum == 1.0
    assert by_name["overlap"].minimum == 1


def test_panels_begin_at_settings_that_there_are() -> None:
    assert set(PANELS) - {"snapshots"} <= set(StudySettings.model_fields)


def test_empty_inputs_are_defaults_or_none() -> None:
    fields = fields_of(StudySettings, {})
    values = read_form(fields, {"overlap": "", "maximum_labels": " ", "name": "s"})
    assert "overlap" not in values
    assert values["maximum_labels"] is None
    assert values["screening"] is None


def test_a_category_without_a_warning_is_refused() -> None:
    fields = fields_of(StudySettings, {})
    with pytest.raises(SettingsError, match="not 'violence'"):
        read_form(fields, {"categories": "violence"})
