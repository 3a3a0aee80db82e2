"""The screening test: who is admitted, on what grounds."""

from __future__ import annotations

import pytest
from tests.feedback.workshop import Workshop

from hark.feedback import assignment, items, labelling, qualification, screening, studies
from hark.feedback.assignment import Assignment, Nothing, claim
from hark.feedback.identifiers import new_id
from hark.feedback.items import NewItem
from hark.feedback.records import Candidate
from hark.feedback.refusals import ConflictError, InvalidLabelError, NotAllowedError
from hark.feedback.store import Store

ONLY = dict.fromkeys(("flag_agreement", "ranking_agreement", "demonstration_grade"))
"""Nothing but what is added is asked for."""


def test_screening_admits_and_turns_away(workshop: Workshop) -> None:
    """Two items known; one labeler has both right, the other one of two: below the 3/4 asked."""
    study = workshop.study(screening=ONLY | {"ranking_agreement": 0.75})
    workshop.votes(study, 2, use="screening", gold={"chosen": "0"})
    workshop.votes(study, 1)
    good, bad = workshop.labeler(study), workshop.labeler(study)
    store = workshop.store
    for person, choices in ((good, ("a", "a")), (bad, ("a", "b"))):
        for number, text in enumerate(choices):
            assert qualification.decide(store, study.id, person.id) == "undecided"
            held = claim(store, study.id, person.id)
            assert isinstance(held, Assignment)
            seen = labelling.view(store, held.id, person.id)
            chosen = next(one["id"] for one in seen.candidates if one["text"] == text)
            labelling.submit(
                store, held.id, person.id, "vote", {"chosen": chosen}, client_key=f"{number}"
            )
    assert claim(store, study.id, good.id) == Nothing(because="screening undecided")
    assert qualification.decide(store, study.id, good.id) == "passed"
    assert qualification.decide(store, study.id, bad.id) == "failed"
    assert isinstance(claim(store, study.id, good.id), Assignment)
    with pytest.raises(NotAllowedError, match="rejected: ask its owner"):
        claim(store, study.id, bad.id)
    decided = workshop.events(kinds=["screening"])
    assert [one.body["measures"]["ranking_agreement"] for one in decided] == [1.0, 0.5]
    studies.set_member_state(store, study.id, bad.id, "active", by=workshop.owner.id)
    assert qualification.decide(store, study.id, bad.id) == "passed"


def test_nobody_passes_by_the_one_item_they_are_sure_of(workshop: Workshop) -> None:
    study = workshop.study(screening={"flag_agreement": None, "ranking_agreement": 0.75})
    workshop.votes(study, 3, use="screening", gold={"chosen": "0"})
    store, person = workshop.store, workshop.labeler(study)
    for number in range(3):
        held = claim(store, study.id, person.id)
        assert isinstance(held, Assignment)
        if number:
            assignment.skip(store, held.id, person.id, "too upsetting", client_key=f"{number}")
            continue
        seen = labelling.view(store, held.id, person.id)
        sure = next(one["id"] for one in seen.candidates if one["text"] == "a")
        labelling.submit(store, held.id, person.id, "vote", {"chosen": sure}, client_key="0")
    assert claim(store, study.id, person.id) == Nothing(because="screening undecided")
    assert qualification.decide(store, study.id, person.id) == "undecided"
    studies.set_member_state(store, study.id, person.id, "active", by=workshop.owner.id)
    assert claim(store, study.id, person.id) == Nothing(because="nothing left")


def test_the_last_word_on_oneself_counts(workshop: Workshop) -> None:
    asked = ONLY | {"self_assessment": 4}
    study, store = workshop.study(screening=asked), workshop.store
    person = workshop.labeler(study)
    for grade in (1, 1, 5):
        qualification.assess_self(store, study.id, person.id, grade, client_key=new_id())
    assert qualification.decide(store, study.id, person.id) == "passed"


