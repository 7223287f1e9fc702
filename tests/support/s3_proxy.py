"""A proxy before the real S3 server that records requests and can cause faults."""

import http.client
import re
import socket
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from http.server import ThreadingHTTPServer
from threading import Event
from urllib.parse import urlsplit

import pytest
from conftest import seeded
from servers import Handler, serving

from pmip.store.objects import S3Storage

CODES = {503: "SlowDown", 403: "AccessDenied", 501: "NotImplemented", 400: "ExpiredToken"}
DROP, TRICKLE = 256, 8192  # bytes
PAUSE = 0.1  # seconds after each trickle


class S3Proxy(ThreadingHTTPServer):
    """Passes requests on, except that those matching `failing` get the fault after the first `passed` of them.

    `fault` is None, a status to answer with, or one of these:
    - "stopped" closes the connection, "slow" answers late, "cut" closes within the answer;
    - "throttled" sends the answer in small pieces, "corrupted" changes random bytes of it;
    - "hiding" answers 403 instead of 404, as S3 does to a caller who may not list the bucket;
    - "unconditional" refuses conditional writes (501), "ignoring" reports success for those that S3 refuses;
    - "held" passes nothing on, "trickled" reads a body in small pieces, as from a slow host.

    `reached` is set at the first fault.
    """

    daemon_threads = True

    def __init__(self, endpoint: str, fault: str | int | None, failing: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.behind = urlsplit(endpoint).netloc
        self.fault = fault
        self.failing, self.passed = re.compile(failing), 0
        self.reached, self.ended = Event(), Event()
        self.slow_seconds = 5.0
        self.random = seeded("s3_proxy")
        self.requests: list[tuple[float, str, str]] = []

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def server_bind(self) -> None:
        """Use a small receive buffer, so that the system does not accept a whole model from a run that is killed."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, TRICKLE)
        super().server_bind()

    def fault_of(self, request: str) -> str | int | None:
        """Count a request that matches `failing`, and return its fault or None."""
        if not self.failing.match(request):
            return None
        self.passed -= 1
        if self.fault is None or self.passed >= 0:
            return None
        self.reached.set()
        return self.fault


class _Handler(Handler):
    server: S3Proxy
    protocol_version = "HTTP/1.1"

    def _pass_on(self) -> None:
        self.server.requests.append((time.monotonic(), self.command, self.path))
        fault = self.server.fault_of(f"{self.command} {self.path}")
        body = self._body(PAUSE if fault == "trickled" else 0)
        if fault == "held":
            self.server.ended.wait()
        if fault in ("stopped", "held") or body is None:
            self.close_connection = True
            return
        if fault == "slow":
            time.sleep(self.server.slow_seconds)
        if isinstance(fault, int):
            self._fail(fault)
            return
        if fault == "unconditional" and "If-None-Match" in self.headers:
            self._fail(501)
            return
        with closing(http.client.HTTPConnection(self.server.behind, timeout=30)) as connection:
            connection.request(self.command, self.path, body, dict(self.headers))
            reply = connection.getresponse()
            if fault == "hiding" and reply.status == 404:
                self._fail(403)
            elif fault == "ignoring" and reply.status == 412:
                self._answer(200, {}, b"")
            else:
                self._answer(reply.status, dict(reply.headers), reply.read(), fault)

    def _body(self, pause: float) -> bytes | None:
        """Read the body with a pause after each piece; None if the caller disconnects before its end."""
        length, body = int(self.headers.get("Content-Length", 0)), b""
        with suppress(ConnectionError):
            while len(body) < length and (piece := self.rfile.read1(min(TRICKLE, length - len(body)))):
                body += piece
                time.sleep(pause)
        return body if len(body) == length else None

    def _fail(self, status: int) -> None:
        self._answer(status, {}, f"<Error><Code>{CODES[status]}</Code><Message>No.</Message></Error>".encode())

    def _answer(self, status: int, headers: dict[str, str], body: bytes, fault: str | None = None) -> None:
        if fault == "cut":
            self.close_connection = True
            if not body:
                return
        self.send_response_only(status)
        for name, value in headers.items():
            if name.lower() not in ("content-length", "transfer-encoding", "connection"):
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        with suppress(ConnectionError):  # the API may have ended already
            self.end_headers()
            for piece in self._pieces(body, fault):
                self.wfile.write(piece)

    def _pieces(self, body: bytes, fault: str | None) -> Iterator[bytes]:
        match fault:
            case "cut":
                yield body[: len(body) // 2]
            case "corrupted":
                changed = bytearray(body)
                for place in self.server.random.sample(range(len(body)), min(3, len(body))):
                    changed[place] ^= 1
                yield bytes(changed)
            case "throttled":
                for start in range(0, len(body), DROP):
                    yield body[start : start + DROP]
                    time.sleep(0.05 if self.server.fault == fault else 0)
            case _:
                yield body

    do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = _pass_on  # noqa: N815


@contextmanager
def proxy_before(endpoint: str, fault: str | int | None = None, failing: str = "") -> Iterator[S3Proxy]:
    with serving(S3Proxy(endpoint, fault, failing)) as proxy:
        try:
            yield proxy
        finally:
            proxy.ended.set()


@pytest.fixture
def proxy(bucket: S3Storage, s3: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Proxy]:
    """Put a proxy between the processes of a test and the real S3 server; `bucket` does not use the proxy."""
    list(bucket.objects(""))  # connects to the server itself
    with proxy_before(s3["AWS_ENDPOINT_URL"]) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        yield proxy
