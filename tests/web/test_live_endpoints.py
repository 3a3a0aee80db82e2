"""Endpoints that are slow, picky, secretive, or send what no database takes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from tests.web.fake_endpoint import FakeEndpoint
from tests.web.talking import run_async

from hark.errors import SettingsError
from hark.feedback.records import Candidate, Sampling, Turn
from hark.feedback.studies import StudySettings
from hark.web.live.endpoints import LiveModel, Wanted, parse_models


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeEndpoint]:
    monkeypatch.delenv("HARK_API_KEY", raising=False)
    with FakeEndpoint() as endpoint:
        endpoint.finish.set()
        yield endpoint


def draw(fake: FakeEndpoint, *, name: str = "m", times: int = 1, seconds: float = 20) -> Any:
    """The last of a few draws, and the pieces it came in."""

    async def draw_all() -> tuple[Candidate, list[str]]:
        model = LiveModel(name, fake.url, seconds=seconds)
        wanted = Wanted(
            snapshot=name,
            messages=(Turn(role="user", content="Hello"),),
            sampling=Sampling(temperature=0.5, top_p=0.9, seed=7),
            maximum_tokens=30,
        )
        for _ in range(times):
            pieces: list[str] = []
            drawn = await model.draw(wanted, pieces.append)
        await model.close()
        return drawn, pieces

    return run_async(draw_all())


def chunk(text: str, finish: str | None = None, **fields: Any) -> dict[str, Any]:
    return {"choices": [{"delta": {"content": text}, "finish_reason": finish, **fields}]}


def test_a_request_says_how_to_draw_and_a_response_is_put_together(fake: FakeEndpoint) -> None:
    told = {"logprobs": {"content": [{"logprob": -0.5}, {"logprob": -0.25}]}}
    fake.closing = [chunk(" two", **told), chunk("", "stop"), {"choices": []}]
    drawn, pieces = draw(fake)
    assert pieces == ["one", " two"]
    assert (drawn.text, drawn.finish, drawn.error) == ("one two", "stop", None)
    assert drawn.logprob == -0.75
    assert drawn.sampling == Sampling(temperature=0.5, top_p=0.9, seed=7)
    [asked] = fake.requests
    assert asked == {
        "model": "m", "messages": [{"role": "user", "content": "Hello"}], "temperature": 0.5,
        "top_p": 0.9, "seed": 7, "max_tokens": 30, "logprobs": True, "stream": True,
        "authorization": None,
    }  # fmt: skip


def test_what_an_endpoint_does_not_take_is_left_out_from_then_on(fake: FakeEndpoint) -> None:
    fake.refused_fields = {"logprobs", "max_tokens", "seed"}
    drawn, _ = draw(fake, times=2)
    assert drawn.readable
    assert len(fake.requests) == 3 + 1 + 1
    assert fake.requests[-1]["max_completion_tokens"] == 30
    assert not {"logprobs", "max_tokens", "seed"} & fake.requests[-1].keys()


@pytest.mark.parametrize(
    ("closing", "error"),
    [
        ([chunk(" cut", "length")], None),
        ([chunk(" gone")], "finish_reason None"),
        ([chunk("", "content_filter")], "finish_reason 'content_filter'"),
        ([{"error": {"message": "out of memory"}}], "gave up: out of memory"),
        (["no JSON"], "not a chunk of a chat"),
        ([{"choices": [{"text": "old"}]}], "not a chunk of a chat"),
        ([chunk("nul \0", "stop")], "odd characters"),
        (['{"choices": [{"delta": {"content": "\\ud800"}, "finish_reason": "stop"}]}'], "odd"),
        ([chunk("x" * 100_001, "stop")], "over 100000 characters"),
        ([chunk(" two", "stop", logprobs={"content": [{"logprob": -9999.0}]})], None),
    ],
)
def test_whatever_comes_is_a_candidate(
    fake: FakeEndpoint, closing: list[Any], error: str | None
) -> None:
    fake.closing = closing
    drawn, _ = draw(fake)
    assert (drawn.finish == "error") == (error is not None)
    assert error is None or error in drawn.error
    assert drawn.logprob is None
    drawn.text.encode()


def test_a_blank_response_is_not_readable(fake: FakeEndpoint) -> None:
    fake.opening, fake.closing = [], [chunk(" \n", "stop")]
    drawn, _ = draw(fake)
    assert (drawn.finish, drawn.readable) == ("stop", False)


def test_odd_line_ends_in_a_text_do_not_break_it(fake: FakeEndpoint) -> None:
    fake.opening, fake.closing = [], [chunk("a\u2028b\x85c", "stop")]
    assert draw(fake)[0].text == "a\u2028b\x85c"


def test_a_refusal_is_told_without_the_key(
    fake: FakeEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HARK_API_KEY_MY_MODEL", "sk-secret")
    monkeypatch.setenv("HARK_API_KEY", "sk-another")
    fake.refuse_with = (401, "invalid key sk-secret")
    drawn, _ = draw(fake, name="my-model")
    assert fake.requests[0]["authorization"] == "Bearer sk-secret"
    assert drawn.finish == "error"
    assert "answered 401" in drawn.error
    assert "sk-secret" not in drawn.error


def test_an_endpoint_that_does_not_end_is_given_up(fake: FakeEndpoint) -> None:
    fake.finish.clear()
    drawn, pieces = draw(fake, seconds=0.3)
    assert drawn.error in ("no whole response in 0.3 seconds", "the connection failed: ReadTimeout")
    assert (drawn.text, pieces) == ("one", ["one"])


def test_models_are_given_as_name_and_address() -> None:
    given = ["a=http://h/v1#x=y", "b=runs/one"]
    assert parse_models(given) == {"a": "http://h/v1#x=y", "b": "runs/one"}
    for wrong, why in ((["a"], "NAME=URL"), (["a=", "b=c"], "NAME=URL"), (["a=b", "a=c"], "twice")):
        with pytest.raises(SettingsError, match=why):
            parse_models(wrong)
    with pytest.raises(SettingsError, match="password"):
        LiveModel("a", "http://me:secret@host/v1")


def test_settings_of_models_that_would_be_ignored_are_refused() -> None:
    shared = {"name": "s", "title": "S", "instructions": "Do."}
    for wrong, why in (
        ({"task": "review", "snapshots": ["a"]}, "snapshots would be ignored"),
        ({"task": "vote", "snapshots": ["a", "a"]}, "named twice"),
        ({"task": "vote", "sampling": {"best_of": 2, "temperature": 0}}, "temperature 0"),
    ):
        with pytest.raises(SettingsError, match=why):
            StudySettings.parse({**shared, **wrong})
