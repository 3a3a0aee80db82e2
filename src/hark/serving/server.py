"""The process that serves: a socket, the loaded models, uvicorn, and an end without noise."""

from __future__ import annotations

import errno
import logging
import socket
from collections.abc import Callable, Mapping
from types import FrameType

import uvicorn

from hark.errors import SettingsError
from hark.serving.application import build_application
from hark.serving.served_model import ServedModel

SECONDS_TO_END = 5
"""What open connections get to take the refusal of their unfinished responses."""


def open_socket(host: str, port: int) -> socket.socket:
    """Listen, before any model is loaded: a port that is taken should show at once.

    Raises: SettingsError if the address cannot be listened at.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except (OSError, OverflowError) as error:
        taken = isinstance(error, OSError) and error.errno == errno.EADDRINUSE
        reason = "another program listens there" if taken else str(error)
        raise SettingsError(
            f"cannot listen at port {port} of '{host}': {reason}; give another --port (0 finds a "
            "free one) or --host"
        ) from None


def url_of(listening: socket.socket) -> str:
    """Where clients find the server: OpenAI's base URL."""
    host, port = listening.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/v1"


def serve(
    models: Mapping[str, ServedModel], listening: socket.socket, *, on_ready: Callable[[], None]
) -> None:
    """Serve until interrupted. Raises: KeyboardInterrupt after Ctrl-C, when all has ended.

    on_ready: called once requests are answered.
    """
    config = uvicorn.Config(
        build_application(models),
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
