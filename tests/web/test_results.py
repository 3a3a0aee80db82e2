"""What labels say so far, over the API and in numbers worked by hand."""

from __future__ import annotations

import csv
import threading
import time
from dataclasses import replace
from email.utils import parsedate_to_datetime
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from tests.feedback.workshop import Workshop, vote_item
from tests.web.managing import cookie_of, person_of_role

from hark.evaluation.bradley_terry import FIRST
from hark.feedback import assignment, items, labelling, sign_in
from hark.feedback.accounts import Person
from hark.feedback.assignment import Assignment
from hark.feedback.candidate_scores import CandidateScores, put_scores
from hark.feedback.identifiers import new_id
from hark.feedback.statistics_columns import Columns
from hark.feedback.statistics_labels import label_of
from hark.feedback.studies import Study
from hark.web import results
from hark.web.application import build_application
from hark.web.results import Watch, results_of, votes


@pytest.fixture
def client(workshop: Workshop) -> TestClient:
    """A program with the owner's API token."""
    made = TestClient(build_application(workshop.store))
    token = sign_in.create_api_token(workshop.store, workshop.owner.id, "a test")
    made.headers["Authorization"] = f"Bearer {token}"
    return made


def vote(workshop: Workshop, study: Study, person: Person, text: str | None) -> None:
    """A vote for the candidate of this text, or a tie."""
    given = assignment.claim(workshop.store, study.id, person.id)
    assert isinstance(given, Assignment)
    shown = labelling.view(workshop.store, given.id, person.id)
    chosen = {one["text"]: one["id"] for one in shown.candidates}.get(text or "")
    labelling.submit(
        workshop.store, given.id, person.id, "vote", {"chosen": chosen}, client_key=new_id()
    )


@pytest.fixture
def study(workshop: Workshop) -> Study:
    """Two items with two labels each: agreed on "a", and "a" against a tie."""
    made = workshop.study("vote", overlap=2)
    workshop.votes(made, 2)
    one, other = workshop.labeler(made), workshop.labeler(made)
    for person, text in ((one, "a"), (other, "a"), (one, "a"), (other, None)):
        vote(workshop, made, person, text)
    return made


def test_progress_counts_places(client: TestClient, study: Study) -> None:
    got = client.get(f"/api/v1/studies/{study.settings.name}/progress").json()
    assert (got["places"], got["filled"], got["labels"]) == (4, 4, 4)
    assert time.time() - 600 < got["as_of"] <= time.time()
    assert got["seconds_left"] == 0.0
    assert got["uses"][0]["use"] == "train"


def test_agreement_is_there_and_what_is_undefined_says_why(
    client: TestClient, study: Study
) -> None:
    got = client.get(f"/api/v1/studies/{study.settings.name}/agreement").json()
    labelers, researchers = got["questions"]
    assert labelers["percent"]["value"] == 0.5
    # Values 1, 1, 1, 0: D_o = 2/4, D_e = 2·3·1/(4·3) = 1/2, α = 0.
    assert labelers["alpha"]["value"] == pytest.approx(0.0)
    assert researchers["between"] == "labelers and researchers"
    assert researchers["alpha"] == {
        "value": None, "state": "nothing to compare", "units": 0, "values": 0,
    }  # fmt: skip
    assert got["gold_accuracy"]["state"] == "no observations"


def test_votes_give_elo_and_win_rates(client: TestClient, study: Study) -> None:
    got = client.get(f"/api/v1/studies/{study.settings.name}/votes").json()
    rated = {one["model"]: one for one in got["ratings"]["ratings"]}
    assert (rated["model-a"]["wins"], rated["model-a"]["ties"]) == (3, 1)
    (first,) = [one for one in got["matchups"] if one["row"] == "model-a"]
    assert first["estimate"]["value"] == pytest.approx(3.5 / 4)
    assert rated["model-a"]["elo"]["value"] > rated["model-b"]["elo"]["value"]


