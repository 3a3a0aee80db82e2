"""What simulated labelers sent, and what was acknowledged: on the disk, so that they may be killed.

A program that may be killed makes the key of a label, keeps it beside the label, and sends both
again until they are acknowledged (docs/feedback-api.md); these are the keys.
"""

from __future__ import annotations

import fcntl
import json
import os
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final, Protocol

from hark.errors import RunError
from hark.feedback.refusals import FeedbackError
from hark.web.client import FeedbackClient

WAIT_SECONDS: Final = 30.0
"""For labelers whose loop was killed, and who are ending."""
POLL_SECONDS: Final = 0.05


class Due(Protocol):
    """What is to be sent; an `answering.Reply`."""

    @property
    def kind(self) -> Any: ...
    @property
    def answer(self) -> dict[str, Any]: ...
    @property
    def client(self) -> dict[str, Any]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """What a labeler was told is kept."""

    labeler: str
    assignment_id: str
    kind: str
    event_id: str
    key: str
    answer: dict[str, Any]


class Ledger:
    """A file of JSON lines: `sending`, `receipt`, `refused`. Threads may share it.

    Lines are handed to the system, which keeps them when this process is killed. One process at a
    time has it open.
    """

    def __init__(self, path: Path, *, wait_seconds: float = WAIT_SECONDS) -> None:
        """Read what there is; a torn last line was not written.

        Raises: RunError if another process still has it open after so long.
        """
        # Before anything is read: what another still writes is to be in it.
        self._file = _locked(path, wait_seconds)
        self._lock = threading.Lock()
        self.sent: dict[str, dict[str, Any]] = {}
        """By key."""
        self.receipts: dict[str, Receipt] = {}
        """By key."""
        self.refused: dict[str, str] = {}
        """Key → why, of what was sent again."""
        raw = self._file.read()
        whole = raw[: raw.rfind(b"\n") + 1]
        for line in whole.decode("utf-8").split("\n")[:-1]:
            self._take(json.loads(line))
        self._file.truncate(len(whole))
        self._file.seek(len(whole))

    def close(self) -> None:
        """Write no more."""
        self._file.close()

    def sending(self, labeler: str, assignment_id: str, key: str, due: Due) -> None:
        """Before a step is sent."""
        self._write(
            "sending",
            labeler=labeler, assignment_id=assignment_id, key=key, kind=due.kind,
            answer=due.answer, client=due.client,
        )  # fmt: skip

    def received(self, receipt: Receipt) -> None:
        """Once a step is acknowledged."""
        self._write("receipt", **asdict(receipt))

    def send_again(self, labeler: str, client: FeedbackClient) -> None:
        """Send whatever of a labeler's has no receipt, under its old key."""
        told = self.receipts.keys() | self.refused.keys()
        mine = [one for key, one in self.sent.items() if key not in told]
        for one in mine:
            if one["labeler"] != labeler:
                continue
            try:
                receipt = (
                    client.finish(one["assignment_id"], key=one["key"])
                    if one["kind"] == "finish"
                    else client.step(
                        one["assignment_id"], one["kind"], one["answer"], client=one["client"],
                        key=one["key"],
                    )
                )  # fmt: skip
            except FeedbackError as error:
                self._write("refused", key=one["key"], why=str(error))
                continue
            self.received(
                Receipt(
                    labeler=client.me().person.pseudonym,
                    assignment_id=one["assignment_id"],
                    kind=one["kind"],
                    event_id=receipt.event_id,
                    key=one["key"],
                    answer=one["answer"],
                )
            )

    def _write(self, what: str, **values: Any) -> None:
        line = {"what": what, **values}
        with self._lock:
            self._file.write(json.dumps(line, ensure_ascii=False).encode() + b"\n")
            self._file.flush()
            self._take(line)

    def _take(self, line: Mapping[str, Any]) -> None:
        values = {name: value for name, value in line.items() if name != "what"}
        if line["what"] == "sending":
            self.sent[values["key"]] = values
        elif line["what"] == "receipt":
            self.receipts[values["key"]] = Receipt(**values)
        else:
            self.refused[values["key"]] = values["why"]


def _locked(path: Path, wait_seconds: float) -> BinaryIO:
    """The file, open at its beginning; the lock goes with it, however its process ends."""
    file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "r+b")
    end = time.monotonic() + wait_seconds
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return file
        except BlockingIOError:
            if time.monotonic() >= end:
                file.close()
                raise RunError(
                    f"other simulated labelers are still at work with '{path}': let them end, or "
                    "end them"
                ) from None
        time.sleep(POLL_SECONDS)


def held_against(
    receipts: Iterable[Receipt], records: Iterable[Mapping[str, Any]], kinds: Iterable[str]
) -> dict[str, int]:
    """Receipts against the events of a study.

    kinds: of the events that come of a labeler's steps. Counts: `acknowledged`; `lost`, of which
    there is no event; `doubled`, keys with several; `unasked`, events nobody has a receipt for.
    """
    counted = set(kinds)
    keys: dict[tuple[str, str], list[str]] = {}
    for one in records:
        if one["kind"] in counted:
            keys.setdefault((one["labeler"], one["client"]["key"]), []).append(one["event_id"])
    told = {(one.labeler, one.key): one.event_id for one in receipts}
    return {
        "acknowledged": len(told),
        "lost": sum(event not in keys.get(key, []) for key, event in told.items()),
        "doubled": sum(len(found) > 1 for found in keys.values()),
        "unasked": len(keys.keys() - told.keys()),
    }
