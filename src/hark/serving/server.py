"""The process that serves: a socket, the loaded models, uvicorn, and an end without noise."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Mapping
from types import FrameType

import uvicorn

from hark.serving.application import build_application
from hark.serving.gatekeeper import Gatekeeper
from hark.serving.ranker import Ranker
from hark.serving.served_model import ServedModel

SECONDS_TO_END = 5
"""What open connections get to take the refusal of their unfinished responses."""


def serve(
    models: Mapping[str, ServedModel],
    listening: socket.socket,
    *,
    ranker: Ranker | None = None,
    gatekeeper: Gatekeeper | None = None,
    on_ready: Callable[[], None],
) -> None:
    """Serve until interrupted. Raises: KeyboardInterrupt after Ctrl-C, when all has ended.

    ranker: chooses the best of n, where clients ask for it.
    gatekeeper: answers strange prompts in the models' place.
    on_ready: called once requests are answered.
    """
    config = uvicorn.Config(
        build_application(models, ranker, gatekeeper),
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=SECONDS_TO_END,
    )
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    _Server(config, models, on_ready).run(sockets=[listening])


class _Server(uvicorn.Server):
    def __init__(
        self,
        config: uvicorn.Config,
        models: Mapping[str, ServedModel],
        on_ready: Callable[[], None],
    ) -> None:
        super().__init__(config)
        self.models, self.on_ready = models, on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        if not self.should_exit:
            self.on_ready()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Unfinished responses are refused at once: uvicorn waits for them to end."""
        for served in self.models.values():
            served.thread.stop()
        super().handle_exit(sig, frame)
