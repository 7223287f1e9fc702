"""Request ids and the log: one line of JSON for each request or event, never with the text of a comment."""

import json
import logging
import os
import re
import time
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from flask import Flask, Request, Response, request

if TYPE_CHECKING:  # gunicorn's master imports this module before it may import prometheus_client
    from pmip.http.metrics import Metrics

SANE_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
STDERR = 2

log = logging.getLogger(__name__)


class JsonLines(logging.Formatter):
    """Formats a record as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line; a traceback is one field of it."""
        fields = {"traceback": self.formatException(record.exc_info)} if record.exc_info else {}
        return _line(record.created, record.levelname.lower(), record.getMessage(), fields)


class Asked(Request):
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


def asked() -> Asked:
    """Return the current request itself: attribute access through Flask's proxy takes 5 % of the time of a request."""
    return request._get_current_object()  # type: ignore[attr-defined, no-any-return]


def log_requests(app: Flask, metrics: "Metrics") -> None:
    """Give each request of an app an id; log each answer and count it in the metrics."""
    app.request_class = Asked
    metrics.count_in_flight(app)

    @app.after_request
    def end(response: Response) -> Response:
        this = asked()
        seconds = time.perf_counter() - this.began
        response.headers["X-Request-Id"] = this.id
        if this.model_id is not None:
            response.headers["X-Model-Id"] = this.model_id
        metrics.answered(this.route, response.status_code, seconds)
        _write(this, response.status_code, seconds)
        return response


def _write(this: Asked, status: int, seconds: float) -> None:
    """Write the line of a request directly to stderr: a record of `logging` would take 8 % of the time of a request.

    One system call writes the whole line, so lines of several workers never mix.
    """
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
    with suppress(OSError):  # a closed or full log must not make the request fail
        os.write(STDERR, f"{_line(time.time(), 'info', 'request', fields)}\n".encode())


def _line(moment: float, level: str, message: str, fields: dict[str, Any]) -> str:
    """Return one line of ASCII: no control character in a value can start a new line."""
    when = datetime.fromtimestamp(moment, UTC).isoformat(timespec="milliseconds")
    return json.dumps({"time": when, "level": level, "message": message, **fields})
