"""Classes for gunicorn: a worker in which slow and idle callers do not delay others, and a logger that writes JSON."""

import errno
import json
import logging
import os
import re
import socket
import time
from concurrent.futures import Future
from contextlib import suppress
from functools import cache, partial
from selectors import EVENT_READ
from typing import Any

from gunicorn.glogging import Logger as GunicornLogger
from gunicorn.http.errors import InvalidResponseHeader, InvalidResponseHeaderName, ParseException
from gunicorn.workers.gthread import TConn, ThreadWorker

from pmip.http.log import JsonLines
from pmip.http.requests import SMALL

SECONDS = 2.0  # how long a caller may send nothing
BYTES_PER_SECOND = 16_384  # how fast a caller must send or receive on average after that
MOST_UNREAD = 32 * 2**20  # how many bytes of an unread body are drained
LAST_CALL_SECONDS = 5.0
CONTENT_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]{1,9})[ \t]*\r\n", re.IGNORECASE)

REFUSALS = {  # the status and the message for kinds of gunicorn's ParseException; others are 400
    "LimitRequestLine": (
        "414 URI Too Long",
        "the request line is longer than 8190 bytes; send comments in the body, not in the address",
    ),
    "LimitRequestHeaders": ("431 Request Header Fields Too Large", "the headers are too many or too long"),
    "ExpectationFailed": ("417 Expectation Failed", "the header Expect may only be 100-continue"),
    "UnsupportedTransferCoding": ("501 Not Implemented", "the header Transfer-Encoding may only be chunked"),
}


class PatientSocket(socket.socket):
    """A caller's connection with a deadline: once it has passed, gunicorn sees the end of the connection."""

    def begin(self, *, waits: bool = True) -> None:
        """Set a new deadline, for a request or for the end of the connection; or never wait from now on."""
        self._waits, self.unsent = waits, bytearray()
        self._ends = time.monotonic() + SECONDS if waits else float("-inf")

    def hang_up(self) -> None:
        """Let the deadline pass now."""
        self._ends = float("-inf")

    def peek(self, size: int) -> bytes:
        """Return the next bytes and leave them unread; the socket must not be blocking."""
        return super().recv(size, socket.MSG_PEEK)

    def recv(self, size: int, flags: int = 0) -> bytes:
        """Return the next bytes; after the deadline, only those that have arrived."""
        self.settimeout(min(max(self._ends - time.monotonic(), 0), SECONDS))
        try:
            data = super().recv(size, flags)
        except (TimeoutError, BlockingIOError):
            self.hang_up()
            return b""
        self._ends += len(data) / BYTES_PER_SECOND
        return data

    def sendall(self, data: Any, flags: int = 0) -> None:
        """Send all data, or only collect it if this connection never waits."""
        if self._waits:
            self._send_in_time(data, flags)
        else:
            self.unsent += data

    def send_at_once(self) -> bool:
        """Send of the collected data what the connection takes without waiting; return whether that was all."""
        self.setblocking(False)
        with suppress(OSError):
            del self.unsent[: self.send(self.unsent)]
        return not self.unsent

    def send_rest(self) -> None:
        """Send the rest of the collected data."""
        self._send_in_time(self.unsent)
        self.unsent.clear()

    def _send_in_time(self, data: Any, flags: int = 0) -> None:
        """Send all data; if the caller receives too slowly, raise the error of a closed connection."""
        self.settimeout(SECONDS + len(data) / BYTES_PER_SECOND)
        try:
            super().sendall(data, flags)
        except TimeoutError as error:
            raise BrokenPipeError(errno.EPIPE, "the caller does not receive the answer") from error