def test_elo_and_win_rates_are_files(workshop: Workshop, study: Study) -> None:
    client = TestClient(build_application(workshop.store))
    cookie = {"Cookie": f"hark_session={cookie_of(workshop, workshop.owner)}"}
    base = f"/manage/{study.settings.name}/dashboard"
    got = client.get(f"{base}/models.json", headers=cookie)
    assert got.headers["content-disposition"].endswith('vote-study-models.json"')
    as_of = got.json()["as_of"]
    assert parsedate_to_datetime(got.headers["last-modified"]).timestamp() == int(as_of)
    told = results_of(workshop.store, study).votes.to_json()
    assert got.json() == told | {"as_of": as_of}
    table = client.get(f"{base}/elo.csv", headers=cookie)
    assert parsedate_to_datetime(table.headers["last-modified"]).timestamp() >= int(as_of)
    elo = list(csv.DictReader(table.text.splitlines()))
    assert [(one["model"], one["wins"], one["ties"]) for one in elo] == [
        ("model-a", "3", "1"), ("model-b", "0", "1"),
    ]  # fmt: skip
    assert (elo[0]["elo"], elo[0]["state"]) == ("1000.0", "exact")
    text = client.get(f"{base}/win-rates.csv", headers=cookie).text
    (first, _) = csv.DictReader(text.splitlines())
    assert (first["row"], float(first["rate"])) == ("model-a", 0.875)


def test_dashboard_shows_a_models_agreement_and_says_what_is_undefined(
    workshop: Workshop, study: Study
) -> None:
    scores: dict[str, float] = {}
    with workshop.store.read() as connection:
        for item in items.list_items(workshop.store, study.id):
            ids = items.candidates_of(connection, item.id)[0]
            scores |= {one.id: float(one.text == "b") for one in ids}
    for model, given in (("pm-1", scores), ("pm-2", dict(list(scores.items())[:1]))):
        body = CandidateScores(model=model, scores=given)
        put_scores(workshop.store, study.id, body, by=workshop.owner.id)
    client = TestClient(build_application(workshop.store))
    cookie = {"Cookie": f"hark_session={cookie_of(workshop, workshop.owner)}"}
    page = client.get(f"/manage/{study.settings.name}/dashboard/results", headers=cookie).text
    lines = [" ".join(line.split()) for line in page.split("<tr>")]
    (first,) = [one for one in lines if "labelers and pm-1" in one]
    assert "0%" in first
    (second,) = [one for one in lines if "labelers and pm-2" in one]
    assert second.count("undefined") == 2
    assert "undefined: nothing to compare yet" in second


def test_labelers_are_listed_by_pseudonym(client: TestClient, study: Study) -> None:
    got = client.get(f"/api/v1/studies/{study.settings.name}/labelers").json()["labelers"]
    assert [one["work"]["labels"] for one in got] == [2, 2]
    assert all(one["work"]["labeler"].startswith("anon-") for one in got)
    assert got[0]["with_others"]["value"] == 0.5


