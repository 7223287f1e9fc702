"""Disguised copies of the comments to learn from: a model has to meet words that are not written as they should be."""

import re
from collections.abc import Iterator, Sequence
from random import Random

from pmip.disguises import unescaped

ROUNDS = 6
WEIGHT = 0.2  # of a copy, where a comment has 1
MOST_COPIES = 30_000  # where there are many comments, their own variety teaches the rest

_WORD = re.compile(r"[^\W\d_]{3,}")
_GAP = re.compile(r"(?<=\w) (?=\w)")
_LATER_VOWELS = re.compile("(?<=.)[aeiouAEIOU]")
_LINK = re.compile(r"(<[^<>]*>|(?<![^\s>])[^\s>]*(?:://|www\.|\.com|\.be/|@)\S*)")  # has to work, and so stays as it is
_SHARE_OF_WORDS = 0.75
_SHARE_OF_GAPS = 0.7
_GLUED_COPIES = 0.4


def disguised_copies(
    comments: Sequence[str], rounds: int = ROUNDS, most: int = MOST_COPIES
) -> Iterator[tuple[int, str]]:
    """Yield places in `comments`, each with a copy of the comment there: every round each once, `most` in all.

    The same comments give the same copies. Where there are too many comments, those of the first round are drawn.
    """
    places = list(range(len(comments))) * rounds
    if len(places) > most:
        places = Random(0).sample(range(len(comments)), min(most, len(comments))) * rounds  # noqa: S311 - no secret
    for number, place in enumerate(places[:most]):
        random = Random(f"{number // len(comments)} {comments[place]}")  # noqa: S311
        yield place, disguised(comments[place], random)


def disguised(comment: str, random: Random) -> str:
    """Return the comment with words glued, or with letters of words dropped, swapped or replaced."""
    change = _glued if random.random() < _GLUED_COPIES else _misspelt
    parts = _LINK.split(unescaped(comment))
    parts[::2] = [change(part, random) for part in parts[::2]]
    return "".join(parts)


def _glued(text: str, random: Random) -> str:
    return _GAP.sub(lambda gap: "" if random.random() < _SHARE_OF_GAPS else gap[0], text)


def _misspelt(text: str, random: Random) -> str:
    return _WORD.sub(lambda word: _damaged(word[0], random) if random.random() < _SHARE_OF_WORDS else word[0], text)


def _damaged(word: str, random: Random) -> str:
    place = random.randrange(1, len(word))
    match random.randrange(4):
        case 0:
            return word[:place] + word[place + 1 :]
        case 1:
            return word[: place - 1] + word[place] + word[place - 1] + word[place + 1 :]
        case 2:
            return _LATER_VOWELS.sub("", word)
        case _:
            return word[:place] + random.choice("etaoinsr") + word[place + 1 :]
