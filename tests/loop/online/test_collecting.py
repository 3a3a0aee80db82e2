"""A study of a round, at a real server with people."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.feedback.workshop import Workshop
from tests.web.conftest import serving

from hark.errors import HarkError
from hark.feedback import assignment, labelling, sign_in, studies
from hark.feedback.assignment import Assignment
from hark.feedback.store import Store
from hark.feedback.studies import StudySettings
from hark.loop.online.application import Application
from hark.loop.online.collecting import Waiting, fetch_export, open_study, wait_for_labels
from hark.loop.online.settings import QuotaSettings
from hark.web.application import build_application
from hark.web.client import FeedbackClient
from hark.web.settings import WebSettings

STUDY = StudySettings.parse(
    {"name": "mine-round-1", "title": "Which?", "task": "vote", "instructions": "Choose."}
)
ITEMS = [
    {
        "id": f"item-{number}",
        "task": {"kind": "vote", "prompt": [{"role": "user", "content": f"Question {number}"}]},
        "candidates": [{"text": text, "snapshot": f"mine-{text}"} for text in ("old", "new")],
    }
    for number in range(450)
]


@pytest.fixture
def workshop(tmp_path: Path) -> Iterator[Workshop]:
    with Store(tmp_path / "feedback.db") as store:
        yield Workshop(store)


@pytest.fixture
def application(workshop: Workshop, tmp_path: Path) -> Iterator[Application]:
    settings = WebSettings(exports=tmp_path / "server-exports")
    token = sign_in.create_api_token(workshop.store, workshop.owner.id, "loop")
    with (
        serving(lambda: build_application(workshop.store, settings=settings)) as url,
        FeedbackClient(url, token) as client,
    ):
        yield Application(url=url, client=client, own=False)


def vote(workshop: Workshop, times: int) -> None:
    study = studies.find_study(workshop.store, STUDY.name)
    for _ in range(times):
        person = workshop.labeler(study)
        held = assignment.claim(workshop.store, study.id, person.id)
        assert isinstance(held, Assignment)
        chosen = labelling.view(workshop.store, held.id, person.id).candidates[0]["id"]
        labelling.submit(
            workshop.store, held.id, person.id, "vote", {"chosen": chosen}, client_key=held.id
        )


def wait(application: Application, **quota: Any) -> dict[str, Any] | Waiting:
    return wait_for_labels(
        application, {"study": STUDY.name, "opened": "2026-01-31T12:00:00+00:00"},
        QuotaSettings.parse(quota), labelers=None, stays=False,
    )  # fmt: skip


def test_a_study_is_opened_once_whatever_was_done_before(
    application: Application, workshop: Workshop
) -> None:
    client = application.client
    client.create_study(STUDY.given())  # A kill came here the first time,
    client.add_items(STUDY.name, ITEMS[:200])  # and here the second.
    for _ in range(2):
        assert open_study(client, STUDY, ITEMS)["items"] == len(ITEMS)
    assert len(list(client.items(STUDY.name))) == len(ITEMS)
    assert client.study(STUDY.name).state == "open"
    assert len(workshop.events(study_id=client.study(STUDY.name).id)) == 2  # type: ignore[union-attr]


def test_people_are_waited_for_until_the_quota(
    application: Application, workshop: Workshop, tmp_path: Path
) -> None:
    open_study(application.client, STUDY, ITEMS)
    vote(workshop, 2)
    waiting = wait(application, labels=3)
    assert isinstance(waiting, Waiting)
    assert "'mine-round-1'" in str(waiting)
    assert "has 2 of 3 labels" in str(waiting)
    assert application.client.study(STUDY.name).state == "open"
    vote(workshop, 1)
    for _ in range(2):
        closed = wait(application, labels=3)
        assert isinstance(closed, dict)
        assert (closed["labels"], closed["labelers"]) == (3, 3)
        assert application.client.study(STUDY.name).state == "closed"
    first, second = (
        fetch_export(application.client, STUDY.name, tmp_path / "exports", minimum_strength=0)
        for _ in range(2)
    )
    assert first == second
    assert first["labels"] == 3
    assert Path(first["data"]).read_text().count("\n") == 3
    assert [path.name for path in (tmp_path / "exports").iterdir()] == [Path(first["path"]).name]


def test_the_date_closes_a_study_and_one_without_labels_is_refused(
    application: Application, workshop: Workshop
) -> None:
    open_study(application.client, STUDY, ITEMS)
    far = wait(application, days=100_000.0)
    assert isinstance(far, Waiting)
    assert " 0 labels; the round goes on once the quota is reached, or 2299-" in str(far)
    vote(workshop, 1)
    closed = wait(application, labels=50, days=7.0)
    assert isinstance(closed, dict)
    assert closed["because"] == "the date came"


def test_a_study_that_nobody_labelled_is_no_tranche(application: Application) -> None:
    open_study(application.client, STUDY, ITEMS)
    with pytest.raises(HarkError, match="closed without a label"):
        wait(application, days=1.0)
