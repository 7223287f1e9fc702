"""The log of the API: one JSON line a request, with its id and never a comment."""

import json
import logging
import sys
from collections.abc import Iterator
from io import StringIO
from pathlib import Path

import pytest
from conftest import reloader_of
from flask.testing import FlaskClient

from pmip.http.log import Asked, JsonLines, by_logging, to_stderr
from pmip.http.requests import Limits
from pmip.model.artifact import Artifact
from pmip.routes import create_app
from pmip.store.versions import LocalModel

SECRET = "a comment that nobody may read"


@pytest.fixture
def lines() -> Iterator[StringIO]:
    """Collect what the package logs, formatted as in production."""
    stream = StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonLines())
    logger = logging.getLogger("pmip")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield stream
    logger.removeHandler(handler)
    logger.setLevel(logging.NOTSET)


@pytest.fixture
def client(tmp_path: Path, artifact: Artifact) -> FlaskClient:
    """Serve the artifact."""
    local = LocalModel(tmp_path)
    local.save(artifact)
    reloader = reloader_of(local, tmp_path)
    reloader.step()
    return create_app(reloader, Limits()).test_client()


def last(lines: StringIO) -> dict[str, object]:
    """Read the newest line."""
    line: dict[str, object] = json.loads(lines.getvalue().splitlines()[-1])
    return line


def test_a_prediction_is_one_line(client: FlaskClient, lines: StringIO) -> None:
    """Id, status, duration, number of comments and model id are told, the comments are not."""
    client.post("/predict?type=class", json={"comments": [SECRET, SECRET]}, headers={"X-Request-Id": "id-1"})
    line = last(lines)
    duration = line.pop("milliseconds")
    assert isinstance(duration, float)
    assert 0 < duration < 10_000
    assert line.pop("time")
    assert line == {
        "level": "info",
        "message": "request",
        "request_id": "id-1",
        "method": "POST",
        "path": "/predict",
        "status": 200,
        "comments": 2,
        "model_id": "local",
    }
    assert SECRET not in lines.getvalue()


@pytest.mark.parametrize(("comments", "model_id"), [(None, None), (2, "local")])
def test_straight_to_stderr_goes_the_same_line(
    lines: StringIO, capfd: pytest.CaptureFixture[str], comments: int | None, model_id: str | None
) -> None:
    """The quick way of production writes what logging would, at the levels at which logging would."""
    this = Asked({"REQUEST_METHOD": 'A"\\é', "PATH_INFO": "/"})
    this.comments, this.model_id = comments, model_id
    by_logging(this, 200, 0.00125)
    to_stderr(this, 200, 0.00125)
    quick = capfd.readouterr().err
    assert quick.endswith("}\n")
    assert [*json.loads(quick).items()][1:] == [*last(lines).items()][1:]
    assert len(json.loads(quick)["time"]) == len("2026-01-31T23:59:59.123+00:00")
    logging.getLogger("pmip").setLevel(logging.WARNING)
    to_stderr(this, 200, 0.00125)
    assert capfd.readouterr().err == ""


def test_what_fails_is_one_line_too(client: FlaskClient, lines: StringIO) -> None:
    """A refused body and an unknown path tell their status, and nothing that the caller wrote."""
    client.post("/predict", data=SECRET, content_type="application/json")
    assert (last(lines)["status"], last(lines)["comments"], last(lines)["model_id"]) == (400, None, None)
    client.get(f"/{SECRET}?{SECRET}")
    assert (last(lines)["status"], last(lines)["path"]) == (404, None)
    assert "nobody" not in lines.getvalue()


def test_an_event_with_a_traceback_stays_one_line() -> None:
    """Collectors of logs read line by line."""
    try:
        raise ValueError("two\nlines")
    except ValueError:
        record = logging.LogRecord("pmip", logging.ERROR, __file__, 1, "it %s", ("failed",), sys.exc_info())
    [line] = JsonLines().format(record).splitlines()
    assert json.loads(line)["message"] == "it failed"
    assert "ValueError: two\nlines" in json.loads(line)["traceback"]
