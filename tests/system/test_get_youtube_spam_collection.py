"""The script downloads the YouTube Spam Collection, here from a server of the tests."""

import csv
import io
import subprocess
import threading
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from shell import run

ROWS = {
    "Youtube01-Psy.csv": 350,
    "Youtube02-KatyPerry.csv": 350,
    "Youtube03-LMFAO.csv": 438,
    "Youtube04-Eminem.csv": 448,
    "Youtube05-Shakira.csv": 370,
}
NAMES = list(ROWS)
Script = Callable[..., subprocess.CompletedProcess[str]]


def comments(rows: int, columns: tuple[str, ...] = ("COMMENT_ID", "AUTHOR", "DATE", "CONTENT", "CLASS")) -> str:
    """Return a CSV file with this many different comments, from which a model can be trained."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(columns)
    for row in range(rows):
        name = "".join(chr(97 + row // 26**place % 26) for place in range(2))
        about = ("song", "subscribe")[row % 2]
        writer.writerow([f"id{row}", "someone", "", f'two\nlines, "quoted": {about} {name} {name}ish', row % 2])
    return text.getvalue()


def collection(files: dict[str, str] | None = None) -> bytes:
    """Return a zip file like the real one, with the extra files that macOS adds."""
    if files is None:
        files = {name: comments(rows) for name, rows in ROWS.items()}
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in files.items():
            archive.writestr(name, text)
            archive.writestr(f"__MACOSX/._{name}", b"\x00\x05\x16\x07")
    return packed.getvalue()


class Server(ThreadingHTTPServer):
    """Answers every GET with the current status and body; a wrong length breaks off the transfer, status 0 hangs up."""

    status = 200
    body = b""
    length: int | None = None
    requests = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/collection.zip"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.requests += 1
        if not self.server.status:
            return
        self.send_response(self.server.status)
        self.send_header("Content-Length", str(self.server.length or len(self.server.body)))
        self.end_headers()
        self.wfile.write(self.server.body)

    def log_message(self, *_: object) -> None:
        """Keep the test's output clean."""


@contextmanager
def serving_the_collection() -> Iterator[Server]:
    with Server(("127.0.0.1", 0), Handler) as server:
        server.body = collection()
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def server() -> Iterator[Server]:
    with serving_the_collection() as server:
        yield server


@pytest.fixture
def script(server: Server, tmp_path: Path) -> Script:
    """Return a call of the script in tmp_path, with a data folder below it."""
    settings = {"DATA_DIR": str(tmp_path / "data"), "YOUTUBE_SPAM_COLLECTION_URL": server.url}
    return partial(run, "get_youtube_spam_collection.sh", cwd=tmp_path, **settings)


def files_below(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def assert_refused(result: subprocess.CompletedProcess[str], reason: str) -> None:
    """Assert that the script failed, gave the reason and other ways to get data, and printed no path."""
    assert (result.returncode, result.stdout) == (1, "")
    assert reason in result.stderr
    assert "with a browser from https://archive.ics.uci.edu/dataset/380/" in result.stderr
    assert "notebooks/sample-training-data" in result.stderr
    assert "Traceback" not in result.stderr


def test_the_collection_lands_in_the_data_folder(script: Script, server: Server, tmp_path: Path) -> None:
    """The script saves the whole file, readable by others and alone in its folder, and prints only its path."""
    result = script()
    file = tmp_path / "data" / "YouTube-Spam-Collection-v1.zip"
    assert (result.returncode, result.stdout) == (0, f"{file}\n"), result.stderr
    assert file.read_bytes() == server.body
    assert sorted(file.parent.iterdir()) == [file]
    (tmp_path / "plain").touch()
    assert file.stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_good_file_is_not_downloaded_again(script: Script, server: Server) -> None:
    """A second call says that the collection is there, prints its path and sends no request."""
    first = script()
    second = script()
    assert (second.returncode, second.stdout, server.requests) == (0, first.stdout, 1)
    assert "already" in second.stderr


def test_a_broken_file_is_replaced_by_a_good_one(script: Script, server: Server, tmp_path: Path) -> None:
    """A broken FILE, relative to the caller's folder, is kept until a good collection replaces it."""
    file = tmp_path / "my data" / "spam.zip"
    file.parent.mkdir()
    file.write_text("half a file")
    server.status = 500
    assert script("my data/spam.zip").returncode == 1
    assert file.read_text() == "half a file"
    server.status = 200
    assert script("my data/spam.zip").stdout == f"{file}\n"
    assert file.read_bytes() == server.body


WRONG = {
    "no zip": (b"<html>moved</html>", "not a zip file"),
    "a file is missing": (collection({name: comments(1) for name in NAMES[1:]}), "does not hold the five files"),
    "a file too many": (collection({name: comments(1) for name in [*NAMES, "x.csv"]}), "does not hold the five files"),
    "too few comments": (collection({name: comments(391) for name in NAMES}), "holds 1955 comments, not 1956"),
    "other columns": (collection({name: comments(1, ("text", "label")) for name in NAMES}), "no columns CONTENT"),
    "too large": (b"x" * 5_000_001, "could not be downloaded"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_content_is_refused(script: Script, server: Server, tmp_path: Path, case: str) -> None:
    """A download that is not the collection is refused with the reason and other ways to get data; no file is left."""
    server.body, reason = WRONG[case]
    assert_refused(script(), reason)
    assert files_below(tmp_path) == []


@pytest.mark.parametrize(("status", "length"), [(404, None), (200, 4_000_000), (0, None)])
def test_a_failed_download_leaves_nothing(
    script: Script, server: Server, tmp_path: Path, status: int, length: int | None
) -> None:
    """A failed or incomplete download is reported with other ways to get data, and leaves no file."""
    server.status, server.length = status, length
    assert_refused(script(), "could not be downloaded")
    assert files_below(tmp_path) == []
