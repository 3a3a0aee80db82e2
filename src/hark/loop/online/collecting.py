"""One study of a round, from its items to an export on this disk, through the API only. No torch.

Every step finds what it has done: a study by its name, items by ids of ours, an export by its hash.
"""

from __future__ import annotations

import datetime
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from hark.errors import DataError, RunError
from hark.feedback.export import check_snapshot, read_about
from hark.feedback.judgements import COMPARES
from hark.feedback.refusals import NotFoundError
from hark.feedback.studies import StudySettings
from hark.loop.online.application import Application
from hark.loop.online.processes import KeptProcess
from hark.loop.online.settings import QuotaSettings
from hark.runs.files import atomic_directory
from hark.web.client import FeedbackClient

ITEMS_AT_ONCE: Final = 200
SIMULATED_POLL_SECONDS: Final = 0.2
PEOPLE_POLL_SECONDS: Final = 15.0


@dataclass(frozen=True, kw_only=True)
class Waiting:
    """What a round waits for, and cannot hurry."""

    study: str
    url: str
    labels: int
    quota: int | None
    until: str | None
    """UTC, ISO 8601."""
    own: bool
    """Whether the server ends with the command."""
    hint: str
    """What a server must know that does not."""

    def __str__(self) -> str:
        wanted = "" if self.quota is None else f" of {self.quota}"
        date = "" if self.until is None else f", or {self.until} comes"
        serving = " (served for as long as --wait is given)" if self.own else ""
        return (
            f"study '{self.study}' at {self.url}{serving} has {self.labels}{wanted} labels; the "
            f"round goes on once the quota is reached{date}{self.hint}"
        )


@dataclass(kw_only=True)
class Tally:
    """How many labels of a study count, followed through its log."""

    client: FeedbackClient
    study: str
    labels: set[str] = field(default_factory=set)
    labelers: set[str] = field(default_factory=set)
    last: str | None = None

    def follow(self) -> None:
        """Read what is new."""
        for event in self.client.events(self.study, self.last):
            self.last = event["event_id"]
            self.labels.discard(event["supersedes"])
            if event["kind"] in COMPARES and not event["late"] and event["use"] == "train":
                self.labels.add(event["event_id"])
                self.labelers.add(event["labeler"])


def open_study(
    client: FeedbackClient, settings: StudySettings, items: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """Make the study, fill it and open it; what is there already is left as it is."""
    try:
        state = client.study(settings.name).state
    except NotFoundError:
        state = client.create_study(settings.given()).state
    if state == "draft":
        for start in range(0, len(items), ITEMS_AT_ONCE):
            client.add_items(settings.name, items[start : start + ITEMS_AT_ONCE])
        client.set_state(settings.name, "open")
    opened = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    return {"study": settings.name, "items": len(items), "opened": opened}


def wait_for_labels(
    application: Application,
    opened: Mapping[str, Any],
    quota: QuotaSettings,
    *,
    labelers: KeptProcess | None,
    stays: bool,
) -> dict[str, Any] | Waiting:
    """Wait until the quota or the date, then close the study.

    labelers: simulated ones at work; once they have ended there is nothing to wait for.
    stays: whether to wait for people; else say what is waited for.
    Raises: RunError if simulated labelers cannot work.
    """
    study = str(opened["study"])
    until = _until(opened, quota)
    tally = Tally(client=application.client, study=study)
    while True:
        ended = labelers is not None and labelers.done
        tally.follow()
        if (reason := _over(tally, quota, until)) is None and ended:
            reason = "nobody had anything left to label"
        if reason is not None:
            break
        if labelers is None and not stays:
            return Waiting(
                study=study, url=application.url, labels=len(tally.labels), quota=quota.labels,
                until=None if until is None else until.isoformat(timespec="minutes"),
                own=application.own, hint=application.hint,
            )  # fmt: skip
        if labelers is not None:
            labelers.check()
        time.sleep(PEOPLE_POLL_SECONDS if labelers is None else SIMULATED_POLL_SECONDS)
    application.client.set_state(study, "closed")
    while labelers is not None and not labelers.done:  # They hear that it is closed.
        labelers.check()
        time.sleep(SIMULATED_POLL_SECONDS)
    tally.follow()
    if not tally.labels:
        raise RunError(
            f"study '{study}' was closed without a label: set its state to open again at "
            f"{application.url}, or begin another loop"
        )
    return {
        "study": study,
        "labels": len(tally.labels),
        "labelers": len(tally.labelers),
        "because": reason,
    }


def _until(opened: Mapping[str, Any], quota: QuotaSettings) -> datetime.datetime | None:
    if quota.days is None:
        return None
    return datetime.datetime.fromisoformat(opened["opened"]) + datetime.timedelta(quota.days)


def _over(tally: Tally, quota: QuotaSettings, until: datetime.datetime | None) -> str | None:
    """Why collecting is over; None if it is not."""
    if quota.labels is not None and len(tally.labels) >= quota.labels:
        return "the quota was reached"
    if until is not None and datetime.datetime.now(datetime.UTC) >= until:
        return "the date came"
    return None


def fetch_export(
    client: FeedbackClient, study: str, folder: Path, *, minimum_strength: int
) -> dict[str, Any]:
    """Export a study and fetch the snapshot; a complete one is not fetched again.

    Raises: DataError if what was fetched is not what its name says.
    """
    made = client.export(study, {"format": "hark", "minimum_strength": minimum_strength})
    path = folder / made.name
    if not path.exists():
        with atomic_directory(path) as aside:
            for file in made.files:
                (aside / file.name).write_bytes(client.export_file(study, made.name, file.name))
    try:
        check_snapshot(path)
    except DataError:
        shutil.rmtree(path)
        raise
    about = read_about(path)
    return {
        "path": str(path),
        "data": str(path / about["data"]),
        "study": study,
        "hash": made.hash,
        "labels": about["labels"],
        "left_out": about["left_out"],
    }
