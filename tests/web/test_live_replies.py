"""Two replies, drawn by the real server of models over a real socket, side by side."""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from fastapi.testclient import TestClient
from tests.feedback.workshop import Workshop
from tests.serving.tiny_models import models_served, save_taught_models
from tests.web.conftest import serving
from tests.web.fake_endpoint import FakeEndpoint
from tests.web.talking import Conversation, add, run_async, texts

from hark.feedback import items, labelling, studies
from hark.feedback.chance import Chance, chance_of, display_order
from hark.web.application import build_application
from hark.web.live import drawing, replies
from hark.web.live.endpoints import LiveModel, LiveModels
from hark.web.live.replies import Replies
from hark.web.live.turns import draw_snapshots

SENTENCES = {"dog": "home", "cat": "the big cat saw the old house"}
BOTH = tuple(SENTENCES)


@pytest.fixture(scope="module")
def model_paths(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return save_taught_models(tmp_path_factory.mktemp("taught"), SENTENCES)


@pytest.fixture(scope="module")
def url(model_paths: dict[str, Path]) -> Iterator[str]:
    with models_served(model_paths) as (url, _):
        yield url


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replies, "WAITS", (0.0, 0.0, 0.0))
    monkeypatch.setattr(drawing, "POLL_SECONDS", 0.05)


@pytest.fixture
def fake() -> Iterator[FakeEndpoint]:
    with FakeEndpoint() as endpoint:
        yield endpoint


def known(url: str, *names: str) -> LiveModels:
    return LiveModels([LiveModel(name, f"{url}#{name}", seconds=20) for name in names or BOTH])


class application_server(serving):  # noqa: N801
    """A server over the workshop's store that knows these models."""

    def __init__(self, workshop: Workshop, models: LiveModels | None) -> None:
        super().__init__(lambda: build_application(workshop.store, models=models))


def kept(conversation: Conversation, turn: int = 0) -> list[Any]:
    with conversation.workshop.store.read() as connection:
        item_id = labelling.own_row(connection, conversation.id, conversation.person.id).item_id
        return items.candidates_of(connection, item_id, conversation.id, turn)[0]


def test_both_replies_stream_blind_to_their_places_and_are_kept(
    workshop: Workshop, url: str
) -> None:
    talk = Conversation.begin(workshop, snapshots=BOTH)
    with application_server(workshop, known(url)) as server:
        for turn in range(3):
            talk.say(f"Hello {turn}")
            assert talk.view.waits_for_models
            events = list(talk.events(server))
            assert events[-1] == ("done", {})
            assert sum(kind == "delta" for kind, _ in events) > 2, "piece by piece"
            view = talk.view
            assert texts(events) == {i: one["text"] for i, one in enumerate(view.candidates)}
            drawn = kept(talk, turn)
            first_word = {one.snapshot: one.text.split()[0] for one in drawn}
            assert first_word == {"dog": "home", "cat": "the"}
            with workshop.store.read() as connection:
                row = labelling.own_row(connection, talk.id, talk.person.id)
            order = display_order(chance_of(workshop.store), row, turn, 2)
            assert [drawn[place].text for place in order] == [
                one["text"] for one in view.candidates
            ]
            assert all(one.logprob <= 1e-6 and one.sampling.seed is not None for one in drawn)
            talk.step("comparison", {"chosen": view.candidates[0]["id"], "strength": 2})


KEY = Chance("a key")


def test_one_snapshot_answers_twice_and_a_retry_asks_the_same_pair() -> None:
    assert draw_snapshots(KEY, ("a",), 2, "x") == ["a", "a"]
    drawn = [draw_snapshots(KEY, ("a", "b", "c"), 2, f"turn {number}") for number in range(60)]
    assert drawn == [
        draw_snapshots(KEY, ("a", "b", "c"), 2, f"turn {number}") for number in range(60)
    ]
    assert {frozenset(pair) for pair in drawn} == {
        frozenset(pair) for pair in (("a", "b"), ("a", "c"), ("b", "c"))
    }
    assert sorted(draw_snapshots(KEY, ("a", "b"), 4, "x")) == ["a", "a", "b", "b"]


