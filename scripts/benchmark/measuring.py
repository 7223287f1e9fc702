"""The measuring: each server alone for its start and memory, then all of them, with one at a time under load."""

import json
import subprocess
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from questions import HERE, Question
from servers import BenchmarkError, Running, Server, running

CLIENTS = (4, 32)


@dataclass(frozen=True)
class Start:
    """What one start of a server came to; memory in MB, after load."""

    server: str
    cold_seconds: float
    warm_seconds: float
    memory: float | None


@dataclass(frozen=True)
class Load:
    """What one load of a server came to; latencies in ms, the processors' time of a request in µs."""

    server: str
    comments: int
    clients: int
    per_second: float
    p50: float
    p99: float
    cpu: float


class Bench:
    """Measures servers with the same questions; `questions` has a list of them for each number of comments."""

    def __init__(self, questions: dict[int, list[Question]], folder: Path, seconds: int) -> None:
        self._questions = questions
        self._folder = folder
        self._seconds = seconds
        self._first = next(iter(questions.values()))[0]
        for size, asked in questions.items():
            self._bodies(size).write_text("".join(f"{question.body}\n" for question in asked))

    def start(self, server: Server, round_: int) -> Start:
        """Start a server with an empty cache, then again with what it left there, alone on the machine."""
        with self._running(server, round_) as cold:
            cold_seconds = cold.seconds_to_ready
        with self._running(server, round_) as warm:
            self._check(warm)
            self._load(warm, max(self._questions), max(CLIENTS))
            start = Start(server.name, cold_seconds, warm.seconds_to_ready, warm.memory())
        say(f"round {round_ + 1}: {server.name} ready in {start.cold_seconds:.2f} s, again {start.warm_seconds:.2f} s")
        return start

    def loads(self, servers: Sequence[Server], rounds: int) -> list[Load]:
        """Load the servers in turn, and in another order each round."""
        with ExitStack() as all_of_them:
            up = [all_of_them.enter_context(self._running(server, 0)) for server in servers]
            for one in up:
                self._check(one)
            return [
                self._told_load(one, size, clients, round_)
                for round_ in range(rounds)
                for size in self._questions
                for clients in CLIENTS
                for one in up[round_ % len(up) :] + up[: round_ % len(up)]
            ]

    def _running(self, server: Server, round_: int) -> AbstractContextManager[Running]:
        """Start a server with the cache of a round, which it makes if it needs one."""
        cache, log = self._folder / f"cache-{server.name}-{round_}", self._folder / f"{server.name}.log"
        return running(server, self._first, cache, log)

    def _check(self, one: Running) -> None:
        """Ask for all comments, the most in one request, and for a single one."""
        for question in (self._first, *self._questions[max(self._questions)]):
            one.check(question)

    def _told_load(self, one: Running, size: int, clients: int, round_: int) -> Load:
        used = one.cpu_seconds()
        result = self._load(one, size, clients)
        cpu = (one.cpu_seconds() - used) * 1e6 / result["requests"]
        per_second = result["requests"] * 1e6 / result["microseconds"]
        say(f"round {round_ + 1}: {one.server.name}, {size} a request, {clients} clients: {per_second:.0f} requests/s")
        latencies = result["p50"] / 1000, result["p99"] / 1000
        return Load(one.server.name, size, clients, per_second, *latencies, cpu)

    def _load(self, one: Running, size: int, clients: int) -> dict[str, Any]:
        command = ["wrk", "-t1", f"-c{clients}", f"-d{self._seconds}s", "--timeout", "30s"]
        command += ["-s", str(HERE / "post.lua"), one.url, "--", str(self._bodies(size))]
        outcome = subprocess.run(command, capture_output=True, text=True, timeout=self._seconds + 60, check=False)
        if outcome.returncode:
            raise BenchmarkError(f"wrk failed: {outcome.stderr.strip() or outcome.stdout.strip()}")
        result: dict[str, Any] = json.loads(outcome.stdout.splitlines()[-1])
        _require_good(one, result, f"{size} a request, {clients} clients")
        return result

    def _bodies(self, size: int) -> Path:
        return self._folder / f"bodies-{size}"


def say(text: str) -> None:
    """Tell how far it is."""
    print(f"==> {text}", file=sys.stderr)


def _require_good(one: Running, result: dict[str, Any], load: str) -> None:
    errors = ", ".join(f"{count} × {kind}" for kind, count in result["errors"].items() if count)
    if errors or not result["requests"]:
        raise BenchmarkError(
            f"{one.server.name} under load ({load}) gave {result['requests']} answers and "
            f"these errors: {errors or 'none'}; {one.log_end()}"
        )
