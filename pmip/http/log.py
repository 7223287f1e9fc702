"""The id of each request, and the log: one JSON line a request or event, never with a comment."""

import json
import logging
import os
import re
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from flask import Flask, Request, Response, request

from pmip.http.metrics import Metrics

SANE_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
STDERR = 2

log = logging.getLogger(__name__)
_to_json = json.JSONEncoder(ensure_ascii=False).encode  # json.dumps would make an encoder for each line


class JsonLines(logging.Formatter):
    """Formats a record as one line of JSON, with the record's `fields` beside its message."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line; a traceback stands in it as one text."""
        line = {"time": _iso(record.created), "level": record.levelname.lower(), "message": record.getMessage()}
        line |= getattr(record, "fields", {})
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return _to_json(line)


class Asked(Request):
    """A request, with what is told of it beside: its id, when it came, how many comments it has, who answered."""

    comments: int | None = None
    model_id: str | None = None

    def __init__(self, environ: dict[str, Any], *args: Any, **kwargs: Any) -> None:
        super().__init__(environ, *args, **kwargs)
        self.began = time.perf_counter()
        wanted = environ.get("HTTP_X_REQUEST_ID", "")
        self.id = wanted if SANE_REQUEST_ID.fullmatch(wanted) else os.urandom(16).hex()

    @property
    def route(self) -> str | None:
        """The path as the routes have it; another one may hold anything."""
        return self.url_rule.rule if self.url_rule else None


Write = Callable[[Asked, int, float], None]


def asked() -> Asked:
    """Return the request in hand itself: each use of Flask's stand-in for it looks it up again."""
    return request._get_current_object()  # type: ignore[attr-defined, no-any-return]


def by_logging(this: Asked, status: int, seconds: float) -> None:
    """Log an answer as everything else is logged."""
    fields = {
        "request_id": this.id,
        "method": this.method,
        "path": this.route,
        "status": status,
        "milliseconds": round(seconds * 1000, 3),
        "comments": this.comments,
        "model_id": this.model_id,
    }
    log.info("request", extra={"fields": fields})


def to_stderr(this: Asked, status: int, seconds: float) -> None:
    """Log an answer by the same line, written straight to stderr: a log record takes longer than scoring a comment.

    One call to the system a line, so that lines of several workers never mix.
    """
    if not log.isEnabledFor(logging.INFO):
        return
    comments = "null" if this.comments is None else this.comments
    line = (
        f'{{"time": "{_iso(time.time())}", "level": "info", "message": "request", "request_id": "{this.id}", '
        f'"method": {_to_json(this.method)}, "path": {_to_json(this.route)}, "status": {status}, '
        f'"milliseconds": {seconds * 1000:.3f}, "comments": {comments}, "model_id": {_to_json(this.model_id)}}}\n'
    )
    with suppress(OSError):  # a log that is closed or full must not cost the answer
        os.write(STDERR, line.encode())


def log_requests(app: Flask, metrics: Metrics, write: Write = by_logging) -> None:
    """Give each request of an app an id, and each answer a line in the log and a place in the figures."""
    app.request_class = Asked

    @app.after_request
    def end(response: Response) -> Response:
        this, status = asked(), response.status_code
        seconds = time.perf_counter() - this.began
        response.headers["X-Request-Id"] = this.id
        if this.model_id is not None:
            response.headers["X-Model-Id"] = this.model_id
        metrics.answered(this.route, status, seconds)
        write(this, status, seconds)
        return response


def _iso(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="milliseconds")
