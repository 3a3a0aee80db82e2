"""A socket that listens before anything else is done, and its address. Loads no torch."""

from __future__ import annotations

import errno
import socket

from hark.errors import SettingsError


def open_socket(host: str, port: int) -> socket.socket:
    """Listen, before any model is loaded: a port that is taken should show at once.

    Raises: SettingsError if the address cannot be listened at.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return at_once(socket.create_server((host, port), family=family))
    except (OSError, OverflowError) as error:
        taken = isinstance(error, OSError) and error.errno == errno.EADDRINUSE
        reason = "another program listens there" if taken else str(error)
        raise SettingsError(
            f"cannot listen at port {port} of '{host}': {reason}; give another --port (0 finds a "
            "free one) or --host"
        ) from None


def at_once(listening: socket.socket) -> socket.socket:
    """Let its connections send what they are given at once (`TCP_NODELAY`), and return it.

    asyncio does so itself only where a socket names its protocol, which those that were accepted
    do not. A response in two pieces would wait 40 ms for the receiver to acknowledge the first.
    """
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listening


def address_of(listening: socket.socket) -> str:
    """Where a browser finds the server."""
    host, port = listening.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def url_of(listening: socket.socket) -> str:
    """Where clients find a server of models: OpenAI's base URL."""
    return f"{address_of(listening)}/v1"
