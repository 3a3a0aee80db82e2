"""`hark serve` as people start it: a process that says where it is, and may be killed."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from tests.feedback.workshop import Workshop
from tests.serving.tiny_models import save_taught_models
from tests.web.fake_endpoint import FakeEndpoint
from tests.web.talking import Conversation

from hark.cli.main import run
from hark.feedback import assignment, items, labelling, sign_in, studies
from hark.feedback.assignment import Assignment
from hark.feedback.store import Store
from hark.loop import demo


class Served:
    """A running `hark serve`."""

    def __init__(self, process: subprocess.Popen[str], directory: Path) -> None:
        self.process, self.directory = process, directory
        self.ready = self.line()
        assert self.ready["status"] == "ready"
        self.url: str = self.ready["url"]

    def line(self) -> dict[str, Any]:
        """The next line of JSON."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, (self.directory / "errors").read_text()
        found: dict[str, Any] = json.loads(line)
        return found


@contextmanager
def served(directory: Path, *options: str) -> Iterator[Served]:
    """A server that is killed at the end."""
    command = [sys.executable, "-m", "hark", "serve", "--port", "0", "--json", *options]
    with (
        (directory / "errors").open("a") as errors,
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=errors, text=True, cwd=directory
        ) as process,
    ):
        try:
            yield Served(process, directory)
        finally:
            process.kill()
            process.wait(20)


def accept(link: str, login: str) -> httpx2.Cookies:
    """Make an account by an invite link; the cookies of its session."""
    answer = httpx2.post(link, data={"login": login, "password": "a long password"})
    assert answer.status_code == 303, answer.text
    return answer.cookies


def test_an_empty_store_has_a_link_for_its_first_owner_and_kill_9_loses_nothing(
    tmp_path: Path,
) -> None:
    with served(tmp_path, "--store", "my.db") as first:
        link = first.ready["invites"]["owner"]
        assert link.startswith(f"{first.url}/invite/")
    with served(tmp_path, "--store", "my.db") as again:
        newer = again.ready["invites"]["owner"]
        old = newer.rpartition("/")[0] + "/" + link.rpartition("/")[2]
        assert httpx2.get(old).status_code == 404, "a newer link ends the older one"
        accept(newer, "ada")
        os.kill(again.process.pid, signal.SIGKILL)
        again.process.wait(20)
    with served(tmp_path, "--store", "my.db") as last:
        assert last.ready["invites"] == {}, "an owner can sign in"
        answer = httpx2.post(
            f"{last.url}/login", data={"login": "ada", "password": "a long password"}
        )
        assert answer.status_code == 303
        refused = httpx2.post(f"{last.url}/login", data={"login": "ada", "password": "wrong"})
        assert refused.status_code == 401
    assert "refused 401 POST /login" in (tmp_path / "errors").read_text()


def test_ctrl_c_ends_it_at_once_and_without_a_traceback(tmp_path: Path) -> None:
    with served(tmp_path) as server:
        server.process.send_signal(signal.SIGINT)
        assert server.process.wait(20) == 0
    assert (tmp_path / "feedback.db").exists()
    assert "Traceback" not in (tmp_path / "errors").read_text()


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--model", "a"], "--model 'a' is not NAME=URL or NAME=PATH"),
        (["--model", "a=b", "--model", "a=c"], "given twice"),
        (["--model", "a=no/such/directory"], "there is no such directory"),
        (["--model", "a=http://me:secret@host/v1"], "has a password in its URL"),
        (["--store", "no/such/directory/feedback.db"], "there is no directory"),
        (["--host", "203.0.113.1"], "cannot listen at port 0 of '203.0.113.1'"),
    ],
)
def test_what_cannot_be_served_is_told_in_one_sentence(
    options: list[str],
    reason: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["serve", "--port", "0", *options]) == 2
    told = capsys.readouterr().err
    assert told.startswith("error: ")
    assert reason in told
    assert told.count("\n") == 1


def test_the_demo_has_people_labelling_with_models_of_their_own(tmp_path: Path) -> None:
    paths = save_taught_models(tmp_path, {"dog": "a small dog ran", "cat": "the big cat"})
    options = [f"--model={name}={path}" for name, path in paths.items()]
    with served(tmp_path, "--demo", *options) as server:
        links = server.ready["invites"]
        assert list(links) == ["owner", "demo-dialogue", "demo-ranking", "demo-vote"]
        accept(links["owner"], "ada")
        labeler = accept(links["demo-dialogue"], "ben")
        with Store(tmp_path / "runs" / "demo" / "feedback.db") as store:
            talk = _begin_talk(store, "ben")
            replies = f"{server.url}/api/v1/assignments/{talk}/replies"
            if server.line() != {"status": "models ready", "models": ["dog", "cat"]}:
                raise AssertionError("the models did not get ready")
            for _ in range(3):  # Random models do not always end; a person would ask again too.
                answer = httpx2.get(replies, cookies=labeler, timeout=30)
                assert answer.status_code == 200, answer.text
                if "event: done" in answer.text:
                    break
            assert "event: done" in answer.text
            _wait_until_filled(store, "demo-vote")
        child = _child_of(server.process.pid)
    _wait_until_gone(child)
    with served(tmp_path, "--demo", *options) as again:
        assert list(again.ready["invites"]) == ["demo-dialogue", "demo-ranking", "demo-vote"]


