"""The HTTP face: OpenAI's endpoints over the models that are served, and one for their state."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from typing import Any, TypeVar

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response, StreamingResponse
from starlette.exceptions import HTTPException
from starlette.types import Receive, Scope, Send

from hark import __version__
from hark.errors import did_you_mean
from hark.serving.bodies import Body, ChatBody, CompletionBody
from hark.serving.gatekeeper import Gatekeeper
from hark.serving.model_thread import Job
from hark.serving.ranker import Ranker
from hark.serving.refusal import Refusal, bad_field
from hark.serving.replies import Choice, Endpoint, Reply
from hark.serving.response_text import ResponseText
from hark.serving.served_model import ServedModel

Result = TypeVar("Result")


def build_application(
    models: Mapping[str, ServedModel],
    ranker: Ranker | None = None,
    gatekeeper: Gatekeeper | None = None,
) -> FastAPI:
    """The application; its models begin to work when it starts and stop when it ends.

    ranker: chooses the best of n; without it, such requests are refused.
    gatekeeper: answers strange prompts in the models' place; without it, all are answered.
    """

    @contextlib.asynccontextmanager
    async def lifespan(_application: FastAPI) -> AsyncIterator[None]:
        for served in models.values():
            served.thread.start()
        yield
        for served in models.values():
            served.stop()
        for served in models.values():
            await served.thread.join()
        for helper in (ranker, gatekeeper):
            if helper is not None:
                helper.stop()

    # Without the interactive pages: they fetch their scripts from elsewhere.
    application = FastAPI(
        title="hark", version=__version__, lifespan=lifespan, docs_url=None, redoc_url=None
    )
    started = int(time.time())

    @application.get("/v1/models")
    async def list_models() -> dict[str, Any]:
        return {
            "object": "list",
            "data": [_described(served, started) for served in models.values()],
        }

    @application.get("/v1/models/{name:path}")
    async def retrieve_model(name: str) -> dict[str, Any]:
        return _described(_named(models, name), started)

    @application.post("/v1/chat/completions", response_model=None)
    async def chat(body: ChatBody, request: Request) -> Response:
        served = _named(models, body.model)
        prompts = [await served.encode_dialogue(body.dialogue())]
        if gatekeeper is not None and await gatekeeper.refuses(body.dialogue()):
            return _withhold(served, prompts, body, gatekeeper.text)
        if body.draws > body.choices:
            return await _answer_best(served, ranker, prompts, body, request)
        return await _answer("chat", served, prompts, body, request)

    @application.post("/v1/completions", response_model=None)
    async def completions(body: CompletionBody, request: Request) -> Response:
        served = _named(models, body.model)
        if gatekeeper is not None:
            raise Refusal(
                400,
                "this server checks dialogues before it answers them and a bare text is none; use "
                "/v1/chat/completions",
            )
        prompts = [await served.encode_text(prompt) for prompt in body.prompts()]
        return await _answer("completions", served, prompts, body, request)

    @application.get("/health")
    async def health() -> dict[str, Any]:
        gate = {} if gatekeeper is None else {"gatekeeper": gatekeeper.state()}
        states = {name: _state(each) for name, each in models.items()}
        return {"status": "ok", "models": states} | gate

    _answer_errors(application)
    return application


def _answer_errors(application: FastAPI) -> None:
    """Every error has OpenAI's form."""

    @application.exception_handler(Refusal)
    async def refused(_request: Request, error: Refusal) -> Response:
        return JSONResponse(error.to_json(), status_code=error.status, headers=error.headers)

    @application.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        body = ChatBody if "chat" in request.url.path else CompletionBody
        return await refused(request, bad_field(error.errors(), body.model_fields))

    @application.exception_handler(HTTPException)
    async def no_such_page(request: Request, error: HTTPException) -> Response:
        place = f"{request.method} {request.url.path}"
        return await refused(request, Refusal(error.status_code, f"{place}: {error.detail}"))


def _named(models: Mapping[str, ServedModel], name: str) -> ServedModel:
    if name not in models:
        raise Refusal(
            404,
            f"there is no model '{name}' here{did_you_mean(name, models)}; "
            f"models: {', '.join(models)}",
            param="model",
            code="model_not_found",
        )
    return models[name]


def _described(served: ServedModel, started: int) -> dict[str, Any]:
    return {
        "id": served.name,
        "object": "model",
        "created": started,
        "owned_by": "hark",
        "max_model_len": served.context,
    }


def _state(served: ServedModel) -> dict[str, int]:
    """Rows in use, responses under way in all, and tokens drawn since the start."""
    thread = served.thread
    return {
        "rows": served.rows,
        "active": thread.active,
        "unfinished": thread.unfinished,
        "drawn_tokens": thread.drawn_tokens,
    }


