"""What callers may send: checks of the body and of the query, as pure functions that never quote the caller's text."""

import json
from collections.abc import Iterable, Sequence
from hashlib import sha256
from hmac import compare_digest
from typing import Any, NamedTuple

from pmip.errors import PayloadError

HEADER = "X-API-Key"


class ApiKeys:
    """The keys that callers may show; without any, everybody may ask."""

    def __init__(self, keys: Iterable[str] = ()) -> None:
        self._digests = [_digest(key) for key in keys]

    def __bool__(self) -> bool:
        return bool(self._digests)

    def allow(self, shown: str | None) -> bool:
        """Tell whether a caller who shows this key may ask.

        All keys are compared, by digests of one length and in constant time: how long it takes tells nothing.
        """
        digest = _digest(shown or "")
        matches = [compare_digest(digest, known) for known in self._digests]
        return not matches or any(matches)


def _digest(key: str) -> bytes:
    return sha256(key.encode("utf-8", "surrogatepass")).digest()


ANSWER_TYPES = ("class", "probability", "explanation")


class Limits(NamedTuple):
    """How much one request may ask for."""

    max_comments: int = 1000
    max_comment_chars: int = 10_000
    max_body_bytes: int = 8 * 2**20


def answer_type(values: Sequence[str]) -> str:
    """Return the one value of the query argument `type`, by default "class"."""
    if len(values) > 1:
        raise PayloadError(f"the query has {len(values)} times 'type'; give it once")
    value = values[0] if values else "class"
    if value not in ANSWER_TYPES:
        raise PayloadError(f"unknown type; it must be one of {', '.join(ANSWER_TYPES)}")
    return value


def comments_of(body: bytes, limits: Limits) -> list[str]:
    """Return the comments in a JSON body."""
    payload = _json(body)
    if not isinstance(payload, dict) or "comments" not in payload:
        raise PayloadError('the body must be a JSON object with a list of texts: {"comments": ["…", "…"]}')
    comments = payload["comments"]
    if not isinstance(comments, list):
        raise PayloadError("'comments' must be a list of texts")
    if len(comments) > limits.max_comments:
        raise PayloadError(f"{len(comments)} comments are too many; send at most {limits.max_comments} in one request")
    for index, comment in enumerate(comments):
        _require_comment(index, comment, limits.max_comment_chars)
    return comments


def _require_comment(index: int, comment: Any, max_chars: int) -> None:
    if not isinstance(comment, str):
        raise PayloadError(f"comments[{index}] is no text")
    if len(comment) > max_chars:
        raise PayloadError(f"comments[{index}] has {len(comment)} characters; at most {max_chars} are allowed")


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


_decode = json.JSONDecoder(parse_constant=_refuse_constant).decode  # json.loads would make a decoder for each body
