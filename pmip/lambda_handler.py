"""The API behind AWS Lambda: the same app, which looks for a newer model when a call comes in."""

from typing import Any

from apig_wsgi import make_lambda_handler

from pmip.wsgi import app, reloader

_answer = make_lambda_handler(app, binary_support=True)


def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Answer an API Gateway event; the process is frozen between calls, so that no thread can poll."""
    reloader.step()
    return _answer(event, context)
