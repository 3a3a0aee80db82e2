"""What a hostile labeler tries: each is refused cleanly, with a sentence and a line in the log."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import httpx2
import pytest
from tests.feedback.workshop import Workshop

from hark.feedback import accounts, invites, sign_in
from hark.feedback.accounts import Person
from hark.feedback.refusals import NotFoundError
from hark.web.client import FeedbackClient
from hark.web.identity import COOKIE, CSRF_HEADER

Connect = Callable[[Person], FeedbackClient]
PASSWORD = "a long password"


class Attacker:
    """A labeler with an assignment, who sends what they like."""

    def __init__(self, server: str, workshop: Workshop, log: pytest.LogCaptureFixture) -> None:
        self.workshop, self.log = workshop, log
        self.study = workshop.study(overlap=2, categories={"violence": "Violent."})
        workshop.votes(self.study, 2)
        self.person = workshop.labeler(self.study)
        self.token = sign_in.create_api_token(workshop.store, self.person.id, "t")
        self.http = httpx2.Client(base_url=f"{server}/api/v1")
        self.assignment = self.send("POST", "/studies/vote-study/claims").json()["assignment_id"]

    def send(self, method: str, path: str, **kwargs: object) -> httpx2.Response:
        headers = {"Authorization": f"Bearer {self.token}", "Idempotency-Key": "k"}
        headers |= kwargs.pop("headers", {})  # type: ignore[arg-type]
        return self.http.request(method, path, headers=headers, **kwargs)  # type: ignore[arg-type]

    def refused(self, response: httpx2.Response, *statuses: int) -> str:
        """Check that it is a refusal as it should be; return the sentence."""
        assert response.status_code in statuses, response.text
        assert response.headers["content-type"] == "application/json"
        assert response.headers["x-content-type-options"] == "nosniff"
        error = response.json()["error"]
        assert error.keys() == {"message", "status"}
        assert error["message"]
        assert "Traceback" not in response.text
        assert len(error["message"]) <= 600
        last = self.log.records[-1]
        assert (last.name, last.levelname) == ("hark.web", "WARNING")
        assert last.getMessage().startswith(f"refused {response.status_code} ")
        assert "\n" not in last.getMessage()
        return str(error["message"])

    def step(self, content: str | bytes, **headers: str) -> httpx2.Response:
        path = f"/assignments/{self.assignment}/steps"
        json_type = {"Content-Type": "application/json"}
        return self.send("POST", path, content=content, headers={**json_type, **headers})


@pytest.fixture
def attacker(
    server: str, workshop: Workshop, caplog: pytest.LogCaptureFixture
) -> Iterator[Attacker]:
    caplog.set_level(logging.WARNING, "hark.web")
    made = Attacker(server, workshop, caplog)
    yield made
    made.http.close()
    assert workshop.events(kinds=["vote"]) == [], "nothing of it became a label"
    assert not [one for one in caplog.records if one.levelno >= logging.ERROR]


def test_somebody_elses_assignment_is_not_there(attacker: Attacker, connect: Connect) -> None:
    victim = connect(attacker.workshop.labeler(attacker.study))
    held = victim.claim("vote-study")
    assert held
    theirs = f"/assignments/{held.assignment_id}"
    vote = {"kind": "vote", "answer": {"chosen": None}}
    for method, path, body in (
        ("GET", "", None),
        ("POST", "/steps", vote),
        ("POST", "/heartbeat", None),
        ("POST", "/open", None),
        ("POST", "/release", None),
        ("POST", "/skip", {"reason": "x"}),
        ("POST", "/finish", None),
    ):
        said = attacker.refused(attacker.send(method, f"{theirs}{path}", json=body), 404)
        assert said == f"you have no assignment '{held.assignment_id}'"
    assert victim.view(held.assignment_id).state == "open"


DEEP = 100_000
STRANGE_BODIES = {
    "not JSON": "{",
    "nothing": "",
    "a list": "[]",
    "null": "null",
    "NaN": '{"kind": "vote", "answer": {"chosen": NaN}}',
    "Infinity": '{"kind": "vote", "answer": {"chosen": null}, "client": {"ms_active": Infinity}}',
    "NaN of time": '{"kind": "vote", "answer": {"chosen": null}, "client": {"ms_active": NaN}}',
    "a huge integer": '{"kind": "vote", "answer": {"chosen": null}, "client": {"ms_active": 1%s}}'
    % ("0" * 400),
    "more digits than Python reads": '{"kind": 1%s}' % ("0" * 5000),
    "deep nesting": '{"kind": "vote", "answer": ' + '{"a":' * DEEP + "1" + "}" * DEEP + "}",
    "deep lists": "[" * DEEP + "]" * DEEP,
    "NUL": '{"kind": "vote", "answer": {"chosen": "a\\u0000b"}}',
    "NUL in a remark": '{"kind": "vote", "answer": {"chosen": null}, '
    '"client": {"notes": "\\u0000"}}',
    "a lone surrogate": '{"kind": "vote", "answer": {"chosen": "\\ud800"}}',
    "a lone surrogate as a name": '{"kind": "vote", "answer": {"\\ud800": 1}}',
    "a lone surrogate as a field": '{"\\ud800": 1}',
    "a lone surrogate as a kind": '{"kind": "\\udfff", "answer": {}}',
    "no UTF-8": b'{"kind": "\xff\xfe"}',
    "an unknown field": '{"kind": "vote", "answer": {"chosen": null}, "person_id": "x"}',
    "an unknown kind": '{"kind": "<script>alert(1)</script>", "answer": {}}',
    "a text for a number": '{"kind": "vote", "answer": {"chosen": null}, "client": '
    '{"ms_active": "1"}}',
    "SQL": """{"kind": "vote'; DROP TABLE events; --", "answer": {"chosen": "' OR 1=1 --"}}""",
}


def test_a_strange_body_is_refused(attacker: Attacker) -> None:
    for what, body in STRANGE_BODIES.items():
        response = attacker.step(body)
        assert response.status_code in (400, 422), f"{what}: {response.text}"
        attacker.refused(response, 400, 422)


def test_a_body_of_another_type_is_refused(attacker: Attacker) -> None:
    good = '{"kind": "vote", "answer": {"chosen": null}}'
    for kind in ("text/plain", "application/x-www-form-urlencoded", "x"):
        attacker.refused(attacker.step(good, **{"Content-Type": kind}), 422)


def test_a_strange_key_is_refused(attacker: Attacker) -> None:
    path = f"/assignments/{attacker.assignment}/steps"
    given = {"kind": "vote", "answer": {"chosen": None}}
    for key in (b"", b"k" * 101, b"a\tb", b"k\xad"):
        headers = {"Authorization": f"Bearer {attacker.token}".encode(), "Idempotency-Key": key}
        response = attacker.http.post(path, json=given, headers=headers)  # type: ignore[arg-type]
        attacker.refused(response, 422)


def test_a_step_without_a_key_is_refused(attacker: Attacker) -> None:
    given = {"kind": "vote", "answer": {"chosen": None}}
    headers = {"Authorization": f"Bearer {attacker.token}"}
    path = f"/assignments/{attacker.assignment}/steps"
    said = attacker.refused(attacker.http.post(path, json=given, headers=headers), 422)
    assert "Idempotency-Key" in said


STRANGE_PATHS = (
    "/assignments/%00",
    "/assignments/..%2F..%2Fme",
    "/assignments/%ED%A0%80",
    "/assignments/' OR '1'='1",
    "/assignments/" + "a" * 5000,
    "/assignments/１",
    "/studies/%00",
    "/studies/vote-study'--",
    "/studies/" + "a" * 5000,
    "/studies/vote-study/labels?before=%00",
    "/studies/vote-study/labels?limit=99999999999999999999",
    "/studies/vote-study/labels?limit=-1",
    "/studies/vote-study/labels?limit=NaN",
    "/invites/%00",
    "/nothing/here",
)


def test_a_strange_address_is_refused(attacker: Attacker) -> None:
    for path in STRANGE_PATHS:
        attacker.refused(attacker.send("GET", path), 404, 422)


def test_a_strange_category_is_refused(attacker: Attacker) -> None:
    for category in ("%00", "%ED%A0%80", "no-such", "' OR 1=1", "x" * 100):
        response = attacker.send("PUT", f"/studies/vote-study/consents/{category}")
        attacker.refused(response, 404, 422)


def test_a_message_of_a_megabyte_is_refused_whether_or_not_it_says_so(
    attacker: Attacker,
) -> None:
    long = json.dumps({"kind": "message", "answer": {"text": "x" * 1_000_000}})
    said = attacker.refused(attacker.step(long), 413)
    assert "1,000,000 bytes" in said
    pieces = (long[start : start + 50_000].encode() for start in range(0, len(long), 50_000))
    path = f"/assignments/{attacker.assignment}/steps"
    headers = {"Content-Type": "application/json"}
    attacker.refused(attacker.send("POST", path, content=pieces, headers=headers), 413)
    # A labeler is refused before a byte of such an upload is read.
    response = attacker.send("POST", "/studies/vote-study/items", content=long, headers=headers)
    attacker.refused(response, 403)
    notes = {"kind": "vote", "answer": {"chosen": None}, "client": {"notes": "x" * 100_001}}
    assert "at most 100000" in attacker.refused(attacker.step(json.dumps(notes)), 422)


def test_a_forged_cookie_is_refused(attacker: Attacker, server: str) -> None:
    for cookie in ("x", "x.y", "é", "a" * 4000, "../../etc/passwd"):
        headers = {"Cookie": f"{COOKIE}={cookie}".encode()}
        attacker.refused(httpx2.get(f"{server}/api/v1/me", headers=headers), 401)  # type: ignore[arg-type]


def test_a_forged_token_is_refused(attacker: Attacker, server: str) -> None:
    for value in (b"Bearer", b"Bearer hark_x", b"Basic YTpi", b"hark_x", b"Bearer \x80"):
        headers = {b"Authorization": value}
        attacker.refused(httpx2.get(f"{server}/api/v1/me", headers=headers), 401)  # type: ignore[arg-type]


@pytest.fixture
def login(workshop: Workshop) -> str:
    """Of somebody with a password."""
    secret = invites.invite(workshop.store, by=workshop.owner.id)
    invites.accept(workshop.store, secret, "ada@example.org", PASSWORD)
    return "ada@example.org"


def test_a_cookie_planted_before_the_login_is_worth_nothing(
    attacker: Attacker, server: str, login: str
) -> None:
    """The attacker plants a session of their own, and then one that nobody has yet."""
    store = attacker.workshop.store
    with httpx2.Client(base_url=f"{server}/api/v1") as victim:
        given = {"login": login, "password": PASSWORD}
        own = victim.post("/sessions", json=given).cookies[COOKIE]
        victim.cookies.set(COOKIE, "planted.signature", domain="127.0.0.1")
        secrets = {own}
        for _ in range(3):
            answer = victim.post("/sessions", json=given)
            secrets.add(answer.cookies[COOKIE])
        assert len(secrets) == 4, "every login draws a new secret"
    planted = {"Cookie": f"{COOKIE}=planted.signature"}
    attacker.refused(httpx2.get(f"{server}/api/v1/me", headers=planted), 401)
    # The secret without the server's signature is no cookie.
    unsigned = {"Cookie": f"{COOKIE}={own.rpartition('.')[0]}"}
    attacker.refused(httpx2.get(f"{server}/api/v1/me", headers=unsigned), 401)
    session = sign_in.start_session(store, attacker.person.id)
    raw = {"Cookie": f"{COOKIE}={session.secret}"}
    attacker.refused(httpx2.get(f"{server}/api/v1/me", headers=raw), 401)


def test_a_request_that_another_site_made_a_browser_send_is_refused(
    attacker: Attacker, server: str, login: str
) -> None:
    with httpx2.Client(base_url=f"{server}/api/v1") as browser:
        answer = browser.post("/sessions", json={"login": login, "password": PASSWORD})
        assert "HttpOnly" in answer.headers["set-cookie"]
        assert "SameSite=lax" in answer.headers["set-cookie"]
        csrf = answer.json()["csrf"]
        for sent in ({}, {CSRF_HEADER: "x"}, {CSRF_HEADER: csrf + "x"}, {CSRF_HEADER: "é"}):
            headers = {name: value.encode("latin-1") for name, value in sent.items()}
            response = browser.request("DELETE", "/me", headers=headers)  # type: ignore[arg-type]
            assert CSRF_HEADER in attacker.refused(response, 403)
        assert browser.get("/me").json()["person"]["login"] == login


def test_a_token_of_somebody_disabled_or_forgotten_is_refused(
    attacker: Attacker, connect: Connect
) -> None:
    store, owner = attacker.workshop.store, attacker.workshop.owner
    accounts.disable(store, attacker.person.id, by=owner.id)
    attacker.refused(attacker.send("GET", "/me"), 401)
    attacker.refused(attacker.step('{"kind": "vote", "answer": {"chosen": null}}'), 401)
    # Nor does one that was made behind the back of the list of tokens help.
    with pytest.raises(Exception, match="disabled"):
        sign_in.create_api_token(store, attacker.person.id, "again")


def test_settings_that_would_break_a_study_are_refused(
    attacker: Attacker, workshop: Workshop
) -> None:
    attacker.token = sign_in.create_api_token(workshop.store, workshop.owner.id, "t")
    json_type = {"Content-Type": "application/json"}
    for change in (
        '{"lease_minutes": Infinity}',
        '{"lease_minutes": NaN}',
        '{"lease_minutes": 1e308}',
        '{"gold_fraction": NaN}',
        '{"categories": {"a/b": "x"}}',
        '{"categories": {"%s": "x"}}' % ("c" * 65),
        '{"title": "\\ud800"}',
        '{"\\ud800": 1}',
        '{"instructions": "\\u0000"}',
        '{"screening": {"flag_agreement": NaN}}',
    ):
        response = attacker.send("PATCH", "/studies/vote-study", content=change, headers=json_type)
        assert response.status_code in (400, 422), f"{change}: {response.text}"
        attacker.refused(response, 400, 422)
    for overlap in ("99999999999999999999", "0", "1e400", "1" * 4000):
        task = '{"kind": "vote", "prompt": [{"role": "user", "content": "q"}]}'
        new = f'[{{"task": {task}, "overlap": {overlap}}}]'
        response = attacker.send(
            "POST", "/studies/vote-study/items", content=new, headers=json_type
        )
        attacker.refused(response, 422)
    half = '{"\\ud800": 1}'
    attacker.refused(attacker.send("POST", "/studies", content=half, headers=json_type), 422)
    deep = "[" * DEEP
    response = attacker.send("POST", "/studies/vote-study/items", content=deep, headers=json_type)
    attacker.refused(response, 422)


def test_no_name_of_a_file_leads_out_of_the_exports(
    attacker: Attacker, workshop: Workshop, tmp_path: Path
) -> None:
    attacker.token = sign_in.create_api_token(workshop.store, workshop.owner.id, "t")
    exports = tmp_path / "exports"
    inside = exports / "vote-study-0123456789ab"
    other = exports / "vote-study-2-0123456789ab"
    for place in (exports, inside, other):
        place.mkdir()
        (place / "secret.txt").write_text("secret")
    (tmp_path / "secret.txt").write_text("secret")
    base = "/studies/vote-study/exports"
    assert attacker.send("GET", f"{base}/{inside.name}/secret.txt").status_code == 200
    address = urlsplit(str(attacker.http.base_url))
    for path in (
        f"{inside.name}/..%2Fsecret.txt",
        f"{inside.name}/..%2F..%2Fsecret.txt",
        f"{inside.name}/%2Fetc%2Fpasswd",
        f"{inside.name}/..",
        f"{inside.name}/%2e%2e%2fsecret.txt",
        f"{inside.name}/secret.txt%00",
        "..%2Fexports/secret.txt",
        "../secret.txt",
        "./secret.txt",
        "%2e%2e/secret.txt",
        f"{other.name}/secret.txt",
    ):
        raw = HTTPConnection(address.netloc)  # which sends a path as it is
        headers = {"Authorization": f"Bearer {attacker.token}"}
        raw.request("GET", f"{address.path.rstrip('/')}{base}/{path}", headers=headers)
        answer = raw.getresponse()
        body = answer.read()
        raw.close()
        assert answer.status == 404, path
        assert b"there" in body or b"has no file" in body


SCRIPT = "<script>alert('x')</script><img src=x onerror=alert(1)>{{7*7}}"


def test_script_in_a_text_is_kept_as_it_was_written_and_never_run(
    workshop: Workshop, connect: Connect, server: str
) -> None:
    study = workshop.study("demonstration")
    owner, labeler = connect(workshop.owner), connect(workshop.labeler(study))
    name = study.settings.name
    owner.add_items(name, [{"task": {"kind": "demonstration", "style": "plain"}}])
    claimed = labeler.claim(name)
    assert claimed
    labeler.step(
        claimed.assignment_id, "demonstration", {"prompt": SCRIPT, "response": SCRIPT}, key="s"
    )
    (label,) = (one for one in owner.events(name) if one["kind"] == "demonstration")
    assert label["answer"]["response"] == SCRIPT
    made = owner.export(name)
    content = owner.export_file(name, made.name, "demonstrations.jsonl")
    assert SCRIPT in json.loads(content)["response"]
    token = sign_in.create_api_token(workshop.store, workshop.owner.id, "t")
    headers = {"Authorization": f"Bearer {token}"}
    for path in (
        f"/studies/{name}/events",
        f"/studies/{name}/exports/{made.name}/demonstrations.jsonl",
        f"/studies/{name}/exports/{made.name}/card.md",
    ):
        response = httpx2.get(f"{server}/api/v1{path}", headers=headers)
        assert response.headers["content-type"] in (
            "application/x-ndjson",
            "application/octet-stream",
        )
        assert response.headers["x-content-type-options"] == "nosniff"
        assert "script-src 'self'" in response.headers["content-security-policy"]


def test_an_error_that_quotes_a_script_is_json(attacker: Attacker) -> None:
    given = {"kind": "vote", "answer": {"chosen": SCRIPT}}
    assert "<script>" in attacker.refused(attacker.step(json.dumps(given)), 422)


def test_a_line_break_in_a_name_makes_no_line_of_the_log(attacker: Attacker) -> None:
    response = attacker.send("GET", "/studies/x%0Arefused%20200%20GET%20forged")
    attacker.refused(response, 404)
    given = {"kind": "vote", "answer": {"chosen": "x\nrefused 200 forged"}}
    attacker.refused(attacker.step(json.dumps(given)), 422)


@pytest.mark.parametrize("path", ["/invite/{}", "/api/v1/invites/{}", "/api/v1/invites/{}/join"])
def test_no_invitation_that_is_still_good_is_in_the_log(
    attacker: Attacker, server: str, path: str
) -> None:
    secret = invites.invite(attacker.workshop.store, by=attacker.workshop.owner.id)
    weak = {"login": "eve", "password": "short"}
    sent = {"data": weak} if path.startswith("/invite/") else {"json": weak}
    refused = httpx2.post(server + path.format(secret), **sent)  # type: ignore[arg-type]
    assert refused.status_code in (401, 422)
    assert invites.look_at(attacker.workshop.store, secret).role == "labeler"
    assert f"refused {refused.status_code} POST {path.format('…')} " in attacker.log.text
    assert secret not in attacker.log.text


def test_a_replay_with_another_body_is_refused(workshop: Workshop, connect: Connect) -> None:
    study = workshop.study()
    workshop.votes(study, 2)
    one, two = connect(workshop.labeler(study)), connect(workshop.labeler(study))
    first = one.claim("vote-study")
    assert first
    kept = one.step(first.assignment_id, "vote", {"chosen": None}, key="k")
    second = one.claim("vote-study")
    assert second
    for ask in (
        lambda: one.step(first.assignment_id, "vote", {"chosen": None, "both_bad": True}, key="k"),
        lambda: one.step(second.assignment_id, "vote", {"chosen": None}, key="k"),
        lambda: one.skip(second.assignment_id, "x", key="k"),
        lambda: one.correct(kept.event_id, None, key="k"),
    ):
        with pytest.raises(Exception, match="the idempotency key 'k' was used for another vote"):
            ask()
    with pytest.raises(NotFoundError):
        two.step(first.assignment_id, "vote", {"chosen": None}, key="k")
    assert len(workshop.events(kinds=["vote"])) == 1
