from __future__ import annotations

from pathlib import Path

import pytest

from hark.errors import SettingsError
from hark.settings import Settings, read_settings_file


class Dough(Settings):
    """A toy."""

    flour_grams: int = 500
    """Mass."""
    name: str
    """Word."""


def test_unknown_names_are_refused_with_the_closest() -> None:
    with pytest.raises(SettingsError, match="unknown setting 'flour_gram'.*mean 'flour_grams'"):
        Dough.parse({"flour_gram": 3, "name": "x"})


def test_missing_and_wrong_values_name_the_setting_and_the_value() -> None:
    with pytest.raises(SettingsError, match=r"here: 'flour_grams': .*'much'.*'name' is required"):
        Dough.parse({"flour_grams": "much"}, where="here")


def test_settings_are_frozen_and_remember_what_was_given() -> None:
    dough = Dough.parse({"name": "rye"})
    with pytest.raises(ValueError, match="frozen"):
        dough.name = "spelt"  # type: ignore[misc]
    assert dough.given() == {"name": "rye"}


def test_settings_file_must_be_a_mapping(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    with pytest.raises(SettingsError, match="cannot read"):
        read_settings_file(path)
    path.write_text("- 1")
    with pytest.raises(SettingsError, match="holds a list"):
        read_settings_file(path)
    path.write_text("a: [")
    with pytest.raises(SettingsError, match="not valid YAML"):
        read_settings_file(path)
    path.write_text("a: 1")
    assert read_settings_file(path) == {"a": 1}