def test_while_results_rest_a_manager_may_have_fresh_ones(
    client: TestClient, workshop: Workshop, study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(results, "FREE_SECONDS", 0.0)
    monkeypatch.setattr(results, "REST", 1e9)
    base = f"/api/v1/studies/{study.settings.name}"
    parts = ("progress", "agreement", "labelers", "votes")
    before = {part: client.get(f"{base}/{part}").json() for part in parts}
    (as_of,) = {one["as_of"] for one in before.values()}
    vote(workshop, study, item_for_one_more(workshop, study), "a")
    assert client.get(f"{base}/progress").json() == before["progress"]
    fresh = client.get(f"{base}/progress", params={"fresh": True}).json()
    assert (fresh["labels"], fresh["as_of"] > as_of) == (5, True)
    assert client.get(f"{base}/votes").json()["as_of"] == fresh["as_of"]
    reviewer = person_of_role(workshop, "reviewer")
    token = sign_in.create_api_token(workshop.store, reviewer.id, "a test")
    refused = client.get(
        f"{base}/votes", params={"fresh": True}, headers={"Authorization": f"Bearer {token}"}
    )
    assert refused.status_code == 403
    assert "for the owner and the researchers" in refused.json()["error"]["message"]


def item_for_one_more(workshop: Workshop, study: Study) -> Person:
    """Somebody who has something left to do."""
    workshop.votes(study, 3)
    return workshop.labeler(study)


def test_those_who_wait_for_fresh_results_share_them(workshop: Workshop, study: Study) -> None:
    watch, arrived = Watch(study.id), threading.Semaphore(0)

    class Door:
        """A lock that says when somebody comes to it."""

        def __enter__(self) -> None:
            arrived.release()
            inner.acquire()

        def __exit__(self, *_: object) -> None:
            inner.release()

    inner, found = threading.Lock(), []
    watch.lock = Door()  # type: ignore[assignment]
    inner.acquire()
    threads = [
        threading.Thread(target=lambda: found.append(watch.renew(workshop.store, study)))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
        assert arrived.acquire(timeout=30)
    inner.release()
    for thread in threads:
        thread.join(30)
    assert len(found) == 3
    assert found[0] is found[1] is found[2]
    assert watch.renew(workshop.store, study).as_of > found[0].as_of


def test_scores_are_held_against_labelers(
    client: TestClient, workshop: Workshop, study: Study
) -> None:
    name = study.settings.name
    scores: dict[str, float] = {}
    with workshop.store.read() as connection:
        for item in items.list_items(workshop.store, study.id):
            ids = items.candidates_of(connection, item.id)[0]
            scores |= {one.id: 2.0 if one.text == "a" else 1.0 for one in ids}
    given = {"model": "pm-1", "scores": scores}
    assert client.put(f"/api/v1/studies/{name}/scores", json=given).json() == {"kept": 4}
    last = client.get(f"/api/v1/studies/{name}/agreement").json()["questions"][-1]
    assert last["between"] == "labelers and pm-1"
    assert last["percent"] == {"value": 1.0, "state": "defined", "units": 3, "values": 6}
    assert last["alpha"]["state"] == "no variation"


@pytest.mark.parametrize(
    ("given", "status"),
    [
        ({"model": "pm", "scores": {"nobody": 1.0}}, 404),
        ({"model": "pm", "scores": {"x": "high"}}, 422),
        ({"model": "", "scores": {}}, 422),
        ([], 422),
    ],
)
def test_scores_that_make_no_sense_are_refused(
    client: TestClient, study: Study, given: Any, status: int
) -> None:
    got = client.put(f"/api/v1/studies/{study.settings.name}/scores", json=given)
    assert got.status_code == status
    assert got.json()["error"]["message"]


def test_reviewers_read_and_labelers_do_not(workshop: Workshop, study: Study) -> None:
    client = TestClient(build_application(workshop.store))
    for role, status in (("reviewer", 200), ("labeler", 403)):
        person = person_of_role(workshop, role)  # type: ignore[arg-type]
        cookie = {"Cookie": f"hark_session={cookie_of(workshop, person)}"}
        for what in ("progress", "agreement", "votes", "labelers"):
            got = client.get(f"/api/v1/studies/{study.settings.name}/{what}", headers=cookie)
            assert got.status_code == status, (role, what)
        sent = client.put(
            f"/api/v1/studies/{study.settings.name}/scores",
            json={"model": "pm", "scores": {}},
            headers=cookie,
        )
        assert sent.status_code == 403


def test_results_are_computed_once_until_a_label_comes(workshop: Workshop) -> None:
    study = workshop.study("vote", overlap=2)
    workshop.votes(study, 2)
    person = workshop.labeler(study)
    vote(workshop, study, person, "a")
    before = results_of(workshop.store, study)
    assert results_of(workshop.store, study).votes is before.votes
    vote(workshop, study, person, "b")
    after = results_of(workshop.store, study)
    assert after.votes is not before.votes
    assert [one.work.labels for one in after.labelers] == [2]


def test_votes_say_who_stood_first_and_leave_out_what_does_not_count(workshop: Workshop) -> None:
    study = workshop.study("vote", overlap=30)
    items.add_items(workshop.store, study.id, [vote_item()], by=workshop.owner.id)
    people = [workshop.labeler(study) for _ in range(20)]
    for person in people:
        vote(workshop, study, person, "a")
    events = workshop.events(study_id=study.id, kinds=("vote",))
    labels = [label_of(one) for one in events]
    cast = votes(Columns.of(labels))
    assert set(cast.first) == {0, 1}  # both orders were drawn
    winner = np.where(cast.outcome == FIRST, cast.first, cast.second)
    assert {cast.models[one] for one in winner} == {"model-a"}
    assert len(votes(Columns.of([replace(one, late=True) for one in labels]))) == 0
    assert len(votes(Columns.of([replace(one, use="screening") for one in labels]))) == 0
