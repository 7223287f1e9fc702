"""What scripts/benchmark.sh runs: three servers side by side, each under the same load, one at a time.

The servers run until the end, so a ratio compares two loads of the same minute. It is the median over the rounds.
"""

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from statistics import median
from typing import Any

import psutil
from tqdm import tqdm

from pmip.config import Settings
from pmip.errors import PmipError, SettingsError
from pmip.model.artifact import Artifact
from pmip.training.comments import read_comments
from pmip.training.data import local_files

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
EXAMPLE = "Check it out this free stuff"
SIZES, CLIENTS = (1, 100), (4, 32)
SECONDS_TO_START, SECONDS_TO_END = 180, 40
COLUMNS = ("comments", "clients", "server", "requests/s", "to no-op", "p50 ms", "p99 ms", "CPU µs")
NEEDED = ("PATH", "HOME", "LANG", "TMPDIR", "LD_LIBRARY_PATH", "OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")


class BenchmarkError(Exception):
    """Raised when what was measured is worth nothing."""


class Server:
    """A running server that has answered its first request, after `seconds_to_ready`."""

    def __init__(self, name: str, arguments: Sequence[str], folder: Path, **settings: str) -> None:
        port = _free_port()
        self.name, self.url, self._log = name, f"http://127.0.0.1:{port}/predict", folder / f"{name}.log"
        environ = {key: os.environ[key] for key in NEEDED if key in os.environ}
        environ |= {
            "PORT": str(port),
            "WEB_CONCURRENCY": "3",
            "PYTHONPATH": f"{ROOT}:{HERE}",
            "MODEL_CACHE_DIR": str(folder),
            **settings,
        }
        began = time.monotonic()
        with self._log.open("wb") as log:
            # In a process group of its own, so that Ctrl-C in the terminal does not reach it.
            self.process = psutil.Popen(
                [sys.executable, "-m", "gunicorn", *arguments], env=environ, stdout=log, stderr=log, process_group=0
            )
        self._wait_until_ready(began + SECONDS_TO_START)
        self.seconds_to_ready = time.monotonic() - began

    def classes(self, body: str) -> list[int]:
        """Return the classes that the server gives the comments in a body."""
        request = urllib.request.Request(self.url, body.encode(), {"Content-Type": "application/json"})
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=30) as answer:
            return [item["class"] for item in json.load(answer)["result"]]

    def cpu_seconds(self) -> float:
        """Return the processor time that all its processes have used."""
        return float(sum(sum(process.cpu_times()[:2]) for process in self._processes()))

    def megabytes(self) -> float:
        """Return the memory of all its processes: the PSS, which counts shared pages once; NaN outside Linux."""
        infos = [process.memory_full_info() for process in self._processes()]
        return sum(getattr(info, "pss", float("nan")) for info in infos) / 1e6

    def failed(self, why: str) -> BenchmarkError:
        """Return an error with the end of the server's log."""
        log = "\n".join(self._log.read_text(errors="replace").splitlines()[-8:])
        return BenchmarkError(f"{self.name} {why}; its log ends:\n{log}")

    def _wait_until_ready(self, deadline: float) -> None:
        while time.monotonic() < deadline and self.process.poll() is None:
            with suppress(OSError):  # it does not listen yet, or answers 503
                self.classes(json.dumps({"comments": [EXAMPLE]}))
                return
            time.sleep(0.01)
        raise self.failed("did not become ready")

    def _processes(self) -> list[psutil.Process]:
        return [self.process, *self.process.children(recursive=True)]


def main() -> int:
    """Measure, then print the tables; return 0, 1 after an error, or 2 after a wrong call."""
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
    try:
        with tempfile.TemporaryDirectory(prefix="pmip-benchmark-") as folder:
            print(_measure(_options(), Path(folder)))
    except SettingsError as error:
        return _failed(error, 2)
    except (PmipError, BenchmarkError, OSError) as error:
        return _failed(error, 1)
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    return 0


def _measure(options: argparse.Namespace, folder: Path) -> str:
    comments = read_comments(local_files(options.comments))["CONTENT"].tolist() if options.comments else [EXAMPLE]
    bodies = {size: _bodies(comments, size) for size in SIZES}
    for size, lines in bodies.items():
        (folder / f"bodies-{size}").write_text("".join(f"{line}\n" for line in lines))
    Artifact.read(options.model).write(folder)
    try:
        servers = _servers(folder)
        _require_same_answers(servers, bodies[max(SIZES)])
        loads = _loads(servers, folder, options)
        states = [(one.name, f"{one.seconds_to_ready:.2f}", f"{one.megabytes():.0f}") for one in servers]
    finally:
        _end_children()
    return f"{_table(COLUMNS, _rows(loads))}\n\n{_table(('server', 'ready s', 'memory MB'), states)}"


