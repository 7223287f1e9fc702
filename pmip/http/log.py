"""The id of each request, and the log: one JSON line a request or event, never with a comment."""

import json
import logging
import os
import re
import time
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from flask import Flask, Request, Response, request

if TYPE_CHECKING:  # gunicorn's master needs the format of the lines before it may import what counts
    from pmip.http.metrics import Metrics

SANE_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
STDERR = 2

log = logging.getLogger(__name__)


class JsonLines(logging.Formatter):
    """Formats a record as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line; a traceback stands in it as one text."""
        fields = {"traceback": self.formatException(record.exc_info)} if record.exc_info else {}
        return _line(record.created, record.levelname.lower(), record.getMessage(), fields)


class Asked(Request):
    """A request, with what is told of it beside: its id, when it came, and what was made of it."""

    comments: int | None = None
    model_id: str | None = None
    reason: str | None = None  # of a refusal

    def __init__(self, environ: dict[str, Any], *args: Any, **kwargs: Any) -> None:
        super().__init__(environ, *args, **kwargs)
        self.began = time.perf_counter()
        wanted = environ.get("HTTP_X_REQUEST_ID", "")
        self.id = wanted if SANE_REQUEST_ID.fullmatch(wanted) else os.urandom(16).hex()

    @property
    def route(self) -> str | None:
        """The path as the routes have it; another one may hold anything."""
        return self.url_rule.rule if self.url_rule else None


def asked() -> Asked:
    """Return the request in hand itself: Flask's stand-in would look it up anew for each of its fields.

    That would take 5 % of the time of a request.
    """
    return request._get_current_object()  # type: ignore[attr-defined, no-any-return]


def log_requests(app: Flask, metrics: "Metrics") -> None:
    """Give each request of an app an id, and each answer a line in the log and a place in the figures."""
    app.request_class = Asked

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
    """Write the line of a request straight to stderr: the records of `logging` would take 8 % of its time.

    One call to the system a line, so that lines of several workers never mix.
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
    with suppress(OSError):  # a log that is closed or full must not cost the answer
        os.write(STDERR, f"{_line(time.time(), 'info', 'request', fields)}\n".encode())


def _line(moment: float, level: str, message: str, fields: dict[str, Any]) -> str:
    """Return one line in ASCII: what stands in a text cannot begin another line, however it is read."""
    when = datetime.fromtimestamp(moment, UTC).isoformat(timespec="milliseconds")
    return json.dumps({"time": when, "level": level, "message": message, **fields})
