"""Under a steady load no request fails, memory does not grow and answers do not become slower.

`LONG_TRIALS=1 python -m pytest -s tests/hostile/test_load.py` takes eleven minutes, on a machine that does nothing
else.
"""

import json
import os
import shutil
import statistics
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import pytest
from api import at_bucket, pss, running_api, served, wait_for
from conftest import ROOT, SAMPLE, publish, without

from pmip.model.artifact import Artifact, Metadata, pack
from pmip.store.objects import S3Storage
from pmip.store.versions import ModelStore, next_model_id
from pmip.training.augmentation import Augmented
from pmip.training.comments import read_comments
from pmip.training.data import local_files

LONG = bool(os.environ.get("LONG_TRIALS"))
CLIENTS = 32
SHARE = 0.8  # of the requests that the API can answer
LOADS, SECONDS, RELOAD_SECONDS = (10, 60, 20) if LONG else (3, 4, 2)
FIRST = "20260101T000000Z"


class Result(NamedTuple):
    """The requests per second of a load, the 99th percentile of their time in ms, and the number that failed."""

    per_second: float
    p99: float
    failed: int


class Wrk:
    """Clients of wrk, which send one comment of the sample after the other."""

    def __init__(self, port: int, bodies: Path) -> None:
        program = shutil.which("wrk")
        if program is None:
            without("WRK", "wrk is not installed; 'apt-get install wrk' or 'brew install wrk' installs it")
        script = ROOT / "scripts" / "benchmark" / "post.lua"
        self._command = [program, "-t1", f"-c{CLIENTS}", "-s", script, f"http://127.0.0.1:{port}/predict"]
        self._bodies = bodies

    def start(self, seconds: int, pause: float | None = None) -> subprocess.Popen[str]:
        """Start a load in which each client waits `pause` ms between two requests."""
        options = [f"-d{seconds}s", "--", self._bodies, *([] if pause is None else [f"{pause:.2f}"])]
        return subprocess.Popen([*self._command, *options], stdout=subprocess.PIPE, text=True)


def result_of(load: subprocess.Popen[str]) -> Result:
    told: dict[str, Any] = json.loads(load.communicate(timeout=SECONDS + 60)[0].splitlines()[-1])
    return Result(told["requests"] * 1e6 / told["microseconds"], told["p99"] / 1000, sum(told["errors"].values()))


def pause_for(wrk: Wrk, per_second: float) -> float:
    """Return the pause with which all clients together send so many requests; answers take time too."""
    cycle = 1000 * CLIENTS / per_second
    pause = cycle / 2
    for _ in range(3):
        taken = 1000 * CLIENTS / result_of(wrk.start(3, pause)).per_second
        pause = max(1, cycle - (taken - pause))
    return pause


def grandchildren(master: int) -> list[psutil.Process]:
    """Return the processes that verify a version at the moment."""
    return [process for worker in psutil.Process(master).children() for process in worker.children()]


@pytest.fixture(scope="module")
def artifact(recipe: dict[str, Any]) -> Artifact:
    comments = read_comments(local_files(SAMPLE))
    model = Augmented(recipe["pipeline"].steps).fit(comments["CONTENT"], comments["CLASS"]).plain()
    return pack(model, Metadata(FIRST, "staging", trained_at="2026-01-01T00:00:00+00:00"))


@pytest.fixture
def bodies(tmp_path: Path) -> Path:
    path = tmp_path / "bodies"
    comments = read_comments(local_files(SAMPLE))["CONTENT"]
    path.write_text("".join(json.dumps({"comments": [comment]}) + "\n" for comment in comments))
    return path


def test_steady_load_leaves_memory_and_latency_as_they_are(
    bucket: S3Storage, artifact: Artifact, bodies: Path, tmp_path: Path
) -> None:
    """At 80 % of the maximal load, while new versions arrive, no request fails and memory grows by at most 5 %."""
    store, model_id = ModelStore(bucket, "staging"), FIRST
    publish(store, artifact, model_id)
    results, memory = [], []
    with running_api(tmp_path, **at_bucket(bucket)) as (port, process):
        wrk = Wrk(port, bodies)
        limit = result_of(wrk.start(SECONDS // 4 + 3))
        pause = pause_for(wrk, SHARE * limit.per_second)
        for _ in range(LOADS):
            load = wrk.start(SECONDS, pause)
            while load.poll() is None:
                model_id = next_model_id(model_id)
                publish(store, artifact, model_id)
                with suppress(subprocess.TimeoutExpired):
                    load.wait(RELOAD_SECONDS)
            results.append(result_of(load))
            wait_for(lambda newest=model_id: served(port) == newest, 30)
            wait_for(lambda: not grandchildren(process.pid), 30)
            memory.append(round(pss(process.pid), 1))
    p99s = [result.p99 for result in results]
    shares = [round(result.per_second / limit.per_second, 2) for result in results]
    sys.stdout.write(f"\nlimit {limit.per_second:.0f} requests/s, p99 {limit.p99:.1f} ms; shares {shares}\n")
    sys.stdout.write(f"{int(model_id[-7:-1])} reloads; p99 ms {p99s}; MB {memory}\n")
    assert [result.failed for result in [limit, *results]] == [0] * (LOADS + 1)
    assert memory[-1] <= 1.05 * memory[1]
    if LONG:  # in seconds, the verification of a version is most of the load
        assert min(shares) > SHARE - 0.1
        assert max(p99s) <= 2 * statistics.median(p99s)