def test_kill_9_in_the_middle_of_a_reply_leaves_the_turn_to_be_drawn_again(
    tmp_path: Path,
) -> None:
    place = str(tmp_path / "feedback.db")
    with Store(place) as store, FakeEndpoint() as fake:
        talk = Conversation.begin(Workshop(store), snapshots=("m",))
        talk.say()
        options = ["--store", place, "--model", f"m={fake.url}"]
        with served(tmp_path, *options) as server:
            events = talk.events(server.url)
            assert next(events)[0] == "delta"
            os.kill(server.process.pid, signal.SIGKILL)
            with pytest.raises(httpx2.HTTPError):
                list(events)
        assert talk.view.waits_for_models
        fake.finish.set()
        with served(tmp_path, *options) as server:
            assert list(talk.events(server.url))[-1] == ("done", {})
        assert [one["text"] for one in talk.view.candidates] == ["one two", "one two"]


def _begin_talk(store: Store, login: str) -> str:
    """An assignment of the dialogue study, with a message that waits for replies."""
    study = studies.find_study(store, "demo-dialogue")
    person = sign_in.log_in(store, login, "a long password", address="test").person
    claimed = assignment.claim(store, study.id, person.id)
    assert isinstance(claimed, Assignment)
    said = {"text": "Hello"}
    labelling.submit(store, claimed.id, person.id, "message", said, client_key="one")
    return claimed.id


def _wait_until_filled(store: Store, name: str) -> None:
    study = studies.find_study(store, name)
    total = demo.VOTES
    for _ in range(400):
        if len(items.to_draw(store, study.id)) < total:
            return
        time.sleep(0.05)
    raise AssertionError("no item was filled within 20 seconds")


def _child_of(pid: int) -> int:
    """The process that serves the models."""
    told = Path(f"/proc/{pid}/task/{pid}/children")
    found: list[int] = []
    for task in told.parents[1].iterdir():
        found += [int(one) for one in (task / "children").read_text().split()]
    [child] = found
    return child


def _wait_until_gone(pid: int) -> None:
    for _ in range(400):
        if not Path(f"/proc/{pid}").exists():
            return
        time.sleep(0.05)
    raise AssertionError("the models' process outlived the server that was killed")


def test_models_that_cannot_be_served_are_told_and_the_server_stays(tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    with served(tmp_path, "--model", f"a={broken}") as server:
        for _ in range(400):
            told = (tmp_path / "errors").read_text()
            if "ended with status 2" in told:
                break
            time.sleep(0.05)
        assert "models: error: " in told
        assert "has no config.json" in told
        assert httpx2.get(f"{server.url}/login").status_code == 200


def test_a_quickstart_that_has_run_gives_the_demo_its_models(tmp_path: Path) -> None:
    assert demo.find_quickstart(tmp_path) == {}
    sft = _run_directory(tmp_path, "20260101T000000-sft", "sft", "complete")
    _run_directory(tmp_path, "20260103T000000-sft", "sft", "failed")
    assert demo.find_quickstart(tmp_path) == {}, "both, or the demo trains its own"
    ppo = _run_directory(tmp_path, "20260102T000000-ppo", "ppo", "complete")
    _run_directory(tmp_path, "20260104T000000-ppo", "ppo", "complete", command=["hark", "ppo"])
    assert demo.find_quickstart(tmp_path) == {"sft": str(sft), "ppo": str(ppo)}


def _run_directory(
    runs: Path, name: str, stage: str, status: str, command: list[str] | None = None
) -> Path:
    path = runs / name
    (path / "model").mkdir(parents=True)
    manifest = {
        "stage": stage, "name": "", "status": status, "command": command or ["hark", "quickstart"],
        "fingerprint": "", "seed": 0, "device": "cpu", "dtype": "float32", "started": "",
        "finished": None, "message": None, "commit": None, "dirty": None, "versions": {},
        "parents": [], "inputs": {},
    }  # fmt: skip
    (path / "manifest.json").write_text(json.dumps(manifest))
    return path


def test_serving_people_loads_no_torch() -> None:
    code = "import sys\nimport hark.cli.serve\nassert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_store_of_a_server_that_was_killed_is_whole(tmp_path: Path) -> None:
    with served(tmp_path) as server:
        accept(server.ready["invites"]["owner"], "ada")
    with sqlite3.connect(tmp_path / "feedback.db") as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        [(logins,)] = connection.execute("SELECT count(*) FROM people WHERE login = 'ada'")
    assert logins == 1
