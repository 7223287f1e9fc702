"""The log of the API: one line of JSON for each request, with its id and never with a comment."""

import json
import logging
import os
import sys
from pathlib import Path

import pytest
from conftest import local_reloader
from flask.testing import FlaskClient
from hypothesis import given
from hypothesis import strategies as st

from pmip.config import Limits
from pmip.http.log import JsonLines
from pmip.model.artifact import Artifact
from pmip.routes import create_app

SECRET = "a comment that nobody may read"


@pytest.fixture(autouse=True)
def _log_level(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "pmip")


@pytest.fixture
def client(tmp_path: Path, artifact: Artifact) -> FlaskClient:
    return create_app(local_reloader(tmp_path, artifact), Limits()).test_client()


def last(capfd: pytest.CaptureFixture[str]) -> dict[str, object]:
    """Return the newest line, after a check that no line holds the comment."""
    written = capfd.readouterr().err
    assert SECRET not in written
    line: dict[str, object] = json.loads(written.splitlines()[-1])
    return line


def test_a_prediction_is_one_line(client: FlaskClient, capfd: pytest.CaptureFixture[str]) -> None:
    """The log has one line for a prediction, with its id, status, duration, model and caller, and no comment."""
    client.post("/predict?type=class", json={"comments": [SECRET, SECRET]}, headers={"X-Request-Id": "id-1"})
    line = last(capfd)
    duration = line.pop("milliseconds")
    assert isinstance(duration, float)
    assert 0 < duration < 10_000
    assert len(str(line.pop("time"))) == len("2026-01-31T23:59:59.123+00:00")
    asked = {"request_id": "id-1", "method": "POST", "path": "/predict", "client": "127.0.0.1", "comments": 2}
    answered = {"status": 200, "model_id": "local", "worker": os.getpid()}
    assert line == {"level": "info", "message": "request"} | asked | answered


def test_what_fails_is_one_line_too(client: FlaskClient, capfd: pytest.CaptureFixture[str]) -> None:
    """The log has one line for a refused request, with its status and reason, and without what the caller wrote."""
    client.post("/predict", data=SECRET, content_type="application/json")
    line = last(capfd)
    assert (line["status"], line["comments"], line["model_id"]) == (400, None, None)
    assert line["reason"] == "the body is not valid JSON in UTF-8: invalid character (byte 0)"
    client.get(f"/{SECRET}?{SECRET}")
    line = last(capfd)
    assert (line["status"], line["path"]) == (404, None)
    assert str(line["reason"]).startswith("there is no such route")
    client.open("/predict", method='A"\\\xe9\x7f\x85B')
    assert last(capfd)["status"] == 405


def test_the_caller_is_told_through_trusted_proxies(
    tmp_path: Path, artifact: Artifact, capfd: pytest.CaptureFixture[str]
) -> None:
    """The log names the client that the trusted proxies report, whatever else the caller wrote into the header."""
    for trusted, told in ((0, "127.0.0.1"), (1, "198.51.100.7"), (2, "203.0.113.9")):
        app = create_app(local_reloader(tmp_path / str(trusted), artifact), Limits(), trusted_proxies=trusted)
        for sent in ("203.0.113.9, 198.51.100.7", '", "203.0.113.9, 198.51.100.7'):
            app.test_client().get("/healthcheck", headers={"X-Forwarded-For": sent})
            assert last(capfd)["client"] == told


def test_below_its_level_nothing_is_written(
    client: FlaskClient, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """An operator who sets the log level to warning gets no lines for requests."""
    caplog.set_level(logging.WARNING, "pmip")
    client.get("/healthcheck")
    assert capfd.readouterr().err == ""


def test_an_event_with_a_traceback_stays_one_line() -> None:
    """An error with a traceback is one line, because collectors of logs read line by line."""
    try:
        raise ValueError("two\nlines")
    except ValueError:
        record = logging.LogRecord("pmip", logging.ERROR, __file__, 1, "it %s", ("failed",), sys.exc_info())
    [line] = JsonLines().format(record).splitlines()
    assert json.loads(line)["message"] == "it failed"
    assert "ValueError: two\nlines" in json.loads(line)["traceback"]


@given(st.text(st.characters(exclude_categories=[])))
def test_no_text_begins_a_line_of_its_own(text: str) -> None:
    """A message with any text is one line of printable ASCII, so that a quoted text cannot forge a line."""
    line = JsonLines().format(logging.LogRecord("pmip", logging.ERROR, __file__, 1, "%s", (text,), None))
    assert line.isascii()
    assert line.isprintable()
    assert json.loads(line)["message"] == text
