"""The servers that are compared: each is started as the API is, told to be ready by its answers, and ended."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
from questions import HERE, Question

ROOT = HERE.parent.parent
SECONDS_TO_START = 60
SECONDS_TO_END = 40
# The settings of whoever measures are not measured; an empty one counts as unset.
UNSET = (
    "API_KEYS",
    "API_KEYS_FILE",
    "BUCKET",
    "CORS_ORIGINS",
    "LOG_LEVEL",
    "MAX_BODY_BYTES",
    "MAX_COMMENTS",
    "MAX_COMMENT_CHARS",
    "MAX_EXPLAINED_CHARS",
    "MAX_TOTAL_CHARS",
    "TRUSTED_PROXIES",
    "URL_PREFIX",
    "PLAIN_MODEL",
)

direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class BenchmarkError(Exception):
    """Raised when what was measured is worth nothing; says why."""


@dataclass(frozen=True)
class Server:
    """One of those that are compared: how it is started, and what to expect of it."""

    name: str
    command: tuple[str, ...]
    folder: Path
    settings: dict[str, str]
    fixed_answer: list[int] | None = None


@dataclass
class Running:
    """A server that answers, and how many seconds that took."""

    server: Server
    process: subprocess.Popen[bytes]
    url: str
    log: Path
    seconds_to_ready: float = float("nan")

    def answer(self, question: Question) -> list[int]:
        """Ask for the classes of the comments in a question."""
        request = urllib.request.Request(self.url, question.body.encode(), {"Content-Type": "application/json"})
        with direct.open(request, timeout=30) as answer:
            return [item["class"] for item in json.load(answer)["result"]]

    def check(self, question: Question) -> None:
        """Raise a `BenchmarkError` unless a question gets its right answer."""
        try:
            right = self.answer(question) == (self.server.fixed_answer or question.classes)
        except OSError as error:
            raise BenchmarkError(f"{self.server.name} does not answer ({error}); {self.log_end()}") from error
        if not right:
            raise BenchmarkError(f"{self.server.name} does not give the classes that the model gives")

    def memory(self) -> float | None:
        """Return the MB of all its processes; None where the system tells no PSS."""
        infos = [process.memory_full_info() for process in self._processes()]
        return sum(info.pss for info in infos) / 1e6 if all(hasattr(info, "pss") for info in infos) else None

    def cpu_seconds(self) -> float:
        """Return what all its processes have used of the processors."""
        times = [process.cpu_times() for process in self._processes()]
        return float(sum(one.user + one.system for one in times))

    def log_end(self) -> str:
        """Return the last lines of its log, for a message."""
        return "its log ends:\n" + "\n".join(self.log.read_text(errors="replace").splitlines()[-8:])

    def _processes(self) -> list[psutil.Process]:
        master = psutil.Process(self.process.pid)
        return [master, *master.children(recursive=True)]


def servers(folder: Path) -> list[Server]:
    """Name the three, for the model in a folder."""
    settings = str(HERE / "gunicorn_settings.py")
    plain = {"PLAIN_MODEL": str(folder / "model.pkl")}
    api = {"DATA_DIR": str(folder)}
    return [
        Server("no-op", ("-c", settings, "noop:app"), HERE, {}, fixed_answer=[1]),
        Server("API", ("-c", "python:pmip.gunicorn_conf", "pmip.wsgi:app"), ROOT, api),
        Server("plain", ("-c", settings, "plain:app"), HERE, plain),
    ]


@contextmanager
def running(server: Server, question: Question, cache: Path, log: Path) -> Iterator[Running]:
    """Start a server, wait until it answers a question, and end it at last."""
    port = _free_port()
    fixed = {"ENVIRONMENT": "dev", "HOST": "127.0.0.1", "PORT": str(port), "MODEL_CACHE_DIR": str(cache)}
    environ = os.environ | dict.fromkeys(UNSET, "") | fixed | server.settings
    command = [sys.executable, "-m", "gunicorn", *server.command]
    began = time.monotonic()
    with log.open("wb") as file:
        # In a group of its own, the terminal's Ctrl-C does not reach it: it is ended below.
        process = subprocess.Popen(
            command, cwd=server.folder, env=environ, stdin=subprocess.DEVNULL, stdout=file, stderr=file, process_group=0
        )
    try:
        started = Running(server, process, f"http://127.0.0.1:{port}/predict", log)
        _wait_until_ready(started, question, began)
        started.seconds_to_ready = time.monotonic() - began
        yield started
    finally:
        _end(process)


def end_all() -> None:
    """End what an interruption has left: a signal can come between any two steps, also of an end."""
    left = psutil.Process().children()
    for one in left:
        with suppress(psutil.NoSuchProcess):
            one.terminate()
    psutil.wait_procs(left, SECONDS_TO_END)


def _wait_until_ready(started: Running, question: Question, began: float) -> None:
    while time.monotonic() < began + SECONDS_TO_START and started.process.poll() is None:
        with suppress(OSError):  # it does not listen yet, or says 503
            started.answer(question)
            return
        time.sleep(0.01)
    raise BenchmarkError(f"{started.server.name} did not become ready; {started.log_end()}")


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(SECONDS_TO_END)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
