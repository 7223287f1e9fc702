"""Turns a comment into the n-grams and features that the classifier sees."""

import html
import math
import re
import string
import unicodedata
from functools import lru_cache
from itertools import filterfalse, pairwise

# Written for speed, since every request comes through here: a cheap look decides whether a substitution has
# anything to do. Comments are hostile input: every pattern takes time in proportion to the length, whatever the text.

_BYTE_ORDER_MARK = "\ufeff"
# html.unescape raises ValueError on a number of thousands of digits; no real character needs more than seven.
_ENDLESS_REFERENCE = re.compile(r"&#[0-9]{8,};?")

_ALIKE = str.maketrans(
    "АВЕКМНОРСТУХІЈЅавекмнорстухіјѕһԁԛԝьпΑΒΕΖΗΙΚΜΝΟΡΤΥΧαεηικνορτυχγωօսհո",
    "ABEKMHOPCTYXIJSabekmhopctyxijshdqwbnABEZHIKMNOPTYXaenikvoptuxywouhn",
)
# A few characters stand for a whole phrase: taking those apart would let a comment grow eighteenfold.
_LONGEST_DECOMPOSITION = 4
_LATIN_NAME = re.compile(r"(?:NEGATIVE (?:CIRCLED|SQUARED) )?LATIN .*\b([A-Z])(?: WITH .*)?")
_WORD = re.compile(r"\w+")

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
_DIGIT = re.compile(r"[\d@$]")
_TIME = re.compile(r"(?<!\d)\d{1,2}:\d\d(?!\d)(?::\d\d(?!\d))?")
_LEET = re.compile(r"(?<=[a-z])[013457@$]+(?=[a-z])")
_LEET_LETTERS = str.maketrans("013457@$", "oieastas")
_NUMBER = re.compile(r"(?<![<\d])\d+(?:[.,]\d+)*")
_LONG_NUMBER = re.compile(r"\d{5}|\d[.,]\d{3}[.,]\d{3}")
_SPACED_WORD = re.compile(r"(?<!\w)[^\W\d_]([ ._*-])[^\W\d_](?:\1[^\W\d_]){2,}(?!\w)")
_REPEATED = re.compile(r"(\S)\1{2,}")
_TOKEN = re.compile(
    r"<[a-z]+>"  # what normalise puts in place of a URL, a number...
    r"|[^\W\d_]+(?:'[^\W\d_]+)*"
    r"|[!?]+"
    r"|<3+|[:;=]'?-?(?:[()\[\]/\\|*]+|[dop](?!\w))|\^[_.-]?\^"
    r"|\S"
)


def normalise(comment: str) -> str:
    """Return the comment in lower case, without disguises, and with tokens such as <url> for what is never the same."""
    text = _unescape(comment)
    if not text.isascii():
        text = _latinise(text)
    text = text.lower()
    if "<" in text:
        text = _TAG.sub(lambda tag: " <link> " if tag[0].startswith("<a ") else " <tag> ", text)
    if "@" in text:
        text = _MAIL.sub(" <mail> ", text)
    if _may_hold_url(text):
        text = _URL.sub(_url_words, text)
    if _DIGIT.search(text):
        text = _replace_numbers(text)
    text = _SPACED_WORD.sub(lambda word: word[0].replace(word[1], ""), text)
    return " ".join(_REPEATED.sub(r"\1\1", text).split())


def tokens(normalised: str) -> list[str]:
    """Return the words, runs of ! and ?, emoticons and other single symbols of a normalised comment, in order."""
    return _TOKEN.findall(normalised)


def word_ngrams(comment: str) -> list[str]:
    """Return the single tokens and the pairs of neighbouring tokens of a raw comment."""
    words = tokens(normalise(comment))
    return words + list(map(" ".join, pairwise(words)))


def _unescape(comment: str) -> str:
    # Some comments were escaped twice. The byte order mark is left over from collecting the data, and tells the
    # label there: nothing may see it.
    comment = comment.replace(_BYTE_ORDER_MARK, "")
    for _ in range(2):
        if "&" in comment:
            comment = html.unescape(_ENDLESS_REFERENCE.sub(" ", comment))
    return comment.replace(_BYTE_ORDER_MARK, "").strip()


def _latinise(text: str) -> str:
    text = "".join(map(_plain_character, text))
    return text if text.isascii() else _WORD.sub(_fold_look_alikes, text)


@lru_cache(maxsize=8192)
def _plain_character(character: str) -> str:
    if character.isascii():
        return character
    if unicodedata.category(character) in {"Cf", "Cs"} or "\ufe00" <= character <= "\ufe0f":
        return ""
    decomposed = unicodedata.normalize("NFKD", character)
    if len(decomposed) > _LONGEST_DECOMPOSITION:
        return character
    if decomposed == character and (name := _LATIN_NAME.fullmatch(unicodedata.name(character, ""))):
        return name[1]
    return "".join(filterfalse(unicodedata.combining, decomposed))


def _fold_look_alikes(word: re.Match[str]) -> str:
    folded = word[0].translate(_ALIKE)
    return folded if folded.isascii() else word[0]


def _may_hold_url(text: str) -> bool:
    return "://" in text or "www." in text or "/watch?" in text or _DOMAIN_END.search(text) is not None


def _url_words(url: re.Match[str]) -> str:
    return f" <url> {' '.join(_URL_WORD.findall(url[0]))} "


def _replace_numbers(text: str) -> str:
    if ":" in text:
        text = _TIME.sub(" <time> ", text)
    text = _LEET.sub(lambda match: match[0].translate(_LEET_LETTERS), text)
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
    "has zero-width",
    "has repeats",
    "has long number",
    "has hash",
    "has line break",
)
_NO_DIGITS = str.maketrans("", "", string.digits)
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ZERO_WIDTH = re.compile("[\u00ad\u180e\u200b\u200c\u200e\u200f\u202a-\u202e\u2060-\u2064]")


def cheap_features(comment: str) -> list[float]:
    """Return the value of each of CHEAP_FEATURES for a raw comment, mostly between 0 and 1."""
    text = _unescape(comment)
    return _address_features(text.lower()) + _share_features(text) + _sign_features(text)


def _address_features(text: str) -> list[float]:
    has_url = _may_hold_url(text)
    return [
        float(has_url),
        float(has_url and _YOUTUBE_URL.search(text) is not None),
        float(":" in text and _TIME.search(text) is not None),
        float("@" in text and _MAIL.search(text) is not None),
    ]


def _share_features(text: str) -> list[float]:
    length = len(text) or 1
    ascii_length = length if text.isascii() else len(text.encode("ascii", "ignore"))
    return [
        math.log1p(len(text)) / 5,
        math.log1p(len(text.split())) / 5,
        sum(map(str.isupper, text)) / length,
        1 - len(text.translate(_NO_DIGITS)) / length,
        1 - len(text.translate(_NO_PUNCTUATION)) / length,
        1 - ascii_length / length,
    ]


def _sign_features(text: str) -> list[float]:
    words = text.lower().split()
    return [
        math.log1p(text.count("!")),
        math.log1p(text.count("?")),
        len(set(words)) / (len(words) or 1),
        float(not text.isascii() and _ZERO_WIDTH.search(text) is not None),
        float(_REPEATED.search(text) is not None),
        float(_LONG_NUMBER.search(text) is not None),
        float("#" in text),
        float("\n" in text or "<br" in text),
    ]
