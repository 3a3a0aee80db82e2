from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from tests.feedback.workshop import Workshop

from hark.errors import DataError, RunError
from hark.feedback import assignment, labelling
from hark.feedback.accounts import Person
from hark.feedback.assignment import Assignment
from hark.feedback.export import export_study
from hark.feedback.store import Store
from hark.feedback.studies import Study
from hark.loop.lineage import Node, descend, labels_of, trace
from hark.loop.stages import STAGES, run_stage
from hark.runs.run import Run
from hark.runs.settings import StageSettings


@pytest.fixture
def export(tmp_path: Path) -> Path:
    """Three votes of two labelers, exported."""
    with Store(tmp_path / "feedback.db") as store:
        workshop = Workshop(store)
        study = workshop.study(name="votes", overlap=1)
        workshop.votes(study, 3)
        people = [workshop.labeler(study), workshop.labeler(study)]
        for number in range(3):
            vote(store, study, people[number % 2])
        return export_study(store, "votes", tmp_path / "exports")


def vote(store: Store, study: Study, person: Person) -> None:
    held = assignment.claim(store, study.id, person.id)
    assert isinstance(held, Assignment)
    seen = labelling.view(store, held.id, person.id)
    answer = {"chosen": seen.candidates[0]["id"]}
    labelling.submit(store, held.id, person.id, "vote", answer, client_key=held.id)


def made_of(output: Path, stage: str, *inputs: Path) -> Path:
    """A complete run with a model that read these."""
    settings = StageSettings.parse({"output": output, "name": stage})
    with Run.start(stage=stage, settings=settings, inputs=list(inputs)) as run:
        run.model_path.mkdir()
        (run.model_path / "weights").write_text(f"{stage} {[path.name for path in inputs]}")
        run.finish({})
    return run.path


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def merge_of(output: Path, export: Path) -> Path:
    values = {
        "tranches": {"votes": {"data": [export / "comparisons.jsonl"]}},
        "output": output,
        "held_out": 0.0,
    }
    return run_stage("merge", STAGES["merge"].settings.parse(values), command=[]).run_path


@pytest.fixture
def chain(tmp_path: Path, export: Path) -> dict[str, Path]:
    """Export → merge → preference → policy, where the policy read the base's checkpoint too."""
    output = tmp_path / "runs"
    merge = merge_of(output, export)
    base = made_of(output, "base")
    preference = made_of(output, "preference", merge / "data" / "comparisons.jsonl", base / "model")
    policy = made_of(output, "policy", preference / "model", base / "model")
    return {"merge": merge, "base": base, "preference": preference, "policy": policy}


def names(node: Node) -> list[str]:
    return [one.name for one in node.walk()]


def test_a_checkpoint_leads_back_to_its_labels(chain: dict[str, Path], export: Path) -> None:
    tree = trace(chain["policy"] / "model")
    assert names(tree) == [
        "policy policy", "preference preference", "merge", "study votes", "base base", "base base"
    ]  # fmt: skip
    found = next(one for one in tree.walk() if one.kind == "export")
    events = rows(export / "events.jsonl")
    votes = [one for one in events if one["kind"] == "vote"]
    assert found.facts["labels"] == len(votes) == 3
    assert sorted(found.facts["labelers"].values()) == [1, 2]
    assert set(found.facts["labelers"]) == {one["labeler"] for one in votes}
    assert found.facts["hash"] == export.name.rpartition("-")[2]
    assert [one.state for one in tree.walk()].count("shown above") == 1


def test_labels_lead_to_what_they_trained(chain: dict[str, Path], export: Path) -> None:
    runs = [chain["policy"].parent]
    tree = descend("votes", runs)
    assert names(tree) == [
        "votes",
        "study votes",
        "merge",
        "preference preference",
        "policy policy",
    ]
    label = trace(export).facts["first_label"]
    assert names(descend(label, runs))[1:] == names(tree)[1:]
    assert names(descend(str(export), runs)) == names(tree)[1:]
    with pytest.raises(RunError, match="no study or label"):
        descend("nothing", runs)


