"""Models behind endpoints that are slow, busy, secretive or no endpoints at all."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from hark.cli.main import run
from hark.data.records import Demonstration, ask
from hark.errors import HarkError, ModelError, RunError, SettingsError
from hark.loop.judges import scorer
from hark.loop.speaker import SpeakerSettings, load_speaker, prompts_that_fit
from hark.models.sampling import SamplingSettings
from hark.runs.run import resolve_model
from hark.serving import endpoint as endpoints
from hark.serving.endpoint import Endpoint, EndpointSettings, wait_seconds

SECRET = "sk-very-secret"
Answer = tuple[int, dict[str, Any]]


class FakeServer(ThreadingHTTPServer):
    """An endpoint with one model whose answers a test decides."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.requests: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.answer: Callable[[dict[str, Any]], Answer] = lambda body: chat("yes")
        self.models: Answer = (200, {"data": [{"id": "m"}]})
        self.at_once = self.most_at_once = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"


class _Handler(BaseHTTPRequestHandler):
    server: FakeServer

    def do_GET(self) -> None:
        self._send(*self.server.models)

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.keys.append(self.headers.get("Authorization"))
        self.server.requests.append({"path": self.path, **body})
        self._send(*self.server.answer(body))

    def _send(self, status: int, content: dict[str, Any]) -> None:
        data = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_arguments: Any) -> None:
        pass


def chat(text: str, finish: str = "stop") -> Answer:
    message = {"role": "assistant", "content": text}
    usage = {"completion_tokens": 3}
    return 200, {"choices": [{"message": message, "finish_reason": finish}], "usage": usage}


