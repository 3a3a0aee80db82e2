"""From labels to training data: nothing turned round that should not be, nothing kept back in
silence, and a snapshot that cannot be changed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.feedback.workshop import ATTACK, Clock, Workshop

from hark.data.formats.reading import read_comparisons, read_demonstrations
from hark.data.records import Comparison, Message
from hark.errors import DataError
from hark.feedback import assignment, items, labelling, studies
from hark.feedback.accounts import Person
from hark.feedback.assignment import Assignment
from hark.feedback.export import ExportSettings, check_snapshot, export_study, read_about
from hark.feedback.items import NewItem
from hark.feedback.records import Candidate
from hark.feedback.refusals import NotFoundError
from hark.feedback.store import Store
from hark.feedback.tables import people

USER = [{"role": "user", "content": "Name a fruit."}]


@pytest.fixture
def place(tmp_path: Path) -> str:
    """Exports read events and nothing else; one database is enough for them."""
    return str(tmp_path / "feedback.db")


def answer(workshop: Workshop, study: Any, kind: str, given: Any, **client: Any) -> str:
    """A new labeler claims an item and answers it; `given` may need the ids by text."""
    person = workshop.labeler(study)
    held = assignment.claim(workshop.store, study.id, person.id)
    assert isinstance(held, Assignment)
    seen = labelling.view(workshop.store, held.id, person.id)
    ids = {one["text"]: one["id"] for one in seen.candidates}
    body = given(ids) if callable(given) else given
    receipt = labelling.submit(
        workshop.store, held.id, person.id, kind, body, client_key="k",
        client=labelling.Client(**client),
    )  # fmt: skip
    return receipt.event.id


def add(workshop: Workshop, study: Any, task: dict[str, Any], *texts: str, **fields: Any) -> None:
    candidates = [{"text": text, "snapshot": f"model {text}"} for text in texts]
    new = NewItem.read({"task": task, "candidates": candidates, **fields}, what="t")
    items.add_items(workshop.store, study.id, [new], by=workshop.owner.id)


def dialogue(workshop: Workshop, study: Any, mode: str, chosen: int, strength: int) -> None:
    """One turn with the responses "kind" and "rude"."""
    store = workshop.store
    task = {"kind": "dialogue", "mode": mode, "maximum_turns": 1}
    add(workshop, study, task, categories=[ATTACK] if mode == "redteam" else [])
    person = workshop.labeler(study)
    held = assignment.claim(store, study.id, person.id)
    assert isinstance(held, Assignment)
    steps: list[tuple[str, dict[str, Any]]] = [("message", {"text": "Hello"})]
    if mode == "redteam":
        steps.insert(0, ("description", {"text": "make it rude"}))
    for kind, body in steps:
        labelling.submit(store, held.id, person.id, kind, body, client_key=kind)
    drawn = items.put_candidates(
        store, held.item_id, [Candidate(text="kind"), Candidate(text="rude")],
        assignment_id=held.id,
    )  # fmt: skip
    body = {"chosen": drawn[chosen].id, "strength": strength}
    labelling.submit(store, held.id, person.id, "comparison", body, client_key="c")


def exported(workshop: Workshop, study: Any, folder: Path, **settings: Any) -> Path:
    parsed = ExportSettings.parse(settings)
    return export_study(workshop.store, study.settings.name, folder, parsed)


def comparisons(path: Path) -> list[Comparison]:
    file = next(one for one in path.iterdir() if one.stem == "comparisons")
    return list(read_comparisons(file))


def test_a_red_team_choice_is_turned_round_and_a_helpful_one_is_not(
    workshop: Workshop, tmp_path: Path
) -> None:
    """In both the labeler clicks "rude" (place 1): better when helpful, worse in an attack."""
    study = workshop.study("dialogue")
    dialogue(workshop, study, "helpful", chosen=1, strength=3)
    dialogue(workshop, study, "redteam", chosen=1, strength=3)
    path = exported(workshop, study, tmp_path / "out")
    helpful, attack = comparisons(path)
    assert helpful.responses == attack.responses == ("kind", "rude")
    assert (helpful.ranks, attack.ranks) == ((2, 1), (1, 2))
    assert helpful.prompt == (Message("user", "Hello"),)
    assert helpful.strength == 3
    assert helpful.labeler == helpful.user
    assert "the other one is the better" in (path / "card.md").read_text()


def test_hh_transcripts_hold_what_was_chosen(workshop: Workshop, tmp_path: Path) -> None:
    study = workshop.study("dialogue")
    dialogue(workshop, study, "redteam", chosen=1, strength=2)
    path = exported(workshop, study, tmp_path / "out", format="hh")
    row = json.loads((path / "comparisons.jsonl").read_text())
    assert row["chosen"] == "\n\nHuman: Hello\n\nAssistant: kind"
    assert row["rejected"] == "\n\nHuman: Hello\n\nAssistant: rude"


def test_the_strength_filter_is_that_of_hh(workshop: Workshop, tmp_path: Path) -> None:
    study = workshop.study("dialogue")
    for strength in (1, 2, 4):
        dialogue(workshop, study, "helpful", chosen=0, strength=strength)
    path = exported(workshop, study, tmp_path / "out", minimum_strength=2)
    assert [one.strength for one in comparisons(path)] == [2, 4]
    assert "* 1 below strength 2" in (path / "card.md").read_text()


FLAGS = ["rude"]


def rank(*groups: list[str]) -> Any:
    def body(ids: dict[str, str]) -> dict[str, Any]:
        return {
            "likert": dict.fromkeys(ids.values(), 4),
            "flags": {name: {"rude": False} for name in ids.values()},
            "ranking": [[ids[text] for text in group] for group in groups],
        }

    return body


def test_rankings_keep_ranks_and_ties(workshop: Workshop, tmp_path: Path) -> None:
    study = workshop.study("ranking")
    task = {"kind": "ranking", "prompt": USER, "flags": FLAGS}
    add(workshop, study, task, "a", "b", "c", "d")
    answer(workshop, study, "ranking", rank(["c"], ["a", "d"], ["b"]))
    (whole,) = comparisons(exported(workshop, study, tmp_path / "out"))
    assert (whole.responses, whole.ranks) == (("a", "b", "c", "d"), (2, 3, 1, 2))
    (table,) = comparisons(exported(workshop, study, tmp_path / "out", format="parquet"))
    assert table == whole
    pairs = exported(workshop, study, tmp_path / "out", format="trl") / "comparisons.jsonl"
    rows = [json.loads(line) for line in pairs.read_text().splitlines()]
    won = {(row["chosen"][0]["content"], row["rejected"][0]["content"]) for row in rows}
    assert won == {("c", "a"), ("c", "b"), ("c", "d"), ("a", "b"), ("d", "b")}


def test_summaries_in_openais_form(workshop: Workshop, tmp_path: Path) -> None:
    """The second is chosen with strength 3: confidence 5 + 3 = 8."""
    study = workshop.study("summary", overlap=2)
    task = {"kind": "summary", "post": "P", "title": "T", "community": "r/dogs", "axes": []}
    add(workshop, study, task, "one", "two")
    for chosen, strength in (("two", 3), (None, 0)):
        person = workshop.labeler(study)
        held = assignment.claim(workshop.store, study.id, person.id)
        assert isinstance(held, Assignment)
        seen = labelling.view(workshop.store, held.id, person.id)
        ids = {one["text"]: one["id"] for one in seen.candidates}
        notes = {"notes": dict.fromkeys(ids.values(), "says little")}
        said = {"chosen": ids.get(str(chosen)), "strength": strength, "axes": {}}
        for kind, body in (("notes", notes), ("summary", said)):
            labelling.submit(workshop.store, held.id, person.id, kind, body, client_key=kind)
    path = exported(workshop, study, tmp_path / "out", format="openai")
    row = json.loads((path / "comparisons.jsonl").read_text())
    assert (row["choice"], row["extra"]["confidence"]) == (1, 8)
    assert (row["info"]["subreddit"], row["info"]["title"], row["info"]["post"]) == (
        "dogs", "T", "P",
    )  # fmt: skip
    assert "* 1 ties, which this format does not have" in (path / "card.md").read_text()


TRANSCRIPT = [*USER, {"role": "assistant", "content": "No."}]
OTHERWISE: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "review": ("review", {"transcript": TRANSCRIPT}, {"success": 3, "tags": ["weapons"]}),
    "audit": (
        "audit",
        {"behaviour": "B", "question": "Q", "answers": [" Yes", " No"]},
        {"matching": 1, "relevance": 4},
    ),
    "question": (
        "qa_answer",
        {"question": "Q", "options": ["x", "y"], "answer": 1, "phases": ["alone"]},
        {"choice": 1, "confidence": 60},
    ),
}


@pytest.mark.parametrize("task", OTHERWISE)
def test_what_no_training_reads_is_exported_as_it_was_kept(
    workshop: Workshop, tmp_path: Path, task: str
) -> None:
    kind, fields, given = OTHERWISE[task]
    study = workshop.study(task)
    add(workshop, study, {"kind": task, **fields})
    add(workshop, study, {"kind": task, **fields}, use="test")
    kept = answer(workshop, study, kind, given)
    answer(workshop, study, kind, given)
    path = exported(workshop, study, tmp_path / "out")
    (row,) = map(json.loads, (path / "labels.jsonl").read_text().splitlines())
    assert (row["event_id"], row["kind"], row["use"]) == (kept, kind, "train")
    assert row["answer"].items() >= given.items()
    assert row["context"]["task"].items() >= fields.items()
    assert "* 1 of use 'test'" in (path / "card.md").read_text()
    check_snapshot(path)
    for other in ("hh", "trl", "openai", "parquet"):
        with pytest.raises(DataError, match=f"no format '{other}' holds labels of this kind"):
            exported(workshop, study, tmp_path / "out", format=other)


AXES = {"kind": "summary", "post": "P", "asks": "axes", "axes": ["accuracy"]}


def compare_summaries(workshop: Workshop, study: Any) -> None:
    add(workshop, study, {"kind": "summary", "post": "P", "axes": []}, "one", "two")
    person = workshop.labeler(study)
    held = assignment.claim(workshop.store, study.id, person.id)
    assert isinstance(held, Assignment)
    seen = labelling.view(workshop.store, held.id, person.id)
    ids = [one["id"] for one in seen.candidates]
    notes = {"notes": dict.fromkeys(ids, "says little")}
    said = {"chosen": ids[0], "strength": 2, "axes": {}}
    for kind, body in (("notes", notes), ("summary", said)):
        labelling.submit(workshop.store, held.id, person.id, kind, body, client_key=kind)


def test_ratings_on_axes_come_beside_comparisons(workshop: Workshop, tmp_path: Path) -> None:
    study = workshop.study("summary")
    compare_summaries(workshop, study)
    without = exported(workshop, study, tmp_path / "out")
    assert not (without / "labels.jsonl").exists()
    assert "ratings on axes" not in (without / "card.md").read_text()
    add(workshop, study, AXES, "rated")
    kept = answer(workshop, study, "axes", {"ratings": {"accuracy": 6}})
    for format in ("hark", "trl"):
        path = exported(workshop, study, tmp_path / "out", format=format)
        (row,) = map(json.loads, (path / "labels.jsonl").read_text().splitlines())
        assert (row["event_id"], row["answer"]["ratings"]) == (kept, {"accuracy": 6})
        assert len((path / "comparisons.jsonl").read_text().splitlines()) == 1
        card = (path / "card.md").read_text()
        assert "| labels | 2 |" in card
        assert "| ratings on axes, in `labels.jsonl` | 1 |" in card
        about = read_about(path)
        assert (about["labels"], about["data"]) == (2, "comparisons.jsonl")
        assert "labels.jsonl" in about["files"]
        check_snapshot(path)


def test_a_study_of_ratings_alone_is_exported(workshop: Workshop, tmp_path: Path) -> None:
    study = workshop.study("summary")
    add(workshop, study, AXES, "rated")
    answer(workshop, study, "axes", {"ratings": {"accuracy": 6}})
    path = exported(workshop, study, tmp_path / "out")
    assert not (path / "comparisons.jsonl").exists()
    assert read_about(path)["data"] == "labels.jsonl"
    assert (path / "card.md").read_text().count("Labels of study") == 1
    for other in ("trl", "parquet"):
        with pytest.raises(DataError, match=f"no format '{other}' holds labels of this kind"):
            exported(workshop, study, tmp_path / "out", format=other)


def test_two_exports_at_once_make_one_snapshot(
    workshop: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = workshop.study("vote")
    workshop.votes(study, 1)
    answer(workshop, study, "vote", {"chosen": None})
    first = exported(workshop, study, tmp_path / "out")
    seen = iter([False])  # The second looked before the first was there.
    there = Path.exists
    monkeypatch.setattr(Path, "exists", lambda path: next(seen, None) is None and there(path))
    assert exported(workshop, study, tmp_path / "out") == first
    assert [one.name for one in (tmp_path / "out").iterdir()] == [first.name]


def test_demonstrations(workshop: Workshop, tmp_path: Path) -> None:
    study = workshop.study("demonstration")
    add(workshop, study, {"kind": "demonstration", "prompt": USER})
    add(workshop, study, {"kind": "demonstration", "style": "few_shot"})
    answer(workshop, study, "demonstration", {"response": "Apple"})
    shots = {
        "prompt": "Translate.",
        "examples": [{"query": "chat", "response": "cat"}],
        "query": "chien",
        "response": "dog",
    }
    answer(workshop, study, "demonstration", shots)
    path = exported(workshop, study, tmp_path / "out") / "demonstrations.jsonl"
    given, written = read_demonstrations(path)
    assert (given.prompt[0].content, given.response) == ("Name a fruit.", "Apple")
    assert written.prompt[0].content == "Translate.\n\nchat\ncat\n\nchien"
    assert (given.user, written.user) == (None, written.labeler)
    with pytest.raises(DataError, match="cannot write demonstrations as 'hh'"):
        exported(workshop, study, tmp_path / "out", format="hh")


def vote_for(text: str | None) -> Any:
    return lambda ids: {"chosen": None if text is None else ids[text]}


def test_what_does_not_count_is_left_out_and_said(
    workshop: Workshop, tmp_path: Path, clock: Clock
) -> None:
    """Gold, test and late labels; of a corrected label only the correction."""
    study, store = workshop.study(overlap=2, gold_fraction=0), workshop.store
    workshop.votes(study, 1)
    people = [workshop.labeler(study) for _ in range(3)]
    slow, ann, bob = people
    held = [assignment.claim(store, study.id, slow.id)]
    clock.now += 3600
    held += [assignment.claim(store, study.id, one.id) for one in (ann, bob)]
    kept = []
    for one, person in zip(held, people, strict=True):
        assert isinstance(one, Assignment)
        seen = labelling.view(store, one.id, person.id)
        ids = {shown["text"]: shown["id"] for shown in seen.candidates}
        kept.append(
            labelling.submit(
                store, one.id, person.id, "vote", {"chosen": ids["a"]}, client_key="k"
            ).event
        )
    labelling.correct(store, kept[2].id, bob.id, {"chosen": ids["b"]}, client_key="c")
    path = exported(workshop, study, tmp_path / "out")
    assert [one.ranks for one in comparisons(path)] == [(1, 2), (2, 1)]
    card = (path / "card.md").read_text()
    assert "* 1 late, beyond the overlap" in card
    assert "* 1 corrected or retracted" in card
    # One pair of labelers, who disagree: 0 agreement; α = 1 − (2 − 1)·2/2 = 0.
    assert "| agreement of pairs | 0.000 over 1 pairs |" in card
    assert "| Krippendorff's alpha (nominal) | 0.000 over 1 pairs |" in card
    assert "| models | model-a, model-b |" in card
    kinds = [json.loads(line)["kind"] for line in (path / "events.jsonl").read_text().splitlines()]
    assert kinds.count("vote") == 4


def test_other_uses_need_to_be_asked_for(workshop: Workshop, tmp_path: Path) -> None:
    study = workshop.study()
    workshop.votes(study, 1, use="test")
    answer(workshop, study, "vote", vote_for("a"), ms_active=1500)
    with pytest.raises(DataError, match=r"no label to export \(1 of use 'test'\)"):
        exported(workshop, study, tmp_path / "out")
    path = exported(workshop, study, tmp_path / "out", uses=["test"])
    assert len(comparisons(path)) == 1
    card = (path / "card.md").read_text()
    assert "| median seconds at work | 1.5 |" in card
    assert "undefined: nothing to compare" in card


def test_the_same_labels_make_the_same_snapshot(workshop: Workshop, tmp_path: Path) -> None:
    study = workshop.study()
    workshop.votes(study, 2)
    answer(workshop, study, "vote", vote_for("a"))
    first = exported(workshop, study, tmp_path / "out")
    assert exported(workshop, study, tmp_path / "out") == first
    assert [one.name for one in (tmp_path / "out").iterdir()] == [first.name]
    answer(workshop, study, "vote", vote_for("b"))
    second = exported(workshop, study, tmp_path / "out")
    assert second != first
    assert len(comparisons(first)) == 1
    assert len(comparisons(second)) == 2


def test_a_snapshot_that_was_changed_is_noticed(workshop: Workshop, tmp_path: Path) -> None:
    study = workshop.study()
    workshop.votes(study, 1)
    answer(workshop, study, "vote", vote_for("a"))
    path = exported(workshop, study, tmp_path / "out")
    check_snapshot(path)
    data = path / "comparisons.jsonl"
    assert not data.stat().st_mode & 0o222
    data.chmod(0o644)
    data.write_text(data.read_text() + "\n")
    with pytest.raises(DataError, match="was changed"):
        exported(workshop, study, tmp_path / "out")


def test_a_text_that_a_format_cannot_express_stops_no_export(
    workshop: Workshop, tmp_path: Path
) -> None:
    study = workshop.study()
    for texts in (("a", "b"), ("x\n\nHuman: y", "b")):
        add(workshop, study, {"kind": "vote", "prompt": USER}, *texts)
        answer(workshop, study, "vote", vote_for("b"))
    path = exported(workshop, study, tmp_path / "out", format="hh")
    assert len((path / "comparisons.jsonl").read_text().splitlines()) == 1
    assert "* 1 with a text that this format cannot express" in (path / "card.md").read_text()


def hash_of(workshop: Workshop, study: Any, folder: Path, **settings: Any) -> str:
    return exported(workshop, study, folder, **settings).name


def test_what_is_no_label_makes_no_other_snapshot(workshop: Workshop, tmp_path: Path) -> None:
    """Skips and consents change nothing; a retraction does."""
    study = workshop.study(categories={ATTACK: "Attacks."})
    workshop.votes(study, 3)
    kept = answer(workshop, study, "vote", vote_for("a"))
    before = hash_of(workshop, study, tmp_path)
    person = workshop.labeler(study)  # who agrees to a category
    held = assignment.claim(workshop.store, study.id, person.id)
    assert isinstance(held, Assignment)
    assignment.skip(workshop.store, held.id, person.id, "other", client_key="s")
    assert {one.kind for one in workshop.events(study_id=study.id)} >= {"skip", "consent", "vote"}
    assert hash_of(workshop, study, tmp_path) == before
    (line,) = (tmp_path / before / "events.jsonl").read_text().splitlines()
    assert json.loads(line)["event_id"] == kept
    answer(workshop, study, "vote", vote_for("b"))
    assert hash_of(workshop, study, tmp_path) != before


@pytest.fixture
def mixed(workshop: Workshop) -> tuple[Any, list[Person]]:
    """Three labelers of one item, two of whom have done a gold item: one rightly, one wrongly."""
    study = workshop.study(overlap=3)
    workshop.votes(study, 1)
    people = [workshop.labeler(study) for _ in range(3)]
    for person in people:
        choose(workshop, study, person, "a")
    workshop.votes(study, 1, use="gold", gold={"chosen": "0"})
    changed = {"gold_fraction": 1.0}
    studies.change_study(workshop.store, study.id, changed, by=workshop.owner.id)
    choose(workshop, study, people[0], "a")
    choose(workshop, study, people[1], "b")
    return study, people


def choose(workshop: Workshop, study: Any, person: Person, text: str) -> None:
    held = assignment.claim(workshop.store, study.id, person.id)
    assert isinstance(held, Assignment)
    seen = labelling.view(workshop.store, held.id, person.id)
    ids = {one["text"]: one["id"] for one in seen.candidates}
    body = {"chosen": ids[text]}
    labelling.submit(workshop.store, held.id, person.id, "vote", body, client_key=held.id)


def labelers_of(path: Path) -> set[str | None]:
    return {one.labeler for one in comparisons(path)}


def test_labels_of_those_turned_away_are_left_out_unless_asked_for(
    workshop: Workshop, tmp_path: Path, mixed: tuple[Any, list[Person]]
) -> None:
    study, (ann, bob, cid) = mixed
    everyone = exported(workshop, study, tmp_path)
    assert labelers_of(everyone) == {ann.pseudonym, bob.pseudonym, cid.pseudonym}
    studies.set_member_state(workshop.store, study.id, bob.id, "rejected", by=workshop.owner.id)
    path = exported(workshop, study, tmp_path)
    assert labelers_of(path) == {ann.pseudonym, cid.pseudonym}
    card = (path / "card.md").read_text()
    assert "* 1 by labelers who were turned away (1 person)" in card
    assert "except those of the labelers who are left out" in card
    about = json.loads((path / "snapshot.json").read_text())
    assert about["labelers_left_out"] == {"by labelers who were turned away": [bob.pseudonym]}
    assert bob.pseudonym not in (path / "events.jsonl").read_text()
    asked = exported(workshop, study, tmp_path, members=["active", "rejected"])
    assert labelers_of(asked) == labelers_of(everyone)


def test_labelers_are_left_out_by_any_name_and_their_logins_stay_at_home(
    workshop: Workshop, tmp_path: Path, mixed: tuple[Any, list[Person]]
) -> None:
    study, (ann, bob, cid) = mixed
    assert bob.login is not None
    by_login = exported(workshop, study, tmp_path, without_labelers=[bob.login])
    for name in (bob.id, bob.pseudonym):
        assert exported(workshop, study, tmp_path, without_labelers=[name]) == by_login
    assert labelers_of(by_login) == {ann.pseudonym, cid.pseudonym}
    for file in by_login.iterdir():
        assert bob.login not in file.read_text()
    with pytest.raises(NotFoundError, match="has no labeler 'zoe'"):
        exported(workshop, study, tmp_path, without_labelers=["zoe"])


def test_labelers_are_left_out_by_gold_accuracy_where_they_have_one(
    workshop: Workshop, tmp_path: Path, mixed: tuple[Any, list[Person]]
) -> None:
    study, (ann, _bob, cid) = mixed
    path = exported(workshop, study, tmp_path, minimum_gold_accuracy=0.6)
    assert labelers_of(path) == {ann.pseudonym, cid.pseudonym}
    why = "by labelers with a gold accuracy below 0.6 (1 person)"
    assert f"* 1 {why}" in (path / "card.md").read_text()


def test_settings_that_leave_nobody_out_are_not_named(workshop: Workshop, tmp_path: Path) -> None:
    """So that a snapshot of an ordinary study has the name it always had."""
    study = workshop.study()
    workshop.votes(study, 1)
    answer(workshop, study, "vote", vote_for("a"))
    about = json.loads((exported(workshop, study, tmp_path) / "snapshot.json").read_text())
    assert about["settings"].keys() == {"format", "minimum_strength", "uses"}
    assert "labelers_left_out" not in about


def test_an_unknown_study_is_named(workshop: Workshop, tmp_path: Path) -> None:
    store: Store = workshop.store
    with pytest.raises(ValueError, match="there is no study 'none'"):
        export_study(store, "none", tmp_path)


def test_a_login_is_found_however_it_is_written_and_a_pseudonym_comes_first(
    workshop: Workshop, tmp_path: Path, mixed: tuple[Any, list[Person]]
) -> None:
    study, (ann, bob, cid) = mixed
    with workshop.store.write() as connection:
        for person, login in ((bob, "bob müller"), (cid, ann.pseudonym)):
            connection.execute(people.update().where(people.c.id == person.id).values(login=login))
    for name in ("bob müller", " Bob MÜLLER "):
        left = labelers_of(exported(workshop, study, tmp_path, without_labelers=[name]))
        assert left == {ann.pseudonym, cid.pseudonym}
    left = labelers_of(exported(workshop, study, tmp_path, without_labelers=[ann.pseudonym]))
    assert left == {bob.pseudonym, cid.pseudonym}
