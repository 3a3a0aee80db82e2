"""The client against servers that fail: what is sent again, what is not, and what is said."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import httpx2
import pytest
from tests.feedback.workshop import Workshop

from hark.errors import HarkError
from hark.feedback import events, sign_in
from hark.feedback.refusals import FeedbackError, NotFoundError, ThrottledError
from hark.feedback.store import Store
from hark.web.client import FeedbackClient, Patience, UnreachableError

RECEIPT = {
    "event_id": "e", "repeated": False, "state": "done", "next_steps": [], "may_finish": False,
}  # fmt: skip
Answer = httpx2.Response | Exception


class Scripted:
    """Answers one after another, and what was asked."""

    def __init__(self, *answers: Answer) -> None:
        self.answers, self.asked = list(answers), list[httpx2.Request]()

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        self.asked.append(request)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def client_of(script: Scripted, **patience: float) -> tuple[FeedbackClient, list[float]]:
    waits: list[float] = []
    client = FeedbackClient(
        "http://server",
        "hark_token",
        patience=Patience(**patience),
        transport=httpx2.MockTransport(script),
        sleep=waits.append,
    )
    return client, waits


def gone() -> list[Answer]:
    return [
        httpx2.ConnectError("refused"),
        httpx2.ReadError("reset"),
        httpx2.RemoteProtocolError("closed"),
        httpx2.ReadTimeout("too long"),
        httpx2.Response(502),
        httpx2.Response(503, json={"error": {"message": "busy", "status": 503}}),
        httpx2.Response(504),
    ]


def test_a_step_is_sent_under_one_key_until_it_is_answered() -> None:
    script = Scripted(*gone(), httpx2.Response(200, json=RECEIPT))
    client, waits = client_of(script)
    with client:
        assert client.step("a", "vote", {"chosen": None}).event_id == "e"
    assert len({one.headers["Idempotency-Key"] for one in script.asked}) == 1
    assert len({one.content for one in script.asked}) == 1
    assert len(script.asked) == 8
    # Each wait is twice the one before it, less at most half by chance, and has a limit.
    for number, wait in enumerate(waits):
        whole = min(0.1 * 2**number, 5.0)
        assert whole / 2 <= wait <= whole


def test_what_may_have_been_done_and_has_no_key_is_not_sent_again() -> None:
    script = Scripted(httpx2.ReadError("reset"))
    client, _ = client_of(script)
    with client, pytest.raises(UnreachableError, match="not known whether it was done"):
        client.invite()
    script = Scripted(
        httpx2.ConnectError("refused"), httpx2.Response(201, json={"secret": "s", "path": "p"})
    )
    client, _ = client_of(script)
    with client:
        assert client.invite().secret == "s"


@pytest.mark.parametrize(("items", "sent"), [([{"id": "a"}], 2), ([{"id": "a"}, {}], 1)])
def test_items_with_ids_of_their_own_are_sent_again(items: Sequence[object], sent: int) -> None:
    script = Scripted(httpx2.ReadError("reset"), httpx2.Response(201, json={"ids": ["i"]}))
    client, _ = client_of(script)
    with client:
        if sent == 2:
            client.add_items("s", items)  # type: ignore[arg-type]
        else:
            with pytest.raises(UnreachableError):
                client.add_items("s", items)  # type: ignore[arg-type]
    assert len(script.asked) == sent


def test_patience_ends() -> None:
    script = Scripted(*[httpx2.ConnectError("refused")] * 3)
    client, _ = client_of(script, seconds=0.0)
    with client, pytest.raises(UnreachableError, match="is it running, and is the address right"):
        client.me()
    assert len(script.asked) == 1


@pytest.mark.parametrize(
    ("status", "error"), [(400, FeedbackError), (404, NotFoundError), (418, FeedbackError)]
)
def test_a_refusal_is_an_error_with_the_servers_sentence(
    status: int, error: type[FeedbackError]
) -> None:
    body = {"error": {"message": "it is so", "status": status}}
    client, _ = client_of(Scripted(httpx2.Response(status, json=body)))
    with client, pytest.raises(error, match="^it is so$") as caught:
        client.me()
    assert caught.value.status == status
    assert isinstance(caught.value, HarkError)


def test_who_has_to_wait_learns_how_long() -> None:
    body = {"error": {"message": "too many", "status": 429}}
    answer = httpx2.Response(429, json=body, headers={"Retry-After": "15"})
    client, _ = client_of(Scripted(answer))
    with client, pytest.raises(ThrottledError) as caught:
        client.log_in("a", "b")
    assert caught.value.seconds == 15


def test_an_answer_of_something_else_is_no_traceback() -> None:
    client, _ = client_of(Scripted(httpx2.Response(404, text="<h1>nginx</h1>")))
    with client, pytest.raises(NotFoundError, match="status 404: is this a hark server"):
        client.me()


class BrokenStream(httpx2.SyncByteStream):
    """Some bytes, and then the server is gone."""

    def __init__(self, content: bytes) -> None:
        self.content = content

    def __iter__(self) -> Iterator[bytes]:
        yield self.content
        raise httpx2.ReadError("reset")


def test_events_are_taken_up_where_the_stream_broke_off() -> None:
    first, second = ({"event_id": f"e{number}", "text": "\x85 \u2028"} for number in (1, 2))
    half = f"{json.dumps(first, ensure_ascii=False)}\n".encode() + b'{"event_id": "e'
    script = Scripted(
        httpx2.Response(200, stream=BrokenStream(half)),
        httpx2.ConnectError("refused"),
        httpx2.Response(200, content=json.dumps(second, ensure_ascii=False).encode()),
    )
    client, _ = client_of(script)
    with client:
        assert list(client.events("s")) == [first, second]
    assert [one.url.params.get("after") for one in script.asked] == [None, "e1", "e1"]


def test_replies_are_events_of_a_stream() -> None:
    stream = (
        ': hello\n\nevent: delta\ndata: {"place": 0, "text": "a\u2028b"}\n\n'
        "event: done\r\ndata: {}\r\n\r\n"
    )
    client, _ = client_of(Scripted(httpx2.Response(200, content=stream.encode())))
    with client:
        found = list(client.replies("a"))
    assert found == [("delta", {"place": 0, "text": "a\u2028b"}), ("done", {})]
    client, _ = client_of(Scripted(httpx2.Response(200, stream=BrokenStream(b"event: delta\n"))))
    with client, pytest.raises(UnreachableError, match="the replies broke off"):
        list(client.replies("a"))


def test_a_name_with_a_slash_is_one_part_of_the_path() -> None:
    script = Scripted(httpx2.Response(200, json={"state": "active", "categories": []}))
    client, _ = client_of(script)
    with client:
        client.consent("s", "a/b ?c")
    assert script.asked[0].url.raw_path == b"/api/v1/studies/s/consents/a%2Fb%20%3Fc"


SERVER = """
import socket, sys
from hark.feedback.store import Store
from hark.web.application import build_application
from hark.web.server import make_server
listening = socket.create_server(("127.0.0.1", int(sys.argv[2])))
application = build_application(Store(sys.argv[1]))
make_server(application, lambda: print("ready", flush=True)).run(sockets=[listening])
"""


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[int], subprocess.Popen[str]]]:
    """Starts a process that serves the store at a port."""
    running: list[subprocess.Popen[str]] = []

    def begin(port: int) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", SERVER, str(tmp_path / "feedback.db"), str(port)]
        running.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        return running[-1]

    yield begin
    for one in running:
        one.kill()
        one.communicate()


def test_a_server_killed_and_started_again_loses_and_doubles_nothing(
    tmp_path: Path, start: Callable[[int], subprocess.Popen[str]]
) -> None:
    with Store(tmp_path / "feedback.db") as store:
        workshop = Workshop(store)
        study = workshop.study()
        workshop.votes(study, 8)
        labeler = workshop.labeler(study)
        token = sign_in.create_api_token(store, labeler.id, "test")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    process, receipts = start(port), []
    with FeedbackClient(f"http://127.0.0.1:{port}", token) as client:
        while (claimed := client.claim(study.settings.name)) is not None:
            if len(receipts) == 5:
                os.kill(process.pid, signal.SIGKILL)
                process = start(port)
            kept = client.step(claimed.assignment_id, "vote", {"chosen": None})
            receipts.append(kept.event_id)
    with Store(tmp_path / "feedback.db") as store, store.read() as connection:
        votes = [one.id for one in events.iterate(connection, kinds=["vote"])]
    assert votes == receipts
    assert len(receipts) == 8
