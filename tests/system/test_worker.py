"""What gunicorn is given: whoever is slow, idle or wants much work holds up nobody else, and the log is JSON."""

import json
import socket
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest
from api import ask, direct, figures_in, is_ready, running_api, wait_for

from pmip.http.requests import MAX_TOP, Limits
from pmip.model.artifact import Artifact
from pmip.store.versions import LocalModel

SECONDS = 2  # within which a health check has to be answered
TRIAL_SECONDS = 8
KEY = "a-key-of-the-tests"
HEAD = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
WORST = "½"  # of all that was tried, this takes the longest for each of its characters


@pytest.fixture(scope="module")
def port(artifact: Artifact, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    folder = tmp_path_factory.mktemp("api")
    LocalModel(folder).save(artifact)
    with running_api(folder, API_KEYS=KEY) as (port, _):
        wait_for(lambda: is_ready(port), 30)
        yield port


class HealthChecks:
    """Asks for the health over and over; `slowest` is the longest that an answer took."""

    def __init__(self, port: int) -> None:
        self.port, self.slowest, self.count = port, 0.0, 0
        self._stop = threading.Event()

    def __enter__(self) -> "HealthChecks":
        self._thread = threading.Thread(target=self._ask)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        sys.stdout.write(f"\n{self.count} health checks, the slowest after {self.slowest:.3f} s\n")
        assert self.count > 3
        assert self.slowest < SECONDS

    def _ask(self) -> None:
        while not self._stop.wait(0.1):
            began = time.monotonic()
            assert ask(self.port, "/healthcheck").status == 200
            self.slowest, self.count = max(self.slowest, time.monotonic() - began), self.count + 1


def connected(port: int, sent: bytes = b"") -> socket.socket:
    caller = socket.create_connection(("127.0.0.1", port), timeout=30)
    caller.sendall(sent)
    return caller


def until_closed(caller: socket.socket, sent: bytes = b"") -> tuple[bytes, float]:
    """Send a byte a second; return what is answered, and after how many seconds the connection is closed."""
    began, answer = time.monotonic(), b""
    with caller:
        caller.settimeout(1)
        for number in range(60):
            try:
                while data := caller.recv(65536):
                    answer += data
                break
            except TimeoutError:
                caller.send(sent[number : number + 1] or b" ")
            except ConnectionError:
                break
    return answer, time.monotonic() - began


@pytest.mark.parametrize("kind", ["class", "explanation"])
def test_the_most_work_that_is_allowed_holds_up_no_health_check(port: int, kind: str) -> None:
    """Three callers who ask for it again and again are answered; more is refused with the name of the limit."""
    limits = Limits()
    most = limits.max_explained_chars if kind == "explanation" else limits.max_total_chars
    comments = [WORST * (most // 1000)] * 1000
    path = f"/predict?type={kind}" + (f"&top={MAX_TOP}" if kind == "explanation" else "")
    with HealthChecks(port), ThreadPoolExecutor(3) as pool:
        statuses = list(pool.map(lambda _: posted(port, path, comments), range(6)))
        refused = list(pool.map(lambda _: posted(port, path, [WORST * 9_900] * 800), range(3)))
    assert statuses == [200] * 6
    assert refused == [413] * 3


def posted(port: int, path: str, comments: list[str]) -> int:
    body = json.dumps({"comments": comments}, ensure_ascii=False).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nX-API-Key: {KEY}\r\n"
    with connected(port, f"{head}Connection: close\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body) as caller:
        caller.settimeout(60)
        with caller.makefile("rb") as answer:
            return int(answer.readline().split()[1])


@pytest.mark.parametrize("number", [3, 40])
@pytest.mark.parametrize(
    ("begun", "status"),
    [
        (b"", b""),
        (HEAD[:20], b""),
        (HEAD + b"Content-Length: 8000000\r\n\r\n{", b"401"),
        (HEAD + b"X-API-Key: " + KEY.encode() + b"\r\nContent-Length: 8000000\r\n\r\n{", b"408"),
        (HEAD + b"X-API-Key: " + KEY.encode() + b"\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n", b"408"),
    ],
    ids=["nothing", "a head", "a body without a key", "a body", "chunks"],
)
def test_slow_senders_hold_up_no_health_check(port: int, begun: bytes, status: bytes, number: int) -> None:
    """Those who send a byte a second are answered or cut off within seconds, whatever they are at."""
    with HealthChecks(port), ThreadPoolExecutor(number) as pool:
        callers = [connected(port, begun) for _ in range(number)]
        ends = list(pool.map(until_closed, callers))
        time.sleep(1)
    assert {answer.split(b" ")[1] if answer else b"" for answer, _ in ends} == {status}
    assert max(seconds for _, seconds in ends) < TRIAL_SECONDS


def test_more_slow_senders_than_threads_hold_up_no_health_check(port: int) -> None:
    """A request that has arrived needs no thread, so it does not wait for one of the 192."""
    with HealthChecks(port), ThreadPoolExecutor(250) as pool:
        callers = [connected(port, predict("Content-Length: 8000000", b"{")) for _ in range(250)]
        answered = [answer.split(b" ")[1] for answer, _ in pool.map(until_closed, callers)]
    assert answered == [b"408"] * 250


def test_callers_who_do_not_receive_hold_up_no_health_check(port: int) -> None:
    """Their connections are closed within seconds; one who receives slowly gets the whole answer."""
    question = b"GET /swaggerui/swagger-ui-bundle.js HTTP/1.1\r\nHost: x\r\n\r\n"
    with direct.open(f"http://127.0.0.1:{port}/swaggerui/swagger-ui-bundle.js") as answer:
        whole = answer.read()
    with HealthChecks(port), ExitStack() as stack:
        for _ in range(100):
            stack.enter_context(connected(port, question * 6))
        caller = stack.enter_context(connected(port, question.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")))
        received = b""
        while data := caller.recv(65536):
            received += data
            time.sleep(0.05)
        time.sleep(3)
    assert received.partition(b"\r\n\r\n")[2] == whole


def predict(headers: str, body: bytes) -> bytes:
    return HEAD + f"X-API-Key: {KEY}\r\n{headers}\r\n\r\n".encode() + body


COMMENTS = b'{"comments": ["Check out my channel", "a fine song"]}'
WHOLE = predict(f"Content-Length: {len(COMMENTS)}", COMMENTS)
CHUNKS = predict("Transfer-Encoding: chunked", b"10\r\n%s\r\n25\r\n%s\r\n0\r\n\r\n" % (COMMENTS[:16], COMMENTS[16:]))


def answers(caller: socket.socket, number: int) -> list[bytes]:
    """Return the bodies of so many answers, which must be 200."""
    bodies = []
    with caller.makefile("rb") as stream:
        for _ in range(number):
            assert stream.readline().startswith(b"HTTP/1.1 200 ")
            headers = dict(line.lower().split(b": ") for line in iter(stream.readline, b"\r\n"))
            bodies.append(stream.read(int(headers[b"content-length"])))
    return bodies


@pytest.mark.parametrize("request_", [WHOLE, CHUNKS], ids=["with a length", "in chunks"])
def test_a_request_is_answered_in_whatever_pieces_it_arrives(port: int, request_: bytes) -> None:
    """The answer is that of a request that arrives at once, also if others are in the same piece."""
    with connected(port, request_) as caller:
        [expected] = answers(caller, 1)
        assert expected.startswith(b'{"result": [{"class": ')
        for size in (
            1,
            30,
            len(HEAD),
            request_.index(b"\r\n\r\n") + 2,
            request_.index(COMMENTS[:9]) + 9,
            len(request_) - 1,
        ):
            caller.sendall(request_[:size])
            time.sleep(0.02)
            caller.sendall(request_[size:] + request_ + request_[:size])
            time.sleep(0.02)
            caller.sendall(request_[size:])
            assert answers(caller, 3) == [expected] * 3


def test_small_requests_that_arrive_at_once_take_no_thread(artifact: Artifact, tmp_path: Path) -> None:
    """So the worker does not spend half of its time on passing them to threads."""
    LocalModel(tmp_path).save(artifact)
    with running_api(tmp_path, API_KEYS=KEY, WEB_CONCURRENCY="1") as (port, process):
        wait_for(lambda: is_ready(port), 30)
        [worker] = psutil.Process(process.pid).children()
        before = worker.num_threads()
        with ExitStack() as stack:
            callers = [stack.enter_context(connected(port)) for _ in range(8)]
            for _ in range(5):
                for caller in callers:
                    caller.sendall(WHOLE)
                for caller in callers:
                    answers(caller, 1)
        assert worker.num_threads() == before


def test_idle_connections_hold_up_no_health_check(port: int) -> None:
    """Callers who say nothing, before a request or after one, take no thread."""
    with HealthChecks(port), ExitStack() as stack:
        for _ in range(200):
            stack.enter_context(connected(port))
        kept = [
            stack.enter_context(connected(port, b"GET /healthcheck HTTP/1.1\r\nHost: x\r\n\r\n")) for _ in range(100)
        ]
        for caller in kept:
            assert caller.recv(65536).startswith(b"HTTP/1.1 200 OK")
        time.sleep(3)


def test_a_refusal_does_not_wait_for_the_body_nor_lose_its_answer(port: int) -> None:
    """401 comes at once; who sends on all the same is listened to until the answer is there."""
    began = time.monotonic()
    with connected(port, HEAD + b"Content-Length: 8000000\r\n\r\n") as caller:
        assert caller.recv(65536).startswith(b"HTTP/1.1 401 ")
        assert time.monotonic() - began < 1
    with connected(port, HEAD + b"Connection: close\r\nContent-Length: 8000000\r\n\r\n") as caller:
        caller.sendall(b" " * 8_000_000)
        with caller.makefile("rb") as answer:
            assert answer.read().startswith(b"HTTP/1.1 401 ")


def test_a_slow_but_steady_sender_is_answered(port: int) -> None:
    """Twenty kilobytes a second are enough."""
    body = json.dumps({"comments": ["a" * 9_000] * 9}).encode()
    head = HEAD + f"X-API-Key: {KEY}\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    with connected(port, head) as caller:
        for begin in range(0, len(body), 5_000):
            caller.sendall(body[begin : begin + 5_000])
            time.sleep(0.25)
        assert caller.recv(65536).startswith(b"HTTP/1.1 200 OK")


@pytest.mark.parametrize("chunk", [b"zz\r\n", b"-1\r\n", b"3\r\nabcdefgh\r\n", b"5;\rx\r\nhello\r\n0\r\n\r\n"])
def test_malformed_chunks_are_the_callers_fault(port: int, chunk: bytes) -> None:
    """400 with a message, and no traceback."""
    with connected(
        port, HEAD + b"X-API-Key: " + KEY.encode() + b"\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk
    ) as caller:
        caller.shutdown(socket.SHUT_WR)
        with caller.makefile("rb") as answer:
            told = answer.read()
    assert told.startswith(b"HTTP/1.1 400 ")
    assert "chunks" in json.loads(told.partition(b"\r\n\r\n")[2])["message"]


@pytest.mark.parametrize(
    ("sent", "status", "message"),
    [
        (b"my dear comment\r\n\r\n", b"400", "is not valid HTTP"),
        (b"GET / HTTP/1.1\r\nmy dear comment\r\n\r\n", b"400", "is not valid HTTP"),
        (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\n\r\n", b"414", "send comments in the body"),
        (b"GET / HTTP/1.1\r\nHost: x\r\n" + b"A: my dear comment\r\n" * 200 + b"\r\n", b"431", "headers"),
        (b"GET / HTTP/1.1\r\nHost: x\r\nExpect: my dear comment\r\n\r\n", b"417", "Expect"),
    ],
    ids=["no request line", "no header", "a long request line", "many headers", "an unknown expectation"],
)
def test_what_is_not_http_is_refused_in_json(port: int, sent: bytes, status: bytes, message: str) -> None:
    """The answer says how to mend it and quotes nothing."""
    with connected(port, sent) as caller, caller.makefile("rb") as stream:
        head, _, body = stream.read().partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 " + status)
    assert b"Content-Type: application/json" in head
    assert message in json.loads(body)["message"]
    assert b"dear" not in body


def test_what_is_not_http_is_logged_without_its_text(artifact: Artifact, tmp_path: Path) -> None:
    """It may be a comment; the line names the address of the caller and the kind of mistake."""
    LocalModel(tmp_path).save(artifact)
    with running_api(tmp_path) as (port, _):
        wait_for(lambda: is_ready(port), 30)
        with connected(port, b"my dear comment\r\n\r\n") as caller, caller.makefile("rb") as stream:
            stream.read()
        log = (tmp_path / f"api-{port}.log").read_text()
    assert "dear" not in log
    assert "a request from 127.0.0.1 is not valid HTTP: InvalidRequestMethod" in log


def test_a_worker_that_hangs_is_ended_counted_and_logged(artifact: Artifact, tmp_path: Path) -> None:
    """Another takes its place; the log is JSON, line by line, also what gunicorn says."""
    LocalModel(tmp_path).save(artifact)
    with running_api(tmp_path, GUNICORN_CMD_ARGS="--timeout 2") as (port, process):
        wait_for(lambda: is_ready(port), 30)
        worker = psutil.Process(process.pid).children()[0]
        worker.suspend()
        wait_for(lambda: not worker.is_running(), 30)
        wait_for(lambda: len(psutil.Process(process.pid).children()) == 3, 30)

        def kills() -> float:
            with direct.open(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
                return figures_in(answer.read().decode())["pmip_worker_kills_total"]

        wait_for(lambda: kills() == 1, 30)
        log = (tmp_path / f"api-{port}.log").read_text().splitlines()
    lines = [json.loads(line) for line in log]
    assert {line.keys() >= {"time", "level", "message"} for line in lines} == {True}
    [told] = [line for line in lines if "did not answer for" in line["message"]]
    assert (told["level"], str(worker.pid) in told["message"]) == ("error", True)