def test_one_test_has_all_four_measures(workshop: Workshop) -> None:
    """As InstructGPT's: flags and rankings that are known, graded demonstrations, and oneself."""
    asked = {"demonstration_grade": 6, "self_assessment": 4}
    study, store = workshop.study("ranking", screening=asked), workshop.store
    prompt = [{"role": "user", "content": "q"}]
    ranking = {"kind": "ranking", "prompt": prompt, "flags": ["violent"]}
    both = [{"text": "good"}, {"text": "bad"}]
    gold = {"ranking": [["0"], ["1"]], "flags": {"1": {"violent": True}}}
    test = [
        {"task": ranking, "candidates": both, "gold": gold},
        {"task": {"kind": "demonstration", "prompt": prompt}},
    ]
    new = [NewItem.read({**one, "use": "screening"}, what="t") for one in test]
    items.add_items(store, study.id, new, by=workshop.owner.id)
    person = workshop.labeler(study)
    qualification.assess_self(store, study.id, person.id, 5, client_key="self")
    kept = {}
    for kind in ("ranking", "demonstration"):
        held = claim(store, study.id, person.id)
        assert isinstance(held, Assignment)
        ids = [one.id for one in stored_candidates(store, held.item_id)]
        answers = {
            "ranking": {
                "likert": dict.fromkeys(ids, 4),
                "flags": {one: {"violent": one == ids[1]} for one in ids[:2]},
                "ranking": [[one] for one in ids],
            },
            "demonstration": {"response": "Because."},
        }
        kept[kind] = labelling.submit(
            store, held.id, person.id, kind, answers[kind], client_key=kind
        ).event.id
    assert qualification.decide(store, study.id, person.id) == "undecided"
    qualification.grade_demonstration(
        store, kept["demonstration"], 6, by=workshop.owner.id, client_key="g"
    )
    assert qualification.decide(store, study.id, person.id) == "passed"
    (decided,) = (one for one in workshop.events(kinds=["screening"]) if "decision" in one.body)
    assert decided.body["measures"] == {
        "flag_agreement": 1.0, "ranking_agreement": 1.0, "demonstration_grade": 6.0,
        "self_assessment": 5.0, "items_left": 0,
    }  # fmt: skip


def stored_candidates(store: Store, item_id: str) -> list[Candidate]:
    with store.read() as connection:
        return items.candidates_of(connection, item_id)[0]


def test_items_of_a_test_are_of_any_kind_that_needs_no_live_model(workshop: Workshop) -> None:
    study, by = workshop.study("ranking"), workshop.owner.id
    for task, use in (
        ({"kind": "dialogue"}, "screening"),
        ({"kind": "demonstration", "style": "plain"}, "train"),
    ):
        new = NewItem.read({"task": task, "use": use}, what="t")
        with pytest.raises(ConflictError, match="does not belong to study"):
            items.add_items(workshop.store, study.id, [new], by=by)


def test_screening_decides_on_what_is_known() -> None:
    measures = screening.Measures(flag_agreement=0.8, ranking_agreement=0.7)
    decide, cut_offs = screening.decide, screening.CutOffs
    assert decide(measures, cut_offs()) == ("failed", ("ranking_agreement",))
    easier = cut_offs(ranking_agreement=0.7)
    assert decide(measures, easier) == ("undecided", ("demonstration_grade",))
    assert decide(measures, easier.model_copy(update={"demonstration_grade": None})) == (
        "passed",
        (),
    )


def test_the_cut_offs_are_those_of_the_paper() -> None:
    """75 %, 75 % and 6 of 7, and none for the self-assessment (2203.02155, appendix B.1)."""
    assert screening.CutOffs().model_dump() == {
        "flag_agreement": 0.75, "ranking_agreement": 0.75, "demonstration_grade": 6.0,
        "self_assessment": None,
    }  # fmt: skip


def test_grades_of_demonstrations_and_of_oneself(workshop: Workshop) -> None:
    """Two grades, 5 and 7, make 6, which the paper asks; the self-assessment of 3 is below 4."""
    asked = {
        "flag_agreement": None, "ranking_agreement": None, "demonstration_grade": 6,
        "self_assessment": 4,
    }  # fmt: skip
    study, store = workshop.study("demonstration", screening=asked), workshop.store
    task = {"kind": "demonstration", "prompt": [{"role": "user", "content": "q"}]}
    new = NewItem.read({"task": task, "use": "screening"}, what="t")
    items.add_items(store, study.id, [new], by=workshop.owner.id)
    ann = workshop.labeler(study)
    held = claim(store, study.id, ann.id)
    assert isinstance(held, Assignment)
    body = {"response": "Because."}
    kept = labelling.submit(store, held.id, ann.id, "demonstration", body, client_key="k").event
    assert qualification.decide(store, study.id, ann.id) == "undecided"

    def grade(value: int, key: str, by: str = workshop.owner.id) -> object:
        return qualification.grade_demonstration(store, kept.id, value, by=by, client_key=key)

    grade(5, "one")
    grade(7, "two")
    with pytest.raises(NotAllowedError, match="a labeler may not"):
        grade(7, "three", by=ann.id)
    with pytest.raises(InvalidLabelError, match="'grade'"):
        grade(8, "four")
    with pytest.raises(ConflictError, match="no demonstration"):
        qualification.grade_demonstration(
            store, workshop.events(kinds=["screening"])[0].id, 7, by=workshop.owner.id,
            client_key="five",
        )  # fmt: skip
    assert qualification.decide(store, study.id, ann.id) == "undecided"
    qualification.assess_self(store, study.id, ann.id, 3, client_key="self")
    assert qualification.decide(store, study.id, ann.id) == "failed"
    last = workshop.events(kinds=["screening"])[-1].body
    assert last["because"] == ["self_assessment"]
    assert last["measures"]["demonstration_grade"] == 6
