"""Simulated labelers of a loop: the same people in every round, who may be killed at any point.

Each has an account that is on the disk before it is made, and an API token after that; what they
send is in a ledger. `hark loop simulate` lets them work. No torch.
"""

from __future__ import annotations

import contextlib
import secrets
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from hark.errors import HarkError
from hark.feedback.events import LABELS
from hark.feedback.refusals import ConflictError, NotAllowedError, NotFoundError
from hark.loop.online.application import PATIENCE, address_of, owner_of, write_secret
from hark.loop.online.place import Loop
from hark.loop.simulation.characters import Character, CrowdSettings, crowd
from hark.loop.simulation.crowd import WorkSettings, work
from hark.loop.simulation.latency import Timed
from hark.loop.simulation.ledger import Ledger, held_against
from hark.settings import read_settings_file
from hark.web.client import FeedbackClient

STEPS: Final = LABELS | {"message", "reset", "finish"}
"""Kinds of event that come of a labeler's steps."""


@dataclass(frozen=True, kw_only=True)
class KeptSeats:
    """Accounts in a study by invitation, kept from round to round."""

    folder: Path
    url: str
    owner: FeedbackClient
    study: str

    def __call__(self, character: Character) -> FeedbackClient:
        """A client of a character who takes part in the study."""
        path = self.folder / f"{character.name}.json"
        if not path.exists():
            login = f"{character.name}-{secrets.token_hex(4)}"
            write_secret(path, {"login": login, "password": secrets.token_urlsafe(24)})
        account = read_settings_file(path)
        if "token" not in account:
            with FeedbackClient(self.url, patience=PATIENCE) as client:
                self._enter(client, account)
                client.revoke_tokens("simulated")
                account["token"] = client.create_token("simulated").secret
            write_secret(path, account)
        client = FeedbackClient(self.url, account["token"], patience=PATIENCE)
        try:
            self._take_part(client)
        except BaseException:
            client.close()
            raise
        return client

    def _enter(self, client: FeedbackClient, account: dict[str, str]) -> None:
        """Make the account; if that was done already, sign in."""
        secret = self.owner.invite(study=self.study).secret
        try:
            client.accept_invite(secret, account["login"], account["password"])
        except ConflictError:
            client.log_in(account["login"], account["password"])

    def _take_part(self, client: FeedbackClient) -> None:
        try:
            client.study(self.study)
        except (NotFoundError, NotAllowedError):
            client.join(self.owner.invite(study=self.study).secret)


def label(loop: Loop, study: str, population: CrowdSettings) -> dict[str, Any]:
    """Let a population work through a study until there is nothing left for anybody.

    Raises: HarkError if one of them met with an error.
    """
    with owner_of(loop) as owner, kept_ledger(loop, study) as ledger:
        seats = KeptSeats(
            folder=loop.path / "labelers", url=address_of(loop), owner=owner, study=study
        )
        notes: list[Timed] = []
        outcome = work(crowd(population), seats, study, WorkSettings(), notes=notes, ledger=ledger)
        # Whoever was at work when the quota was reached is told so by a refusal.
        if outcome.errors and owner.study(study).state == "open":
            raise HarkError(
                f"{len(outcome.errors)} errors of simulated labelers, the first: "
                f"{outcome.errors[0]}"
            )
        return {
            "labelers": len(outcome.diaries),
            "items": sum(diary.items for diary in outcome.diaries),
            "acknowledged": len(ledger.receipts),
            "seconds": outcome.seconds,
        }


@contextlib.contextmanager
def kept_ledger(loop: Loop, study: str) -> Iterator[Ledger]:
    """What simulated labelers have sent in a study."""
    ledger = Ledger(ledger_path(loop, study))
    try:
        yield ledger
    finally:
        ledger.close()


def ledger_path(loop: Loop, study: str) -> Path:
    """Where it is kept."""
    return loop.path / "labelers" / f"{study}.jsonl"


def check_receipts(loop: Loop, study: str, owner: FeedbackClient) -> dict[str, int]:
    """What simulated labelers were told against what the server has; nothing without any.

    What was lost or doubled, or is there that nobody sent, is counted, and said on stderr.
    """
    if not ledger_path(loop, study).exists():
        return {}
    with kept_ledger(loop, study) as ledger:
        receipts = list(ledger.receipts.values())
    ours = {one.labeler for one in receipts}
    records = [one for one in owner.events(study) if one["labeler"] in ours]
    found = held_against(receipts, records, STEPS)
    if found["lost"] or found["doubled"] or found["unasked"]:
        print(
            f"warning: study '{study}': of {found['acknowledged']} acknowledged steps "
            f"{found['lost']} are lost, {found['doubled']} doubled, {found['unasked']} unasked: "
            "this is a defect",
            file=sys.stderr, flush=True,
        )  # fmt: skip
    return found
