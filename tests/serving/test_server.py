"""The server, asked by OpenAI's own client."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from typing import Any

import httpx2
import openai
import pytest
import torch
from openai import AsyncOpenAI
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from hark.cli.main import run
from hark.data.records import ask
from hark.models.generation import Generated, SamplingSettings, generate
from hark.models.language_model import load_language_model
from hark.models.logprobs import response_logprobs
from hark.models.packing import PromptTree, pack_for
from hark.models.tokenizer import encode_prompt, load_tokenizer

WORDS = ["a", "small", "dog", "saw", "the", "big", "cat", "near", "an", "old", "house", "and"]
PROMPTS = [f"{WORDS[number % 12]} {number}?" for number in range(64)]


@pytest.fixture(scope="module")
def first(served: Any) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    path = served.models["first"]
    return load_language_model(path), load_tokenizer(path)


def drawn_here(
    first: tuple[PreTrainedModel, PreTrainedTokenizerBase],
    text: str,
    settings: SamplingSettings,
    *,
    seed: int,
    sequence_id: int = 0,
) -> Generated:
    model, tokenizer = first
    prompt = encode_prompt(tokenizer, ask(text))
    return generate(model, tokenizer, [prompt], settings, seed=seed, sequence_ids=[sequence_id])[0]


def health(served: Any, model: str = "first") -> dict[str, int]:
    with urllib.request.urlopen(served.health, timeout=10) as reply:
        state: dict[str, int] = json.load(reply)["models"][model]
    return state


def asked(text: str, **options: Any) -> dict[str, Any]:
    return {"model": "first", "messages": [{"role": "user", "content": text}], **options}


def different(number: int) -> dict[str, Any]:
    """Options of one of 64 requests that differ in every way."""
    ways = ({"temperature": 0.7}, {"top_p": 0.9}, {"temperature": 0.0}, {"stop": ["e", "zz"]}, {})
    return {"seed": 100 + number, "max_tokens": 4 + number % 13, **ways[number % 5]}


def test_sixty_four_concurrent_requests_are_answered_as_if_each_were_alone(served: Any) -> None:
    async def all_at_once() -> list[str | None]:
        async with AsyncOpenAI(base_url=served.url, api_key="none", max_retries=0) as client:
            made = [
                client.chat.completions.create(**asked(text, **different(number)))
                for number, text in enumerate(PROMPTS)
            ]
            return [one.choices[0].message.content for one in await asyncio.gather(*made)]

    crowd = asyncio.run(all_at_once())
    with served.client() as client:
        alone = [
            client.chat.completions.create(**asked(text, **different(number)))
            for number, text in enumerate(PROMPTS)
        ]
    assert len(crowd) == 64 > served.rows
    assert crowd == [one.choices[0].message.content for one in alone]
    assert len(set(crowd)) > 40
    assert {one.choices[0].finish_reason for one in alone} == {"stop", "length"}


@pytest.mark.parametrize("number", range(5))
def test_a_request_draws_what_generate_draws(
    served: Any, first: tuple[PreTrainedModel, PreTrainedTokenizerBase], number: int
) -> None:
    options = different(number)
    names = {"max_tokens": "max_response_tokens"}
    given = {names.get(name, name): value for name, value in options.items() if name != "seed"}
    settings = SamplingSettings.model_validate(given)
    expected = drawn_here(first, "the cat", settings, seed=options["seed"], sequence_id=7)
    with served.client() as client:
        reply = client.chat.completions.create(
            **asked("the cat", logprobs=True, extra_body={"sequence_id": 7}, **options)
        )
    choice = reply.choices[0]
    assert choice.message.content == expected.text
    assert choice.finish_reason == {"end": "stop"}.get(expected.finish, expected.finish)
    assert reply.usage is not None
    assert reply.usage.completion_tokens == len(expected.tokens)
    assert choice.logprobs is not None
    assert choice.logprobs.content is not None
    told = [each.logprob for each in choice.logprobs.content]
    assert told == pytest.approx(expected.logprobs.tolist(), abs=1e-5)


def test_logprobs_are_those_of_a_forward_pass(
    served: Any, first: tuple[PreTrainedModel, PreTrainedTokenizerBase]
) -> None:
    model, tokenizer = first
    settings = SamplingSettings(max_response_tokens=20)
    tokens = drawn_here(first, "ran home", settings, seed=3).tokens
    prompt = encode_prompt(tokenizer, ask("ran home"))
    with torch.no_grad():
        batch = pack_for(model, [PromptTree(tuple(prompt), (tokens,))], pad_token_id=0)
        expected = response_logprobs(model, batch)
        logits = model(torch.tensor([[*prompt, *tokens]])).logits[0, len(prompt) - 1 : -1]
    with served.client() as client:
        reply = client.chat.completions.create(
            **asked("ran home", seed=3, max_tokens=20, logprobs=True, top_logprobs=3)
        )
    content = reply.choices[0].logprobs.content  # type: ignore[union-attr]
    assert content is not None
    assert [each.logprob for each in content] == pytest.approx(expected.tolist(), abs=1e-4)
    top = torch.log_softmax(logits, dim=-1).topk(3)
    for each, values, indices in zip(content, top.values, top.indices, strict=True):
        assert [one.logprob for one in each.top_logprobs] == pytest.approx(
            values.tolist(), abs=1e-4
        )
        assert [one.token for one in each.top_logprobs] == [tokenizer.decode([i]) for i in indices]


@pytest.mark.parametrize("number", range(10))
def test_streaming_gives_what_a_whole_reply_gives(served: Any, number: int) -> None:
    request = asked(PROMPTS[number], **different(number), n=3, logprobs=True)
    with served.client() as client:
        whole = client.chat.completions.create(**request)
        texts, finishes, tokens = ["", "", ""], [None, None, None], [[], [], []]
        usage = None
        for chunk in client.chat.completions.create(
            **request, stream=True, stream_options={"include_usage": True}
        ):
            usage = chunk.usage or usage
            for choice in chunk.choices:
                texts[choice.index] += choice.delta.content or ""
                finishes[choice.index] = choice.finish_reason or finishes[choice.index]
                if choice.logprobs:
                    tokens[choice.index] += choice.logprobs.content
    assert texts == [choice.message.content for choice in whole.choices]
    assert finishes == [choice.finish_reason for choice in whole.choices]
    for told, choice in zip(tokens, whole.choices, strict=True):
        assert [each.token for each in told] == [each.token for each in choice.logprobs.content]
    assert usage == whole.usage


def test_completions_take_several_prompts_and_stream(served: Any) -> None:
    request = {"model": "second", "prompt": ["a dog", "the cat"], "max_tokens": 12, "seed": 5}
    with served.client() as client:
        whole = client.completions.create(**request, n=2, logprobs=2)
        texts = [""] * 4
        for chunk in client.completions.create(**request, n=2, stream=True):
            for choice in chunk.choices:
                texts[choice.index] += choice.text
        single = client.completions.create(**{**request, "prompt": "a dog"})
    assert texts == [choice.text for choice in whole.choices]
    assert len(set(texts)) == 4
    assert single.choices[0].text == texts[0]
    logprobs = whole.choices[0].logprobs
    assert logprobs is not None
    counts = [len(choice.logprobs.tokens) for choice in whole.choices]
    assert len(logprobs.token_logprobs) == len(logprobs.text_offset) == counts[0]
    assert all(len(top) <= 2 for top in logprobs.top_logprobs)
    assert whole.usage.total_tokens == whole.usage.prompt_tokens + sum(counts)


def test_token_ids_are_a_prompt_too(served: Any) -> None:
    tokenizer = load_tokenizer(served.models["first"])
    with served.client() as client:
        text = client.completions.create(model="first", prompt="a dog", seed=1)
        ids = client.completions.create(model="first", prompt=tokenizer("a dog").input_ids, seed=1)
        assert ids.choices[0].text == text.choices[0].text
        assert text.usage.completion_tokens <= 16
        with pytest.raises(openai.BadRequestError, match="token 4000 is not one of the 280"):
            client.completions.create(model="first", prompt=[3, 4000])


def test_each_model_answers_for_itself(served: Any) -> None:
    with served.client() as client:
        assert [model.id for model in client.models.list()] == ["first", "second"]
        assert client.models.retrieve("second").id == "second"
        said = {
            name: client.chat.completions.create(**asked("the cat", seed=1) | {"model": name})
            for name in ("first", "second")
        }
    contents = {name: reply.choices[0].message.content for name, reply in said.items()}
    assert contents["first"] != contents["second"]
    assert said["second"].model == "second"


def test_a_response_without_a_limit_may_fill_the_context(served: Any) -> None:
    with served.client() as client:
        reply = client.chat.completions.create(**asked("the cat", seed=2))
    if reply.choices[0].finish_reason == "length":
        assert reply.usage.total_tokens == served.context
    assert reply.usage.completion_tokens > 16


@pytest.mark.parametrize("streamed", [True, False])
def test_a_client_that_leaves_frees_its_rows(served: Any, streamed: bool) -> None:
    async def until(condition: Callable[[dict[str, int]], bool]) -> None:
        deadline = time.monotonic() + 20
        while not condition(health(served)):
            assert time.monotonic() < deadline
            await asyncio.sleep(0.01)

    # Enough work that it cannot be done before the client leaves.
    body = asked("a dog", n=128, min_tokens=60, max_tokens=60, temperature=0.5, stream=streamed)

    async def leave() -> None:
        async with httpx2.AsyncClient(timeout=30) as client:
            post = asyncio.ensure_future(client.post(served.url + "/chat/completions", json=body))
            await until(lambda state: state["active"] == served.rows)
            assert not post.done()
            post.cancel()
        await until(lambda state: state["active"] == state["unfinished"] == 0)

    before = health(served)["drawn_tokens"]
    asyncio.run(leave())
    assert 0 < health(served)["drawn_tokens"] - before < 128 * 60


def test_overload_is_refused_and_the_server_goes_on(served: Any) -> None:
    body = asked("a dog", n=128, min_tokens=60, max_tokens=60)
    address = served.url + "/chat/completions"

    async def crowd() -> list[httpx2.Response]:
        async with httpx2.AsyncClient(timeout=60) as client:
            first = [asyncio.ensure_future(client.post(address, json=body)) for _ in range(2)]
            while health(served)["unfinished"] < 256:
                await asyncio.sleep(0.01)
            refused = await client.post(address, json=body)
            for each in first:
                each.cancel()
            return [refused]

    refused = asyncio.run(crowd())[0]
    assert refused.status_code == 503
    assert refused.headers["retry-after"] == "1"
    assert refused.json()["error"]["code"] == "overloaded"
    with served.client() as client:
        assert client.chat.completions.create(**asked("a dog", max_tokens=2)).choices


@pytest.mark.parametrize(
    ("options", "error", "param", "message"),
    [
        ({"model": "frist"}, openai.NotFoundError, "model", "did you mean 'first'"),
        (
            {"max_tokens": 90},
            openai.BadRequestError,
            "messages",
            r"is 96 .* \d+ of the prompt and 90",
        ),
        ({"max_completion_tokens": 90}, openai.BadRequestError, "messages", "is 96 tokens"),
        ({"temperature": -0.5}, openai.BadRequestError, "temperature", r"got -0\.5"),
        ({"top_p": 1.5}, openai.BadRequestError, "top_p", r"got 1\.5"),
        ({"max_tokens": 0}, openai.BadRequestError, "max_tokens", "got 0"),
        ({"n": 129}, openai.BadRequestError, "n", "got 129"),
        ({"stop": ["x", ""]}, openai.BadRequestError, "stop", "empty string"),
        ({"top_logprobs": 3}, openai.BadRequestError, "top_logprobs", "logprobs is true"),
        ({"presence_penalty": 0.5}, openai.BadRequestError, "presence_penalty", "not supported"),
        ({"extra_body": {"top_q": 1}}, openai.BadRequestError, "top_q", "did you mean 'top_p'"),
        ({"messages": []}, openai.BadRequestError, "messages", "at least 1"),
        (
            {"max_tokens": 4, "extra_body": {"min_tokens": 5}},
            openai.BadRequestError,
            "min_tokens",
            "at most 4",
        ),
        (
            {"messages": [{"role": "robot", "content": "a"}]},
            openai.BadRequestError,
            "messages[0]",
            "robot",
        ),
        (
            {"messages": [{"role": "user", "content": "dog " * 100}]},
            openai.BadRequestError,
            "messages",
            r"context of 'first' is 96 tokens, but the request needs \d+",
        ),
    ],
)
def test_a_bad_request_is_told_which_field_and_why(
    served: Any, options: dict[str, Any], error: type[Any], param: str, message: str
) -> None:
    with served.client() as client, pytest.raises(error, match=message) as raised:
        client.chat.completions.create(**asked("the cat") | options)
    assert raised.value.param == param
    assert raised.value.type == "invalid_request_error"


def test_what_is_no_request_gets_an_error_of_the_same_form(served: Any) -> None:
    with httpx2.Client(timeout=10) as client:
        answers = [
            client.post(served.url + "/chat/completions", content=b"{"),
            client.post(served.url + "/chat/completions", json=[]),
            client.get(served.url + "/chat/completions"),
            client.get(served.url + "/nothing"),
        ]
    assert [each.status_code for each in answers] == [400, 400, 405, 404]
    assert all(each.json()["error"]["message"] for each in answers)


def test_ctrl_c_ends_the_server_quietly_while_it_streams(served: Any) -> None:
    command = [sys.executable, "-m", "hark", "serve-model", str(served.models["first"])]
    process = subprocess.Popen(
        [*command, "--port", "0", "--json"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    ready = json.loads(process.stdout.readline())
    body = asked("a dog", n=128, min_tokens=60, stream=True)
    with httpx2.stream("POST", ready["url"] + "/chat/completions", json=body, timeout=20) as reply:
        lines = reply.iter_lines()
        next(lines)
        process.send_signal(signal.SIGINT)
        told = [line for line in lines if line]
    errors = process.communicate(timeout=20)[1]
    assert process.returncode in (0, 130)
    assert "Traceback" not in errors
    assert json.loads(told[-1].removeprefix("data: "))["error"]["code"] == "stopped"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere/at/all"], "there is no model directory 'nowhere/at/all'"),
        (["a=x", "a=y"], "two models are named 'a'"),
        (["=x"], "'=x' is not NAME=PATH"),
        ([], "name at least one model|requires an argument"),
    ],
)
def test_what_cannot_be_served_is_told_in_one_sentence(
    arguments: list[str], message: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(["serve-model", *arguments, "--port", "0"]) == 2
    told = capfd.readouterr()
    assert re.search(message, told.err)


def test_a_port_that_is_taken_is_told_before_any_model_is_loaded(
    capfd: pytest.CaptureFixture[str],
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert run(["serve-model", "nowhere/at/all", "--port", str(port)]) == 2
    assert f"cannot listen at port {port}" in capfd.readouterr().err