def test_ratings_do_not_hide_comparisons_that_have_no_ids(export: Path) -> None:
    (export / "comparisons.jsonl").chmod(0o644)
    (export / "comparisons.jsonl").write_text('{"chosen": "a", "rejected": "b"}\n')
    votes = trace(export).facts["labels"]
    (export / "labels.jsonl").write_text('{"event_id": "rating-1"}\n')
    assert trace(export).facts["labels"] == votes == 3
    assert "rating-1" in labels_of(export)


def test_a_rating_beside_comparisons_is_known_and_has_trained_nothing(
    export: Path, tmp_path: Path
) -> None:
    event = rows(export / "events.jsonl")[-1]
    rating = {**event, "event_id": "rating-1", "kind": "axes"}
    (export / "events.jsonl").chmod(0o644)
    with (export / "events.jsonl").open("a") as log:
        log.write(json.dumps(rating) + "\n")
    (export / "labels.jsonl").write_text(json.dumps(rating) + "\n")
    assert trace(export).facts["labels"] == 4
    made_of(tmp_path / "runs", "preference", export / "comparisons.jsonl")
    assert names(descend("rating-1", [tmp_path])) == ["rating-1", "study votes"]
    assert "preference preference" in names(descend(event["event_id"], [tmp_path]))


def test_a_label_that_a_merge_left_out_has_trained_nothing(export: Path, tmp_path: Path) -> None:
    values = {
        "tranches": {"votes": {"data": [export / "comparisons.jsonl"], "maximum": 1}},
        "output": tmp_path / "runs",
        "held_out": 0.0,
    }
    settings = STAGES["merge"].settings.parse(values)
    merge = run_stage("merge", settings, command=[]).run_path
    given = rows(export / "comparisons.jsonl")
    [kept] = rows(merge / "data" / "comparisons.jsonl")
    followed = {row["id"]: "merge" in names(descend(row["id"], [merge.parent])) for row in given}
    assert followed == {row["id"]: row["id"] == kept["id"] for row in given}


def test_what_was_changed_or_is_gone_is_said(chain: dict[str, Path]) -> None:
    (chain["base"] / "model" / "weights").write_text("others")
    states = {one.name: one.state for one in trace(chain["policy"]).children}
    assert states == {"preference preference": "", "base base": "changed"}
    shutil.rmtree(chain["base"])
    tree = trace(chain["policy"])
    assert [one.state for one in tree.children] == ["", "missing"]


def test_runs_that_were_moved_together_are_found(chain: dict[str, Path], tmp_path: Path) -> None:
    before = names(trace(chain["policy"]))
    shutil.move(tmp_path / "runs", tmp_path / "elsewhere")
    shutil.move(tmp_path / "exports", tmp_path / "elsewhere" / "exports")
    moved = tmp_path / "elsewhere" / chain["policy"].name
    assert names(trace(moved)) == before


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("events.jsonl", b"{\n", r"events\.jsonl:1: is not as hark wrote it"),
        ("events.jsonl", b"\xff\n", r"events\.jsonl:1: is not as hark wrote it"),
        ("events.jsonl", b'{"candidates": []}\n', r"events\.jsonl:1: .* has no event_id, labeler"),
        ("comparisons.jsonl", b"[]\n", r"comparisons\.jsonl:1: .* no object"),
        ("snapshot.json", b'{"data": "", "labels": 0, "left_out": {}, "settings": {}}', "no study"),
        ("snapshot.json", b"{", "is not JSON"),
    ],
)
def test_a_damaged_export_is_named(export: Path, file: str, content: bytes, said: str) -> None:
    (export / file).write_bytes(content)
    with pytest.raises(DataError, match=said):
        trace(export)
    with pytest.raises(DataError, match=said):
        descend("votes", [export.parent])


def test_what_no_run_knows_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file.txt").write_text("?")
    with pytest.raises(RunError, match="is in no run directory or export of labels"):
        trace(tmp_path / "file.txt")
    with pytest.raises(RunError, match="does not exist: name a run directory or export"):
        trace(tmp_path / "gone.txt")
