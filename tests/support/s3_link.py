"""A connection to the real S3 server that can be slow, or held, while a run publishes."""

import re
import socket
from contextlib import AbstractContextManager, suppress
from socketserver import BaseRequestHandler, ThreadingTCPServer
from threading import Event, Thread
from time import sleep
from urllib.parse import urlsplit

from servers import serving

CHUNK = 8192


class Link(ThreadingTCPServer):
    """Passes bytes on; what is put under models/ goes in small pieces, each after a pause.

    A request that `hold` matches never gets through and is never answered; `reached` tells that there is one.
    """

    daemon_threads = True

    def __init__(self, endpoint: str, *, hold: str = "", pause: float = 0) -> None:
        super().__init__(("127.0.0.1", 0), _Connection)
        behind = urlsplit(endpoint)
        self.behind = (behind.hostname, behind.port)
        self.hold, self.pause = re.compile(hold.encode()) if hold else None, pause
        self.publishing, self.reached = Event(), Event()
        self.address = f"http://127.0.0.1:{self.server_address[1]}"

    def server_bind(self) -> None:
        """Take little at once: else the system would take a whole model from a run that is then killed."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, CHUNK)
        super().server_bind()


class _Connection(BaseRequestHandler):
    server: Link

    def handle(self) -> None:
        with socket.create_connection(self.server.behind) as behind:
            answers = Thread(target=self._pass_back, args=(behind,), daemon=True)
            answers.start()
            self._pass_on(behind)
            with suppress(OSError):
                behind.shutdown(socket.SHUT_RDWR)
            answers.join()

    def _pass_on(self, behind: socket.socket) -> None:
        link, is_slow = self.server, False
        with suppress(OSError):
            while data := self.request.recv(CHUNK):
                if re.match(rb"[A-Z]+ /\S* HTTP", data):
                    is_slow = bool(re.match(rb"PUT \S*/models/", data))
                if is_slow:
                    link.publishing.set()
                    sleep(link.pause)
                if link.hold and link.hold.match(data):
                    link.reached.set()
                    while self.request.recv(CHUNK):
                        pass
                    return
                behind.sendall(data)

    def _pass_back(self, behind: socket.socket) -> None:
        with suppress(OSError):
            while data := behind.recv(CHUNK):
                self.request.sendall(data)


def link_to(endpoint: str, *, hold: str = "", pause: float = 0) -> AbstractContextManager[Link]:
    return serving(Link(endpoint, hold=hold, pause=pause))
