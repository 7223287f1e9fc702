"""The API on AWS Lambda: the same app in the same image, started by `python -m awslambdaric`.

It answers events of API Gateway (payload format 1.0 or 2.0) and of function URLs (format 2.0).
"""

import json
import logging
from threading import Thread
from typing import Any

from apig_wsgi import make_lambda_handler
from flask import Flask

from pmip.wsgi import CALL_SECONDS, app, reloader

Event = dict[str, Any]

START_SECONDS = 5  # wait for the first model; Lambda restarts a process whose start takes 10 seconds with its imports

log = logging.getLogger(__name__)


class BelowStage:
    """Serves an app below the name of API Gateway's stage, which is in every address except for stage `$default`."""

    def __init__(self, app: Flask) -> None:
        self._app = app

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        """Set the app's path prefix to the stage, then call the app."""
        context = environ.get("apig_wsgi.request_context") or {}
        stage, path = f"/{context.get('stage')}", environ["PATH_INFO"]
        if "http" in context and _is_below(path, stage):  # format 2.0 leaves the stage in the path
            environ.update(SCRIPT_NAME=stage, PATH_INFO=path.removeprefix(stage) or "/")
        elif _is_below(context.get("path") or "", stage):  # format 1.0 has removed it
            environ["SCRIPT_NAME"] = stage
        return self._app(environ, start_response)


def handler(event: Event, context: Any) -> Event:
    """Answer an event, or answer 400 if it is not an HTTP event.

    Lambda freezes the process between calls, so no thread can check for a newer model: a call does, once an interval.
    """
    first_look.join(CALL_SECONDS)
    if not first_look.is_alive():  # otherwise the app answers that no model is loaded yet
        reloader.step(at_once=not reloader.is_ready)
    try:
        return _answer(event, context)
    except (AttributeError, KeyError, TypeError, ValueError) as error:  # of the event: the app answers its own errors
        return _refusal(error)


def _refusal(error: Exception) -> Event:
    """Say what is missing, but quote nothing of the event: it may hold a comment."""
    reason = f"{error.args[0]!r} is missing" if isinstance(error, KeyError) else "a value is of a wrong kind"
    message = f"this is not an HTTP event of API Gateway (payload format 1.0 or 2.0) or a function URL: {reason}"
    log.warning("an event was refused: %s", message)
    headers = {"content-type": "application/json"}
    return {"statusCode": 400, "headers": headers, "body": json.dumps({"message": message}), "isBase64Encoded": False}


def _is_below(path: str, folder: str) -> bool:
    return f"{path}/".startswith(f"{folder}/")


_answer = make_lambda_handler(BelowStage(app), binary_support=True)
# Load the model while Lambda starts the process, so that the first caller need not wait. The thread keeps a slow S3
# from blocking the start.
first_look = Thread(target=reloader.step, daemon=True)
first_look.start()
first_look.join(START_SECONDS)
