"""The status and the JSON body of each error; nothing internal, and nothing of a comment, is answered or logged."""

import logging
from collections.abc import Callable
from contextlib import suppress
from traceback import format_tb
from typing import Any

from flask import Flask, current_app
from flask_restx import Api
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge

from pmip.errors import ModelNotReadyError, PayloadError
from pmip.http.log import asked

RETRY_AFTER_SECONDS = 5
PIECE = 65536

Answer = tuple[dict[str, str], int, dict[str, str]]

log = logging.getLogger(__name__)


class QuietApi(Api):
    """flask-restx without its own way with errors, which logs every 503 and can answer with an exception's inside."""

    def error_router(self, original_handler: Callable[[Exception], Any], e: Exception) -> Any:
        """Leave every error to the app's own answers."""
        return original_handler(e)


def answer_errors(app: Flask) -> None:
    """Give an app these answers."""
    app.register_error_handler(PayloadError, _on_payload_error)
    app.register_error_handler(ModelNotReadyError, _on_not_ready)
    app.register_error_handler(HTTPException, _on_http_error)
    app.register_error_handler(Exception, _on_fault)


def _on_payload_error(error: PayloadError) -> Answer:
    return {"message": str(error)}, 400, {}


def _on_not_ready(error: ModelNotReadyError) -> Answer:
    return {"message": f"not ready: {error}"}, 503, {"Retry-After": str(RETRY_AFTER_SECONDS)}


def _on_http_error(error: HTTPException) -> Answer:
    _read_on()
    message = error.description or error.name
    if isinstance(error, RequestEntityTooLarge):
        message = f"the body is larger than {current_app.config['MAX_CONTENT_LENGTH']} bytes; send fewer comments"
    headers = {name: value for name, value in error.get_headers() if name == "Allow"}
    return {"message": message}, error.code or 500, headers


def _on_fault(error: Exception) -> Answer:
    trace = "".join(format_tb(error.__traceback__))  # without the error's text, which may quote a comment
    log.error("request %s failed: %s\n%s", asked().id, type(error).__name__, trace)
    return {"message": f"internal error; the log has it under the request id {asked().id}"}, 500, {}


def _read_on() -> None:
    """Take in what is left of a body: closing on a sender resets the connection, and nginx would answer 502 instead."""
    stream, left = asked().environ["wsgi.input"], 2 * current_app.config["MAX_CONTENT_LENGTH"]
    with suppress(OSError):  # the sender is gone
        while left > 0 and (piece := stream.read(min(left, PIECE))):
            left -= len(piece)
