"""Forwards TCP connections from another address of this machine to a port on its loopback interface, in the background.

usage: forward_port.py ADDRESS PORT PID

Prints the port on which it listens at ADDRESS. Ends when the process PID ends. Fails if ADDRESS is not of this machine.
"""

import os
import socket
import sys
import threading
import time
from contextlib import suppress
from ipaddress import ip_address
from socketserver import BaseRequestHandler, ThreadingTCPServer


def main(address: str, port: int, pid: int) -> None:
    """Listen, print the port, and continue in the background."""
    if ip_address(address).is_unspecified:  # means all addresses, and so the network too
        raise ValueError(address)

    class Forward(BaseRequestHandler):
        def handle(self) -> None:
            with socket.create_connection(("127.0.0.1", port)) as server:
                answers = threading.Thread(target=copy, args=(server, self.request))
                answers.start()
                copy(self.request, server)
                answers.join()

    ThreadingTCPServer.daemon_threads = True
    with ThreadingTCPServer((address, 0), Forward) as forwarder:
        print(forwarder.server_address[1], flush=True)
        detach()
        threading.Thread(target=forwarder.serve_forever, daemon=True).start()
        while is_alive(pid):
            time.sleep(0.2)


def copy(source: socket.socket, target: socket.socket) -> None:
    """Pass on what comes, then the end of it."""
    with suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    with suppress(OSError):
        target.shutdown(socket.SHUT_WR)


def detach() -> None:
    """Let the caller go on: no Ctrl-C reaches this process, and no pipe of the caller's stays open."""
    if os.fork():
        os._exit(0)
    os.setsid()
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nothing, stream)


def is_alive(pid: int) -> bool:
    """Tell whether the process is there."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


if __name__ == "__main__":
    try:
        main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
    except (OSError, ValueError):
        sys.exit(1)
