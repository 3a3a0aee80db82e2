"""The process that serves the application: a socket, uvicorn, and an end without noise."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable

import uvicorn
from fastapi import FastAPI

from hark.serving.listening import at_once
from hark.web.live.replies import Replies

SECONDS_TO_END = 5


def serve(application: FastAPI, listening: socket.socket, *, on_ready: Callable[[], None]) -> None:
    """Serve until interrupted. Raises: KeyboardInterrupt after Ctrl-C, when all has ended."""
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    make_server(application, on_ready).run(sockets=[listening])


def make_server(application: FastAPI, on_ready: Callable[[], None]) -> uvicorn.Server:
    """A server that says when requests are answered."""
    config = uvicorn.Config(
        application,
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=SECONDS_TO_END,
        # `X-Forwarded-For` is read where it is needed, and only of trusted proxies.
        proxy_headers=False,
        server_header=False,
    )
    return _Server(config, application.state.replies, on_ready)


class _Server(uvicorn.Server):
    def __init__(
        self, config: uvicorn.Config, replies: Replies, on_ready: Callable[[], None]
    ) -> None:
        super().__init__(config)
        self.replies, self.on_ready = replies, on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        for one in sockets or ():
            at_once(one)
        await super().startup(sockets=sockets)
        if not self.should_exit:
            self.on_ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Streams of replies end at once: uvicorn waits for them."""
        self.replies.end()
        await super().shutdown(sockets=sockets)
