"""Checks of a caller's query and body; their errors never quote the caller's text."""

import json
import re
from typing import Any, NamedTuple

from flask import Request
from gunicorn.http.errors import ParseException
from werkzeug.datastructures import MultiDict
from werkzeug.exceptions import BadRequest, RequestEntityTooLarge, RequestTimeout, UnsupportedMediaType

from pmip.errors import PayloadError, TooLargeError

ANSWER_TYPES = ("class", "probability", "explanation")
ARGUMENTS = ("type", "top")
TOP, MAX_TOP = 100, 1000  # number of contributions in an explanation: default and maximum
ENCODINGS = ("gzip", "x-gzip", "deflate", "compress", "x-compress", "br", "zstd")


class Limits(NamedTuple):
    """Limits of one request; scripts/README.md says how long the slowest request within them takes."""

    max_comments: int = 1000
    max_comment_chars: int = 10_000
    max_total_chars: int = 300_000
    max_explained_chars: int = 100_000
    max_body_bytes: int = 8 * 2**20


class Question(NamedTuple):
    """The arguments of the query; `top` is the number of contributions in an explanation."""

    kind: str = "class"
    top: int = TOP


def question_in(arguments: MultiDict[str, str]) -> Question:
    """Return the checked arguments of the query; the default is to classify."""
    for name, values in arguments.lists():
        if name not in ARGUMENTS:
            raise PayloadError("the query has an unknown argument; use 'type' and 'top'")
        if len(values) > 1:
            raise PayloadError(f"the query has '{name}' {len(values)} times; give it once")
    kind = arguments.get("type", "class")
    if kind not in ANSWER_TYPES:
        raise PayloadError(f"unknown type; it must be one of {', '.join(ANSWER_TYPES)}")
    top = arguments.get("top", str(TOP))
    if not re.fullmatch("[0-9]{1,4}", top) or int(top) > MAX_TOP:
        raise PayloadError(f"'top' must be a whole number from 0 to {MAX_TOP}")
    return Question(kind, int(top))


def body_of(request: Request, limits: Limits) -> bytes:
    """Read the body of a request; werkzeug's `get_data` would take 5 % of the time of a request."""
    if not request.is_json:
        raise UnsupportedMediaType("send JSON with the header Content-Type: application/json")
    if encoding := request.environ.get("HTTP_CONTENT_ENCODING"):
        name = encoding.lower() if encoding.lower() in ENCODINGS else "encoded"
        raise UnsupportedMediaType(f"the body is compressed ({name}); send plain JSON, without Content-Encoding")
    most, size = limits.max_body_bytes, request.content_length
    chunked = size is None and "chunked" in request.environ.get("HTTP_TRANSFER_ENCODING", "").lower()
    if size is not None and size > most:
        raise _too_large(most)
    body = _read(request, most + 1 if chunked else size or 0, chunked=chunked)
    if len(body) > most:
        raise _too_large(most)
    return body


def _too_large(most: int) -> RequestEntityTooLarge:
    return RequestEntityTooLarge(f"the body is larger than {most} bytes (MAX_BODY_BYTES); send fewer comments")


def _read(request: Request, size: int, *, chunked: bool) -> bytes:
    try:
        body: bytes = request.environ["wsgi.input"].read(size)
    except ParseException:
        raise BadRequest("the body is malformed: its chunks do not follow Transfer-Encoding: chunked") from None
    except OSError:
        body, chunked = b"", False
    if len(body) < size and not chunked:
        raise RequestTimeout("the body did not arrive completely and in time; send it without pauses")
    return body


def comments_of(body: bytes, limits: Limits, kind: str = "class") -> list[str]:
    """Return the comments in a JSON body."""
    payload = _json(body)
    if not isinstance(payload, dict) or "comments" not in payload:
        raise PayloadError('the body must be a JSON object with a list of texts: {"comments": ["…", "…"]}')
    comments = payload["comments"]
    if not isinstance(comments, list) or not comments:
        raise PayloadError("'comments' must be a list of at least one text")
    if len(comments) > limits.max_comments:
        raise PayloadError(f"{len(comments)} comments are too many; send at most {limits.max_comments} in one request")
    total = sum(_length(index, comment, limits.max_comment_chars) for index, comment in enumerate(comments))
    name = "MAX_EXPLAINED_CHARS" if kind == "explanation" else "MAX_TOTAL_CHARS"
    most = limits.max_explained_chars if kind == "explanation" else limits.max_total_chars
    if total > most:
        raise TooLargeError(
            f"the comments have {total} characters in total; at most {most} are allowed with type={kind} ({name}); "
            "send fewer in one request"
        )
    return comments


def _length(index: int, comment: Any, max_chars: int) -> int:
    if not isinstance(comment, str):
        raise PayloadError(f"comments[{index}] is not a text")
    if len(comment) > max_chars:
        raise PayloadError(f"comments[{index}] has {len(comment)} characters; at most {max_chars} are allowed")
    return len(comment)


def _json(body: bytes) -> Any:
    try:
        return _decode(body.decode(json.detect_encoding(body), "surrogatepass"))
    except json.JSONDecodeError as error:
        raise PayloadError(
            f"the body is not valid JSON: {error.msg} (line {error.lineno}, column {error.colno})"
        ) from None
    except (ValueError, RecursionError):  # not Unicode, a number of thousands of digits, thousands of brackets
        raise PayloadError("the body is not valid JSON in UTF-8, or is nested too deeply") from None


def _refuse_constant(name: str) -> None:
    raise ValueError(name)


_decode = json.JSONDecoder(parse_constant=_refuse_constant).decode
