"""Checks of a caller's query and body; their errors never quote the caller's text."""

import re
from codecs import BOM_UTF8
from contextlib import suppress
from typing import NamedTuple

import msgspec
from flask import Request, Response, request
from gunicorn.http.errors import ParseException
from werkzeug.datastructures import MultiDict
from werkzeug.exceptions import BadRequest, RequestEntityTooLarge, UnsupportedMediaType

from pmip.config import Limits
from pmip.errors import PayloadError, TooLargeError
from pmip.http.answers import ANSWER_TYPES

ARGUMENTS = ("type", "top")
TOP, MAX_TOP = 100, 1000  # number of contributions in an explanation: default and maximum
MAX_LISTED = 50_000  # contributions in one answer, which then has less than 5 MB
MAX_DRAINED = 32 * 2**20  # bytes
NO_LIST = "'comments' must be a list of at least one text"
ENCODINGS = ("gzip", "x-gzip", "deflate", "compress", "x-compress", "br", "zstd")


class Body(msgspec.Struct, forbid_unknown_fields=True):
    """The body of a request."""

    comments: list[str]


class Question(NamedTuple):
    """The arguments of the query; `top` is the number of contributions in an explanation."""

    answer_type: str = "class"
    top: int = TOP


def question_in(arguments: MultiDict[str, str]) -> Question:
    """Return the checked arguments of the query; the default is to classify."""
    for name, values in arguments.lists():
        if name not in ARGUMENTS:
            raise PayloadError("the query has an unknown argument; use 'type' and 'top'")
        if len(values) > 1:
            raise PayloadError(f"the query has '{name}' {len(values)} times; give it once")
    answer_type = arguments.get("type", "class")
    if answer_type not in ANSWER_TYPES:
        raise PayloadError(f"unknown type; it must be one of {', '.join(ANSWER_TYPES)}")
    top = arguments.get("top", str(TOP))
    if not re.fullmatch("[0-9]{1,4}", top) or int(top) > MAX_TOP:
        raise PayloadError(f"'top' must be a whole number from 0 to {MAX_TOP}")
    return Question(answer_type, int(top))


def body_of(this: Request, limits: Limits) -> bytes:
    """Read the body of a request; werkzeug's `get_data` would take 5 % of the time of a request."""
    if not this.is_json:
        raise UnsupportedMediaType("send JSON with the header Content-Type: application/json")
    if encoding := this.environ.get("HTTP_CONTENT_ENCODING"):
        name = encoding.lower() if encoding.lower() in ENCODINGS else "encoded"
        raise UnsupportedMediaType(f"the body is compressed ({name}); send plain JSON, without Content-Encoding")
    most, size = limits.max_body_bytes, this.content_length
    chunked = size is None and "chunked" in this.environ.get("HTTP_TRANSFER_ENCODING", "").lower()
    if size is not None and size > most:
        raise _too_large(most)
    body = _read(this, most + 1 if chunked else size or 0)
    if len(body) > most:
        raise _too_large(most)
    if len(body) < (size or 0):
        raise BadRequest("the body ended before it had as many bytes as Content-Length says")
    return body


def _too_large(most: int) -> RequestEntityTooLarge:
    return RequestEntityTooLarge(f"the body is larger than {most} bytes (MAX_BODY_BYTES); send fewer comments")


def _read(this: Request, size: int) -> bytes:
    try:
        body: bytes = this.environ["wsgi.input"].read(size)
    except ParseException:
        raise BadRequest("the body is malformed: its chunks do not follow Transfer-Encoding: chunked") from None
    except OSError:
        raise BadRequest("the connection broke before the body was complete") from None
    return body


def drain(response: Response) -> Response:
    """Read what is left of the body: a connection that is closed with unread bytes is reset, and the answer lost.

    A caller who waits for 100 Continue is answered at once; more than `MAX_DRAINED` bytes are left unread.
    """
    environ, left = request.environ, MAX_DRAINED
    if response.status_code < 400:  # the route has read the body
        return response
    if (environ.get("CONTENT_LENGTH") or "HTTP_TRANSFER_ENCODING" in environ) and "HTTP_EXPECT" not in environ:
        with suppress(ParseException, OSError):  # gunicorn then ends the connection after this answer
            while left > 0 and (data := environ["wsgi.input"].read(min(left, 65536))):
                left -= len(data)
    return response


def comments_of(body: bytes, limits: Limits, answer_type: str = "class", top: int = TOP) -> list[str]:
    """Return the comments in a JSON body in UTF-8; the limits depend on the answer that is asked for."""
    comments = _decoded(body)
    if not comments:
        raise PayloadError(NO_LIST)
    if len(comments) > limits.max_comments:
        raise PayloadError(f"{len(comments)} comments are too many; send at most {limits.max_comments} in one request")
    for index, comment in enumerate(comments):
        if len(comment) > limits.max_comment_chars:
            told = f"has {len(comment)} characters; at most {limits.max_comment_chars} are allowed"
            raise PayloadError(f"comments[{index}] {told}")
    total = sum(map(len, comments))
    if ANSWER_TYPES[answer_type].is_explanation:
        _limit(total, answer_type, limits.max_explained_chars, "MAX_EXPLAINED_CHARS")
        _limit_listed(len(comments), top)
    else:
        _limit(total, answer_type, limits.max_total_chars, "MAX_TOTAL_CHARS")
    return comments


def _limit(total: int, answer_type: str, most: int, name: str) -> None:
    if total > most:
        raise TooLargeError(
            f"the comments have {total} characters in total; at most {most} are allowed with type={answer_type} "
            f"({name}); send fewer in one request"
        )


def _limit_listed(comments: int, top: int) -> None:
    if comments * top > MAX_LISTED:
        raise TooLargeError(
            f"{comments} explanations of up to {top} contributions are too many for one answer, which may list "
            f"{MAX_LISTED}; send at most {MAX_LISTED // top} comments, or set 'top' to at most {MAX_LISTED // comments}"
        )


def _decoded(body: bytes) -> list[str]:
    try:
        return _decode(body.removeprefix(BOM_UTF8)).comments
    except msgspec.ValidationError as error:
        raise PayloadError(_wrong_form(str(error))) from None
    except (msgspec.DecodeError, RecursionError) as error:
        raise PayloadError(f"the body is not valid JSON in UTF-8: {_fault(str(error))}") from None


def _wrong_form(message: str) -> str:
    """Return what is wrong with a body that is JSON; the decoder's own message may quote a key."""
    if message.startswith("Object contains unknown field"):
        return "the body has an unknown key; its only key is 'comments', and 'type' and 'top' belong into the query"
    if place := re.search(r"at `\$\.(comments\[\d+\])`$", message):
        return f"{place[1]} is not a text"
    if message.endswith("at `$.comments`"):
        return NO_LIST
    return 'the body must be a JSON object with a list of texts: {"comments": ["…", "…"]}'


def _fault(message: str) -> str:
    """Return why a body is not JSON; the decoder says the same of a body that is cut off and of half a character."""
    if message == "Input data was truncated":
        return r"it ends too early, or a text has half a character, such as \ud83d without a second half"
    return message.removeprefix("JSON is malformed: ")


_decode = msgspec.json.Decoder(Body).decode
