"""Classes for gunicorn: a worker in which slow and idle callers do not delay others, and a logger that writes JSON."""

import errno
import logging
import socket
import time
from contextlib import suppress
from functools import partial
from selectors import EVENT_READ
from typing import Any

from gunicorn.glogging import Logger as GunicornLogger
from gunicorn.workers.gthread import TConn, ThreadWorker

from pmip.http.log import JsonLines

SECONDS = 2.0  # how long a caller may send nothing
BYTES_PER_SECOND = 16_384  # how fast a caller must send or receive on average after that
MOST_UNREAD = 32 * 2**20  # how many bytes of an unread body are drained
LAST_CALL_SECONDS = 5.0


class PatientSocket(socket.socket):
    """A caller's connection with a deadline: once it has passed, gunicorn sees the end of the connection."""

    def begin(self) -> None:
        """Set a new deadline, for a request or for the end of the connection."""
        self._began, self._received = time.monotonic(), 0

    def hang_up(self) -> None:
        """Let the deadline pass now."""
        self._began = float("-inf")

    def recv(self, size: int, flags: int = 0) -> bytes:
        """Return the next bytes, or no bytes after the deadline."""
        left = self._began + SECONDS + self._received / BYTES_PER_SECOND - time.monotonic()
        if left <= 0:
            return b""
        self.settimeout(min(left, SECONDS))
        try:
            data = super().recv(size, flags)
        except TimeoutError:
            self.hang_up()
            return b""
        self._received += len(data)
        return data

    def sendall(self, data: Any, flags: int = 0) -> None:
        """Send all data; if the caller receives too slowly, raise the error of a closed connection."""
        self.settimeout(SECONDS + len(data) / BYTES_PER_SECOND)
        try:
            super().sendall(data, flags)
        except TimeoutError as error:
            raise BrokenPipeError(errno.EPIPE, "the caller does not receive the answer") from error


class Worker(ThreadWorker):  # type: ignore[misc]
    """gunicorn's worker with threads, changed so that a caller who sends nothing does not occupy a thread."""

    def accept(self, listener: socket.socket) -> bool:
        """Accept a connection and wait for its first bytes without a thread; return whether there was one."""
        try:
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

    def set_accept_enabled(self, enabled: bool) -> None:
        """On shutdown accept the waiting connections first: closing the socket would reset them."""
        deadline = time.monotonic() + LAST_CALL_SECONDS
        while not self.alive and time.monotonic() < deadline and self.accept(self.sockets[0]):
            pass
        super().set_accept_enabled(enabled)

    def handle(self, conn: TConn) -> Any:
        """Answer one request in a thread; if the connection ends, drain the unread body in that thread too."""
        conn.sock.begin()
        keep: Any = super().handle(conn)
        if keep is False:
            _linger(conn.sock)
        return keep


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
