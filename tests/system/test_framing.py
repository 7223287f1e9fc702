"""No caller can smuggle a request in the body of another, and no caller gets the answer to another's request.

Each test runs on the API alone and behind a real nginx, which keeps and shares its connections to the API.
"""

import re
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest
from api import running_api
from conftest import seeded
from nginx import need_nginx, running_nginx

from pmip.model.artifact import Artifact
from pmip.store.versions import LocalModel

HIDDEN = b"GET /readiness HTTP/1.1\r\nHost: x\r\nX-Request-Id: hidden\r\n\r\n"  # an answer to this is a fault
NEXT = b"GET /healthcheck HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-Request-Id: next\r\n\r\n"
LENGTH = b"%d" % len(HIDDEN)
END = b"0\r\n\r\n" + HIDDEN  # a body that ends early for a reader of chunks
WHOLE = b"%d" % len(END)
LAST = b"Transfer-Encoding: chunked"


def forms(table: str) -> list[bytes]:
    """Split a table of forms at its bars, and replace each tilde with CR and LF."""
    return [form.encode("latin-1").replace(b"~", b"\r\n") for form in table.split("|")]


LENGTHS = forms(
    "0000000%b|%b, %b|%b~Content-Length: %b|0~Content-Length: %b|%b~Content-Length: 0|0, %b|%b, 0|+%b|-%b|0x%b|%b;a"
    "|%b.0|%be0|1_%b|%b a|\x0b%b|%b\0|~ %b|%b~ 0|%b\r|\xd9\xa3%b|99999999999999999999%b|\t%b \t"
)
CODINGS = forms(
    'chunked|Chunked|xchunked|chunked, identity|identity, chunked|chunked;a=b|"chunked"|chunked, chunked|\x0bchunked'
    "|chunked~Transfer-Encoding: x|x~Transfer-Encoding: chunked|~ chunked|chunked\r||gzip, chunked|\tchunked|chunked,"
)
CHUNKS = forms(
    "zz~|-0~~|+0~~|0x0~~| 0~~|0\n\n|0~\n|0\n~|0~A: b\n~|0~A : b~~|5\nhello~0~~|5~hello0~~|5~helloXX0~~|5;\rx~hello~0~~"
    '|5;a\nb~hello~0~~|5;a="~hello~0~~|1_0~|5 a~hello~0~~|FFFFFFFFFFFFFFFFFFFF~|~0~~'
)
LINES = forms(
    " Content-Length: 0|A: b\nContent-Length: 0|A: b\rContent-Length: 0|A|: b|A b: c|A: \0|Content-Length : 0"
    "|Content-Length\t: 0"
)
FORMS = [
    *((b"Content-Length: " + one.replace(b"%b", LENGTH), HIDDEN) for one in LENGTHS),
    *((b"Content-Length: %b\r\nTransfer-Encoding: %b" % (WHOLE, one), END) for one in CODINGS),
    (LAST + b"\r\nContent-Length: 4", b"%x\r\n%b\r\n0\r\n\r\n" % (len(HIDDEN), HIDDEN)),
    *((LAST, one + HIDDEN) for one in CHUNKS),
    *((b"Content-Length: %b\r\n%b" % (LENGTH, one), HIDDEN) for one in LINES),
]


@pytest.fixture(scope="module")
def ports(artifact: Artifact, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, int]]:
    need_nginx()
    folder = tmp_path_factory.mktemp("api")
    LocalModel(folder).save(artifact)
    with running_api(folder, WEB_CONCURRENCY="1") as (port, _), running_nginx(folder, port) as front:
        yield {"alone": port, "nginx": front}


def told(port: int, sent: bytes, patience: float = 20) -> bytes:
    """Send the bytes, and return what is received until the end or until nothing more comes for `patience` seconds."""
    received = b""
    with socket.create_connection(("127.0.0.1", port), 20) as caller, suppress(ConnectionError, TimeoutError):
        caller.sendall(sent)
        caller.settimeout(patience)
        while data := caller.recv(65536):
            received += data
    return received


def ids(answers: bytes) -> list[str]:
    return [found.decode() for found in re.findall(rb"\r\nX-Request-Id: (\S+)", answers)]


@pytest.mark.parametrize("where", ["alone", "nginx"])
@pytest.mark.parametrize("line", [b"POST /predict HTTP/1.1", b"POST /nothing HTTP/1.1", b"GET / HTTP/1.0"])
def test_nothing_in_a_body_is_answered(ports: dict[str, int], where: str, line: bytes) -> None:
    """In about 70 forms of framing, the API answers nothing inside a body, and later callers get their own answers."""
    deceived = []
    for number, (headers, body) in enumerate(FORMS):
        head = line + b"\r\nHost: x\r\nContent-Type: application/json\r\n" + headers + b"\r\n\r\n"
        answers = told(ports[where], head + body + NEXT, patience=0.3)  # some forms wait for more
        others = [told(ports[where], NEXT.replace(b": next", b": %d-%d" % (number, other))) for other in range(3)]
        # nginx takes some malformed chunks for the end of a body, and what follows for the next request of this caller.
        own = int(where == "nginx" and headers == LAST)
        if ids(answers).count("hidden") > own or ids(answers).count("next") > 1:
            deceived.append((headers, body, answers))
        if [ids(one) for one in others] != [[f"{number}-{other}"] for other in range(3)]:
            deceived.append((headers, body, *others))
    assert deceived == []


@pytest.mark.parametrize("where", ["alone", "nginx"])
def test_each_of_10_000_pipelined_and_split_requests_gets_its_answer(ports: dict[str, int], where: str) -> None:
    """Each of 10,000 pipelined requests gets its own id and class, in order, wherever the bytes are split."""

    def talk(caller: int) -> None:
        random, sent, expected = seeded(f"pipelined {caller}"), b"", []
        for number in range(500):  # nginx closes a connection after 1,000
            spam = random.random() < 0.5
            body = b'{"comments": ["%b"]}' % (b"Check it out this free stuff" if spam else b"I take issue with it")
            chunk = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
            frames = [b"Content-Length: %d\r\n\r\n%b" % (len(body), body), LAST + b"\r\n\r\n" + chunk]
            head = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            sent += head + b"X-Request-Id: %d-%d\r\n" % (caller, number) + random.choice(frames)
            expected.append((b"%d-%d" % (caller, number), b"%d" % spam))
        with socket.create_connection(("127.0.0.1", ports[where]), timeout=60) as connection:
            received, begin = b"", 0
            while begin < len(sent) or received.count(b'{"result"') < len(expected):
                piece = random.choice([1, 50, 200, 1000, 5000])
                connection.sendall(sent[begin : begin + piece])
                begin += piece
                connection.settimeout(0.001 if begin < len(sent) else 60)
                with suppress(TimeoutError):
                    received += connection.recv(65536)
        found = re.findall(rb'X-Request-Id: (\S+).*?\{"result": \[\{"class": (\d)\}\]\}', received, re.DOTALL)
        assert found == expected

    with ThreadPoolExecutor(20) as pool:
        list(pool.map(talk, range(20)))