def test_only_the_holder_may_listen_and_only_while_a_turn_waits(
    workshop: Workshop, url: str
) -> None:
    talk = Conversation.begin(workshop, snapshots=BOTH)
    path = f"/api/v1/assignments/{talk.id}/replies"
    stranger = Conversation.begin(workshop, name="another-study", snapshots=BOTH)
    with TestClient(build_application(workshop.store, models=known(url))) as client:
        assert client.get(path).status_code == 401
        early = client.get(path, headers=talk.headers)
        assert (early.status_code, "load the page again" in early.text) == (409, True)
        talk.say()
        assert client.get(path, headers=stranger.headers).status_code == 404
        assert "event: done" in client.get(path, headers=talk.headers).text
        assert client.get(path, headers=talk.headers).status_code == 409


def test_without_models_a_reader_is_told_how_to_give_some(workshop: Workshop) -> None:
    talk = Conversation.begin(workshop, snapshots=BOTH)
    talk.say()
    with application_server(workshop, None) as server:
        kind, data = list(talk.events(server))[-1]
    assert kind == "failed"
    assert data["message"] == (
        "this server has no models: start it with `hark serve --model NAME=URL`"
    )


def test_a_model_that_is_not_served_is_named_in_the_log_and_to_no_labeler(
    workshop: Workshop, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    talk = Conversation.begin(workshop, snapshots=("dog", "wolf"))
    talk.say()
    with application_server(workshop, known(url, "dog")) as server:
        [(kind, data)] = talk.events(server)
    assert (kind, data["passes"]) == ("failed", False)
    assert "wolf" not in data["message"]
    assert "--model NAME=URL, NAME being 'wolf'" in caplog.text.replace("`", "")
    assert kept(talk) == []


def test_models_that_get_ready_pass_as_no_failure(workshop: Workshop) -> None:
    talk = Conversation.begin(workshop, snapshots=("dog",))
    talk.say()
    models = LiveModels(getting_ready="the models are getting ready")
    with application_server(workshop, models) as server:
        [(kind, data)] = talk.events(server)
    assert (kind, data["message"], data["passes"]) == (
        "failed", "the models are getting ready", True,
    )  # fmt: skip


def test_an_endpoint_that_is_down_fails_and_the_same_request_recovers(
    workshop: Workshop, model_paths: dict[str, Path]
) -> None:
    talk = Conversation.begin(workshop, snapshots=BOTH)
    talk.say()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    models = known(f"http://127.0.0.1:{port}/v1")
    with application_server(workshop, models) as server:
        events = list(talk.events(server))
        assert [kind for kind, _ in events] == ["again", "again", "failed"]
        assert events[-1][1]["retry_seconds"] > 0
        assert not any(name in str(events) for name in BOTH)
        assert talk.view.waits_for_models
        broken = kept(talk)
        assert [one.finish for one in broken] == ["error", "error"]
        assert "does not answer" in broken[0].error
        with models_served(model_paths, port=port):
            assert list(talk.events(server))[-1] == ("done", {})
        assert {one.snapshot for one in kept(talk)} == set(BOTH)


def test_one_reply_cut_off_has_both_drawn_again(workshop: Workshop, url: str) -> None:
    talk = Conversation.begin(workshop, snapshots=BOTH, max_response_tokens=8)
    talk.say()
    with application_server(workshop, known(url)) as server:
        events = list(talk.events(server))
        assert [kind for kind, _ in events if kind != "delta"] == ["again", "again", "failed"]
        by_snapshot = {one.snapshot: one.finish for one in kept(talk)}
        assert by_snapshot == {"dog": "stop", "cat": "length"}
        assert talk.view.waits_for_models
        assert talk.view.candidates == ()
        study = studies.find_study(workshop.store, "dialogue-study")
        more = study.settings.model_copy(update={"max_response_tokens": 100})
        studies.change_study(workshop.store, study.id, more, by=workshop.owner.id)
        assert list(talk.events(server))[-1] == ("done", {})
    assert {one.finish for one in kept(talk)} == {"stop"}
    with workshop.store.read() as connection:
        row = labelling.own_row(connection, talk.id, talk.person.id)
        _, generation = items.candidates_of(connection, row.item_id, talk.id, 0)
    assert generation == 3, "three that failed are kept for the record"


def test_two_readers_share_one_drawing_and_one_may_leave(
    workshop: Workshop, fake: FakeEndpoint
) -> None:
    talk = Conversation.begin(workshop, snapshots=("m",))
    talk.say()
    with application_server(workshop, known(fake.url, "m")) as server:
        first = talk.events(server)
        assert next(first)[0] == "delta"
        first.close()  # A closed tab.
        readers = [talk.events(server), talk.events(server)]
        begun = [[next(reader)] for reader in readers]
        fake.finish.set()
        for heard, reader in zip(begun, readers, strict=True):
            heard += reader
            assert heard[-1] == ("done", {}), "from the beginning, whenever one comes"
            assert set(texts(heard).values()) == {"one two"}
    assert len(fake.requests) == 2, "two replies, not four"
    assert len({request["seed"] for request in fake.requests}) == 2


def test_a_drawing_ends_without_any_reader(workshop: Workshop, fake: FakeEndpoint) -> None:
    talk = Conversation.begin(workshop, snapshots=("m",))
    talk.say()
    with application_server(workshop, known(fake.url, "m")) as server:
        first = talk.events(server)
        next(first)
        first.close()
        fake.finish.set()
        _wait_until(lambda: not talk.view.waits_for_models)
    assert [one["text"] for one in talk.view.candidates] == ["one two", "one two"]


def test_a_server_that_ends_lets_readers_go_and_the_next_one_draws_anew(
    workshop: Workshop, fake: FakeEndpoint
) -> None:
    talk = Conversation.begin(workshop, snapshots=("m",))
    talk.say()
    with application_server(workshop, known(fake.url, "m")) as server:
        stream = talk.events(server)
        assert next(stream)[0] == "delta"
    rest = list(stream)
    assert rest[-1][0] == "failed"
    assert "restarting" in rest[-1][1]["message"]
    assert talk.view.waits_for_models
    assert kept(talk) == []
    fake.finish.set()
    with application_server(workshop, known(fake.url, "m")) as server:
        assert list(talk.events(server))[-1] == ("done", {})
    before, after = fake.requests[:2], fake.requests[2:]
    assert sorted(one["seed"] for one in before) == sorted(one["seed"] for one in after)


def test_two_servers_on_one_store_keep_one_pair(workshop: Workshop, fake: FakeEndpoint) -> None:
    talk = Conversation.begin(workshop, snapshots=("m",))
    talk.say()
    heard: list[list[tuple[str, Any]]] = [[], []]
    with (
        application_server(workshop, known(fake.url, "m")) as one,
        application_server(workshop, known(fake.url, "m")) as other,
    ):
        for at in (one, other):
            # FastAPI builds its routes at the first request, which two threads of one process
            # must not do at once.
            assert httpx2.get(f"{at}/api/v1/nothing").status_code == 404
        readers = [
            threading.Thread(target=lambda into=into, at=at: into.extend(talk.events(at)))
            for into, at in zip(heard, (one, other), strict=True)
        ]
        for reader in readers:
            reader.start()
        for _ in range(4):
            assert fake.pieces_sent.acquire(timeout=20)
        fake.finish.set()
        for reader in readers:
            reader.join(20)
    assert [events[-1] for events in heard] == [("done", {}), ("done", {})]
    assert len(talk.view.candidates) == 2


def test_a_question_is_answered_by_one_reply_which_knows_the_passage_and_not_the_question(
    workshop: Workshop, fake: FakeEndpoint
) -> None:
    task = {
        "kind": "question", "question": "Who came?", "options": ["A", "B"], "answer": 1,
        "passage": "B came.", "phases": ["assisted"],
    }  # fmt: skip
    talk = Conversation.begin(workshop, task, snapshots=("m",))
    fake.finish.set()
    with application_server(workshop, known(fake.url, "m")) as server:
        for text in ("First", "Second"):
            talk.say(text)
            events = list(talk.events(server))
            assert texts(events) == {0: "one two"}
        talk.step("reset", {})
        talk.say("Third")
        assert list(talk.events(server))[-1] == ("done", {})
    asked = [request["messages"] for request in fake.requests]
    assert [one["content"] for one in asked[1]] == ["B came.\n\nFirst", "one two", "Second"]
    assert [one["content"] for one in asked[2]] == ["B came.\n\nThird"], "the rest is forgotten"


def test_items_of_other_studies_are_filled_in_the_background(workshop: Workshop, url: str) -> None:
    asked = [{"role": "user", "content": "Hello"}]
    ranked = workshop.study("ranking", snapshots=BOTH)
    post = {"kind": "summary", "post": "Long", "title": "Title", "community": "r/x"}
    summed = workshop.study("summary", snapshots=BOTH)
    closed = workshop.study("vote", snapshots=BOTH, open_it=False)
    wanted = [
        add(workshop, ranked, {"kind": "ranking", "prompt": asked}),
        add(workshop, summed, post),
    ]
    left = add(workshop, closed, {"kind": "vote", "prompt": asked})
    store = workshop.store
    with application_server(workshop, known(url)):
        for study in (ranked, summed):
            _wait_until(lambda study=study: not items.to_draw(store, study.id))
    with store.read() as connection:
        found = [items.candidates_of(connection, one)[0] for one in (*wanted, left)]
    assert [len(each) for each in found] == [4, 2, 0]
    assert sorted(one.snapshot for one in found[0]) == ["cat", "cat", "dog", "dog"]


def test_an_outage_leaves_no_trace_in_items_and_is_waited_for(
    workshop: Workshop, fake: FakeEndpoint, caplog: pytest.LogCaptureFixture
) -> None:
    study = workshop.study("vote", snapshots=("m",))
    task = {"kind": "vote", "prompt": [{"role": "user", "content": "Hello"}]}
    item_id = add(workshop, study, task)
    fake.refuse_with = (503, "out for lunch")
    with application_server(workshop, known(fake.url, "m")):
        _wait_until(lambda: len(fake.requests) > 4)
        assert "out for lunch" in caplog.text
        with workshop.store.read() as connection:
            assert items.candidates_of(connection, item_id) == ([], -1)
        fake.finish.set()
        fake.refuse_with = None
        _wait_until(lambda: not items.to_draw(workshop.store, study.id))
    assert caplog.text.count("out for lunch") == 1, "it is not said again and again"


def test_a_defect_is_logged_and_the_reader_is_told(
    workshop: Workshop, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(LiveModels):
        def get(self, name: str) -> LiveModel:
            return None  # type: ignore[return-value]

    talk = Conversation.begin(workshop, snapshots=("m",))
    talk.say()

    async def read() -> list[Any]:
        replies = Replies(workshop.store, Broken())
        drawing = await replies.open(talk.id, talk.person.id)
        return [one async for one in drawing.listen()]

    [event] = run_async(read())
    assert event.kind == "failed"
    assert "a defect" in caplog.text


def _wait_until(condition: Any) -> None:
    done = threading.Event()
    for _ in range(600):
        if condition():
            return
        done.wait(0.05)
    raise AssertionError("it did not happen within 30 seconds")


def test_the_first_words_come_before_the_last(workshop: Workshop, fake: FakeEndpoint) -> None:
    """Replies come while they are drawn: nothing on the way holds them back."""
    talk = Conversation.begin(workshop, snapshots=("m",))
    talk.say()
    with (
        application_server(workshop, known(fake.url, "m")) as server,
        httpx2.Client(headers=talk.headers, timeout=20) as client,
        client.stream("GET", f"{server}/api/v1/assignments/{talk.id}/replies") as response,
    ):
        assert response.headers["content-type"].startswith("text/event-stream")
        first = next(response.iter_text())
        assert first.startswith("event: delta\n")
        assert not fake.finish.is_set()
        fake.finish.set()


def test_log_lines_of_broken_replies_name_the_model(
    workshop: Workshop, fake: FakeEndpoint, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "hark.web")
    fake.refuse_with = (500, "out of memory")
    talk = Conversation.begin(workshop, snapshots=("m",))
    talk.say()
    with application_server(workshop, known(fake.url, "m")) as server:
        assert list(talk.events(server))[-1][0] == "failed"
    assert "from 'm' is not readable: endpoint" in caplog.text
    assert "out of memory" in caplog.text
