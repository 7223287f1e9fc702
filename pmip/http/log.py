"""Request ids and the log: one line of JSON for each request or event, never with the text of a comment."""

import json
import logging
import os
import re
import select
import time
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from flask import Flask, Request, Response, request

if TYPE_CHECKING:  # gunicorn's master imports this module before it may import prometheus_client
    from pmip.http.metrics import Metrics

SANE_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
STDERR = 2
LONGEST_TEXT = 2000  # characters of a message or a traceback, so that a line is small for a pipe
QUOTE = re.compile(": |%s")  # behind the first of them, gunicorn quotes what a caller sent

log = logging.getLogger(__name__)


class JsonLines(logging.Formatter):
    """Formats a record as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line; a traceback is one field of it."""
        fields = {"traceback": self.formatException(record.exc_info)[-LONGEST_TEXT:]} if record.exc_info else {}
        return _line(record.created, record.levelname.lower(), record.getMessage()[:LONGEST_TEXT], fields)


class Stderr(logging.Handler):
    """Writes each line to stderr in one system call, so that lines of several workers never mix.

    It drops lines while nobody reads the pipe behind stderr: waiting would stop every request of this worker. A pipe
    that is writable takes the lines of a dozen workers (a page of memory) without waiting.
    """

    dropped = 0
    select = staticmethod(select.select)  # gunicorn_conf.py sets the one that gevent has not patched

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record."""
        self.write(self.format(record))

    def write(self, line: str) -> None:
        """Write a line, or count it as dropped; a closed or full log is no error."""
        with suppress(OSError):
            if not self.select([], [STDERR], [], 0)[1]:
                self.dropped += 1
                return
            dropped, self.dropped = self.dropped, 0
            if dropped:
                os.write(STDERR, f"{_line(time.time(), 'warning', f'{dropped} lines were dropped', {})}\n".encode())
            os.write(STDERR, f"{line}\n".encode())


stderr = Stderr()
stderr.setFormatter(JsonLines())


def log_to_stderr(level: str) -> None:
    """Log pmip, gunicorn and warnings to stderr as lines of JSON."""
    logging.captureWarnings(True)
    logging.basicConfig(handlers=[stderr], force=True)  # Lambda's runtime has set its own format
    logging.getLogger("pmip").setLevel(level.upper())  # not for boto3, which logs signatures at debug
    gunicorn = logging.getLogger("gunicorn.error")
    gunicorn.addFilter(_unquoted)
    gunicorn.addHandler(stderr)


def _unquoted(record: logging.LogRecord) -> bool:
    """Cut off what a message of gunicorn quotes of a request, which may be a comment or a key.

    Leave out the end of an idle connection when a worker stops, which gunicorn logs as an error.
    """
    error_name = record.exc_info[0].__name__ if record.exc_info and record.exc_info[0] else ""
    if re.search("request|client", str(record.msg)):
        record.msg, record.args = QUOTE.split(str(record.msg))[0].strip(), ()
        if record.exc_info and error_name:
            error = RuntimeError(f"{error_name} (its text is left out)")
            record.exc_info = (RuntimeError, error, record.exc_info[2])
    return error_name != "GreenletExit"


class LoggedRequest(Request):
    """A request with the fields that are logged: its id, the time it began, and its outcome."""

    comments: int | None = None
    model_id: str | None = None
    reason: str | None = None  # why the request was refused

    def __init__(self, environ: dict[str, Any], *args: Any, **kwargs: Any) -> None:
        super().__init__(environ, *args, **kwargs)
        self.began = time.perf_counter()
        wanted = environ.get("HTTP_X_REQUEST_ID", "")
        self.id = wanted if SANE_REQUEST_ID.fullmatch(wanted) else os.urandom(16).hex()

    @property
    def route(self) -> str | None:
        """The path of the matching route. The path in the request may contain anything, so it is not logged."""
        return self.url_rule.rule if self.url_rule else None


def current_request() -> LoggedRequest:
    """Return the current request itself: attribute access through Flask's proxy takes 5 % of the time of a request."""
    return request._get_current_object()  # type: ignore[attr-defined, no-any-return]


def log_requests(app: Flask, metrics: "Metrics") -> None:
    """Give each request of an app an id; log each answer and count it in the metrics."""
    app.request_class = LoggedRequest
    metrics.count_in_flight(app)

    @app.after_request
    def end(response: Response) -> Response:
        this = current_request()
        seconds = time.perf_counter() - this.began
        response.headers["X-Request-Id"] = this.id
        if this.model_id is not None:
            response.headers["X-Model-Id"] = this.model_id
        metrics.answered(this.route, response.status_code, seconds)
        _write(this, response.status_code, seconds)
        return response


def _write(this: LoggedRequest, status: int, seconds: float) -> None:
    """Write the line of a request directly to stderr: a record of `logging` would take 8 % of the time of a request."""
    if not log.isEnabledFor(logging.INFO):
        return
    fields = {
        "request_id": this.id,
        "method": this.method,
        "path": this.route,
        "status": status,
        "milliseconds": round(seconds * 1000, 3),
        "comments": this.comments,
        "model_id": this.model_id,
        "client": this.remote_addr,
        "worker": os.getpid(),
    }
    if this.reason is not None:
        fields["reason"] = this.reason
    stderr.write(_line(time.time(), "info", "request", fields))


def _line(moment: float, level: str, message: str, fields: dict[str, Any]) -> str:
    """Return one line of ASCII: no control character in a value can start a new line."""
    when = datetime.fromtimestamp(moment, UTC).isoformat(timespec="milliseconds")
    return json.dumps({"time": when, "level": level, "message": message, **fields})
