"""Imported labels are ordinary events: once each, under pseudonyms, and exported like others."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
from sqlalchemy import select
from tests.feedback.workshop import Workshop

from hark.data.formats.reading import read_comparisons, read_demonstrations
from hark.data.records import ask
from hark.feedback import accounts, assignment, labelling
from hark.feedback.assignment import Assignment, Nothing
from hark.feedback.export import export_study
from hark.feedback.imports.findings import Finding, FoundLabel, FoundRecord, LeftOut, Remark
from hark.feedback.imports.landing import ImportReport, land
from hark.feedback.refusals import ConflictError, NotAllowedError
from hark.feedback.tables import items, people
from hark.feedback.votes import votes_of


def label(annotator: str, *ranks: int, **fields: Any) -> FoundLabel:
    return FoundLabel(id=f"label of {annotator}", annotator=annotator, ranks=ranks, **fields)


def record(name: str, *labels: FoundLabel, **fields: Any) -> FoundRecord:
    given: dict[str, Any] = {
        "where": f"file:{name}", "id": name, "prompt": ask(f"Question {name}"),
        "responses": ("yes", "no"), "models": ("m1", "m2"), "shown": (0, 1), "labels": labels,
    }  # fmt: skip
    return FoundRecord(**(given | fields))


def bring(workshop: Workshop, study: Any, found: Sequence[Finding], **how: Any) -> ImportReport:
    given = {"tool": "argilla", "source": "argilla", "by": workshop.owner.id, **how}
    return land(workshop.store, study.settings.name, found, **given)


def rows(workshop: Workshop, *columns: Any) -> list[Any]:
    with workshop.store.read() as connection:
        return list(connection.execute(select(*columns)).all())


def test_labels_become_events(workshop: Workshop) -> None:
    study = workshop.study("vote", overlap=2)
    found = record("1", label("ann", 2, 1, milliseconds=900, notes="hm", ground_truth=True))
    report = bring(workshop, study, [found])
    assert (report.items, report.labels, report.labelers) == (1, 1, 1)
    (event,) = workshop.events(kinds=["vote"])
    assert event.author.startswith("anon-")
    assert event.body["candidates"][1]["id"] == event.body["answer"]["chosen"]
    assert event.body["client"] == {"ui": "import:argilla", "ms_active": 900, "notes": "hm"}
    assert event.body["imported"]["ground_truth"] is True
    assert event.body["imported"]["where"] == "file:1"
    assert (event.body["display_order"], event.body["late"]) == ([0, 1], False)


def test_importing_again_adds_nothing_and_keeps_pseudonyms(workshop: Workshop) -> None:
    study = workshop.study("vote")
    found = [record("1", label("ann", 1, 2)), record("2", label("ann", 1, 1), label("bob", 2, 1))]
    first = bring(workshop, study, found)
    before = workshop.events()
    again = bring(workshop, study, found)
    assert (first.labels, first.repeated) == (3, 0)
    assert (again.items, again.labels, again.repeated) == (0, 0, 3)
    assert workshop.events() == before
    more = bring(workshop, study, [*found, record("3", label("bob", 1, 2))])
    assert (more.items, more.labels, more.labelers) == (1, 1, 1)
    by_item = {
        one.body["imported"]["record"]: one.author for one in workshop.events(kinds=["vote"])
    }
    assert by_item["2"] == by_item["3"] != by_item["1"]


def test_annotators_of_another_source_are_others(workshop: Workshop) -> None:
    study = workshop.study("vote")
    bring(workshop, study, [record("1", label("3", 1, 2))])
    bring(workshop, study, [record("1", label("3", 1, 2))], source="another server")
    assert len({one.author for one in workshop.events(kinds=["vote"])}) == 2
    assert len(rows(workshop, items.c.id)) == 2


def test_forgotten_annotators_leave_no_trace_and_nothing_doubles(workshop: Workshop) -> None:
    study = workshop.study("vote")
    found = [record("1", label("ann@example.org", 1, 2))]
    bring(workshop, study, found)
    logins = {row.login: row.id for row in rows(workshop, people.c.login, people.c.id)}
    accounts.forget(workshop.store, logins["import:argilla:ann@example.org"], by=workshop.owner.id)
    assert bring(workshop, study, found).repeated == 1
    assert {row.login for row in rows(workshop, people.c.login)} == {"owner", None}


def test_items_have_room_for_what_they_bring_and_for_the_study(workshop: Workshop) -> None:
    """Two labels fill an item of overlap 2; of one label there is a place left."""
    study = workshop.study("vote", overlap=2)
    bring(workshop, study, [
        record("1", label("ann", 1, 2), label("bob", 1, 2), label("cy", 2, 1)),
        record("2", label("ann", 1, 2)),
    ])  # fmt: skip
    filled = {row.source_id: (row.taken, row.slots, row.fill) for row in rows(workshop, items)}
    assert filled == {"argilla:1": (3, 3, "full"), "argilla:2": (1, 2, "begun")}
    person = workshop.labeler(study)
    held = assignment.claim(workshop.store, study.id, person.id)
    assert isinstance(held, Assignment)
    seen = labelling.view(workshop.store, held.id, person.id)
    assert seen.task["prompt"][0]["content"] == "Question 2"
    vote = {"chosen": seen.candidates[0]["id"]}
    labelling.submit(workshop.store, held.id, person.id, "vote", vote, client_key="k")
    assert isinstance(assignment.claim(workshop.store, study.id, person.id), Nothing)


def test_later_labels_join_their_item(workshop: Workshop) -> None:
    study = workshop.study("vote")
    bring(workshop, study, [record("1", label("ann", 1, 2))])
    report = bring(workshop, study, [record("1", label("ann", 1, 2), label("bob", 2, 1))])
    assert (report.items, report.labels, report.repeated) == (0, 1, 1)
    ((taken, slots, fill),) = rows(workshop, items.c.taken, items.c.slots, items.c.fill)
    assert (taken, slots, fill) == (2, 2, "full")
    assert len({one.item_id for one in workshop.events(kinds=["vote"])}) == 1


def test_what_cannot_be_kept_is_named(workshop: Workshop) -> None:
    study = workshop.study("vote")
    bring(workshop, study, [record("1", label("ann", 1, 2))])
    twice = dataclasses.replace(label("cy", 2, 1), id="another")
    report = bring(workshop, study, [
        LeftOut(where="file:0", why="is broken"),
        Remark(where="file:1", what="says little"),
        record("1", label("ann", 2, 1)),
        record("1", label("bob", 1, 2), responses=("yes", "maybe")),
        record("3"),
        record("4", label("ann", 1, 2, 3), responses=("a", "b", "c"), models=()),
        record("5", label("cy", 1, 2), twice),
        record("5", label("dee", 1, 2)),
    ])  # fmt: skip
    assert dict(report.remarks) == {"says little": ["file:1"]}
    left_out = {why: places for why, places in report.left_out.items() if "candidates" not in why}
    assert left_out == {
        "is broken": ["file:0"],
        "differs from what an earlier import kept": ["file:1, label label of ann"],
        "is not what an earlier import kept under its id": ["file:1"],
        "has no label": ["file:3"],
        "is a second label by one annotator": ["file:5, label another"],
        "has the id of an earlier record of the file": ["file:5"],
    }
    (why,) = set(report.left_out) - set(left_out)
    assert why.startswith("the record: 3 candidates for a task of kind 'vote', which takes 2 to 2")
    assert (report.items, report.labels) == (1, 1)


def test_texts_that_no_database_takes_are_named(workshop: Workshop) -> None:
    study = workshop.study("vote")
    report = bring(workshop, study, [
        record("1", label("ann", 1, 2, notes="half \ud800"), label("b\nob", 1, 2)),
        record("2\ud800", label("ann", 1, 2)),
        record("3", label("ann", 1, 2), responses=("a\0", "b")),
    ])  # fmt: skip
    assert (report.items, report.labels) == (0, 0)
    assert sorted(itertools.chain.from_iterable(report.left_out.values())) == [
        "file:1, label label of ann", "file:1, label label of b\nob", "file:2\ud800", "file:3",
    ]  # fmt: skip


def test_items_are_imported_to_be_labelled_anew(workshop: Workshop) -> None:
    study = workshop.study("ranking")
    three = {"responses": ("a", "b", "c"), "models": ()}
    report = bring(workshop, study, [record("1", label("ann", 1, 2, 2), **three)], keep="items")
    assert (report.items, report.labels) == (1, 0)
    held = assignment.claim(workshop.store, study.id, workshop.labeler(study).id)
    assert isinstance(held, Assignment)
    assert workshop.events(kinds=["ranking"]) == []


def test_rankings_keep_ties_and_the_ratings_there_are(workshop: Workshop, tmp_path: Path) -> None:
    study = workshop.study("ranking")
    found = record("1", label("ann", 2, 1, 2, ratings={1: 7}), responses=("a", "b", "c"), models=())
    bring(workshop, study, [found])
    (event,) = workshop.events(kinds=["ranking"])
    ids = {one["text"]: one["id"] for one in event.body["candidates"]}
    assert event.body["answer"]["ranking"] == [[ids["b"]], [ids["a"], ids["c"]]]
    assert event.body["answer"]["likert"] == {ids["b"]: 7}
    path = export_study(workshop.store, "ranking-study", tmp_path / "out")
    (comparison,) = read_comparisons(path / "comparisons.jsonl")
    assert comparison.ranks == (2, 1, 2)


def test_demonstrations_are_exported(workshop: Workshop, tmp_path: Path) -> None:
    study = workshop.study("demonstration")
    written = FoundLabel(id="1", annotator="ann", response="Plum.")
    bring(workshop, study, [record("1", written, responses=(), models=(), shown=None)])
    path = export_study(workshop.store, "demonstration-study", tmp_path / "out")
    (demonstration,) = read_demonstrations(path / "demonstrations.jsonl")
    assert (demonstration.prompt, demonstration.response) == (ask("Question 1"), "Plum.")


def test_imported_votes_are_ballots(workshop: Workshop) -> None:
    study = workshop.study("vote")
    bring(workshop, study, [
        record("1", label("ann", 2, 1)),
        record("2", label("ann", 1, 1), models=()),
        record("3", label("ann", 1, 2), shown=None),
    ])  # fmt: skip
    found = votes_of(workshop.events())
    assert found.left_out == {"of responses whose model is not named": 1}
    one, other = found.ballots
    assert (one.first, one.second, one.outcome) == ("m1", "m2", "second")
    winner = other.first if other.outcome == "first" else other.second
    assert winner == "m1"


def test_who_may_import_and_into_what(workshop: Workshop) -> None:
    study = workshop.study("vote")
    with pytest.raises(NotAllowedError):
        bring(workshop, study, [], by=workshop.labeler(study).id)
    with pytest.raises(ConflictError, match="of kind 'audit'; labels are imported into studies"):
        bring(workshop, workshop.study("audit"), [])


def test_labels_land_in_bulk(workshop: Workshop) -> None:
    """A few statements, however many labels there are."""
    study = workshop.study("vote")
    found = [record(str(n), label(str(n % 20), 1, 2)) for n in range(300)]
    statements: list[str] = []

    def note(*given: Any) -> None:
        statements.append(given[2])

    sqlalchemy.event.listen(workshop.store.engine, "before_cursor_execute", note)
    assert bring(workshop, study, found).labels == 300
    assert len(statements) < 60
