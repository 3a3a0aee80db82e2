"""The form of the page on which data snapshots are made."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from tests.feedback.workshop import Workshop
from tests.web.managing import cookie_of

from hark.feedback import accounts, assignment, labelling, sign_in, studies
from hark.feedback.assignment import Assignment
from hark.feedback.identifiers import new_id
from hark.web.application import build_application
from hark.web.settings import WebSettings


@pytest.mark.parametrize("between", ["\r\n", ", "])
def test_labelers_to_leave_out_are_named_one_a_line_or_between_commas(
    workshop: Workshop, tmp_path: Path, between: str
) -> None:
    study = workshop.study("vote", overlap=3)
    workshop.votes(study, 1)
    pseudonyms = {}
    for login in ("ann lee", "bob", "cid"):
        with workshop.store.write() as connection:
            person = accounts.insert_person(connection, login, "x", "labeler", 0.0)
        studies.join(workshop.store, study.id, person.id)
        held = assignment.claim(workshop.store, study.id, person.id)
        assert isinstance(held, Assignment)
        labelling.submit(
            workshop.store, held.id, person.id, "vote", {"chosen": None}, client_key=new_id()
        )
        pseudonyms[login] = person.pseudonym
    cookie = cookie_of(workshop, workshop.owner)
    session = sign_in.find_session(workshop.store, cookie.rpartition(".")[0])
    client = TestClient(build_application(workshop.store, settings=WebSettings(exports=tmp_path)))
    made = client.post(
        f"/manage/{study.settings.name}/export",
        data={
            "uses": "train", "members": "active",
            "without_labelers": f" Ann Lee{between}bob{between}",
        },
        headers={"Cookie": f"hark_session={cookie}", "X-CSRF-Token": session.csrf},
    )  # fmt: skip
    assert made.status_code < 300, made.text
    (path,) = tmp_path.glob("vote-study-*")
    lines = (path / "events.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["labeler"] for line in lines] == [pseudonyms["cid"]]
