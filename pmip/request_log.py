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

from pmip.metrics import Metrics

SANE_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
STDERR = 2

Fields = dict[str, Any]

log = logging.getLogger(__name__)
_to_json = json.JSONEncoder(ensure_ascii=False).encode  # json.dumps would make an encoder for each line


class JsonLines(logging.Formatter):
    """Formats a record as one line of JSON, with the record's `fields` beside its message."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line; a traceback stands in it as one text."""
        line = _begun(record.created, record.levelname.lower(), record.getMessage())
        line |= getattr(record, "fields", {})
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return _to_json(line)


def by_logging(fields: Fields) -> None:
    """Log a request as everything else is logged."""
    log.info("request", extra={"fields": fields})


def to_stderr(fields: Fields) -> None:
    """Log a request by the same line, written straight to stderr: a record costs more than scoring a comment.

    One call to the system a line, so that lines of several workers never mix.
    """
    if log.isEnabledFor(logging.INFO):
        line = _to_json(_begun(time.time(), "info", "request") | fields)
        with suppress(OSError):  # a log that is closed or full must not cost the answer
            os.write(STDERR, f"{line}\n".encode())


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


def asked() -> Asked:
    """Return the request in hand itself: each use of Flask's stand-in for it looks it up again."""
    return request._get_current_object()  # type: ignore[attr-defined, no-any-return]


def log_requests(app: Flask, metrics: Metrics, write: Callable[[Fields], None] = by_logging) -> None:
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
        write(_fields(this, response.status_code, seconds))
        return response


def _fields(this: Asked, status: int, seconds: float) -> Fields:
    return {
        "request_id": this.id,
        "method": this.method,
        "path": this.route,
        "status": status,
        "milliseconds": round(seconds * 1000, 3),
        "comments": this.comments,
        "model_id": this.model_id,
    }


def _begun(moment: float, level: str, message: str) -> Fields:
    iso = datetime.fromtimestamp(moment, UTC).isoformat(timespec="milliseconds")
    return {"time": iso, "level": level, "message": message}
