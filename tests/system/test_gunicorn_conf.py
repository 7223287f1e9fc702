"""Under real gunicorn, three workers share their metrics, and the API ends and reloads without losing a request."""

import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path

import psutil
import pytest
from api import COMMAND, Load, direct, figures_in, is_ready, running_api, wait_for
from conftest import ROOT, free_port

from pmip.http.swagger import EXAMPLE
from pmip.model.artifact import Artifact
from pmip.store.versions import LocalModel

BODY = json.dumps({"comments": EXAMPLE}).encode()
COUNT = 'pmip_request_seconds_count{route="/predict",status="200"}'


class Api:
    """A running gunicorn and the path of its log."""

    def __init__(self, port: int, process: subprocess.Popen[bytes], folder: Path) -> None:
        self.port, self.process = port, process
        self.log = folder / f"api-{port}.log"

    def get(self, path: str) -> str:
        with direct.open(f"http://127.0.0.1:{self.port}{path}", timeout=30) as answer:
            return str(answer.read().decode())

    def predict(self, times: int) -> None:
        """Send the example comments this many times, by four threads."""
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}/predict", BODY, headers)
        with ThreadPoolExecutor(4) as pool:
            statuses = list(pool.map(lambda _: direct.open(request, timeout=30).close(), range(times)))
        assert len(statuses) == times

    def workers(self) -> set[psutil.Process]:
        return set(psutil.Process(self.process.pid).children())

    def figure_files(self) -> set[Path]:
        maps = [Path(found.path) for worker in self.workers() for found in worker.memory_maps()]
        return {path for path in maps if path.name.startswith("histogram_")}

    def call(self, sent: bytes) -> socket.socket:
        caller = socket.create_connection(("127.0.0.1", self.port), timeout=30)
        caller.sendall(sent)
        return caller

    def callers(self) -> set[int]:
        held = [connection for worker in self.workers() for connection in worker.net_connections()]
        return {connection.raddr.port for connection in held if connection.raddr}


@pytest.fixture
def api(tmp_path: Path, artifact: Artifact) -> Iterator[Api]:
    LocalModel(tmp_path).save(artifact)
    with running_api(tmp_path, WEB_CONCURRENCY="3") as (port, process):
        yield Api(port, process, tmp_path)


def test_figures_are_those_of_all_workers_and_outlive_each(api: Api) -> None:
    """/metrics gives the sum of all workers, also after they are killed, and its folder ends with the server."""
    api.predict(20)
    asked = 20
    while len(api.figure_files()) < 3:
        api.predict(20)
        asked += 20
        assert asked < 2000, "one of the workers gets no request"
    folder = {path.parent for path in api.figure_files()}.pop()
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {figures_in(api.get("/metrics"))[COUNT] for _ in range(10)} == {asked}

    killed = api.workers()
    for worker in killed:
        worker.kill()
    wait_for(lambda: len(api.workers()) == 3 and not api.workers() & killed and is_ready(api.port), 30)
    assert figures_in(api.get("/metrics"))[COUNT] == asked
    api.predict(10)
    assert figures_in(api.get("/metrics"))[COUNT] == asked + 10
    assert figures_in(api.get("/metrics"))['pmip_comments_total{class="1"}'] == asked + 10

    api.process.terminate()
    assert api.process.wait(30) == 0
    assert not folder.exists()


def test_a_server_that_does_not_start_leaves_nothing_behind() -> None:
    """A server that ends before it serves anything leaves no folder of metrics behind."""
    port = free_port(20_000, 30_000)
    subprocess.run([*COMMAND, "--check-config"], cwd=ROOT, env=os.environ | {"PORT": str(port)}, check=True, timeout=60)
    for place in ("/dev/shm", tempfile.gettempdir()):  # noqa: S108
        assert list(Path(place).glob(f"pmip-metrics-*-{port}-*")) == []


def test_sigterm_finishes_the_requests_in_hand(api: Api) -> None:
    """After SIGTERM, callers who still send or wait for a worker get their answers, and then the server ends with 0."""
    head = f"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(BODY)}\r\n\r\n"
    with ExitStack() as stack:
        slow, waiting = ([stack.enter_context(api.call(head.encode())) for _ in range(number)] for number in (3, 20))
        wait_for(lambda: {caller.getsockname()[1] for caller in slow} <= api.callers(), 30)
        for caller in waiting:
            caller.sendall(BODY)
        api.process.send_signal(signal.SIGTERM)
        wait_for(lambda: "Handling signal: term" in api.log.read_text(), 30)
        for caller in slow:
            caller.sendall(BODY)
        callers = slow + waiting
        with ThreadPoolExecutor(len(callers)) as pool:
            answers = list(pool.map(rest, callers))
    assert {answer.splitlines()[0] for answer in answers} == {b"HTTP/1.1 200 OK"}
    assert {answer.splitlines()[-1] for answer in answers} == {b'{"result": [{"class": 1}, {"class": 0}]}'}
    assert api.process.wait(30) == 0


