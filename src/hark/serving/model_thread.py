"""One model's engine in a thread of its own, and the jobs that the event loop gives it.

The event loop owns the jobs and counts them; the thread owns the engine. Orders go one way through
a queue, drawn tokens come back through the loop, all of one step at once. A job that is cancelled
frees its rows at the next step.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import queue
import threading
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor

from hark.models.engine import Engine, Finish, Request, Step
from hark.models.sampling import behaviour_logprobs
from hark.serving.refusal import Refusal

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Drawn:
    """One token of a response, filled by the thread."""

    token: int
    logprob: float
    """Of the tempered distribution, before top-p and top-k (see `hark.models.sampling`)."""
    alternatives: tuple[tuple[int, float], ...]
    """The most probable tokens at this place and their log-probabilities, where asked for."""
    finish: Finish | None
    """What this token ended; None for all but the last."""


Drawings = list[tuple[int, Drawn]]
"""Tokens of one step, each with the index of its response in the job."""


@dataclass(eq=False)
class Job:
    """The responses that one HTTP request asked for."""

    requests: Sequence[Request]
    alternatives: int
    """How many alternatives to tell of each token."""
    steps: asyncio.Queue[Drawings | Refusal] = field(default_factory=asyncio.Queue)
    """What each step drew of this job."""
    left: int = 0
    """Responses that have not ended."""

    def __post_init__(self) -> None:
        self.left = len(self.requests)

    async def drawn(self) -> AsyncIterator[tuple[int, Drawn]]:
        """Tokens as they are drawn, each with the index of its response; ends with the last.

        Raises: Refusal if the engine could not finish.
        """
        while self.left > 0:
            step = await self.steps.get()
            if isinstance(step, Refusal):
                raise step
            for index, drawn in step:
                self.left -= drawn.finish is not None
                yield index, drawn
            # A queue that is never empty never waits: other requests want their turn.
            await asyncio.sleep(0)


class ModelThread:
    """Draws the responses of one model, as many as there are rows at the same time."""

    def __init__(self, make_engine: Callable[[], Engine], *, name: str, most: int) -> None:
        """make_engine: called again after a failure; most: responses that may be drawn or wait at
        the same time."""
        self.make_engine, self.most = make_engine, most
        with torch.inference_mode():
            self.engine = make_engine()
        self.jobs: set[Job] = set()
        """Those that have neither ended nor been cancelled."""
        self.active = self.drawn_tokens = 0
        """Responses being drawn, and tokens drawn since the start, as the thread last said."""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._orders: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._owners: dict[int, tuple[Job, int]] = {}
        self._thread = threading.Thread(target=self._work, name=f"hark-{name}", daemon=True)

    def start(self) -> None:
        """Begin to work; to be called in the event loop."""
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    def stop(self) -> None:
        """End the thread after the step that it is at; what is unfinished is refused."""
        self._orders.put(None)

    async def join(self) -> None:
        """Wait for the thread to end."""
        await asyncio.to_thread(self._thread.join)

    @property
    def unfinished(self) -> int:
        """Responses being drawn or waiting."""
        return sum(job.left for job in self.jobs)

    def submit(self, requests: Sequence[Request], *, alternatives: int) -> Job:
        """Have responses drawn.

        Raises: Refusal if too many wait already, or the thread has ended.
        """
        if not self._thread.is_alive():
            raise _stopped()
        if self.unfinished + len(requests) > self.most:
            raise Refusal(
                503,
                f"the server is busy: {self.unfinished} responses are being drawn or wait, and "
                f"{self.most} may; try again later",
                code="overloaded",
            )
        job = Job(requests, alternatives)
        self.jobs.add(job)
        self._orders.put(partial(self._admit, job))
        return job

    def close(self, job: Job) -> None:
        """The job's client has all it wanted, or has left: what is unfinished is not drawn."""
        if job in self.jobs:
            self.jobs.remove(job)
            if job.left > 0:
                self._orders.put(partial(self._cancel, job))

    def _refuse_all(self) -> None:
        for job in self.jobs:
            job.steps.put_nowait(_stopped())

    # What follows runs in the thread.

    @torch.inference_mode()
    def _work(self) -> None:
        try:
            while self._follow_orders():
                try:
                    news: Mapping[Job, Drawings | Refusal] = self._by_job(self.engine.step())
                except Exception as error:
                    # Out of memory, mostly: one request too many must not end the server.
                    log.exception("drawing failed; every response under way is given up")
                    news = self._give_up(error)
                self._tell(partial(_deliver, news))
        finally:
            self._tell(self._refuse_all)

    def _follow_orders(self) -> bool:
        """Carry out all orders, waiting for one if there is nothing to draw; False at the end."""
        while True:
            self.active = self.engine.active
            try:
                order = self._orders.get(block=self.engine.is_idle)
            except queue.Empty:
                return True
            if order is None:
                return False
            order()

    def _admit(self, job: Job) -> None:
        owners = self.engine.submit(job.requests)
        self._owners.update((owner, (job, place)) for place, owner in enumerate(owners))

    def _cancel(self, job: Job) -> None:
        owners = [owner for owner, (whose, _) in self._owners.items() if whose is job]
        self.engine.cancel(owners)
        for owner in owners:
            del self._owners[owner]

    def _by_job(self, step: Step) -> dict[Job, Drawings]:
        finishes = {each.owner: each.finish for each in step.finished}
        alternatives = self._alternatives(step)
        drawings: dict[Job, Drawings] = {}
        drawn = zip(step.owners, step.tokens.tolist(), step.logprobs.tolist(), strict=True)
        for row, (owner, token, logprob) in enumerate(drawn):
            job, index = self._owners[owner]
            finish = finishes.get(owner)
            one = Drawn(token, logprob, alternatives.get(row, ()), finish)
            drawings.setdefault(job, []).append((index, one))
            if finish is not None:
                del self._owners[owner]
        self.drawn_tokens += len(step.owners)
        return drawings

    def _alternatives(self, step: Step) -> dict[int, tuple[tuple[int, float], ...]]:
        """The most probable tokens of the rows that want them, by row."""
        found = {}
        for row, owner in enumerate(step.owners):
            job, place = self._owners[owner]
            if job.alternatives > 0:
                temperature = job.requests[place].settings.temperature
                found[row] = _most_probable(step.logits[row], temperature, job.alternatives)
        return found

    def _give_up(self, error: Exception) -> dict[Job, Refusal]:
        why = f"the model failed: {type(error).__name__}"
        if isinstance(error, torch.OutOfMemoryError):
            why += "; the server needs fewer --rows or a smaller --context"
        jobs = {job for job, _ in self._owners.values()}
        self._owners.clear()
        del self.engine  # its memory is needed for the next one
        self.engine = self.make_engine()
        return dict.fromkeys(jobs, Refusal(500, why, code="model_failed"))

    def _tell(self, what: Callable[[], None]) -> None:
        assert self._loop is not None
        with contextlib.suppress(RuntimeError):  # the loop has closed: nobody listens any more
            self._loop.call_soon_threadsafe(what)


def _stopped() -> Refusal:
    return Refusal(503, "the model has stopped: the server is shutting down", code="stopped")


def _deliver(news: Mapping[Job, Drawings | Refusal]) -> None:
    for job, what in news.items():
        job.steps.put_nowait(what)


def _most_probable(logits: Tensor, temperature: float, count: int) -> tuple[tuple[int, float], ...]:
    """The `count` most probable tokens of [V] logits."""
    top = behaviour_logprobs(logits, temperature).topk(min(count, logits.shape[-1]))
    return tuple(zip(top.indices.tolist(), top.values.tolist(), strict=True))
