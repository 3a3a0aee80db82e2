"""The API from Python: a method for every route, with the records of `bodies`."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Self, TypeVar
from urllib.parse import quote

import httpx2
from pydantic import BaseModel, TypeAdapter

from hark.feedback.accounts import Role
from hark.feedback.identifiers import new_id
from hark.feedback.items import NewItem
from hark.feedback.sign_in import API_TOKEN_DAYS
from hark.feedback.studies import MemberState, StudyState
from hark.web import bodies
from hark.web.connection import BROKEN_OFF, Connection, Patience, UnreachableError

__all__ = ["FeedbackClient", "Patience", "UnreachableError"]

Body = TypeVar("Body", bound=BaseModel)


class FeedbackClient:
    """One person's connection to a server. Threads may share it."""

    def __init__(
        self,
        base_url: str,
        token: str | None = None,
        *,
        login: str | None = None,
        password: str | None = None,
        patience: Patience | None = None,
        transport: httpx2.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Connect with an API token, or with a login and password; with neither, as a stranger.

        base_url: as `http://127.0.0.1:8000`.
        Raises: NotSignedInError for a wrong password; UnreachableError.
        """
        self._connection = Connection(
            base_url, patience=patience or Patience(), transport=transport, sleep=sleep
        )
        self._send, self._http = self._connection.send, self._connection.http
        if token is not None:
            self._http.headers["Authorization"] = f"Bearer {token}"
        elif login is not None:
            try:
                self.log_in(login, password or "")
            except BaseException:
                self.close()
                raise

    def close(self) -> None:
        """Let go of the connections; the session goes on."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # People

    def log_in(self, login: str, password: str) -> bodies.SessionBody:
        """Begin a session."""
        given = {"login": login, "password": password}
        return self._begin(self._send("POST", "/sessions", json=given, repeatable=True))

    def log_out(self) -> None:
        """End the session."""
        self._send("DELETE", "/sessions/current", repeatable=True)
        self._http.cookies.clear()
        self._http.headers.pop("X-CSRF-Token", None)

    def _begin(self, response: httpx2.Response) -> bodies.SessionBody:
        session = bodies.SessionBody.model_validate_json(response.content)
        self._http.headers["X-CSRF-Token"] = session.csrf
        self._http.headers.pop("Authorization", None)  # ended, or somebody else's
        return session

    def me(self) -> bodies.MeBody:
        """Who the server takes us for."""
        return self._get(bodies.MeBody, "/me")

    def change_password(self, old: str, new: str) -> bodies.SessionBody:
        """All sessions and API tokens end; a new session begins."""
        given = {"old": old, "new": new}
        return self._begin(self._send("PUT", "/me/password", json=given))

    def forget_me(self, password: str) -> None:
        """Erase who one is; labels stay under a pseudonym. It cannot be undone."""
        self._send("DELETE", "/me", json={"password": password})

    def create_token(self, label: str, *, days: float = API_TOKEN_DAYS) -> bodies.TokenBody:
        """An API token of one's own, and until when it is good."""
        return self._post(bodies.TokenBody, "/tokens", {"label": label, "days": days})

    def revoke_tokens(self, label: str) -> int:
        """Revoke one's API tokens of this label; return how many there were."""
        response = self._send("DELETE", "/tokens", params={"label": label}, repeatable=True)
        return bodies.RevokedBody.model_validate_json(response.content).revoked

    def invite(
        self,
        *,
        role: Role = "labeler",
        study: str | None = None,
        held_out: bool = False,
        uses: int = 1,
        days: float = 14.0,
    ) -> bodies.InviteLink:
        """An invitation to a study, or only to an account; see `bodies.InviteRequest`."""
        wish = {"role": role, "study": study, "held_out": held_out, "uses": uses, "days": days}
        return self._post(bodies.InviteLink, "/invites", wish)

    def invites(self) -> list[bodies.OpenInviteBody]:
        """Links that are still good, of those that one might make."""
        return self._list(bodies.OpenInviteBody, "/invites")

    def revoke_invite(self, invite_id: str) -> None:
        """Let a link be good for nothing any more; its id is in `invites`."""
        self._send("DELETE", f"/invites/{_part(invite_id)}", repeatable=True)

    def look_at_invite(self, secret: str) -> bodies.InviteBody:
        """What an invitation is good for."""
        return self._get(bodies.InviteBody, f"/invites/{_part(secret)}")

    def accept_invite(self, secret: str, login: str, password: str) -> bodies.SessionBody:
        """Make an account by an invitation, and go on with it."""
        given = {"login": login, "password": password}
        return self._begin(self._send("POST", f"/invites/{_part(secret)}", json=given))

    def join(self, secret: str) -> None:
        """Join the study of an invitation with the account one has."""
        self._send("POST", f"/invites/{_part(secret)}/join")

    def people(self) -> list[bodies.PersonBody]:
        """Everyone with an account; for owners."""
        return self._list(bodies.PersonBody, "/people")

    def change_person(
        self, person_id: str, *, role: Role | None = None, disabled: bool | None = None
    ) -> bodies.PersonBody:
        """Give a role, keep out or let in again; None changes nothing."""
        changes = {"role": role, "disabled": disabled}
        return self._patch(bodies.PersonBody, f"/people/{_part(person_id)}", changes)

    def changes(self) -> Iterator[bodies.ChangeBody]:
        """What was done to people, members and invitations, newest first; for owners."""
        before: str | None = None
        while page := self._list(
            bodies.ChangeBody, "/changes", {} if before is None else {"before": before}
        ):
            yield from page
            before = page[-1].event_id

    def forget(self, person_id: str) -> None:
        """Erase who a person is."""
        self._send("DELETE", f"/people/{_part(person_id)}")

    # Studies

    def studies(self) -> list[bodies.StudyLine]:
        """Those one takes part in; for managers, all."""
        return self._list(bodies.StudyLine, "/studies")

    def study(self, name: str) -> bodies.StudyForLabeler:
        """A study; for owners and researchers a `StudyForManager`."""
        response = self._send("GET", _study(name))
        return _STUDY.validate_json(response.content)

    def create_study(
        self, settings: bodies.StudySettings | Mapping[str, Any]
    ) -> bodies.StudyForManager:
        """A draft."""
        return self._post(bodies.StudyForManager, "/studies", _plain(settings))

    def change_study(self, name: str, **changes: Any) -> bodies.StudyForManager:
        """Change the settings that are given, fields of `StudySettings`."""
        return self._patch(bodies.StudyForManager, _study(name), changes)

    def set_state(self, name: str, state: StudyState) -> bodies.StudyForManager:
        """Open, pause or close."""
        return self._put(bodies.StudyForManager, f"{_study(name)}/state", {"state": state})

    def add_items(self, name: str, items: Sequence[NewItem | Mapping[str, Any]]) -> list[str]:
        """Add items, all or none; return their ids. Ids of the sender's make it repeatable."""
        plain = [_plain(one) for one in items]
        response = self._send(
            "POST",
            f"{_study(name)}/items",
            json=plain,
            repeatable=all(one.get("id") is not None for one in plain),
        )
        return bodies.ItemIds.model_validate_json(response.content).ids

    def add_attacks(self, name: str, source: str) -> bodies.AttacksBody:
        """Add the finished attacks of a red-team study to a review study; what is there stays."""
        path = f"{_study(name)}/attacks"
        return self._post(bodies.AttacksBody, path, {"source": source}, repeatable=True)

    def items(
        self, name: str, *, waiting: bool = False, after: int = -1
    ) -> Iterator[bodies.ItemBody]:
        """Items in their order, those after a position.

        waiting: only those that wait for responses.
        """
        while True:
            asked = {"waiting": waiting, "after": after}
            page = self._list(bodies.ItemBody, f"{_study(name)}/items", asked)
            yield from page
            if not page:
                return
            after = page[-1].position

    def put_candidates(
        self, item_id: str, candidates: Sequence[bodies.Candidate | Mapping[str, Any]]
    ) -> list[bodies.Candidate]:
        """Responses for an item that waits for them."""
        given = {"candidates": [_plain(one) for one in candidates]}
        response = self._send("PUT", f"/items/{_part(item_id)}/candidates", json=given)
        return bodies.CandidatesBody.model_validate_json(response.content).candidates

    def members(self, name: str) -> list[bodies.MemberBody]:
        """Who takes part."""
        return self._list(bodies.MemberBody, f"{_study(name)}/members")

    def change_member(
        self,
        name: str,
        person_id: str,
        *,
        state: MemberState | None = None,
        held_out: bool | None = None,
    ) -> bodies.MemberBody:
        """Admit, pause, turn away or hold out; None changes nothing."""
        changes = {"state": state, "held_out": held_out}
        path = f"{_study(name)}/members/{_part(person_id)}"
        return self._patch(bodies.MemberBody, path, changes)

    def decide(self, name: str, person_id: str) -> bodies.DecisionBody:
        """Decide a screening test, another's or one's own."""
        path = f"{_study(name)}/members/{_part(person_id)}/decision"
        return self._put(bodies.DecisionBody, path, None)

    def assess_self(self, name: str, grade: int, *, key: str | None = None) -> bodies.KeptBody:
        """How able one is to recognise sensitive speech, 1 to 7."""
        path = f"{_study(name)}/screening/assessment"
        return self._keep(bodies.KeptBody, path, {"grade": grade}, key)

    def grade(self, event_id: str, grade: int, *, key: str | None = None) -> bodies.KeptBody:
        """Grade a demonstration, 1 to 7."""
        path = f"/events/{_part(event_id)}/grade"
        return self._keep(bodies.KeptBody, path, {"grade": grade}, key)

    def consent(
        self, name: str, category: str, agrees: bool = True, *, key: str | None = None
    ) -> bodies.MembershipBody:
        """Agree to see items of a category, or not any more."""
        response = self._send(
            "PUT" if agrees else "DELETE",
            f"{_study(name)}/consents/{_part(category)}",
            key=key or new_id(),
        )
        return bodies.MembershipBody.model_validate_json(response.content)

    def events(self, name: str, after: str | None = None) -> Iterator[dict[str, Any]]:
        """The canonical records of a study, in order.

        after: the id of an event; those up to it are left out, as on the next visit. A stream that
        breaks off is taken up again.
        """
        attempts = self._connection.attempts()
        while True:
            asked = {} if after is None else {"after": after}
            try:
                with self._connection.lines(f"{_study(name)}/events", params=asked) as lines:
                    for line in lines:
                        record: dict[str, Any] = json.loads(line)
                        yield record
                        after, attempts = record["event_id"], self._connection.attempts()
                return
            except BROKEN_OFF as error:
                attempts.wait(error)

    def progress(self, name: str, *, fresh: bool = False) -> dict[str, Any]:
        """How far a study is, as the dashboard shows it: places, filled, open, pace.

        fresh: counted after this request; a large study's are a few minutes old otherwise.
        """
        asked = {"fresh": fresh}
        return dict(self._send("GET", f"{_study(name)}/progress", params=asked).json())

    def labelers(self, name: str, *, fresh: bool = False) -> list[dict[str, Any]]:
        """Each labeler's work, as the dashboard shows it: speed, agreement, suspicions."""
        asked = {"fresh": fresh}
        return list(self._send("GET", f"{_study(name)}/labelers", params=asked).json()["labelers"])

    def export(
        self, name: str, settings: bodies.ExportSettings | Mapping[str, Any] | None = None
    ) -> bodies.ExportBody:
        """A data snapshot; the same labels give the same."""
        response = self._send(
            "POST", f"{_study(name)}/exports", json=_plain(settings or {}), repeatable=True
        )
        return bodies.ExportBody.model_validate_json(response.content)

    def exports(self, name: str) -> list[bodies.ExportBody]:
        """The snapshots there are."""
        return self._list(bodies.ExportBody, f"{_study(name)}/exports")

    def export_file(self, name: str, snapshot: str, file: str) -> bytes:
        """A file of a snapshot."""
        path = f"{_study(name)}/exports/{_part(snapshot)}/{_part(file)}"
        return self._send("GET", path).content

    # Pages

    def page(self, path: str) -> str:
        """A page as a browser gets it, such as `/study/answers/work`; needs a session."""
        return self._send("GET", str(self._http.base_url.join(path))).text

    # Work

    def claim(self, name: str) -> bodies.AssignmentBody | None:
        """An item to label: the one held, or the next; None if there is none."""
        claimed = self.claim_or_reason(name)
        return None if isinstance(claimed, str) else claimed

    def claim_or_reason(self, name: str) -> bodies.AssignmentBody | str:
        """The same; where there is none, why: "nothing left", "quota reached", …"""
        response = self._send("POST", f"{_study(name)}/claims", repeatable=True)
        if response.status_code == 204:
            return str(response.headers["X-Because"])
        return bodies.AssignmentBody.model_validate_json(response.content)

    def view(self, assignment_id: str) -> bodies.ViewBody:
        """What its labeler may see of an assignment."""
        return self._get(bodies.ViewBody, _assignment(assignment_id))

    def step(
        self,
        assignment_id: str,
        kind: bodies.StepKind,
        answer: Mapping[str, Any],
        *,
        client: bodies.Client | Mapping[str, Any] | None = None,
        key: str | None = None,
    ) -> bodies.ReceiptBody:
        """Keep a step.

        key: the idempotency key; with the same one nothing is kept twice.
        """
        given = {"kind": kind, "answer": dict(answer), "client": _plain(client or {})}
        return self._keep(bodies.ReceiptBody, f"{_assignment(assignment_id)}/steps", given, key)

    def heartbeat(self, assignment_id: str) -> bodies.LeaseBody:
        """A sign of life."""
        path = f"{_assignment(assignment_id)}/heartbeat"
        return self._post(bodies.LeaseBody, path, None, repeatable=True)

    def open(self, assignment_id: str) -> bodies.OpenedBody:
        """Look at the next step; its time limit begins."""
        path = f"{_assignment(assignment_id)}/open"
        return self._post(bodies.OpenedBody, path, None, repeatable=True)

    def release(self, assignment_id: str) -> None:
        """Give an item back."""
        self._send("POST", f"{_assignment(assignment_id)}/release", repeatable=True)

    def skip(self, assignment_id: str, reason: str, *, key: str | None = None) -> bodies.KeptBody:
        """Leave an item to others, without penalty."""
        path = f"{_assignment(assignment_id)}/skip"
        return self._keep(bodies.KeptBody, path, {"reason": reason}, key)

    def finish(self, assignment_id: str, *, key: str | None = None) -> bodies.ReceiptBody:
        """End a dialogue that could go on."""
        path = f"{_assignment(assignment_id)}/finish"
        return self._keep(bodies.ReceiptBody, path, None, key)

    def correct(
        self, event_id: str, answer: Mapping[str, Any] | None, *, key: str | None = None
    ) -> bodies.KeptBody:
        """Supersede one's own label by another answer, or take it back (None)."""
        given = {"answer": None if answer is None else dict(answer)}
        path = f"/events/{_part(event_id)}/corrections"
        return self._keep(bodies.KeptBody, path, given, key)

    def my_labels(self, name: str) -> Iterator[bodies.OwnLabel]:
        """One's own labels in a study as they stand, newest first."""
        before: str | None = None
        while True:
            asked = {} if before is None else {"before": before}
            page = self._list(bodies.OwnLabel, f"{_study(name)}/labels", asked)
            yield from page
            if not page:
                return
            before = page[-1].event_id

    def replies(self, assignment_id: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """The models' replies as they come: pairs of an event's name and its data.

        "delta" has `place` and `text`; "again" says that all text so far is void, as both are drawn
        anew; "done" that both are kept; "failed" has `message` and `retry_seconds`, after which
        asking again draws them again.
        Raises: UnreachableError if the stream breaks off: ask again.
        """
        path = f"{_assignment(assignment_id)}/replies"
        try:
            with self._connection.lines(path, forever=True) as lines:
                yield from _server_sent(lines)
        except BROKEN_OFF as error:
            raise UnreachableError(f"the replies broke off ({error}): ask for them again") from None

    # One request

    def _get(self, body: type[Body], path: str) -> Body:
        return body.model_validate_json(self._send("GET", path).content)

    def _list(self, body: type[Body], path: str, asked: dict[str, Any] | None = None) -> list[Body]:
        response = self._send("GET", path, params=asked)
        return TypeAdapter(list[body]).validate_json(response.content)  # type: ignore[valid-type]

    def _post(self, body: type[Body], path: str, given: Any, *, repeatable: bool = False) -> Body:
        response = self._send("POST", path, json=given, repeatable=repeatable)
        return body.model_validate_json(response.content)

    def _put(self, body: type[Body], path: str, given: Any) -> Body:
        response = self._send("PUT", path, json=given, repeatable=True)
        return body.model_validate_json(response.content)

    def _patch(self, body: type[Body], path: str, changes: Mapping[str, Any]) -> Body:
        response = self._send("PATCH", path, json=dict(changes), repeatable=True)
        return body.model_validate_json(response.content)

    def _keep(self, body: type[Body], path: str, given: Any, key: str | None) -> Body:
        response = self._send("POST", path, json=given, key=key or new_id())
        return body.model_validate_json(response.content)


def _server_sent(lines: Iterator[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Events of a `text/event-stream`: an empty line ends each; comments begin with a colon."""
    name, data = "message", ""
    for line in lines:
        field, _, value = line.partition(":")
        if field == "event":
            name = value.strip()
        elif field == "data":
            data += value.removeprefix(" ")
        elif not line and data:
            yield name, json.loads(data)
            name, data = "message", ""


def _plain(given: BaseModel | Mapping[str, Any]) -> dict[str, Any]:
    if isinstance(given, BaseModel):
        return given.model_dump(mode="json", exclude_unset=True)
    return dict(given)


def _part(text: str) -> str:
    """A part of a path, whatever is in it."""
    return quote(text, safe="")


def _study(name: str) -> str:
    return f"/studies/{_part(name)}"


def _assignment(assignment_id: str) -> str:
    return f"/assignments/{_part(assignment_id)}"


_STUDY: TypeAdapter[bodies.StudyForManager | bodies.StudyForLabeler] = TypeAdapter(
    bodies.StudyForManager | bodies.StudyForLabeler
)
