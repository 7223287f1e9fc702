"""The API behind AWS Lambda: the same app in the same image, started by `python -m awslambdaric`.

Events are API Gateway's, of payload format 1.0 or 2.0, and those of function URLs, which are of format 2.0.
"""

import json
import logging
from threading import Thread
from typing import Any

from apig_wsgi import make_lambda_handler
from flask import Flask

from pmip.wsgi import CALL_SECONDS, app, reloader

Event = dict[str, Any]

START_SECONDS = 5  # for the first model; a start that takes 10 with all its imports is ended and begun anew by Lambda

log = logging.getLogger(__name__)


class BelowStage:
    """Serves an app below the name of API Gateway's stage, where addresses have one: all but `$default` do."""

    def __init__(self, app: Flask) -> None:
        self._app = app

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        """Tell the app where its addresses begin."""
        asked = environ.get("apig_wsgi.request_context") or {}
        stage, path = f"/{asked.get('stage')}", environ["PATH_INFO"]
        if "http" in asked and _is_below(path, stage):  # format 2.0 leaves the stage in the path
            environ.update(SCRIPT_NAME=stage, PATH_INFO=path.removeprefix(stage) or "/")
        elif _is_below(asked.get("path") or "", stage):  # format 1.0 took it away
            environ["SCRIPT_NAME"] = stage
        return self._app(environ, start_response)


def handler(event: Event, context: Any) -> Event:
    """Answer an event; what is none gets a 400.

    The process is frozen between calls, so that no thread can look for a newer model: a call does, once an interval.
    """
    first_look.join(CALL_SECONDS)
    if not first_look.is_alive():  # else the answer says that no model is loaded yet
        reloader.step(at_once=not reloader.is_ready)
    try:
        return _answer(event, context)
    except (AttributeError, KeyError, TypeError, ValueError) as error:  # the app answers its own faults
        return _refusal(error)


def _refusal(error: Exception) -> Event:
    """Tell what is missing, but nothing of what is there: it may be a comment."""
    reason = f"{error.args[0]!r} is missing" if isinstance(error, KeyError) else "a value is of a wrong kind"
    message = f"this is no HTTP event of API Gateway (payload format 1.0 or 2.0) or a function URL: {reason}"
    log.warning("an event was refused: %s", message)
    headers = {"content-type": "application/json"}
    return {"statusCode": 400, "headers": headers, "body": json.dumps({"message": message}), "isBase64Encoded": False}


def _is_below(path: str, folder: str) -> bool:
    return f"{path}/".startswith(f"{folder}/")


_answer = make_lambda_handler(BelowStage(app), binary_support=True)
# While Lambda starts the process, so that the first caller need not wait for the model; a slow S3 does not hold the
# start itself.
first_look = Thread(target=reloader.step, daemon=True)
first_look.start()
first_look.join(START_SECONDS)
