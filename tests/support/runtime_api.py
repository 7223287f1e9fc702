"""AWS Lambda's Runtime API on a local port, and the real runtime client that requests events from it.

Between calls the process is stopped, as Lambda freezes it, so that background threads do not run here either.
This file needs only the standard library, so that it also runs in an image: `python runtime_api.py < EVENT.json`.
"""

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import Queue
from threading import Event, Thread
from typing import IO, Any

COMMAND = (sys.executable, "-m", "awslambdaric", "pmip.lambda_handler.handler")
# https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html
NEXT, INVOCATION = "/2018-06-01/runtime/invocation/next", "/2018-06-01/runtime/invocation/"
ARN = "arn:aws:lambda:eu-west-1:123456789012:function:pmip"


@dataclass
class Outcome:
    """The function's result: `kind` is "response", or "error" if the handler failed."""

    kind: str
    payload: Any
    seconds: float = 0

    @property
    def status(self) -> int:
        assert self.kind == "response", self.payload
        return int(self.payload["statusCode"])

    @property
    def body(self) -> Any:
        return json.loads(self.payload["body"])

    @property
    def headers(self) -> dict[str, str]:
        found = self.payload.get("headers") or {k: v[-1] for k, v in self.payload["multiValueHeaders"].items()}
        return {name.lower(): value for name, value in found.items()}


class RuntimeApi(ThreadingHTTPServer):
    """Gives one event at a time to the function, and keeps its results."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.events: Queue[bytes] = Queue()
        self.outcomes: Queue[Outcome] = Queue()
        self.is_asked = Event()


class _Handler(BaseHTTPRequestHandler):
    server: RuntimeApi
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # header and body in one packet, to avoid delayed ACKs

    def do_GET(self) -> None:
        assert self.path == NEXT
        self.server.is_asked.set()
        event = self.server.events.get()
        self.send_response_only(200)
        self.send_header("Lambda-Runtime-Aws-Request-Id", str(uuid.uuid4()))
        self.send_header("Lambda-Runtime-Deadline-Ms", str(int((time.time() + 30) * 1000)))
        self.send_header("Lambda-Runtime-Invoked-Function-Arn", ARN)
        self._end(event)

    def do_POST(self) -> None:
        payload = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        kind = self.path.rsplit("/", 1)[1]
        assert self.path.startswith(INVOCATION) or kind == "error"  # …/init/error
        self.server.outcomes.put(Outcome(kind, payload))
        self.send_response_only(202)
        self._end(b"{}")

    def _end(self, body: bytes) -> None:
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Write nothing."""


class Function:
    """One running instance of the function, frozen except during its start and its calls."""

    def __init__(self, api: RuntimeApi, process: subprocess.Popen[bytes]) -> None:
        self._api = api
        self.process = process
        started = time.monotonic()
        while not api.is_asked.wait(0.01):
            assert process.poll() is None, "the function ended before its first event: see its log"
            assert time.monotonic() - started < 60
        self.seconds_to_start = time.monotonic() - started
        process.send_signal(signal.SIGSTOP)

    def call(self, event: Any) -> Outcome:
        """Give an event to the function, and freeze it when it requests the next one."""
        self._api.is_asked.clear()
        self.process.send_signal(signal.SIGCONT)
        started = time.monotonic()
        self._api.events.put(json.dumps(event).encode())
        outcome = self._api.outcomes.get(timeout=60)
        outcome.seconds = time.monotonic() - started
        assert self._api.is_asked.wait(10)
        self.process.send_signal(signal.SIGSTOP)
        return outcome


@contextmanager
def running_function(
    log: IO[bytes] | None = None, *, within: Sequence[str] = (), cwd: Path | None = None, **environ: str
) -> Iterator[Function]:
    """Start the function as Lambda does, with the command `within` as a prefix; kill it at the end."""
    api = RuntimeApi()
    Thread(target=api.serve_forever, daemon=True).start()
    settings = {
        "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{api.server_address[1]}",
        "AWS_LAMBDA_FUNCTION_NAME": "pmip",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "1769",
        "TZ": ":UTC",
    }
    command = [*within, *COMMAND]
    process = subprocess.Popen(command, cwd=cwd, env=os.environ | settings | environ, stdout=log, stderr=log)
    try:
        yield Function(api, process)
    finally:
        process.kill()
        process.wait()
        api.shutdown()
        api.server_close()


def main() -> None:
    with running_function() as function:
        json.dump(function.call(json.load(sys.stdin)).payload, sys.stdout)


if __name__ == "__main__":
    main()
