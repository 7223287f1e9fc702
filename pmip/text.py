"""Turns a comment into the n-grams and features of the classifier.

A pickled model names the functions of this module. If the results of a function change, give it a new name, so that an
API refuses the models that need the old function, instead of giving wrong answers. For `comment_features`, change
`COMMENT_FEATURES`, which the model names too. notebooks/README.md says in which order to train and to deploy.
"""

import math
import re
from functools import lru_cache
from itertools import pairwise

from pmip.disguises import undisguised

# Every request uses this module, and comments may be hostile: the time of each pattern must be proportional to the
# length of any text.

_TAG = re.compile(r"</?[a-z][^<>]*>")
_LATER_VOWEL_OR_DOUBLED = re.compile(r"\B[aeiou]+|([a-z])(?=\1)")
_TOKEN = re.compile(r"\w+|[!?]+|[^\w\s]")
_DOMAIN = re.compile(r"\w ?\. ?(?:com?|net|org|info|biz|xyz|tv|ly|tk|gl|[a-z]{2}(?= ?/))\b")
_YOUTUBE_ADDRESS = re.compile(r"youtu\.be/|youtube\.com/|/watch\?")

COMMENT_FEATURES: tuple[str, ...] = ("has address", "has youtube address", "log length")


@lru_cache(maxsize=4)  # each vectorizer normalises the same comment
def _normalised(comment: str) -> str:
    text = undisguised(comment).lower()
    if "<" in text:
        text = _TAG.sub(" ", text)
    return " ".join(text.split())


def normalised(comment: str) -> str:
    """Return the comment in lower case, with single spaces and without disguises and HTML tags."""
    return _normalised(comment)


def token_ngrams(comment: str) -> list[str]:
    """Return the tokens of a raw comment, the pairs of adjacent tokens, and the pairs with one token between.

    A token is a word, a run of ! and ?, or another character. Words are reduced to their first letter and their
    consonants, without doubled letters, so that many misspellings give the same token.
    """
    tokens = _TOKEN.findall(_LATER_VOWEL_OR_DOUBLED.sub("", _normalised(comment)))
    return [*tokens, *map(" ".join, pairwise(tokens)), *map(" * ".join, zip(tokens, tokens[2:], strict=False))]


def comment_features(comment: str) -> list[float]:
    """Return the value of each of COMMENT_FEATURES for a raw comment, between 0 and about 2."""
    text = undisguised(comment).lower()
    has_address = "://" in text or "www." in text or "/watch?" in text or _DOMAIN.search(text) is not None
    return [float(has_address), float(_YOUTUBE_ADDRESS.search(text) is not None), math.log1p(len(text)) / 5]
