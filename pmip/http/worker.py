"""What gunicorn is given: a worker where the slow and the idle do not keep others waiting, and a log in JSON."""

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
BYTES_PER_SECOND = 16_384  # what a caller has to send, or take, on average after that
MOST_UNREAD = 32 * 2**20  # bytes of a body that nobody wanted
LAST_CALL_SECONDS = 5.0


class PatientSocket(socket.socket):
    """A caller's connection. To who has taken too long over a request, it looks as if the caller had hung up."""

    def begin(self) -> None:
        """Give the caller new time, for a request or for the end of the connection."""
        self._began, self._received = time.monotonic(), 0

    def hang_up(self) -> None:
        """Expect nothing more from the caller."""
        self._began = float("-inf")

    def recv(self, size: int, flags: int = 0) -> bytes:
        """Return what has come, or nothing at the end of the caller's time."""
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
        """Send all, to a caller who takes it; raise what a caller who has hung up would cause."""
        self.settimeout(SECONDS + len(data) / BYTES_PER_SECOND)
        try:
            super().sendall(data, flags)
        except TimeoutError as error:
            raise BrokenPipeError(errno.EPIPE, "the caller does not take the answer") from error


class Worker(ThreadWorker):  # type: ignore[misc]
    """gunicorn's worker with threads, where no thread is taken by a caller who sends nothing."""

    def accept(self, listener: socket.socket) -> bool:
        """Let a caller in, and wait for the first bytes without a thread; return whether somebody was there."""
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
        """At the end let those in who wait at the socket already: closing it would reset them."""
        deadline = time.monotonic() + LAST_CALL_SECONDS
        while not self.alive and time.monotonic() < deadline and self.accept(self.sockets[0]):
            pass
        super().set_accept_enabled(enabled)

    def handle(self, conn: TConn) -> Any:
        """Answer one request in a thread; it is there, too, that the rest of an unread body is taken in."""
        conn.sock.begin()
        keep: Any = super().handle(conn)
        if keep is False:
            _linger(conn.sock)
        return keep


def _linger(caller: PatientSocket) -> None:
    """Take in what is still sent until the caller has the answer: closing before that would reset the connection."""
    with suppress(OSError):
        caller.shutdown(socket.SHUT_WR)
        caller.begin()
        unread = 0
        while unread <= MOST_UNREAD and (data := caller.recv(65536)):
            unread += len(data)
    caller.hang_up()


class Logger(GunicornLogger):  # type: ignore[misc]
    """gunicorn's log, by the lines of everything else."""

    def _set_handler(self, log: logging.Logger, output: str, _format: logging.Formatter, stream: Any = None) -> None:
        super()._set_handler(log, output, JsonLines(), stream)