def test_a_reload_loses_no_request(api: Api) -> None:
    """SIGHUP under load, beside idle connections, replaces all workers, and every request is answered with 200."""
    before = api.workers()
    with ExitStack() as stack:
        for _ in range(6):
            stack.enter_context(api.call(b"GET /healthcheck HTTP/1.1\r\nHost: x\r\n\r\n")).recv(65536)
        with Load(api.port) as load:
            wait_for(lambda: len(load.answers) > 20, 30)
            api.process.send_signal(signal.SIGHUP)
            wait_for(lambda: not any(worker.is_running() for worker in before), 60)
            answered = len(load.answers)
            wait_for(lambda: len(load.answers) > answered + 20, 30)
    assert {answer.status for answer in load.answers} == {200}


def test_without_the_folder_of_the_metrics_requests_are_answered(api: Api) -> None:
    """Without the folder of the metrics requests are answered, and new workers log once that theirs are incomplete."""
    api.predict(20)
    for folder in {path.parent for path in api.figure_files()}:
        shutil.rmtree(folder)
    killed = api.workers()
    for worker in killed:
        worker.kill()
    wait_for(lambda: len(api.workers()) == 3 and not api.workers() & killed and is_ready(api.port), 30)
    api.predict(100)
    api.get("/metrics")
    assert 1 <= api.log.read_text().count("the metrics of this process are incomplete") <= 3


def test_a_log_that_nobody_reads_stops_no_request(tmp_path: Path, artifact: Artifact) -> None:
    """Requests are answered while nobody reads the log; a later reader gets whole lines and a note of the lost ones."""
    LocalModel(tmp_path).save(artifact)
    reading, writing = os.pipe()
    with running_api(tmp_path, stderr=writing) as (port, process), os.fdopen(reading, "rb") as log:
        api = Api(port, process, tmp_path)
        api.predict(600)
        os.set_blocking(reading, False)
        read = log.read(2**16 - 4096)
        api.predict(30)
        lines = [json.loads(line) for line in (read + log.read()).splitlines()]
        os.close(writing)
        os.set_blocking(reading, True)
        wait_for(lambda: is_ready(port), 30)
    assert len(lines) < 600
    assert any("lines were dropped" in line["message"] for line in lines)


def rest(caller: socket.socket) -> bytes:
    with caller, caller.makefile("rb") as answer:
        return answer.read()


def test_every_request_is_one_whole_line_of_the_log(api: Api) -> None:
    """Each request to three busy workers is one whole line of the log, and no line contains a comment."""
    api.predict(200)
    lines = [json.loads(line) for line in api.log.read_text().splitlines() if line.startswith("{")]
    predictions = [line for line in lines if line.get("path") == "/predict"]
    assert len(predictions) == len({line["request_id"] for line in predictions}) == 200
    assert {(line["status"], line["comments"], line["model_id"]) for line in predictions} == {(200, 2, "local")}
    assert EXAMPLE[0] not in api.log.read_text()


def test_workers_are_small_and_listen_to_the_port_alone(api: Api) -> None:
    """Each worker takes less than 60 MiB of memory (PSS), and the server listens at its port alone."""
    for worker in api.workers():
        assert getattr(worker.memory_full_info(), "pss", 0) < 60 * 2**20
    listening = [link for link in psutil.Process(api.process.pid).net_connections("all") if link.status == "LISTEN"]
    assert [link.laddr for link in listening] == [("127.0.0.1", api.port)]


def test_it_listens_at_an_address_of_ipv6(tmp_path: Path) -> None:
    """The API listens at an IPv6 address, which HOST=::1 gives without brackets."""

    def answers(port: int) -> bool:
        with suppress(OSError), direct.open(f"http://[::1]:{port}/healthcheck", timeout=30) as answer:
            return bool(answer.status == 200)
        return False

    with running_api(tmp_path, until=answers, HOST="::1"):
        pass