class Worker(ThreadWorker):  # type: ignore[misc]
    """gunicorn's worker with threads, changed so that threads are only used to wait for callers.

    A small request that has arrived completely is answered without a thread: passing it to one would halve the number
    of answers per second.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._sending: set[TConn] = set()

    def accept(self, listener: socket.socket) -> bool:
        """Accept a connection and wait for its first bytes without a thread; return whether there was one."""
        try:
            if self.nr_conns:
                os.sched_yield()  # another worker, without connections, may be about to accept this one
            accepted, address = listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return False
        caller = PatientSocket(fileno=accepted.detach())
        caller.begin()
        conn = TConn(self.cfg, caller, address, listener.getsockname())
        conn.timeout = time.monotonic() + SECONDS
        self.nr_conns += 1
        self.pending_conns.append(conn)
        self.poller.register(caller, EVENT_READ, partial(self.on_pending_socket_readable, conn))
        return True

    def wait_for_and_dispatch_events(self, timeout: float) -> None:
        """Answer callers first and accept new ones last: in the meantime an idle worker may accept them.

        Otherwise one worker may get all callers of a proxy, which keeps its connections open.
        """
        events = self.poller.select(timeout)
        for key, _ in sorted(events, key=lambda event: event[0].fileobj in self.sockets):
            key.data(key.fileobj)

    def set_accept_enabled(self, enabled: bool) -> None:
        """On shutdown accept the waiting connections first: closing the socket would reset them."""
        deadline = time.monotonic() + LAST_CALL_SECONDS
        while not self.alive and time.monotonic() < deadline and self.accept(self.sockets[0]):
            pass
        super().set_accept_enabled(enabled)

    def enqueue_req(self, conn: TConn) -> None:
        """Answer a request at once if there is nothing to wait for; otherwise pass it to a thread."""
        # The rests of large answers take memory, so their number is limited.
        if len(self._sending) >= self.cfg.threads or not _has_arrived(conn):
            super().enqueue_req(conn)
            return
        self.notify()
        conn.sock.begin(waits=False)
        conn.keep = super().handle(conn)
        if conn.sock.send_at_once():
            self.finish_request(conn, _ended(conn.keep))
        else:
            self._sending.add(conn)
            super().enqueue_req(conn)

    def handle(self, conn: TConn) -> Any:
        """Answer one request in a thread, or send the rest of an answer; then drain the body if the connection ends."""
        if conn in self._sending:
            conn.sock.send_rest()
        else:
            conn.sock.begin()
            conn.keep = super().handle(conn)
        if conn.keep is False:
            _linger(conn.sock)
        return conn.keep

    def handle_error(self, req: Any, client: PatientSocket, addr: Any, exc: Exception) -> None:
        """Refuse what is not valid HTTP in JSON, as the routes refuse; gunicorn's own page and log would quote it."""
        if not isinstance(exc, ParseException) or isinstance(exc, InvalidResponseHeader | InvalidResponseHeaderName):
            super().handle_error(req, client, addr, exc)
            return
        kind = type(exc).__name__
        self.log.warning("a request from %s is not valid HTTP: %s", addr[0], kind)
        status, message = REFUSALS.get(kind, ("400 Bad Request", f"the request is not valid HTTP ({kind})"))
        body = json.dumps({"message": message})
        with suppress(OSError):
            client.sendall(
                f"HTTP/1.1 {status}\r\nConnection: close\r\nContent-Type: application/json\r\n"
                f"Content-Length: {len(body)}\r\n\r\n{body}".encode()
            )

    def finish_request(self, conn: TConn, fs: Future[Any]) -> None:
        """Keep or close a connection after its answer."""
        self._sending.discard(conn)
        super().finish_request(conn, fs)


@cache
def _ended(keep: bool) -> Future[bool]:
    """Return the result of `handle` in the form that a thread would give it."""
    ended: Future[bool] = Future()
    ended.set_result(keep)
    return ended


def _has_arrived(conn: TConn) -> bool:
    """Return whether a small request has arrived completely, or nothing but the end of the connection."""
    if conn.parser and conn.parser.unreader.buf.getvalue():  # gunicorn has read a part of it already
        return False
    try:
        begun: bytes = conn.sock.peek(SMALL)
    except OSError:
        return False
    size = begun.find(b"\r\n\r\n") + 4
    if size < 4:
        return not begun
    if length := CONTENT_LENGTH.search(begun, 0, size):
        return size + int(length[1]) <= len(begun)
    return b"\ntransfer-encoding" not in begun[:size].lower()


def _linger(caller: PatientSocket) -> None:
    """Drain the unread body; otherwise closing resets the connection, and the caller may lose the answer."""
    with suppress(OSError):
        caller.shutdown(socket.SHUT_WR)
        caller.begin()
        unread = 0
        while unread <= MOST_UNREAD and (data := caller.recv(65536)):
            unread += len(data)
    caller.hang_up()


class Logger(GunicornLogger):  # type: ignore[misc]
    """gunicorn's log in the same lines of JSON as all other messages."""

    def _set_handler(self, log: logging.Logger, output: str, _format: logging.Formatter, stream: Any = None) -> None:
        super()._set_handler(log, output, JsonLines(), stream)
