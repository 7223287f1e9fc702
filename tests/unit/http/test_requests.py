"""What callers may send, and what a refusal says without quoting the caller."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.datastructures import MultiDict

from pmip.config import Limits
from pmip.errors import PayloadError, TooLargeError
from pmip.http.answers import ANSWER_TYPES
from pmip.http.requests import MAX_LISTED, MAX_TOP, TOP, Question, comments_of, question_in

LIMITS = Limits(max_comments=3, max_comment_chars=10, max_total_chars=25, max_explained_chars=15)
WIDE = Limits()
SECRET = "s3cr3t"


def comments_json(*comments: object) -> bytes:
    return json.dumps({"comments": comments}).encode()


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "not valid JSON in UTF-8: it ends too early"),
        (b'{"comments": ["s3cr3t"}', "not valid JSON in UTF-8: expected ',' or ']' (byte 22)"),
        (b'{"comments": ["s3cr3t"]} s3cr3t', "not valid JSON in UTF-8: trailing characters (byte 26)"),
        (b'{"comments": ["s3cr3t\n"]}', "not valid JSON in UTF-8: invalid character"),
        (b"comments=s3cr3t", "not valid JSON"),
        (b'{"comments": ["s3cr3t", NaN]}', "not valid JSON"),
        (b'{"comments": ["s3cr3t \xff"]}', "not valid JSON in UTF-8"),
        (b'{"comments": ["s3cr3t \xed\xa0\xbd"]}', "not valid JSON in UTF-8"),
        ('{"comments": ["é"]}'.encode("utf-16"), "not valid JSON in UTF-8"),
        ('{"comments": ["é"]}'.encode("utf-32-le"), "not valid JSON in UTF-8"),
        (b'{"comments": ["s3cr3t \\ud83d"]}', r"a text has half a character, such as \ud83d without a second half"),
        (b'{"comments": ["s3cr3t \\ude00"]}', "surrogate pair"),
        (b'{"comments": ' + b"[" * 100_000, "comments[0] is not a text"),
        (b'{"comments": ' + b'{"a":' * 100_000, "'comments' must be a list of at least one text"),
        (b'{"s3cr3t": ' + b"[" * 100_000, "unknown key; its only key is 'comments'"),
        (b'{"comments": ["s3cr3t"], "type": "probability"}', "and 'type' and 'top' belong into the query"),
        (b'{"comments": ["s3cr3t"], "s3cr3t - at `$.comments[3]`": 1}', "unknown key"),
        (b"null", "must be a JSON object with a list of texts"),
        (b'"s3cr3t"', "must be a JSON object with a list of texts"),
        (b'["s3cr3t"]', "must be a JSON object with a list of texts"),
        (b"{}", "must be a JSON object with a list of texts"),
        (b'{"comments": "s3cr3t"}', "'comments' must be a list of at least one text"),
        (b'{"comments": null}', "'comments' must be a list of at least one text"),
        (b'{"comments": []}', "'comments' must be a list of at least one text"),
        (b'{"comments": ["s3cr3t"], "comments": 1}', "'comments' must be a list of at least one text"),
        (comments_json(SECRET, 1), "comments[1] is not a text"),
        (comments_json(None), "comments[0] is not a text"),
        (comments_json(SECRET, SECRET, [SECRET]), "comments[2] is not a text"),
        (comments_json(SECRET, {"text": SECRET}), "comments[1] is not a text"),
        (comments_json("", SECRET * 2), "comments[1] has 12 characters; at most 10 are allowed"),
        (comments_json(*[SECRET] * 4), "4 comments are too many; send at most 3 in one request"),
    ],
)
def test_a_wrong_body_is_refused_with_the_reason(body: bytes, message: str) -> None:
    """A caller with a wrong body gets a short message that names the fault and its place, and quotes no comment."""
    with pytest.raises(PayloadError) as caught:
        comments_of(body, LIMITS)
    assert message in str(caught.value)
    assert SECRET not in str(caught.value)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    ("body", "comments"),
    [
        (comments_json(""), [""]),
        (comments_json("a", "b", "c"), ["a", "b", "c"]),
        (comments_json("a" * 10), ["a" * 10]),
        (comments_json("😍" * 10), ["😍" * 10]),
        (comments_json("same", "same"), ["same", "same"]),
        (b'{"comments": ["\\u0000"]}', ["\0"]),
        (b'{"comments": ["a"], "comments": ["b"]}', ["b"]),
        (b' \r\n\t{"comments"\n:["a"]}\n', ["a"]),
        ("\ufeff".encode() + comments_json("a"), ["a"]),
    ],
)
def test_a_right_body_gives_its_comments(body: bytes, comments: list[str]) -> None:
    """A body up to the limits gives its comments, with or without a byte order mark before the JSON."""
    assert comments_of(body, LIMITS) == comments


def test_the_limits_have_defaults() -> None:
    """By default a caller may send 1,000 comments, 10,000 characters in one, and 300,000 in all, but no more."""
    for comments in ([""] * 1000, ["a" * 300] * 1000, ["a" * 10_000] * 30):
        assert comments_of(comments_json(*comments), WIDE) == comments
    for comments in ([""] * 1001, ["a" * 10_001], ["a" * 10_000] * 31):
        with pytest.raises(PayloadError):
            comments_of(comments_json(*comments), WIDE)


@pytest.mark.parametrize(
    ("kind", "most", "name"),
    [
        ("class", 25, "MAX_TOTAL_CHARS"),
        ("probability", 25, "MAX_TOTAL_CHARS"),
        ("explanation", 15, "MAX_EXPLAINED_CHARS"),
    ],
)
def test_the_characters_of_all_comments_together_are_bounded(kind: str, most: int, name: str) -> None:
    """A caller with too many characters in total gets a message with the limit of the answer type and its setting."""
    comments = ["a" * 10] * (most // 10) + ["a" * 5]
    assert comments_of(comments_json(*comments), LIMITS, kind) == comments
    told = f"the comments have {most + 1} characters in total; at most {most} are allowed with type={kind} \\({name}\\)"
    with pytest.raises(TooLargeError, match=told):
        comments_of(comments_json(*comments[:-1], "a" * 6), LIMITS, kind)


def test_the_largest_request_fits_into_a_body() -> None:
    """The largest request that the limits allow fits into MAX_BODY_BYTES, even if all of it is escaped emoji."""
    most = ["😍" * (WIDE.max_total_chars // WIDE.max_comments)] * WIDE.max_comments
    assert len(comments_json(*most)) <= WIDE.max_body_bytes
    assert comments_of(comments_json(*most), WIDE) == most


def test_the_contributions_of_one_answer_are_bounded() -> None:
    """A caller who requests too many contributions gets a message with the allowed number of comments and of `top`."""
    for comments, top in ((1000, 50), (500, 100), (50, 1000), (1000, 0)):
        assert len(comments_of(comments_json(*["a"] * comments), WIDE, "explanation", top)) == comments
    with pytest.raises(TooLargeError, match=f"may list {MAX_LISTED}; send at most 500 comments, or set 'top' to at mo"):
        comments_of(comments_json(*["a"] * 501), WIDE, "explanation", 100)


@given(st.binary() | st.recursive(st.none() | st.text() | st.floats(), st.lists).map(json.dumps).map(str.encode))
def test_any_bytes_are_comments_or_an_error_of_the_caller(body: bytes) -> None:
    """Any body gives a list of texts or raises PayloadError, and never another exception."""
    for content in (body, b'{"comments": ' + body + b"}"):
        try:
            assert all(isinstance(comment, str) for comment in comments_of(content, WIDE))
        except PayloadError:
            continue


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=1), st.booleans())
def test_any_texts_arrive_unchanged(comments: list[str], ascii_only: bool) -> None:
    """Any comments arrive unchanged, whether or not the JSON escapes their characters."""
    body = json.dumps({"comments": comments}, ensure_ascii=ascii_only)
    assert comments_of(body.encode(), WIDE) == comments


@pytest.mark.parametrize(
    ("query", "question"),
    [
        ([], Question("class", TOP)),
        *(([("type", name)], Question(name, TOP)) for name in ANSWER_TYPES),
        *(
            ([("top", text), ("type", "explanation")], Question("explanation", int(text)))
            for text in ("0", "7", "1000")
        ),
    ],
)
def test_the_question_is_for_classes_unless_told(query: list[tuple[str, str]], question: Question) -> None:
    """A query without a type requests classes; it may name any known type and the length of an explanation."""
    assert question_in(MultiDict(query)) == question


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ([("type", "")], "unknown type; it must be one of class, probability"),
        ([("type", "Class")], "unknown type"),
        ([("type", SECRET)], "unknown type"),
        ([("type", "class"), ("type", "class")], "the query has 'type' 2 times; give it once"),
        ([("type", "class"), ("type", "probability"), ("type", SECRET)], "the query has 'type' 3 times"),
        ([("typ", "probability")], "the query has an unknown argument; use 'type' and 'top'"),
        ([("kind", "probability")], "the query has an unknown argument"),
        ([(SECRET, "")], "the query has an unknown argument"),
        *(
            ([("type", "explanation"), ("top", text)], f"'top' must be a whole number from 0 to {MAX_TOP}")
            for text in ("", "-1", "1001", "1e3", "٣", "9" * 5000, SECRET)
        ),
    ],
)
def test_a_wrong_question_is_refused_with_the_reason(query: list[tuple[str, str]], message: str) -> None:
    """A caller with an unknown, repeated or invalid argument gets a message with the fault, and without the value."""
    with pytest.raises(PayloadError) as caught:
        question_in(MultiDict(query))
    assert message in str(caught.value)
    assert SECRET not in str(caught.value)
