"""References are filled in, and order the stages."""

from __future__ import annotations

import pytest

from hark.errors import SettingsError
from hark.loop.references import in_order, merge, read_change, references_in, substitute, without


def test_references_are_found_at_any_depth() -> None:
    assert set(references_in({"a": ["${b}/x", {"c": "${inputs.d}"}], "e": 3})) == {"b", "inputs.d"}


def test_substitution_keeps_what_it_does_not_know() -> None:
    assert substitute({"a": "${b}/x and ${c}"}, {"b": "runs/b"}) == {"a": "runs/b/x and ${c}"}


def test_a_list_is_laid_out_and_null_left_out_only_where_a_whole_item_stands() -> None:
    known = {"many": ["x", "y"], "none": None}
    assert substitute(["${many}", "z", "${none}", None, ["w"]], known) == [
        "x",
        "y",
        "z",
        None,
        ["w"],
    ]
    assert substitute({"a": "${many}", "b": "${none}"}, known) == {"a": ["x", "y"], "b": None}
    with pytest.raises(SettingsError, match="one path"):
        substitute("${many}/file", known)


def test_merge_lays_mappings_over_each_other_and_replaces_lists() -> None:
    base = {"a": {"b": 1, "c": [1, 2]}, "d": 1}
    assert merge(base, {"a": {"c": [3]}, "d": {"e": 1}}) == {"a": {"b": 1, "c": [3]}, "d": {"e": 1}}
    assert base == {"a": {"b": 1, "c": [1, 2]}, "d": 1}


def test_a_change_is_read_as_yaml_under_its_dotted_name() -> None:
    options = {"option": "--set", "form": "NAME=VALUE, such as a.b=1"}
    assert read_change("a.b=[1, x]", **options) == {"a": {"b": [1, "x"]}}
    assert read_change("a=1e-4=b", **options) == {"a": "1e-4=b"}
    for text in ("a.b", "=1", "a..b=1", ".=1"):
        with pytest.raises(SettingsError, match=f"--set '{text}' is not NAME=VALUE, such as a.b=1"):
            read_change(text, **options)
    with pytest.raises(SettingsError, match=r"--set 'a=\[1': the value is not valid YAML"):
        read_change("a=[1", **options)


def test_order_is_kept_where_nothing_asks_for_another() -> None:
    needs: dict[str, set[str]] = {"c": set(), "b": {"a"}, "a": set(), "d": {"c"}}
    assert in_order(needs) == ["c", "a", "b", "d"]
    with pytest.raises(SettingsError, match="x, y need each other"):
        in_order({"z": set(), "x": {"y"}, "y": {"x"}})


def test_replacing_a_name_drops_what_only_it_needed() -> None:
    # end needs middle and shared; middle needs start and shared; nobody ever needed lonely.
    needs: dict[str, set[str]] = {
        "start": set(),
        "shared": set(),
        "middle": {"start", "shared"},
        "end": {"middle", "shared"},
        "lonely": set(),
    }
    assert without(needs, {"middle"}) == ["shared", "end", "lonely"]
