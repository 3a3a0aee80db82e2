"""One simulated labeler at the API, from consent to the last label."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from hark.errors import HarkError
from hark.feedback.identifiers import new_id
from hark.feedback.refusals import ConflictError
from hark.loop.simulation.answering import Reply, fingerprint, reply
from hark.loop.simulation.characters import Character
from hark.loop.simulation.ledger import Ledger, Receipt
from hark.web.bodies import AssignmentBody, ReceiptBody, ViewBody
from hark.web.client import FeedbackClient, UnreachableError

MOST_ERRORS: Final = 5
"""After so many a labeler gives up."""
LOOKS_BACK: Final = 5
"""Before every so manieth item a labeler looks at those that are done."""
MOST_STEPS: Final = 60
"""Of one item; more is a defect of either side."""
MOST_STREAMS: Final = 60
"""How often the models' replies are asked for."""
MOST_FAILURES: Final = 4
"""How often replies may fail before the item is skipped; between two, servers restart."""
HEARTBEATS: Final = 0.3
"""Share of the steps during which the page gives a sign of life."""


@dataclass(kw_only=True)
class Diary:
    """What became of a labeler's work."""

    character: Character
    pseudonym: str = ""
    receipts: list[Receipt] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    items: int = 0
    """Done, skipped ones not counted."""
    skipped: int = 0
    walked_off: int = 0
    lapsed: int = 0
    """Heartbeats that came after the lease had run out."""
    sent_twice: int = 0
    ended: str = ""
    """Why there was no more to do."""


def wait_for_replies(client: FeedbackClient, assignment_id: str) -> bool:
    """Read the stream of the models' replies to its end; one that fails is asked for again.

    Returns whether they came; a model may have nothing to say but what cannot be judged.
    Raises: HarkError if nothing is heard at all.
    """
    said, failures = "", 0
    for _ in range(MOST_STREAMS):
        seconds = 1.0
        try:
            for name, data in client.replies(assignment_id):
                if name == "done":
                    return True
                if name == "failed":
                    said, seconds = data["message"], float(data["retry_seconds"])
                    failures += not data.get("passes", False)
            if failures >= MOST_FAILURES:
                return False
        except UnreachableError as error:
            said = str(error)
        time.sleep(seconds)
    raise HarkError(f"no replies of the models in assignment '{assignment_id}': {said}")