def _bodies(comments: Sequence[str], size: int) -> list[str]:
    filled = list(comments) * (1 + size // len(comments))
    return [json.dumps({"comments": filled[first : first + size]}) for first in range(0, len(comments), size)]


def _servers(folder: Path) -> list[Server]:
    plain_settings = ("-c", str(HERE / "gunicorn_settings.py"))
    return [
        Server("no-op", (*plain_settings, "noop:app"), folder, PLAIN_MODEL=""),
        Server("API", ("-c", "python:pmip.gunicorn_conf", "pmip.wsgi:app"), folder, DATA_DIR=str(folder)),
        Server("plain", (*plain_settings, "plain:app"), folder, PLAIN_MODEL=str(folder / "model.pkl")),
    ]


def _require_same_answers(servers: Sequence[Server], bodies: Sequence[str]) -> None:
    _, api, plain = servers
    for body in bodies:
        if api.classes(body) != plain.classes(body):
            raise BenchmarkError("the API and the plain route give the same comments different classes")


def _loads(servers: list[Server], folder: Path, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Load the servers in turn, beginning with another one in each round."""
    plan = [
        (server, size, clients)
        for round_ in range(options.rounds)
        for size in SIZES
        for clients in CLIENTS
        for server in servers[round_ % 3 :] + servers[: round_ % 3]
    ]
    return [
        _load(server, size, clients, folder, options.seconds)
        for server, size, clients in tqdm(plan, desc="loads", unit="load")
    ]


def _load(server: Server, size: int, clients: int, folder: Path, seconds: int) -> dict[str, Any]:
    used = server.cpu_seconds()
    command = ["wrk", "-t1", f"-c{clients}", f"-d{seconds}s", "--timeout", "30s", "-s", str(HERE / "post.lua")]
    command += [server.url, "--", str(folder / f"bodies-{size}")]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 60, check=False)
    if ended.returncode:
        raise BenchmarkError(f"wrk failed: {ended.stderr.strip() or ended.stdout.strip()}")
    load: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
    errors = ", ".join(f"{count} × {name}" for name, count in load["errors"].items() if count)
    if errors or not load["requests"]:
        raise server.failed(f"with {size} comments a request and {clients} clients had errors: {errors or 'no answer'}")
    load["cpu"] = (server.cpu_seconds() - used) * 1e6 / load["requests"]
    return load | {"server": server.name, "key": (size, clients), "rate": load["requests"] * 1e6 / load["microseconds"]}


def _rows(loads: Sequence[dict[str, Any]]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for key, name in dict.fromkeys((load["key"], load["server"]) for load in loads):
        own = [load for load in loads if (load["key"], load["server"]) == (key, name)]
        noop = [load["rate"] for load in loads if (load["key"], load["server"]) == (key, "no-op")]
        ratio = median(load["rate"] / base for load, base in zip(own, noop, strict=True))
        rate, p50, p99, cpu = (median(load[figure] for load in own) for figure in ("rate", "p50", "p99", "cpu"))
        figures = (f"{rate:.0f}", f"{ratio:.2f}", f"{p50 / 1000:.2f}", f"{p99 / 1000:.2f}", f"{cpu:.0f}")
        rows.append((str(key[0]), str(key[1]), name, *figures))
    return rows


def _table(header: Sequence[str], rows: Sequence[tuple[str, ...]]) -> str:
    """Return a table in Markdown that is also readable as plain text."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    lines = [" | ".join(map(str.ljust, line, widths)) for line in (header, ["-" * width for width in widths], *rows)]
    return "\n".join(f"| {line} |" for line in lines)


def _end_children() -> None:
    """End the servers, and wrk if it runs; a signal may have come at any moment."""
    children = psutil.Process().children()
    for child in children:
        with suppress(psutil.NoSuchProcess):
            child.terminate()
    for child in psutil.wait_procs(children, SECONDS_TO_END)[1]:
        child.kill()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _failed(error: Exception, status: int) -> int:
    print(f"benchmark.sh: {error}", file=sys.stderr)
    return status


def _options() -> argparse.Namespace:
    data_dir = Settings.from_environ({**os.environ, "ENVIRONMENT": "dev"}).data_dir
    parser = argparse.ArgumentParser(prog="benchmark.sh")
    parser.add_argument("--comments", action="append", default=[], type=Path, metavar="FILE")
    parser.add_argument("--seconds", type=_at_least_one, default=5)
    parser.add_argument("--rounds", type=_at_least_one, default=3)
    parser.add_argument("model", nargs="?", type=Path, metavar="MODEL.pkl", default=ROOT / data_dir / "model.pkl")
    options = parser.parse_args()
    if not options.model.is_file():
        raise BenchmarkError(f"{options.model}: there is no such model; 'bash scripts/train.sh' makes data/model.pkl")
    return options


def _at_least_one(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
