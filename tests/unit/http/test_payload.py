"""What callers may send, and that a refusal says what is wrong without quoting it."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pmip.errors import PayloadError
from pmip.http.requests import ANSWER_TYPES, Limits, answer_type, comments_of

LIMITS = Limits(max_comments=3, max_comment_chars=10)
WIDE = Limits()
SECRET = "s3cr3t"


def comments_json(*comments: object) -> bytes:
    """Write a body around what stands in place of comments."""
    return json.dumps({"comments": comments}).encode()


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "not valid JSON: Expecting value (line 1, column 1)"),
        (b'{"comments": ["s3cr3t"}', "not valid JSON: Expecting ',' delimiter (line 1, column 23)"),
        (b'{"comments": ["s3cr3t"]} s3cr3t', "not valid JSON: Extra data (line 1, column 26)"),
        (b'{"comments": ["s3cr3t\n"]}', "not valid JSON: Invalid control character"),
        (b"comments=s3cr3t", "not valid JSON"),
        (b'{"comments": ["s3cr3t", NaN]}', "not valid JSON"),
        (b'{"comments": ["s3cr3t"], "other": -Infinity}', "not valid JSON"),
        (b'{"comments": ["s3cr3t \xff"]}', "not valid JSON in UTF-8"),
        (b'{"comments": ["s3cr3t"], "n": ' + b"9" * 5000 + b"}", "not valid JSON"),
        (b'{"comments": ' + b"[" * 100_000, "nested too deeply"),
        (b'{"comments": ' + b'{"a":' * 100_000, "nested too deeply"),
        (b"null", "must be a JSON object with a list of texts"),
        (b"5", "must be a JSON object with a list of texts"),
        (b'"s3cr3t"', "must be a JSON object with a list of texts"),
        (b'["s3cr3t"]', "must be a JSON object with a list of texts"),
        (b"{}", "must be a JSON object with a list of texts"),
        (b'{"comment": ["s3cr3t"]}', "must be a JSON object with a list of texts"),
        (b'{"comments": "s3cr3t"}', "'comments' must be a list of texts"),
        (b'{"comments": null}', "'comments' must be a list of texts"),
        (b'{"comments": {"s3cr3t": 1}}', "'comments' must be a list of texts"),
        (b'{"comments": ["s3cr3t"], "comments": 1}', "'comments' must be a list of texts"),
        (comments_json(SECRET, 1), "comments[1] is no text"),
        (comments_json(None), "comments[0] is no text"),
        (comments_json(SECRET, SECRET, [SECRET]), "comments[2] is no text"),
        (comments_json(SECRET, {"text": SECRET}), "comments[1] is no text"),
        (comments_json(SECRET, True), "comments[1] is no text"),
        (comments_json("", SECRET * 2), "comments[1] has 12 characters; at most 10 are allowed"),
        (comments_json(*[SECRET] * 4), "4 comments are too many; send at most 3 in one request"),
    ],
)
def test_a_wrong_body_is_refused_with_the_reason(body: bytes, message: str) -> None:
    """The message names what is wrong and where, and never quotes the comment."""
    with pytest.raises(PayloadError) as caught:
        comments_of(body, LIMITS)
    assert message in str(caught.value)
    assert SECRET not in str(caught.value)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    ("body", "comments"),
    [
        (comments_json(), []),
        (comments_json(""), [""]),
        (comments_json("a", "b", "c"), ["a", "b", "c"]),
        (comments_json("a" * 10), ["a" * 10]),
        (comments_json("😍" * 10), ["😍" * 10]),
        (comments_json("same", "same"), ["same", "same"]),
        (b'{"comments": ["\\ud800"]}', ["\ud800"]),
        (b'{"comments": ["\\u0000"]}', ["\0"]),
        (b'{"comments": ["a"], "comments": ["b"]}', ["b"]),
        (b'{"type": "class", "comments": ["a"], "deep": [[{}]]}', ["a"]),
        (b' \r\n\t{"comments"\n:["a"]}\n', ["a"]),
        ("\ufeff".encode() + comments_json("a"), ["a"]),
        ('{"comments": ["é"]}'.encode("utf-16"), ["é"]),
        ('{"comments": ["é"]}'.encode("utf-32-le"), ["é"]),
    ],
)
def test_a_right_body_gives_its_comments(body: bytes, comments: list[str]) -> None:
    """Limits are inclusive, other keys are ignored, and every Unicode encoding of JSON is understood."""
    assert comments_of(body, LIMITS) == comments


def test_the_limits_have_defaults() -> None:
    """A thousand comments of ten thousand characters may come in one request."""
    assert len(comments_of(comments_json(*[""] * 1000), WIDE)) == 1000
    assert len(comments_of(comments_json("a" * 10_000), WIDE)[0]) == 10_000
    for body in (comments_json(*[""] * 1001), comments_json("a" * 10_001)):
        with pytest.raises(PayloadError):
            comments_of(body, WIDE)


@given(st.binary() | st.recursive(st.none() | st.text() | st.floats(), st.lists).map(json.dumps).map(str.encode))
def test_any_bytes_are_comments_or_an_error_of_the_caller(body: bytes) -> None:
    """Nothing but PayloadError comes out of a wrong body."""
    for content in (body, b'{"comments": ' + body + b"}"):
        try:
            assert all(isinstance(comment, str) for comment in comments_of(content, WIDE))
        except PayloadError:
            continue


@given(st.lists(st.text(st.characters(exclude_categories=[]))), st.booleans())
def test_any_texts_arrive_unchanged(comments: list[str], ascii_only: bool) -> None:
    """Lone surrogates, zero bytes and emoji included."""
    body = json.dumps({"comments": comments}, ensure_ascii=ascii_only)
    assert comments_of(body.encode("utf-8", "surrogatepass"), WIDE) == comments


@pytest.mark.parametrize(("values", "expected"), [([], "class"), *(([name], name) for name in ANSWER_TYPES)])
def test_the_type_is_class_unless_told(values: list[str], expected: str) -> None:
    """One known type is taken as it is."""
    assert answer_type(values) == expected


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([""], "unknown type; it must be one of class, probability"),
        (["Class"], "unknown type"),
        ([SECRET], "unknown type"),
        (["class", "class"], "the query has 2 times 'type'; give it once"),
        (["class", "probability", SECRET], "the query has 3 times 'type'"),
    ],
)
def test_a_wrong_type_is_refused_with_the_reason(values: list[str], message: str) -> None:
    """An unknown or repeated type is not guessed at, nor quoted."""
    with pytest.raises(PayloadError) as caught:
        answer_type(values)
    assert message in str(caught.value)
    assert SECRET not in str(caught.value)