@dataclass(kw_only=True)
class SimulatedLabeler:
    """A character with a client."""

    character: Character
    client: FeedbackClient
    study: str
    pace: float = 0.0
    """Seconds they really wait for each that a person would take; 0 does not wait."""
    away_seconds: float = 2.0
    """How long they are gone when they walk off."""
    pages: bool = False
    """Whether they load pages, as a browser does."""
    replies: Callable[[FeedbackClient, str], bool] = wait_for_replies
    """Waits until the models have answered in an assignment, and says whether they have."""
    on_item: Callable[[], None] = lambda: None
    """Told of each item that is done."""
    diary: Diary
    ledger: Ledger | None = None
    """Where it is kept what is sent and acknowledged, for labelers who may be killed themselves."""

    def work(self, most: int | None = None) -> Diary:
        """Label until there is nothing left, or `most` items are done."""
        try:
            self.diary.pseudonym = self.client.me().person.pseudonym
            self._arrive()
        except HarkError as error:
            self.diary.errors.append(f"{self.character.name} could not begin: {error}")
            return self.diary
        while not self.diary.ended:
            try:
                self._next(most)
            except HarkError as error:
                self.diary.errors.append(f"{self.character.name}: {error}")
                if len(self.diary.errors) >= MOST_ERRORS:
                    self.diary.ended = "too many errors"
        return self.diary

    def _arrive(self) -> None:
        """Read what there is, and agree to categories or not."""
        if self.pages:
            for page in ("/", f"/study/{self.study}", f"/study/{self.study}/work"):
                self.client.page(page)
        for category in self.client.study(self.study).categories:
            if self.character.consents(category):
                self.client.consent(self.study, category)

    def _next(self, most: int | None) -> None:
        if self.pages and self.diary.items % LOOKS_BACK == LOOKS_BACK - 1:
            self.client.page(f"/study/{self.study}/done")
        if most is not None and self.diary.items >= most:
            self.diary.ended = "enough"
            return
        claimed = self.client.claim_or_reason(self.study)
        if isinstance(claimed, AssignmentBody):
            self._label(claimed.assignment_id)
        elif claimed != "screening undecided" or not self._is_admitted():
            self.diary.ended = claimed

    def _is_admitted(self) -> bool:
        """Assess oneself and ask for the decision of the screening test."""
        self.client.assess_self(self.study, 5)
        return self.client.decide(self.study, self.client.me().person.id).decision == "passed"

    def _label(self, assignment_id: str) -> None:
        view = self._see(assignment_id)
        if view is not None and self.character.skips(fingerprint(view)):
            self._skip(assignment_id, "too upsetting")
            return
        for _ in range(MOST_STEPS):
            if view is None:
                return
            if view.waits_for_models:
                if not self.replies(self.client, assignment_id):
                    self._skip(assignment_id, "the models' replies fail")
                    return
                view = self._see(assignment_id)
                continue
            due = reply(self.character, view)
            if due is None:
                self._done()
                return
            if self._leaves(view):
                return
            self._look(view, due)
            told = self._send(view, due)
            if told.state == "done":
                self._done()
                return
            view = self._see(assignment_id)
        raise HarkError(f"assignment '{assignment_id}' does not come to its end")

    def _skip(self, assignment_id: str, reason: str) -> None:
        self.client.skip(assignment_id, reason)
        self.diary.skipped += 1

    def _done(self) -> None:
        self.diary.items += 1
        self.on_item()

    def _see(self, assignment_id: str) -> ViewBody | None:
        """What is shown; what is timed is opened first. None if the lease had run out by then."""
        view = self.client.view(assignment_id)
        if view.task.get("seconds") is None or not view.next_steps or view.deadline is not None:
            return view
        if not self._held(self.client.open, view):
            return None
        return self.client.view(assignment_id)

    def _leaves(self, view: ViewBody) -> bool:
        """Walk off, perhaps; who comes back answers late, or has forgotten the item."""
        shown = fingerprint(view)
        if not self.character.walks_off(shown, self.diary.walked_off):
            return False
        self.diary.walked_off += 1
        time.sleep(self.away_seconds)
        return self.character.happens(0.5, "forgets", shown)

    def _look(self, view: ViewBody, due: Reply) -> None:
        """Think, and let the page say that somebody is there."""
        time.sleep(self.pace * due.seconds)
        if self.character.happens(HEARTBEATS, "heartbeat", due.kind, fingerprint(view)):
            self._held(self.client.heartbeat, view)  # If not, a label may be sent all the same.

    def _held(self, ask: Callable[[str], Any], view: ViewBody) -> bool:
        try:
            ask(view.assignment_id)
        except ConflictError:
            self.diary.lapsed += 1
            return False
        return True

    def _send(self, view: ViewBody, due: Reply) -> ReceiptBody:
        assignment_id, key = view.assignment_id, new_id()
        if self.ledger is not None:
            self.ledger.sending(self.diary.character.name, assignment_id, key, due)

        def send() -> ReceiptBody:
            if due.kind == "finish":
                return self.client.finish(assignment_id, key=key)
            return self.client.step(assignment_id, due.kind, due.answer, client=due.client, key=key)

        impatient = self.character.sends_twice(due.kind, fingerprint(view))
        receipt = self._twice(send) if impatient else send()
        told = Receipt(
            labeler=self.diary.pseudonym,
            assignment_id=assignment_id,
            kind=due.kind,
            event_id=receipt.event_id,
            key=key,
            answer=due.answer,
        )
        self.diary.receipts.append(told)
        if self.ledger is not None:
            self.ledger.received(told)
        return receipt

    def _twice(self, send: Callable[[], ReceiptBody]) -> ReceiptBody:
        """The same request twice at the same time. Raises: HarkError if it counts twice."""
        self.diary.sent_twice += 1
        other: list[ReceiptBody | HarkError] = []

        def again() -> None:
            try:
                other.append(send())
            except HarkError as error:
                other.append(error)

        thread = threading.Thread(target=again)
        thread.start()
        try:
            receipt = send()
        finally:
            thread.join()
        if not other or isinstance(other[0], HarkError):
            raise HarkError(f"a request that was sent twice failed: {other}")
        if other[0].event_id != receipt.event_id:
            raise HarkError(f"a request that was sent twice was kept twice: {receipt.event_id}")
        return receipt