def refused(status: int, message: str, code: str | None = None) -> Answer:
    return status, {"error": {"message": message, "code": code}}


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeServer]:
    monkeypatch.delenv("HARK_API_KEY", raising=False)
    monkeypatch.setattr(endpoints, "LONGEST_WAIT_SECONDS", 0.01)
    with FakeServer() as fake:
        thread = threading.Thread(target=fake.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield fake
        fake.shutdown()
        thread.join()


def speaker(server: FakeServer, **settings: Any) -> Any:
    sampling = settings.pop("sampling", SamplingSettings(max_response_tokens=5))
    rows, score = settings.pop("rows", 64), settings.pop("score", None)
    examples = settings.pop("demonstrations", ())
    given = SpeakerSettings.parse({"model": f"{server.url}#m", **settings})
    return load_speaker(given, sampling=sampling, rows=rows, score=score, examples=examples)


def test_a_prompt_is_asked_in_openais_words_with_a_seed_of_its_own(server: FakeServer) -> None:
    sampling = SamplingSettings(
        temperature=0.5, top_p=0.9, top_k=4, max_response_tokens=7, min_response_tokens=2,
        stop=("\n",),
    )  # fmt: skip
    asked = speaker(server, sampling=sampling)
    replies = asked.reply([ask("one"), ask("two"), ask("two")], seed=3)
    assert [reply.text for reply in replies] == ["yes"] * 3
    assert {reply.token_count for reply in replies} == {3}
    by_seed = {request.pop("seed"): request for request in server.requests}
    assert len(by_seed) == 3
    assert all(0 <= seed < 2**31 for seed in by_seed)
    one = next(each for each in by_seed.values() if each["messages"][0]["content"] == "one")
    assert one == {
        "path": "/v1/chat/completions",
        "model": "m",
        "messages": [{"role": "user", "content": "one"}],
        "temperature": 0.5,
        "top_p": 0.9,
        "top_k": 4,
        "max_tokens": 7,
        "min_tokens": 2,
        "stop": ["\n"],
    }
    before = set(by_seed)
    asked.reply([ask("one"), ask("two"), ask("two")], seed=3)
    assert {request["seed"] for request in server.requests[3:]} == before


def test_what_was_cut_by_its_length_is_told_from_what_ended(server: FakeServer) -> None:
    server.answer = lambda body: chat(" cut ", "length")
    reply = speaker(server).reply([ask("one")], seed=0)[0]
    assert (reply.text, reply.finish) == ("cut", "length")


def test_passing_failures_are_tried_again(server: FakeServer) -> None:
    failures = [refused(503, "busy"), refused(429, "slow down"), refused(500, "oops")]

    def answer(body: dict[str, Any]) -> Answer:
        return failures.pop() if failures else chat("at last")

    server.answer = answer
    assert speaker(server).reply([ask("one")], seed=0)[0].text == "at last"
    assert len(server.requests) == 4
    assert len({request["seed"] for request in server.requests}) == 1


def test_waits_double_and_heed_the_server_within_a_minute() -> None:
    assert [wait_seconds(attempt, None) for attempt in (0, 1, 5, 9)] == [0.5, 1.0, 16.0, 60.0]
    assert wait_seconds(0, "7") == 7.0
    assert wait_seconds(5, "7") == 16.0
    assert wait_seconds(0, "9999") == 60.0
    assert wait_seconds(1, "Wed, 21 Oct 2026 07:28:00 GMT") == 1.0


def test_lasting_failures_are_told(server: FakeServer) -> None:
    server.answer = lambda body: refused(503, "busy for ever")
    with pytest.raises(ModelError, match="answered 503 to 2 attempts: busy for ever"):
        speaker(server, endpoint={"attempts": 2}).reply([ask("one")], seed=0)
    assert len(server.requests) == 2
    server.answer = lambda body: refused(400, "no such thing")
    with pytest.raises(ModelError, match="answered 400: no such thing"):
        speaker(server).reply([ask("one")], seed=0)
    assert len(server.requests) == 3
    server.answer = lambda body: (200, {"choices": [{"message": "what"}]})
    with pytest.raises(ModelError, match="has no text where OpenAI's has it"):
        speaker(server).reply([ask("one")], seed=0)


def test_no_more_requests_are_under_way_than_rows(server: FakeServer) -> None:
    lock, release = threading.Lock(), threading.Event()

    def answer(body: dict[str, Any]) -> Answer:
        with lock:
            server.at_once += 1
            server.most_at_once = max(server.most_at_once, server.at_once)
            if server.at_once == 3:
                release.set()
        release.wait(5)
        with lock:
            server.at_once -= 1
        return chat("yes")

    server.answer = answer
    assert len(speaker(server, rows=3).reply([ask(str(i)) for i in range(12)], seed=0)) == 12
    assert server.most_at_once == 3


def test_the_key_goes_into_the_header_and_nowhere_else(
    server: FakeServer,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("MY_KEY", SECRET)
    command = [
        "sample", "--model", f"{server.url}#m", "--prompt", "Hi",
        "--endpoint.api-key-variable", "MY_KEY", "--output", str(tmp_path),
    ]  # fmt: skip
    assert run(command) == 0
    assert server.keys == [f"Bearer {SECRET}"]
    server.answer = lambda body: refused(401, f"wrong key {SECRET}")
    assert run(command) == 2
    told = capfd.readouterr()
    assert "answered 401 (wrong key …)" in told.err
    written = [path.read_text() for path in tmp_path.rglob("*") if path.is_file()]
    assert any("MY_KEY" in text for text in written)
    assert not any(SECRET in text for text in [*written, told.out, told.err])
    assert SECRET not in repr(
        Endpoint.open(server.url, EndpointSettings(api_key_variable="MY_KEY"))
    )


def test_the_usual_variable_is_used_and_a_missing_one_is_told(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    speaker(server).reply([ask("one")], seed=0)
    monkeypatch.setenv("HARK_API_KEY", SECRET)
    speaker(server).reply([ask("one")], seed=0)
    assert server.keys == [None, f"Bearer {SECRET}"]
    with pytest.raises(SettingsError, match="variable 'ABSENT' of api_key_variable is not set"):
        speaker(server, endpoint={"api_key_variable": "ABSENT"})


def test_the_model_must_be_there(server: FakeServer) -> None:
    server.models = (200, {"data": [{"id": "large"}, {"id": "small"}]})
    with pytest.raises(ModelError, match="no model 'lage' .did you mean 'large'.*large, small"):
        Endpoint.open(f"{server.url}#lage", EndpointSettings())
    with pytest.raises(ModelError, match="2 models: name one of them"):
        Endpoint.open(server.url, EndpointSettings())
    server.models = (200, {"data": [{"id": "only"}]})
    assert Endpoint.open(server.url + "/", EndpointSettings()).model == "only"
    server.models = (404, {})
    assert Endpoint.open(f"{server.url}#unlisted", EndpointSettings()).model == "unlisted"
    server.models = (200, {"hello": 1})
    with pytest.raises(ModelError, match="mostly ends with /v1"):
        Endpoint.open(f"{server.url}#m", EndpointSettings())


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("http://", "is no endpoint"),
        ("http://host:99999/v1", "is no endpoint"),
        ("http://me:word@127.0.0.1:1/v1", "has a password in its URL"),
        ("http://127.0.0.1:1/v1", "does not answer"),
    ],
)
def test_what_is_no_endpoint_is_told(
    name: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endpoints, "LONGEST_WAIT_SECONDS", 0.01)
    with pytest.raises(HarkError, match=message):
        Endpoint.open(name, EndpointSettings())


def test_examples_are_shown_as_one_text_and_dropped_until_they_fit(server: FakeServer) -> None:
    def answer(body: dict[str, Any]) -> Answer:
        if body["prompt"].count("Human:") > 2:
            return refused(400, "too long", "context_length_exceeded")
        return 200, {"choices": [{"text": " four", "finish_reason": "stop"}]}

    server.answer = answer
    examples = [Demonstration(prompt=ask(f"{n}?"), response=f"{n}!") for n in (1, 2)]
    asked = speaker(server, examples=["shown.jsonl"], demonstrations=examples)
    assert asked.reply([ask("3?")], seed=0)[0].text == "four"
    assert [request["path"] for request in server.requests] == ["/v1/completions"] * 2
    assert "2!" in server.requests[1]["prompt"]
    assert "1!" not in server.requests[1]["prompt"]
    assert "\nHuman:" in server.requests[1]["stop"]


def test_a_newer_name_of_the_limit_is_taken_up(server: FakeServer) -> None:
    def answer(body: dict[str, Any]) -> Answer:
        known = "max_completion_tokens" in body
        return chat("yes") if known else refused(400, "Use 'max_completion_tokens' instead.")

    server.answer = answer
    assert speaker(server).reply([ask("one")], seed=0)[0].text == "yes"
    assert server.requests[-1]["max_completion_tokens"] == 5
    assert "max_tokens" not in server.requests[-1]


def test_the_best_of_n_is_chosen_here(server: FakeServer) -> None:
    server.answer = lambda body: chat("x" * (body["seed"] % 50))
    asked = speaker(
        server, best_of=6, score=lambda dialogues: [len(each[-1].content) for each in dialogues]
    )
    best = asked.reply([ask("one"), ask("two")], seed=1)
    for prompt, reply in zip(("one", "two"), best, strict=True):
        of_prompt = [r for r in server.requests if r["messages"][0]["content"] == prompt]
        assert len(of_prompt) == 6
        assert len(reply.text) == max(request["seed"] % 50 for request in of_prompt)


def test_what_an_endpoint_cannot_do_is_told(server: FakeServer) -> None:
    with pytest.raises(SettingsError, match="long prompts cannot be skipped"):
        prompts_that_fit([ask("one")], [speaker(server)])
    with pytest.raises(RunError, match="from which hark can only sample"):
        resolve_model(Path(server.url))
    with pytest.raises(SettingsError, match="gives replies, not scores"):
        scorer(server.url)
    with pytest.raises(SettingsError, match="endpoint would be ignored"):
        SpeakerSettings.parse({"model": "here", "endpoint": {"attempts": 2}})