async def _answer(
    endpoint: Endpoint,
    served: ServedModel,
    prompts: Sequence[list[int]],
    body: Body,
    request: Request,
) -> Response:
    """Begin to draw, and tell the choices whole or as they grow."""
    job = served.begin(prompts, body)
    reply = _reply(endpoint, served, prompts, body, job)
    if body.stream:
        events = _events(reply, job, with_usage=body.with_usage)
        return _EventStream(events, on_end=lambda: served.thread.close(job))
    try:
        return JSONResponse(await _while_connected(request, _whole(reply, job)))
    finally:
        served.thread.close(job)


async def _answer_best(
    served: ServedModel,
    ranker: Ranker | None,
    prompts: Sequence[list[int]],
    body: ChatBody,
    request: Request,
) -> Response:
    """Draw all, and tell the best one; in a stream too it comes whole, for it is known last."""
    if ranker is None:
        raise Refusal(
            400,
            "'best_of' needs a preference model to choose by: start the server with --scorer PATH",
            param="best_of",
        )
    job = served.begin(prompts, body)

    async def choose() -> tuple[Reply, str]:
        reply = _reply("chat", served, prompts, body, job)
        texts = await _texts(reply, job)
        place = await ranker.choose(body.dialogue(), texts)
        return reply.only(place), texts[place]

    try:
        reply, text = await _while_connected(request, choose())
    finally:
        served.thread.close(job)
    return _at_once(reply, [text], body)


def _withhold(
    served: ServedModel, prompts: Sequence[list[int]], body: ChatBody, text: str
) -> Response:
    """Say `text` in the place of every choice: as its content, and as OpenAI's `refusal` beside."""
    choices = [Choice.refusal(index, served.decoder) for index in range(body.choices)]
    reply = Reply(
        endpoint="chat", model=served.name, prompt_tokens=sum(map(len, prompts)), choices=choices
    )
    return _at_once(reply, [text] * len(choices), body)


def _at_once(reply: Reply, texts: Sequence[str], body: Body) -> Response:
    """Texts that are known whole, as a body or, where the client wants one, as a stream."""
    if not body.stream:
        return JSONResponse(reply.whole(texts))
    chunks = reply.opening()
    chunks += [reply.chunk(choice, text) for choice, text in zip(reply.choices, texts, strict=True)]
    chunks += [reply.closing()] if body.with_usage else []
    events = "".join(map(_event, chunks)) + "data: [DONE]\n\n"
    return Response(events, media_type="text/event-stream", headers={"Cache-Control": "no-cache"})


def _reply(
    endpoint: Endpoint, served: ServedModel, prompts: Sequence[list[int]], body: Body, job: Job
) -> Reply:
    choices = [
        Choice(
            endpoint=endpoint,
            index=index,
            tokenizer=served.decoder,
            text=ResponseText(
                served.decoder, stop=request.settings.stop, stripped=endpoint == "chat"
            ),
            with_logprobs=body.alternatives is not None,
        )
        for index, request in enumerate(job.requests)
    ]
    return Reply(
        endpoint=endpoint,
        model=served.name,
        prompt_tokens=sum(map(len, prompts)),
        choices=choices,
    )


async def _whole(reply: Reply, job: Job) -> dict[str, Any]:
    return reply.whole(await _texts(reply, job))


async def _texts(reply: Reply, job: Job) -> list[str]:
    """Every response, once all have ended."""
    texts = [""] * len(reply.choices)
    async for index, drawn in job.drawn():
        texts[index] += reply.choices[index].add(drawn, at_once=False)
    return texts


async def _events(reply: Reply, job: Job, *, with_usage: bool) -> AsyncIterator[str]:
    """Server-sent events: a chunk for each piece of text that has become certain."""
    for chunk in reply.opening():
        yield _event(chunk)
    try:
        async for index, drawn in job.drawn():
            choice = reply.choices[index]
            piece = choice.add(drawn, at_once=True)
            if piece or drawn.finish:
                yield _event(reply.chunk(choice, piece))
    except Refusal as error:
        yield _event(error.to_json())
        return
    if with_usage:
        yield _event(reply.closing())
    yield "data: [DONE]\n\n"


def _event(chunk: Mapping[str, Any]) -> str:
    return f"data: {json.dumps(chunk, ensure_ascii=False, allow_nan=False)}\n\n"


class _EventStream(StreamingResponse):
    """A stream that says when it has ended, also when its client leaves."""

    media_type = "text/event-stream"

    def __init__(self, content: AsyncIterator[str], *, on_end: Callable[[], None]) -> None:
        super().__init__(content, headers={"Cache-Control": "no-cache"})
        self.on_end = on_end

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self.on_end()


async def _while_connected(request: Request, work: Coroutine[Any, Any, Result]) -> Result:
    """The result of `work`, which is given up if the client leaves before."""
    task = asyncio.ensure_future(work)
    watch = asyncio.ensure_future(_disconnected(request))
    try:
        await asyncio.wait({task, watch}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise Refusal(499, "the client has left")
        return task.result()
    finally:
        task.cancel()
        watch.cancel()


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
