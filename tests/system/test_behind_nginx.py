"""Behind nginx, as on Beanstalk, the API answers every caller, although others are slow or idle."""

import asyncio
import json
import resource
import socket
import statistics
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.client import HTTPConnection

import pytest
from api import EXAMPLE, direct, running_api, wait_for
from nginx import need_nginx, running_nginx

from pmip.model.artifact import Artifact
from pmip.store.versions import LocalModel

BODY = json.dumps(EXAMPLE).encode()
JSON = {"Content-Type": "application/json"}
SLOW, IDLE = 200, 1000
SLOW_SECONDS = 12
REQUEST = (
    f"POST /predict HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
    f"Content-Type: application/json\r\nContent-Length: {len(BODY)}\r\n\r\n"
).encode() + BODY


@pytest.fixture(scope="module")
def ports(artifact: Artifact, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, int]]:
    """Serve the artifact behind one nginx for all tests; yield nginx's port and the API's own."""
    need_nginx()
    folder = tmp_path_factory.mktemp("api")
    LocalModel(folder).save(artifact)
    with running_api(folder, TRUSTED_PROXIES="1") as (port, _), running_nginx(folder, port) as front:
        yield front, port


@pytest.fixture
def front(ports: tuple[int, int]) -> int:
    return ports[0]


def tell(line: str) -> None:
    sys.stdout.write(f"\n{line}\n")


def timed(port: int, comments: int, times: int) -> list[tuple[int, float]]:
    """Send requests one after another on one connection; return each status and its milliseconds."""
    body, answers = json.dumps({"comments": EXAMPLE["comments"][:1] * comments}), []
    connection = HTTPConnection("127.0.0.1", port, timeout=30)
    for _ in range(times):
        start = time.perf_counter()
        connection.request("POST", "/predict", body, JSON)
        reply = connection.getresponse()
        result = json.load(reply)["result"]
        answers.append((reply.status, 1000 * (time.perf_counter() - start)))
        assert len(result) == comments
    connection.close()
    return answers


def together(port: int, clients: int, comments: int, times: int) -> list[tuple[int, float]]:
    with ThreadPoolExecutor(clients) as pool:
        return [one for some in pool.map(lambda _: timed(port, comments, times), range(clients)) for one in some]


def p99(answers: list[tuple[int, float]]) -> float:
    return statistics.quantiles([milliseconds for _, milliseconds in answers], n=100)[98]


def rounds(port: int) -> tuple[set[int], float]:
    """Run four clients in three rounds; return all statuses and the median of the rounds' 99th percentiles."""
    answers = [together(port, 4, 1, 100) for _ in range(3)]
    return {status for some in answers for status, _ in some}, statistics.median(map(p99, answers))


class Guests:
    """Callers who open a connection and send nothing, and callers who send one byte at a time."""

    def __init__(self, port: int) -> None:
        self.port, self.open, self.statuses, self.sending = port, 0, list[bytes](), 0

    async def visit(self) -> None:
        """Open all connections, and return when the slowest caller has its answer."""
        idle = [await asyncio.open_connection("127.0.0.1", self.port) for _ in range(IDLE)]
        self.open = len(idle)
        await asyncio.gather(*(self._send_slowly() for _ in range(SLOW)))
        closed = [reader.at_eof() for reader, _ in idle]
        self.open = closed.count(False)
        for _, writer in idle:
            writer.close()

    async def _send_slowly(self) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        self.sending += 1
        for byte in REQUEST:
            writer.write(bytes([byte]))
            await asyncio.sleep(SLOW_SECONDS / len(REQUEST))
        self.sending -= 1
        self.statuses.append(await reader.readline())
        writer.close()


