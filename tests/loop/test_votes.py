"""Votes from files: each pair once, in the order shown, and what does not count is said."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.feedback.workshop import Workshop, vote_item

from hark.data.formats import write_comparisons
from hark.data.records import Comparison, ask
from hark.errors import DataError
from hark.evaluation.elo import Vote
from hark.feedback import assignment, items, labelling
from hark.feedback.assignment import Assignment
from hark.feedback.events import Event
from hark.feedback.export import export_study
from hark.feedback.store import Store
from hark.feedback.votes import votes_of
from hark.loop.votes import vote_files, votes_of_comparisons, votes_of_export


def test_a_ranking_votes_on_each_two_of_its_models() -> None:
    ranking = Comparison(
        prompt=ask("Q"), responses=("x", "y", "z"), ranks=(2, 1, 2), models=("A", "B", "C"),
        labeler="l",
    )  # fmt: skip
    soft = Comparison(prompt=ask("R"), responses=("x", "y"), probability=0.7, models=("A", "B"))
    nameless = Comparison(prompt=ask("Q"), responses=("x", "y"), ranks=(1, 2))
    found = votes_of_comparisons([ranking, soft, nameless])
    said = {"labeler": "l", "prompt": ask("Q")}
    assert found.votes == (
        Vote(first="A", second="B", outcome="second", **said),  # type: ignore[arg-type]
        Vote(first="A", second="C", outcome="tie", **said),  # type: ignore[arg-type]
        Vote(first="B", second="C", outcome="first", **said),  # type: ignore[arg-type]
        Vote(first="A", second="B", outcome="first", prompt=ask("R")),
    )
    assert found.left_out == {"of responses whose models are not named": 1}


@pytest.fixture
def exported(tmp_path: Path) -> tuple[Path, list[Event]]:
    """Six labelers who vote for what stands first on their screen."""
    with Store(str(tmp_path / "feedback.db")) as store:
        workshop = Workshop(store)
        study = workshop.study("vote", overlap=6)
        items.add_items(store, study.id, [vote_item()], by=workshop.owner.id)
        for _ in range(6):
            person = workshop.labeler(study)
            held = assignment.claim(store, study.id, person.id)
            assert isinstance(held, Assignment)
            first = labelling.view(store, held.id, person.id).candidates[0]["id"]
            labelling.submit(store, held.id, person.id, "vote", {"chosen": first}, client_key="k")
        return export_study(store, "vote-study", tmp_path / "exports"), workshop.events()


def test_an_export_votes_in_the_order_that_labelers_saw(
    exported: tuple[Path, list[Event]],
) -> None:
    path, events = exported
    assert vote_files([path]) == [path / "events.jsonl"]
    assert vote_files([path / "comparisons.jsonl"]) == [path / "events.jsonl"]
    every = [path / "comparisons.jsonl", path / "events.jsonl"]
    assert vote_files([*every, path]) == [path / "events.jsonl"], "no vote counts twice"
    found = votes_of_export(path / "events.jsonl")
    assert [vote.outcome for vote in found.votes] == ["first"] * 6
    told = [(one.first, one.second, one.labeler, one.prompt) for one in votes_of(events).ballots]
    assert [(one.first, one.second, one.labeler, one.prompt) for one in found.votes] == told
    row = json.loads((path / "comparisons.jsonl").read_text().splitlines()[0])
    assert set(row["models"]) == {"model-a", "model-b"}


def test_a_line_that_is_no_event_is_named(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    for line in (b'{"kind": "vote"}\n', b"\xff\n", b"[]\n"):
        path.write_bytes(line)
        with pytest.raises(DataError, match=r"events\.jsonl:1: not an event of an export"):
            votes_of_export(path)


def test_a_separator_within_a_text_ends_no_line(exported: tuple[Path, list[Event]]) -> None:
    path = exported[0] / "events.jsonl"
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]
    for row in rows:
        row["candidates"] = [{**one, "text": "a\u2028b\x85c"} for one in row["candidates"]]
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    path.write_text(text, encoding="utf-8")
    assert len(votes_of_export(path).votes) == 6


def test_other_files_are_read_as_they_are(tmp_path: Path) -> None:
    pair = Comparison(prompt=ask("Q"), responses=("x", "y"), ranks=(1, 2), models=("A", "B"))
    write_comparisons(tmp_path / "votes.jsonl", [pair])
    assert vote_files([tmp_path / "votes.jsonl"]) == [tmp_path / "votes.jsonl"]
    with pytest.raises(DataError, match="no such file"):
        vote_files([tmp_path / "missing.jsonl"])
