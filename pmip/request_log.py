"""The id of each request, and the log: one JSON line a request or event, never with a comment."""

import json
import logging
import os
import re
import time
from datetime import UTC, datetime

from flask import Flask, Response, g, request

from pmip.metrics import Metrics

SANE_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
STDERR = 2

log = logging.getLogger(__name__)
_to_json = json.JSONEncoder(ensure_ascii=False).encode  # json.dumps would make an encoder for each line


class JsonLines(logging.Formatter):
    """Formats a record as one line of JSON, with the record's `fields` beside its message."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line; a traceback stands in it as one text."""
        moment = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line = {"time": moment, "level": record.levelname.lower(), "message": record.getMessage()}
        line |= getattr(record, "fields", {})
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return _to_json(line)


class WholeLines(logging.Handler):
    """Writes each record to stderr by one call to the system, so that lines of several workers never mix."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line."""
        try:
            os.write(STDERR, f"{self.format(record)}\n".encode("utf-8", "backslashreplace"))
        except Exception:
            self.handleError(record)


def log_requests(app: Flask, metrics: Metrics) -> None:
    """Give each request of an app an id, and each answer a line in the log and a place in the figures."""

    def end(response: Response) -> Response:
        seconds = time.perf_counter() - g.began
        route = request.url_rule.rule if request.url_rule else None  # another path may hold anything
        response.headers["X-Request-Id"] = g.request_id
        metrics.answered(route, response.status_code, seconds)
        if log.isEnabledFor(logging.INFO):
            _log_request(route, response, seconds)
        return response

    app.before_request(_begin)
    app.after_request(end)


def _begin() -> None:
    wanted = request.headers.get("X-Request-Id", "")
    g.request_id = wanted if SANE_REQUEST_ID.fullmatch(wanted) else os.urandom(16).hex()
    g.began = time.perf_counter()


def _log_request(route: str | None, response: Response, seconds: float) -> None:
    record = logging.LogRecord(log.name, logging.INFO, "", 0, "request", (), None)  # log.info would look for the line
    record.fields = {
        "request_id": g.request_id,
        "method": request.method,
        "path": route,
        "status": response.status_code,
        "milliseconds": round(seconds * 1000, 3),
        "comments": g.get("comments"),
        "model_id": response.headers.get("X-Model-Id"),
    }
    log.handle(record)
