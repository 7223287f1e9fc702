"""The API under gunicorn as it is started everywhere: its workers, its figures, its end."""

import http.client
import json
import os
import re
import signal
import socket
import threading
import time
from pathlib import Path

import psutil
import pytest
from api import EXAMPLE, ask, direct, is_ready, running_api, wait_for

from pmip.artifact import Artifact
from pmip.local_model import LocalModel


@pytest.fixture
def folder(tmp_path: Path, artifact: Artifact) -> Path:
    """Save a model for dev."""
    LocalModel(tmp_path).save(artifact)
    return tmp_path


def counted(port: int) -> float:
    """Return the number of answers to POST /predict, as /metrics tells it."""
    with direct.open(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    [number] = re.findall(r'^pmip_request_seconds_count\{route="/predict",status="200"\} (\S+)$', text, re.MULTILINE)
    return float(number)


def test_the_figures_are_those_of_all_workers(folder: Path) -> None:
    """Whoever is asked tells the same sum, a killed worker's share in it; its folder is gone at the end."""
    with running_api(folder) as (port, process):
        wait_for(lambda: is_ready(port), 30)
        shared = [Path(file.path).parent for file in psutil.Process(process.pid).children()[0].open_files()]
        [figures] = {path for path in shared if path.name.startswith("pmip-metrics-")}
        for _ in range(30):
            ask(port, "/predict", EXAMPLE)
        assert {counted(port) for _ in range(10)} == {30}
        victim = psutil.Process(process.pid).children()[0]
        victim.send_signal(signal.SIGKILL)
        wait_for(lambda: victim.pid not in [child.pid for child in psutil.Process(process.pid).children()], 10)
        for _ in range(10):
            ask(port, "/predict", EXAMPLE)
        assert {counted(port) for _ in range(10)} == {40}
    assert not figures.exists()


def test_it_finishes_the_requests_in_hand(folder: Path) -> None:
    """After SIGTERM a request whose body is still on its way gets its answer, and the server ends with status 0."""
    body = json.dumps(EXAMPLE).encode()
    with running_api(folder) as (port, process):
        wait_for(lambda: is_ready(port), 30)
        with socket.create_connection(("127.0.0.1", port), timeout=20) as caller:
            head = f"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
            caller.sendall(f"{head}\r\n\r\n".encode() + body[:10])
            wait_for(lambda: any(child.net_connections() for child in psutil.Process(process.pid).children()), 10)
            time.sleep(0.5)  # until a worker has taken the connection nothing is in its hands
            began = time.monotonic()
            process.terminate()
            time.sleep(0.5)
            caller.sendall(body[10:])
            answer = http.client.HTTPResponse(caller)
            answer.begin()
            assert (answer.status, json.load(answer)) == (200, {"result": [{"class": 1}, {"class": 0}]})
        assert process.wait(5) == 0
        assert time.monotonic() - began < 5


def test_a_stop_under_load_cuts_no_answer_short(folder: Path) -> None:
    """A caller gets 200, or a connection that no worker had taken yet and that is refused."""
    outcomes: list[object] = []

    def caller(port: int) -> None:
        while True:
            try:
                outcomes.append(ask(port, "/predict", EXAMPLE).status)
            except OSError as error:
                reason = getattr(error, "reason", error)
                outcomes.append(type(reason))
                return

    with running_api(folder) as (port, process):
        wait_for(lambda: is_ready(port), 30)
        callers = [threading.Thread(target=caller, args=(port,)) for _ in range(4)]
        for thread in callers:
            thread.start()
        wait_for(lambda: len(outcomes) > 200, 30)
        process.terminate()
        assert process.wait(10) == 0
        for thread in callers:
            thread.join()
    assert set(outcomes) <= {200, ConnectionRefusedError, ConnectionResetError}


def test_workers_share_what_was_imported(folder: Path) -> None:
    """There are as many as WEB_CONCURRENCY says, each small, and nothing but the port listens."""
    with running_api(folder, WEB_CONCURRENCY="2") as (port, process):
        wait_for(lambda: is_ready(port), 30)
        workers = psutil.Process(process.pid).children()
        assert len(workers) == 2
        assert all(worker.memory_full_info().pss < 60 * 2**20 for worker in workers if hasattr(os, "sched_getaffinity"))
        listening = [link for link in psutil.Process(process.pid).net_connections("all") if link.status == "LISTEN"]
        assert [link.laddr for link in listening] == [("127.0.0.1", port)]
