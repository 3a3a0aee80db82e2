"""The socket that a server listens at."""

from __future__ import annotations

import socket

from hark.serving.listening import open_socket


def test_connections_send_at_once() -> None:
    with (
        open_socket("127.0.0.1", 0) as listening,
        socket.create_connection(listening.getsockname()),
        listening.accept()[0] as accepted,
    ):
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
