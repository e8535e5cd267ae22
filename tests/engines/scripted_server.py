"""A server on loopback that speaks `/v1/chat/completions` and misbehaves on demand."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Action = Callable[["Handler", dict[str, Any]], None]


class Handler(BaseHTTPRequestHandler):
    """One request: taken down, then answered by the next action of the script, or well."""

    protocol_version = "HTTP/1.1"
    server: ScriptedServer

    def setup(self) -> None:
        super().setup()
        self.server.connections.append(self.connection)

    def log_message(self, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        self.server.paths.append(self.path)
        if not self.is_api():
            return
        if self.server.listing is not None:
            self.server.listing(self, {})
            return
        data = [{"id": name, "object": "model"} for name in self.server.models]
        self.reply(200, {"object": "list", "data": data})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        scripted = self.server
        scripted.paths.append(self.path)
        if not self.is_api():
            return
        with scripted.lock:
            scripted.bodies.append(body)
            scripted.times.append(time.monotonic())
            scripted.headers.append(dict(self.headers))
            scripted.under_way += 1
            scripted.most = max(scripted.most, scripted.under_way)
            action = scripted.script.pop(0) if scripted.script else scripted.always
        try:
            action(self, body)
        finally:
            with scripted.lock:
                scripted.under_way -= 1

    def is_api(self) -> bool:
        """Whether the path is one of the API's; where it is not, that has been answered."""
        at = self.server.at
        if at is not None and not self.path.startswith(f"{at}/"):
            self.server.elsewhere(self, {})
            return False
        return True

    def reply(self, status: int, body: Any, **headers: str) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        if "Content-Type" not in headers:
            self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(data)


class ScriptedServer(ThreadingHTTPServer):
    """What it was asked is in `bodies`, `times` and `headers`; the most at a time in `most`."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, *script: Action, always: Action | None = None, port: int = 0) -> None:
        self.script = list(script)
        self.always = always or answer()
        self.models = ["toy"]
        self.listing: Action | None = None
        """Answers the question for models in its own way."""
        self.at: str | None = None
        """The path that the API is at; None: any."""
        self.elsewhere: Action = page("404 page not found", code=404)
        """Answers any other path."""
        self.paths: list[str] = []
        self.lock = threading.Lock()
        self.stopped = threading.Event()
        self.bodies: list[dict[str, Any]] = []
        self.times: list[float] = []
        self.headers: list[dict[str, str]] = []
        self.connections: list[socket.socket] = []
        self.under_way = self.most = 0
        super().__init__(("127.0.0.1", port), Handler)

    def server_bind(self) -> None:
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        super().server_bind()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"

    def handle_error(self, *args: Any) -> None:
        pass  # a client that gives up closes its connection, and that is no news here

    def __enter__(self) -> ScriptedServer:
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *exc: object) -> None:
        """Ends as a killed server does: open connections are cut."""
        self.stopped.set()
        self.shutdown()
        self.server_close()
        for connection in self.connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


@contextmanager
def reserved_port() -> Iterator[int]:
    """A port that stays ours while no server listens on it: connections to it are refused, and the system gives it
    to nobody else. `ScriptedServer(port=...)` may start and stop on it as often as it likes.
    """
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        holder.bind(("127.0.0.1", 0))
        yield holder.getsockname()[1]


def completion(text: str | None, finish: str = "stop", usage: dict[str, int] | None = None) -> dict[str, Any]:
    return {
        "id": "x",
        "object": "chat.completion",
        "created": 0,
        "model": "toy",
        "choices": [{"index": 0, "finish_reason": finish, "message": {"role": "assistant", "content": text}}],
        "usage": usage or {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10},
    }


def answer(text: str | None = None, *, after: float = 0.0, **options: Any) -> Action:
    """Answers with `text`, or with the words that it was asked."""

    def act(handler: Handler, body: dict[str, Any]) -> None:
        time.sleep(after)
        said = text if text is not None else words(body)
        handler.reply(200, completion(said, **options))

    return act


def words(body: dict[str, Any]) -> str:
    content = body["messages"][-1]["content"]
    return content if isinstance(content, str) else content[-1]["text"]


def status(code: int, message: str = "not now", **headers: str) -> Action:
    return lambda handler, body: handler.reply(code, {"error": {"message": message}}, **headers)


def raw(data: bytes) -> Action:
    return lambda handler, body: handler.reply(200, data)


def says(body: Any, code: int = 200, **headers: str) -> Action:
    """Answers with a JSON value of any form."""
    return lambda handler, _: handler.reply(code, body, **headers)


def page(title: str, code: int = 200) -> Action:
    """Answers with a page of HTML."""
    text = f"<!DOCTYPE html><html><head><title>{title}</title></head><body><h1>{title}</h1></body></html>"
    return lambda handler, body: handler.reply(code, text.encode(), **{"Content-Type": "text/html"})


def where(test: Callable[[dict[str, Any]], bool], act: Action, otherwise: Action | None = None) -> Action:
    """`act` for the requests that `test` holds for, a good answer for the others."""
    return lambda handler, body: (act if test(body) else otherwise or answer())(handler, body)


def no_text(finish: str) -> Action:
    return lambda handler, body: handler.reply(200, completion(None, finish))


PATIENCE = 60.0
"""Seconds that a hanging answer takes where nobody gives up on it: too long to be mistaken for a slow machine."""


def hang(handler: Handler, body: dict[str, Any]) -> None:
    """Never answers."""
    handler.server.stopped.wait(PATIENCE)


def drip(handler: Handler, body: dict[str, Any]) -> None:
    """Sends a byte now and then: a time limit that starts anew with each of them never ends this."""
    handler.send_response(200)
    handler.send_header("Content-Type", "application/json")
    handler.send_header("Content-Length", "10000")
    handler.end_headers()
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end and not handler.server.stopped.wait(0.05):
        handler.wfile.write(b" ")


def cut(handler: Handler, body: dict[str, Any]) -> None:
    """Promises an answer and closes the connection."""
    handler.send_response(200)
    handler.send_header("Content-Length", "100")
    handler.end_headers()
    handler.wfile.write(b'{"id"')
    handler.close_connection = True
