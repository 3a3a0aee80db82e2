from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hark.errors import RunError
from hark.feedback.refusals import ConflictError
from hark.loop.simulation.answering import Reply
from hark.loop.simulation.ledger import Ledger, Receipt, held_against


class Server:
    """Keeps steps by their keys, and refuses one assignment."""

    def __init__(self) -> None:
        self.kept: dict[str, dict[str, Any]] = {}

    def step(self, assignment_id: str, kind: str, answer: Any, *, client: Any, key: str) -> Any:
        if assignment_id == "closed":
            raise ConflictError("the study is closed")
        self.kept.setdefault(key, answer)
        return type("Kept", (), {"event_id": f"event of {key}"})()

    def me(self) -> Any:
        person = type("Person", (), {"pseudonym": "anon-1"})()
        return type("Me", (), {"person": person})()


def due(chosen: str) -> Reply:
    return Reply(kind="vote", answer={"chosen": chosen}, seconds=1.0, pasted_characters=0)


def receipt(key: str) -> Receipt:
    return Receipt(
        labeler="anon-1", assignment_id="a", kind="vote", event_id=f"event of {key}", key=key,
        answer={"chosen": "one"},
    )  # fmt: skip


def test_what_has_no_receipt_is_sent_again_under_its_key_once(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.jsonl")
    for key, place in (("told", "a"), ("untold", "b"), ("late", "closed")):
        ledger.sending("ada", place, key, due(key))
    ledger.sending("bob", "c", "other", due("other"))
    ledger.received(receipt("told"))
    ledger.close()
    with (tmp_path / "ledger.jsonl").open("ab") as file:
        file.write(b'{"what": "sending", "key": "tor')
    server = Server()
    for _ in range(2):
        again = Ledger(tmp_path / "ledger.jsonl")
        again.send_again("ada", server)  # type: ignore[arg-type]
        again.close()
        assert set(server.kept) == {"untold"}
    assert set(again.receipts) == {"told", "untold"}
    assert set(again.refused) == {"late"}
    assert set(again.sent) == {"told", "untold", "late", "other"}


def test_receipts_are_held_against_events() -> None:
    def event(key: str, event_id: str, kind: str = "vote") -> dict[str, Any]:
        return {"labeler": "anon-1", "kind": kind, "event_id": event_id, "client": {"key": key}}

    told = [receipt("a"), receipt("b")]
    whole = [event("a", "event of a"), event("b", "event of b"), event("c", "x", kind="consent")]
    assert held_against(told, whole, {"vote"}) == {
        "acknowledged": 2, "lost": 0, "doubled": 0, "unasked": 0
    }  # fmt: skip
    spoilt = [event("a", "event of a"), event("a", "again"), event("d", "event of d")]
    assert held_against(told, spoilt, {"vote"}) == {
        "acknowledged": 2, "lost": 1, "doubled": 1, "unasked": 1
    }  # fmt: skip


def test_one_process_at_a_time_has_a_ledger_open(tmp_path: Path) -> None:
    """Labelers of a loop that was killed may still be writing."""
    path = tmp_path / "ledger.jsonl"
    first = Ledger(path)
    first.sending("ada", "assignment", "key", due("one"))
    with pytest.raises(RunError, match=r"still at work with .*ledger\.jsonl"):
        Ledger(path, wait_seconds=0.0)
    first.close()
    second = Ledger(path, wait_seconds=0.0)
    assert list(second.sent) == ["key"]
    second.close()
