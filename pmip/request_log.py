"""The id of each request, and the log: one JSON line a request or event, never with a comment."""

import json
import logging
import re
import time
import uuid
from datetime import UTC, datetime

from flask import Flask, Response, g, request

SANE_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")

log = logging.getLogger(__name__)


class JsonLines(logging.Formatter):
    """Formats a record as one line of JSON, with the record's `fields` beside its message."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line; a traceback stands in it as one text."""
        moment = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line = {"time": moment, "level": record.levelname.lower(), "message": record.getMessage()}
        line |= getattr(record, "fields", {})
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def log_requests(app: Flask) -> None:
    """Give each request of an app an id, and each answer a line in the log."""
    app.before_request(_begin)
    app.after_request(_end)


def _begin() -> None:
    wanted = request.headers.get("X-Request-Id", "")
    g.request_id = wanted if SANE_REQUEST_ID.fullmatch(wanted) else uuid.uuid4().hex
    g.began = time.perf_counter()


def _end(response: Response) -> Response:
    response.headers["X-Request-Id"] = g.request_id
    fields = {
        "request_id": g.request_id,
        "method": request.method,
        "path": request.url_rule.rule if request.url_rule else None,  # another path may hold anything
        "status": response.status_code,
        "milliseconds": round((time.perf_counter() - g.began) * 1000, 3),
        "comments": g.get("comments"),
        "model_id": response.headers.get("X-Model-Id"),
    }
    log.info("request", extra={"fields": fields})
    return response
