"""Helpers of the tests that need a running API: start it, send requests, and send them without a pause."""

import json
import os
import re
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path
from typing import Any, NamedTuple

import psutil
from conftest import ROOT, free_port

from pmip.store.objects import S3Storage

EXAMPLE = {"comments": ["Check it out this free stuff", "I take issue with your characterization"]}
COMMAND = [sys.executable, "-m", "gunicorn", "-c", "python:pmip.gunicorn_conf", "pmip.wsgi:app"]
direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
CLIENTS = 4  # of a `Load`


@dataclass
class Reply:
    status: int
    headers: Any
    body: Any


def ask(port: int, path: str, payload: object = None, key: str = "", **headers: str) -> Reply:
    """Send one request, as JSON if there is a payload, and with the API key if one is given."""
    data = None if payload is None else json.dumps(payload).encode()
    headers |= {"X-API-Key": key} if key else {}
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}{path}", data, headers | ({"Content-Type": "application/json"} if data else {})
    )
    try:
        with direct.open(request, timeout=30) as answer:
            return Reply(answer.status, answer.headers, json.load(answer))
    except urllib.error.HTTPError as error:
        return Reply(error.code, error.headers, json.load(error))


def wait_for(what: Callable[[], bool], seconds: float) -> float:
    """Call `what` until it returns True; return the seconds that it took."""
    start = time.monotonic()
    while not what():
        assert time.monotonic() - start < seconds, f"not within {seconds} s"
        time.sleep(0.05)
    return time.monotonic() - start


def answers(port: int) -> bool:
    try:
        return ask(port, "/healthcheck").body == {"status": "ok"}
    except OSError:
        return False


def is_ready(port: int) -> bool:
    try:
        return ask(port, "/readiness").status == 200
    except OSError:
        return False


def served(port: int) -> str:
    return str(ask(port, "/predict", EXAMPLE).headers["X-Model-Id"])


def last_error(port: int) -> str | None:
    """Return the API's report about the newest version that it could not load, or None."""
    error: str | None = ask(port, "/model-info").body["result"]["last_error"]
    return error


def pss(master: int) -> float:
    """Return the megabytes of all processes together, with each shared page counted once; 0 where unknown."""
    processes = [psutil.Process(master), *psutil.Process(master).children(recursive=True)]
    return sum(getattr(process.memory_full_info(), "pss", 0) for process in processes) / 2**20


def at_bucket(bucket: S3Storage) -> dict[str, str]:
    return {"ENVIRONMENT": "staging", "BUCKET": bucket.bucket, "MODEL_POLL_SECONDS": "1"}


@contextmanager
def running_api(
    folder: Path,
    *,
    until: Callable[[int], bool] = is_ready,
    ends_with: int = 0,
    root: Path = ROOT,
    stderr: int = subprocess.STDOUT,
    **environ: str,
) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    """Run the API by its start command until the block ends; the block begins when `until` accepts the port.

    Its log is in the folder. It gets SIGTERM at the end, and its exit status has to be `ends_with`.
    """
    port = int(environ.get("PORT", free_port(20_000, 30_000)))
    settings = {"PORT": str(port), "DATA_DIR": str(folder), "MODEL_CACHE_DIR": str(folder / "cache")} | environ
    with (folder / f"api-{port}.log").open("wb") as log:
        process = subprocess.Popen(COMMAND, cwd=root, env=os.environ | settings, stdout=log, stderr=stderr)
    try:
        wait_for(lambda: until(port), 60)
        yield port, process
    finally:
        process.terminate()
        assert process.wait(30) == ends_with


class Answered(NamedTuple):
    """One answer under load: when it came, how long it took, and its status (0 for a lost connection) and model."""

    moment: float
    seconds: float
    status: int
    model_id: str


@dataclass
class Load:
    """`CLIENTS` clients that send requests without a pause and keep every answer."""

    port: int
    headers: dict[str, str] = field(default_factory=dict)
    answers: list[Answered] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> "Load":
        self._threads = [threading.Thread(target=self._ask) for _ in range(CLIENTS)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _ask(self) -> None:
        while not self._stop.is_set():
            start = time.monotonic()
            try:
                reply = ask(self.port, "/predict", EXAMPLE, **self.headers)
                status, model_id = reply.status, reply.headers["X-Model-Id"]
            except (OSError, HTTPException) as error:  # a refused or broken connection loses the request
                status, model_id = 0, str(error)
            now = time.monotonic()
            self.answers.append(Answered(now, now - start, status, model_id))


def figures_in(text: str) -> dict[str, float]:
    """Return the metrics of a page as {name{labels}: value}, with the labels in alphabetical order."""
    found = {}
    for name, labels, value in re.findall(r"^(\w+)(?:\{(.*)\})? (\S+)$", text, re.MULTILINE):
        found[name + (f"{{{','.join(sorted(labels.split(',')))}}}" if labels else "")] = float(value)
    return found
