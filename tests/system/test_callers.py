"""Slow, idle, greedy or wrong callers delay nobody else when they call the API, under real gunicorn, over sockets."""

import json
import resource
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psutil
import pytest
from api import ask, direct, running_api, wait_for

from pmip.config import Limits
from pmip.http.requests import MAX_LISTED
from pmip.model.artifact import Artifact
from pmip.store.versions import LocalModel

SECONDS = 3  # of the three workers' processor time, within which a health check must be answered
MEGABYTES = 200
KEY = "a-key-of-the-tests"
HEAD = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
WORST = "½"  # the slowest of all characters that were tried
COMMENTS = b'{"comments": ["Check out my channel", "a fine song"]}'
LIMITS = Limits()


@pytest.fixture(scope="module")
def api(artifact: Artifact, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, psutil.Process]]:
    folder = tmp_path_factory.mktemp("api")
    LocalModel(folder).save(artifact)
    with running_api(folder, API_KEYS=KEY) as (port, process):
        yield port, psutil.Process(process.pid)


@pytest.fixture
def port(api: tuple[int, psutil.Process]) -> int:
    return api[0]


class HealthChecks:
    """Request /healthcheck again and again; at the end, assert that none was slow and all workers are alive and small.

    On a busy machine, the processor time of the workers counts instead of the elapsed time.
    """

    def __init__(self, api: tuple[int, psutil.Process]) -> None:
        self.port, self._master = api
        self._workers, self._seconds, self._stop = set(self._master.children()), list[float](), threading.Event()

    def __enter__(self) -> None:
        self._thread = threading.Thread(target=self._ask)
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        memory = max(worker.memory_info().rss for worker in self._workers) / 2**20
        told = f"{len(self._seconds)} health checks, the slowest after {max(self._seconds):.3f} s; {memory:.0f} MB"
        sys.stdout.write(f"\n{told}\n")
        assert set(self._master.children()) == self._workers
        assert memory < MEGABYTES
        assert max(self._seconds) < SECONDS

    def _ask(self) -> None:
        while not self._stop.wait(0.1):
            began, spent = time.monotonic(), self._spent()
            assert ask(self.port, "/healthcheck").status == 200
            self._seconds.append(min(time.monotonic() - began, self._spent() - spent))

    def _spent(self) -> float:
        return sum(times.user + times.system for times in (worker.cpu_times() for worker in self._workers))