@contextmanager
def visitors(port: int) -> Iterator[Guests]:
    """Open the connections in a thread, yield when all are open, and wait at the end until they are closed."""
    guests = Guests(port)
    thread = threading.Thread(target=lambda: asyncio.run(guests.visit()))
    thread.start()
    try:
        wait_for(lambda: (guests.open, guests.sending) == (IDLE, SLOW), 20)
        yield guests
    finally:
        thread.join()


@pytest.fixture
def many_files() -> Iterator[None]:
    """Raise the limit of open files for this process and for the nginx that it starts."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(4096, hard)), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_slow_and_idle_callers_do_not_stop_the_others(front: int, many_files: None) -> None:
    """Four clients wait hardly longer beside 200 slow and 1,000 idle callers, and every slow caller gets an answer."""
    together(front, 4, 1, 20)
    statuses_alone, alone = rounds(front)
    with visitors(front) as guests:
        statuses, among = rounds(front)
        assert guests.sending == SLOW, "the slow callers left before the others were timed"
    tell(f"p99 {alone:.1f} ms alone, {among:.1f} ms among {SLOW} slow and {IDLE} idle callers")
    assert statuses_alone == statuses == {200}
    assert among <= 3 * alone + 50
    assert guests.statuses == [b"HTTP/1.1 200 OK\r\n"] * SLOW
    assert guests.open == IDLE


def test_32_clients_with_100_comments_each_are_all_answered(front: int) -> None:
    """Each of 32 simultaneous clients gets 100 answers to every request with 100 comments."""
    answers = together(front, 32, 100, 10)
    tell(f"32 clients, 100 comments each: {len(answers)} answers, p99 {p99(answers):.0f} ms")
    assert [status for status, _ in answers] == [200] * 320


def test_answers_come_through_as_the_api_gave_them(front: int) -> None:
    """A caller behind nginx gets the request id back, with the id of the model or the message of an error."""
    for path, status in (("/predict", 200), ("/predict?type=nothing", 400), ("/nothing", 404)):
        connection = HTTPConnection("127.0.0.1", front, timeout=30)
        connection.request("POST", path, BODY, JSON | {"X-Request-Id": "id-1"})
        reply = connection.getresponse()
        body = json.load(reply)
        assert (reply.status, reply.getheader("X-Request-Id")) == (status, "id-1")
        assert (body, reply.getheader("X-Model-Id")) == ({"result": [{"class": 1}, {"class": 0}]}, "local") or (
            status != 200 and body["message"]
        )
        connection.close()


@pytest.mark.parametrize(
    ("path", "size", "status", "told"),
    [
        ("/predict", 2**22 + 1, 413, "the body is larger than 4194304 bytes (MAX_BODY_BYTES)"),
        ("/nothing", 2**22, 404, "there is no such route"),
        ("/healthcheck", 2**22, 405, "the route does not take this method"),
    ],
)
def test_a_large_body_in_vain_gets_the_apis_message(front: int, path: str, size: int, status: int, told: str) -> None:
    """A caller whose large body is refused gets the API's status and message, and not nginx's 502."""
    request = urllib.request.Request(f"http://127.0.0.1:{front}{path}", b" " * size, JSON)
    for _ in range(3):
        with pytest.raises(urllib.error.HTTPError) as refused:
            direct.open(request, timeout=30)
        with refused.value as error:
            assert error.code == status
            assert json.load(error)["message"].startswith(told)


def test_gunicorn_takes_no_path_from_a_header(ports: tuple[int, int]) -> None:
    """No header changes the path of a request, even from the loopback, which gunicorn trusts by default."""
    for header in ("SCRIPT_NAME: //evil/x", "PATH_INFO: /swagger.json", "SCRIPT-NAME: //evil/x"):
        with socket.create_connection(("127.0.0.1", ports[1]), timeout=30) as caller:
            caller.sendall(f"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{header}\r\n\r\n".encode())
            with caller.makefile("rb") as answer:
                page = answer.read()
        assert page.startswith(b"HTTP/1.1 200 OK")
        assert b'url: "/swagger.json"' in page
