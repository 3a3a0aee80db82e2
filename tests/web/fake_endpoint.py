"""An OpenAI-compatible endpoint that answers when a test says so."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

OPENING = [{"choices": [{"index": 0, "delta": {"content": "one"}, "finish_reason": None}]}]
CLOSING = [
    {"choices": [{"index": 0, "delta": {"content": " two"}, "finish_reason": None}]},
    {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
]


class FakeEndpoint(ThreadingHTTPServer):
    """It sends "one", waits for `finish`, and sends " two"."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.requests: list[dict[str, Any]] = []
        self.finish = threading.Event()
        self.pieces_sent = threading.Semaphore(0)
        """Released for each reply whose first piece has been sent."""
        self.refuse_with: tuple[int, str] | None = None
        self.refused_fields: set[str] = set()
        self.opening: list[Any] = list(OPENING)
        self.closing: list[Any] = list(CLOSING)
        self.done = True
        """Whether a stream ends as OpenAI's do."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"

    def __enter__(self) -> FakeEndpoint:
        self._thread = threading.Thread(target=self.serve_forever, args=(0.01,))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.finish.set()
        self.shutdown()
        self._thread.join()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    server: FakeEndpoint

    def do_GET(self) -> None:
        self._whole(200, {"data": [{"id": "m"}]})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        body["authorization"] = self.headers.get("Authorization")
        self.server.requests.append(body)
        if self.server.refuse_with is not None:
            status, message = self.server.refuse_with
            return self._whole(status, {"error": {"message": message}})
        for field in self.server.refused_fields & body.keys():
            what = "use max_completion_tokens" if field == "max_tokens" else f"no '{field}' here"
            return self._whole(400, {"error": {"message": what}})
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        self._send(self.server.opening)
        self.server.pieces_sent.release()
        self.server.finish.wait(30)
        self._send(self.server.closing)
        if self.server.done:
            self._write("data: [DONE]\n\n")
        return None

    def _send(self, chunks: list[Any]) -> None:
        for chunk in chunks:
            text = chunk if isinstance(chunk, str) else json.dumps(chunk, ensure_ascii=False)
            self._write(f"data: {text}\n\n")

    def _write(self, text: str) -> None:
        try:
            self.wfile.write(text.encode())
            self.wfile.flush()
        except OSError:
            pass  # The client has left.

    def _whole(self, status: int, content: dict[str, Any]) -> None:
        data = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_arguments: Any) -> None:
        pass