@contextmanager
def open_files(number: int) -> Iterator[None]:
    """Limit the open files of this process and of those that it starts."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(number, hard), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def connected(port: int, sent: bytes = b"") -> socket.socket:
    caller = socket.create_connection(("127.0.0.1", port), timeout=120)
    caller.sendall(sent)
    return caller


def predict(headers: str, body: bytes, path: str = "/predict") -> bytes:
    return HEAD.replace(b"/predict", path.encode()) + f"X-API-Key: {KEY}\r\n{headers}\r\n\r\n".encode() + body


def posted(port: int, path: str, body: bytes) -> int:
    sent = predict(f"Connection: close\r\nContent-Length: {len(body)}", body, path)
    with connected(port, sent) as caller, caller.makefile("rb") as answer:
        return int(answer.readline().split()[1])


def comments(text: str, number: int) -> bytes:
    return json.dumps({"comments": [text] * number}, ensure_ascii=False).encode()


WHOLE = predict(f"Content-Length: {len(COMMENTS)}", COMMENTS)
CHUNKS = predict("Transfer-Encoding: chunked", b"10\r\n%s\r\n25\r\n%s\r\n0\r\n\r\n" % (COMMENTS[:16], COMMENTS[16:]))
MOST = LIMITS.max_comments
GREEDY = {
    "much small work": (60, "/predict?type=explanation&top=90", comments(WORST * 10, 500), 200),
    "the most classes": (3, "/predict", comments(WORST * (LIMITS.max_total_chars // MOST), MOST), 200),
    "the most explanations": (
        3,
        f"/predict?type=explanation&top={MAX_LISTED // MOST}",
        comments(WORST * (LIMITS.max_explained_chars // MOST), MOST),
        200,
    ),
    "too many characters": (3, "/predict", comments(WORST * 9_900, 100), 413),
    "too many lists": (12, "/predict", b'{"comments": [' + b"[]," * (LIMITS.max_body_bytes // 3 - 10) + b"[]]}", 400),
    "too large a body": (12, "/predict", b'{"comments": [' + b"[]," * 2_796_000 + b"[]]}", 413),
}


@pytest.mark.parametrize(("callers", "path", "body", "status"), GREEDY.values(), ids=GREEDY)
def test_greedy_callers_hold_up_no_health_check(
    api: tuple[int, psutil.Process], callers: int, path: str, body: bytes, status: int
) -> None:
    """Callers who send the most work that is allowed delay no health check, and callers who send more are refused."""
    with HealthChecks(api), ThreadPoolExecutor(callers) as pool:
        statuses = set(pool.map(lambda _: posted(api[0], path, body), range(callers)))
        time.sleep(1)
    assert statuses == {status}


@pytest.mark.parametrize(
    "begun",
    [b"", HEAD[:20], HEAD + b"Content-Length: 4000000\r\n\r\n{", predict("Transfer-Encoding: chunked", b"50\r\n")],
    ids=["nothing", "a head", "a body without a key", "chunks"],
)
def test_slow_senders_hold_up_no_health_check(api: tuple[int, psutil.Process], begun: bytes) -> None:
    """While 300 callers send slowly, health checks and a request that arrives in two pieces are answered soon."""
    with HealthChecks(api), ExitStack() as stack:
        callers = [stack.enter_context(connected(api[0], begun)) for _ in range(300)]
        for _ in range(3):
            for caller in callers if begun else []:
                caller.sendall(b"a")
            time.sleep(1)
        caller = stack.enter_context(connected(api[0], WHOLE[:-9]))
        began = time.monotonic()
        caller.sendall(WHOLE[-9:])
        assert answers(caller, 1)
        assert time.monotonic() - began < 5


def test_idle_connections_hold_up_no_health_check(api: tuple[int, psutil.Process]) -> None:
    """Neither 1,400 silent callers nor 100 who keep their connections after a request delay a health check."""
    with open_files(4096), HealthChecks(api), ExitStack() as stack:
        for _ in range(1400):
            stack.enter_context(connected(api[0]))
        kept = [stack.enter_context(connected(api[0], WHOLE)) for _ in range(100)]
        for caller in kept:
            answers(caller, 1)
        time.sleep(2)


def test_more_connections_than_open_files_end_no_worker(artifact: Artifact, tmp_path: Path) -> None:
    """More connections than the limit of open files end no worker, and the API answers when those callers have left."""
    LocalModel(tmp_path).save(artifact)
    with ExitStack() as stack:
        with open_files(128):
            api = stack.enter_context(running_api(tmp_path, WEB_CONCURRENCY="1"))
        workers = set(psutil.Process(api[1].pid).children())
        with ExitStack() as crowd:
            for _ in range(250):
                crowd.enter_context(connected(api[0]))
            time.sleep(2)
        wait_for(lambda: ask(api[0], "/healthcheck").status == 200, 30)
        assert set(psutil.Process(api[1].pid).children()) == workers


def test_callers_who_do_not_receive_hold_up_no_health_check(api: tuple[int, psutil.Process]) -> None:
    """Callers who do not read their answers delay no health check, and a slow reader gets the whole answer."""
    question = b"GET /swaggerui/swagger-ui-bundle.js HTTP/1.1\r\nHost: x\r\n\r\n"
    with direct.open(f"http://127.0.0.1:{api[0]}/swaggerui/swagger-ui-bundle.js") as answer:
        whole = answer.read()
    with HealthChecks(api), ExitStack() as stack:
        for _ in range(100):
            stack.enter_context(connected(api[0], question * 6))
        slow = question.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
        caller, received = stack.enter_context(connected(api[0], slow)), b""
        while data := caller.recv(65536):
            received += data
            time.sleep(0.05)
    assert received.partition(b"\r\n\r\n")[2] == whole


def answers(caller: socket.socket, number: int) -> list[bytes]:
    """Return the bodies of this many answers, each of which must have status 200."""
    bodies = []
    with caller.makefile("rb") as stream:
        for _ in range(number):
            assert stream.readline().startswith(b"HTTP/1.1 200 ")
            headers = dict(line.lower().split(b": ") for line in iter(stream.readline, b"\r\n"))
            bodies.append(stream.read(int(headers[b"content-length"])))
    return bodies


@pytest.mark.parametrize("request_", [WHOLE, CHUNKS], ids=["with a length", "in chunks"])
def test_a_request_is_answered_in_whatever_pieces_it_arrives(port: int, request_: bytes) -> None:
    """A request that arrives in pieces, or with others in one piece, gets the same answer as one that arrives whole."""
    with connected(port, request_) as caller:
        [expected] = answers(caller, 1)
        assert expected.startswith(b'{"result": [{"class": ')
        body = request_.index(COMMENTS[:9])
        for size in (1, 30, len(HEAD), request_.index(b"\r\n\r\n") + 2, body + 9, len(request_) - 1):
            caller.sendall(request_[:size])
            time.sleep(0.02)
            caller.sendall(request_[size:] + request_ + request_[:size])
            time.sleep(0.02)
            caller.sendall(request_[size:])
            assert answers(caller, 3) == [expected] * 3


@pytest.mark.parametrize("headers", [b"", b"Connection: close\r\n"])
def test_a_refusal_is_not_lost_with_the_body(port: int, headers: bytes) -> None:
    """A caller who sends a large body first still reads the refusal; with Expect: 100-continue it comes at once."""
    with connected(port, HEAD + headers + b"Content-Length: 9000000\r\n\r\n" + b" " * 9_000_000) as caller:
        assert caller.recv(65536).startswith(b"HTTP/1.1 401 ")
    with connected(port, predict("Expect: 100-continue\r\nContent-Length: 9000000", b"")) as caller:
        received = b""
        while b"MAX_BODY_BYTES" not in received:
            received += caller.recv(65536)
    assert b"HTTP/1.1 413 " in received


@pytest.mark.parametrize("chunk", [b"zz\r\n", b"-1\r\n", b"3\r\nabcdefgh\r\n", b"5;\rx\r\nhello\r\n0\r\n\r\n"])
@pytest.mark.parametrize(("path", "status"), [("/predict", b"400"), ("/nothing", b"404")])
def test_malformed_chunks_are_answered_once(port: int, chunk: bytes, path: str, status: bytes) -> None:
    """A caller who sends malformed chunks gets one answer with a message and then the end, on any route."""
    with connected(port, predict("Transfer-Encoding: chunked", chunk, path)) as caller:
        caller.shutdown(socket.SHUT_WR)
        with caller.makefile("rb") as answer:
            told = answer.read()
    assert told.startswith(b"HTTP/1.1 " + status)
    assert told.count(b"HTTP/1.1") == 1
    assert json.loads(told.partition(b"\r\n\r\n")[2])["message"]


NOT_HTTP: dict[bytes, bytes] = {
    b"my dear comment\r\n\r\n": b"400",
    b"GET / HTTP/1.1\r\nmy dear comment\r\n\r\n": b"400",
    b"GET /dear" + b"a" * 9000 + b" HTTP/1.1\r\n\r\n": b"414",
    b"GET / HTTP/1.1\r\nHost: x\r\n" + b"A: my dear comment\r\n" * 200 + b"\r\n": b"431",
    b"GET / HTTP/1.1\r\nHost: x\r\nExpect: my dear comment\r\n\r\n": b"417",
    b"GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: dear\r\n\r\n": b"501",
}


def test_what_is_not_http_is_refused_and_never_quoted_in_the_log(artifact: Artifact, tmp_path: Path) -> None:
    """A caller who does not send HTTP gets an error status, and the log names the address but quotes nothing sent."""
    LocalModel(tmp_path).save(artifact)
    with running_api(tmp_path, LOG_LEVEL="debug") as (port, _):
        for sent, status in NOT_HTTP.items():
            with connected(port, sent) as caller, caller.makefile("rb") as stream:
                assert stream.read().startswith(b"HTTP/1.1 " + status)
        connected(port, HEAD + b"A: my dear comment").close()
        wait_for(lambda: "premature" in (tmp_path / f"api-{port}.log").read_text(), 10)
        lines = [json.loads(line) for line in (tmp_path / f"api-{port}.log").read_text().splitlines()]
    assert "dear" not in str(lines)
    assert [line["message"] for line in lines].count("Invalid request from ip=127.0.0.1") == len(NOT_HTTP)


def is_gone(process: psutil.Process) -> Callable[[], bool]:
    return lambda: not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


def test_a_worker_that_hangs_is_ended_counted_and_logged(artifact: Artifact, tmp_path: Path) -> None:
    """A worker that hangs is replaced, counted in /metrics and logged as an error; all lines of the log are JSON."""
    LocalModel(tmp_path).save(artifact)
    with running_api(tmp_path, GUNICORN_CMD_ARGS="--timeout 2") as (port, process):
        worker = psutil.Process(process.pid).children()[0]
        worker.suspend()
        wait_for(is_gone(worker), 30)
        wait_for(lambda: len(psutil.Process(process.pid).children()) == 3, 30)

        def kills() -> bool:
            with direct.open(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
                return b"pmip_worker_kills_total 1.0" in answer.read()

        wait_for(kills, 30)
        lines = [json.loads(line) for line in (tmp_path / f"api-{port}.log").read_text().splitlines()]
    assert {line.keys() >= {"time", "level", "message"} for line in lines} == {True}
    [told] = [line for line in lines if "did not answer for" in line["message"]]
    assert (told["level"], str(worker.pid) in told["message"]) == ("error", True)
