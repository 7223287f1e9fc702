"""Turns a comment into the n-grams and features that the classifier sees."""

import math
import re
import string
from functools import lru_cache
from itertools import pairwise

from pmip.disguises import undisguised

# Written for speed, since every request comes through here: a cheap look decides whether a substitution has
# anything to do. Comments are hostile input: every pattern takes time in proportion to the length, whatever the text.

_TAG = re.compile(r"</?[a-z][^<>]*>")
_MAIL = re.compile(r"(?<![\w.+-])[\w.+-]{1,64}@[\w-]{1,63}\.[\w.-]{2,}")
_DOMAIN_END = re.compile(r"\.(?:com?|net|org|info|biz|xyz|tv|[a-z]{2}(?=/))\b")
_URL = re.compile(
    r"(?:https?://|www\.|/watch\?)[^\s<>]*"
    r"|(?<![\w.-])[\w-]{1,63}(?:\.[\w-]{1,63}){0,4}" + _DOMAIN_END.pattern + r"[^\s<>]*"
)
# Without the identifiers, which mix letters and digits, and what every URL has.
_URL_WORD = re.compile(r"(?<![^\W_])(?!(?:https?|www)\b)[^\W\d_]{2,}(?![^\W_])")
_YOUTUBE_URL = re.compile(r"youtu\.be/|youtube\.com/|/watch\?")
_DIGIT = re.compile(r"\d")
_TIME = re.compile(r"(?<!\d)\d{1,2}:\d\d(?!\d)(?::\d\d(?!\d))?")
_NUMBER = re.compile(r"(?<![<\d])\d+(?:[.,]\d+)*")
_LONG_NUMBER = re.compile(r"\d{5}|\d[.,]\d{3}[.,]\d{3}")
_THRICE = re.compile(r"(.)\1\1")
_REPEATED = re.compile(r"(\S)\1{2,}")
_LATER_VOWELS = re.compile(r"\B[aeiou]+(?![a-z]{0,5}>)")  # those of <url> and the like stay
_DOUBLED = re.compile(r"([a-z])(?=\1)")
_TOKEN = re.compile(
    r"<[a-z]+>"  # what normalise puts in place of a URL, a number...
    r"|[^\W\d_]+(?:'[^\W\d_]+)*"
    r"|[!?]+"
    r"|<3+|[:;=]'?-?(?:[()\[\]/\\|*]+|[dop](?!\w))|\^[_.-]?\^"
    r"|\S"
)


def normalise(comment: str) -> str:
    """Return the comment in lower case, without disguises, and with tokens such as <url> for what is never the same."""
    return _normalised(comment)


@lru_cache(maxsize=4)  # each analyzer asks for the comment at hand
def _normalised(comment: str) -> str:
    text = undisguised(comment).lower()
    if "<" in text:
        text = _TAG.sub(lambda tag: " <link> " if tag[0].startswith("<a ") else " <tag> ", text)
    if "@" in text:
        text = _MAIL.sub(" <mail> ", text)
    if _may_hold_url(text):
        text = _URL.sub(_url_words, text)
    if _DIGIT.search(text):
        text = _replace_numbers(text)
    if _THRICE.search(text):
        text = _REPEATED.sub(r"\1\1", text)
    return " ".join(text.split())


def tokens(normalised: str) -> list[str]:
    """Return the words, runs of ! and ?, emoticons and other single symbols of a normalised comment, in order."""
    return _TOKEN.findall(normalised)


def word_ngrams(comment: str) -> list[str]:
    """Return the single tokens and the pairs of neighbouring tokens of a raw comment."""
    words = tokens(normalise(comment))
    return words + list(map(" ".join, pairwise(words)))


def consonant_ngrams(comment: str) -> list[str]:
    """Return a raw comment's tokens without vowels, their neighbouring pairs, and the pairs with one token between.

    A word keeps its first letter, and of doubled letters one: many ways to misspell it come out the same.
    """
    bones = _LATER_VOWELS.sub("", normalise(comment))
    words = tokens(_DOUBLED.sub("", bones))
    return [*words, *map(" ".join, pairwise(words)), *map(" * ".join, zip(words, words[2:], strict=False))]


def _may_hold_url(text: str) -> bool:
    return "://" in text or "www." in text or "/watch?" in text or _DOMAIN_END.search(text) is not None


def _url_words(url: re.Match[str]) -> str:
    return f" <url> {' '.join(_URL_WORD.findall(url[0]))} "


def _replace_numbers(text: str) -> str:
    if ":" in text:
        text = _TIME.sub(" <time> ", text)
    return _NUMBER.sub(" <number> ", text)


CHEAP_FEATURES: tuple[str, ...] = (
    "has url",
    "has youtube url",
    "has time",
    "has mail",
    "log length",
    "log words",
    "share of capitals",
    "share of digits",
    "share of punctuation",
    "share of non-ascii",
    "exclamation marks",
    "question marks",
    "share of unique words",
    "has price",
    "has repeats",
    "has long number",
    "has hash",
    "has line break",
)
_CAPITALS, _PUNCTUATION = string.ascii_uppercase.encode(), string.punctuation.encode()
_STANDALONE_NUMBER = re.compile(r"(?<![\w.,])\d[\d.,]*(?!\w)")
_PRICE = re.compile(r"[$€£] ?\d|\d ?[$€£]")


def cheap_features(comment: str) -> list[float]:
    """Return the value of each of CHEAP_FEATURES for a raw comment, mostly between 0 and 1."""
    text = undisguised(comment)
    lower = text.lower()
    return _address_features(lower) + _share_features(text) + _sign_features(lower)


def _address_features(text: str) -> list[float]:
    has_url = _may_hold_url(text)
    return [
        float(has_url),
        float(has_url and _YOUTUBE_URL.search(text) is not None),
        float(":" in text and _TIME.search(text) is not None),
        float("@" in text and _MAIL.search(text) is not None),
    ]


def _share_features(text: str) -> list[float]:
    length, signs = len(text) or 1, text.encode("ascii", "ignore")
    return [
        math.log1p(len(text)) / 5,
        math.log1p(len(text.split())) / 5,
        (len(signs) - len(signs.translate(None, _CAPITALS))) / length,
        sum(map(len, _STANDALONE_NUMBER.findall(text))) / length,
        (len(signs) - len(signs.translate(None, _PUNCTUATION))) / length,
        1 - len(signs) / length if text else 0.0,
    ]


def _sign_features(text: str) -> list[float]:
    words = text.split()
    return [
        math.log1p(text.count("!")),
        math.log1p(text.count("?")),
        len(set(words)) / (len(words) or 1),
        float(_PRICE.search(text) is not None),
        float(_THRICE.search(text) is not None and _REPEATED.search(text) is not None),
        float(_LONG_NUMBER.search(text) is not None),
        float("#" in text),
        float("\n" in text or "<br" in text),
    ]
