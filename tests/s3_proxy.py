"""A proxy before the real S3 server that counts requests and can be told to fail them."""

import http.client
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import urlsplit

ANSWERS = {
    503: b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>",
    403: b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>",
}


class S3Proxy(ThreadingHTTPServer):
    """Passes requests on; `fault` is None, "stopped", "slow", "hiding" or the status to answer with.

    "hiding" says 403 in place of 404, as S3 does to who may not list the whole bucket.
    """

    daemon_threads = True

    def __init__(self, endpoint: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.behind = urlsplit(endpoint).netloc
        self.fault: str | int | None = None
        self.slow_seconds = 5.0
        self.requests: list[tuple[float, str, str]] = []

    @property
    def endpoint(self) -> str:
        """The address to set as AWS_ENDPOINT_URL."""
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: S3Proxy
    protocol_version = "HTTP/1.1"

    def _pass_on(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.requests.append((time.monotonic(), self.command, self.path))
        if self.server.fault == "stopped":
            self.close_connection = True
            return
        if self.server.fault == "slow":
            time.sleep(self.server.slow_seconds)
        if isinstance(self.server.fault, int):
            self._answer(self.server.fault, {}, ANSWERS[self.server.fault])
            return
        with closing(http.client.HTTPConnection(self.server.behind, timeout=30)) as connection:
            connection.request(self.command, self.path, body, dict(self.headers))
            reply = connection.getresponse()
            if self.server.fault == "hiding" and reply.status == 404:
                self._answer(403, {}, ANSWERS[403])
            else:
                self._answer(reply.status, dict(reply.headers), reply.read())

    def _answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response_only(status)
        for name, value in headers.items():
            if name.lower() not in ("content-length", "transfer-encoding", "connection"):
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        with suppress(ConnectionError):  # the API may have ended meanwhile
            self.end_headers()
            self.wfile.write(body)

    do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = _pass_on  # noqa: N815

    def log_message(self, *_: object) -> None:
        """Say nothing: `requests` keeps them."""


@contextmanager
def proxy_before(endpoint: str) -> Iterator[S3Proxy]:
    """Run a proxy before an S3 server."""
    proxy = S3Proxy(endpoint)
    thread = Thread(target=proxy.serve_forever, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        proxy.shutdown()
        proxy.server_close()
        thread.join()
