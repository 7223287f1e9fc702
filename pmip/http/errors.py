"""The status and the JSON body of each error; they never contain internals or the text of a comment."""

import logging
from collections.abc import Callable
from traceback import format_tb
from typing import Any

from flask import Flask
from flask_restx import Api
from werkzeug.exceptions import HTTPException, MethodNotAllowed, NotFound

from pmip.errors import ModelNotReadyError, PayloadError, TooLargeError
from pmip.http.log import current_request

RETRY_AFTER_SECONDS = 5
HEADERS = ("Allow", "WWW-Authenticate")  # kept in error answers

Answer = tuple[dict[str, str], int, dict[str, str]]

log = logging.getLogger(__name__)


class QuietApi(Api):
    """flask-restx without its error handling, which logs every 503 and may send details of an exception to callers."""

    def error_router(self, original_handler: Callable[[Exception], Any], e: Exception) -> Any:
        """Pass every error to the error handlers of the app."""
        return original_handler(e)


def answer_errors(app: Flask) -> None:
    """Register these error handlers with an app."""
    app.register_error_handler(PayloadError, _on_payload_error)
    app.register_error_handler(ModelNotReadyError, _on_not_ready)
    app.register_error_handler(HTTPException, _on_http_error)
    app.register_error_handler(Exception, _on_fault)


def _answer(message: str, status: int, headers: dict[str, str] | None = None) -> Answer:
    current_request().reason = message  # for the log
    return {"message": message}, status, headers or {}


def _on_payload_error(error: PayloadError) -> Answer:
    return _answer(str(error), 413 if isinstance(error, TooLargeError) else 400)


def _on_not_ready(_error: ModelNotReadyError) -> Answer:
    message = "not ready: no model is loaded yet; see /model-info and the log for the reason"
    return _answer(message, 503, {"Retry-After": str(RETRY_AFTER_SECONDS)})


def _on_http_error(error: HTTPException) -> Answer:
    headers = {name: value for name, value in error.get_headers() if name in HEADERS}
    message = error.description or error.name
    if isinstance(error, NotFound):
        message = "there is no such route; / is the page that lists all routes"
    if isinstance(error, MethodNotAllowed):
        message = f"the route does not take this method, only {headers.get('Allow')}"
    return _answer(message, error.code or 500, headers)


def _on_fault(error: Exception) -> Answer:
    trace = "".join(format_tb(error.__traceback__))  # without the error's text, which may quote a comment
    log.error("request %s failed: %s\n%s", current_request().id, type(error).__name__, trace)
    return _answer(f"internal error; the log has the details under request id {current_request().id}", 500)
