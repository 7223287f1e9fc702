"""Augmentation: the training set also gets damaged copies of comments, so that the model recognises misspelt words."""

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from random import Random
from typing import Any, Self

import numpy as np
from joblib import Memory
from numpy.typing import NDArray
from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS
from sklearn.pipeline import Pipeline

from pmip.disguises import unescaped
from pmip.training import spam_share

COPIED_AT_MOST = 15_000  # comments; from a larger training set, which has more variety, only a sample is copied
SHARE_OF_WORDS = 0.75  # how many words are misspelt

_WORD = re.compile(r"[^\W\d_]{3,}")
_GAP = re.compile(r"(?<=\w) (?=\w)")
_LATER_VOWELS = re.compile("(?<=.)[aeiouAEIOU]")
# Links are never damaged, because spam needs links that work.
_LINK = re.compile(r"(<[^<>]*>|(?<![^\s>])[^\s>]*(?:://|www\.|\.com|\.be/|@)\S*)")


class Augmented(Pipeline):  # type: ignore[misc]
    """A pipeline that is fitted to comments and to two damaged copies of each, which have the weight `copy_weight`.

    With a `share` of spam, the probabilities are those of comments of which this share is spam. If the classifier does
    not support sample weights, copies have the weight of comments.
    """

    def __init__(
        self,
        steps: list[tuple[str, Any]],
        *,
        copy_weight: float = 0.5,
        share: float | None = None,
        memory: Memory | None = None,
    ) -> None:
        super().__init__(steps, memory=memory)
        self.copy_weight, self.share = copy_weight, share

    def fit(self, X: Iterable[str], y: Sequence[int] | NDArray[Any]) -> Self:  # noqa: N803 - the names of scikit-learn
        """Fit the steps to the comments and their copies."""
        texts, labels, weights = with_copies(X, y, self.copy_weight)
        parameters = spam_share.fit_parameters(self[-1], labels, weights, self.share)
        super().fit(texts, labels, **{f"{self.steps[-1][0]}__{name}": value for name, value in parameters.items()})
        spam_share.shift(self[-1], labels, weights, self.share)
        return self

    def plain(self) -> Pipeline:
        """Return the fitted steps as a pipeline that scores comments without this class."""
        for step in self.get_params().values():
            if getattr(step, "stop_words", None) == "english":  # an API has no scikit-learn, which holds the words
                step.stop_words = sorted(ENGLISH_STOP_WORDS)
        return Pipeline(self.steps)


def with_copies(
    comments: Iterable[str], labels: Sequence[int] | NDArray[Any], weight: float
) -> tuple[list[str], NDArray[Any], NDArray[np.float64]]:
    """Return the comments followed by their copies, with labels and sample weights."""
    texts, classes = list(comments), np.asarray(labels)
    copied = list(range(len(texts)))
    if len(texts) > COPIED_AT_MOST:
        copied = sorted(Random(0).sample(copied, COPIED_AT_MOST))  # noqa: S311 - no secret
    copies = [copy for row in copied for copy in copies_of(texts[row])]
    weights = np.concatenate([np.ones(len(texts)), np.full(len(copies), weight)])
    return texts + copies, np.concatenate([classes, np.repeat(classes[copied], 2)]), weights


@lru_cache(maxsize=2**15)  # each comment is in the training set of most folds
def copies_of(comment: str) -> tuple[str, str]:
    """Return two copies of a comment, one without spaces and one with most words misspelt; links stay unchanged."""
    random = Random(comment.encode(errors="replace"))  # noqa: S311 - the same comment has the same copies
    parts = _LINK.split(unescaped(comment))
    glued, misspelt = parts.copy(), parts
    glued[::2] = [_GAP.sub("", part) for part in glued[::2]]
    misspelt[::2] = [_WORD.sub(lambda word: _misspelt(word[0], random), part) for part in misspelt[::2]]
    return "".join(glued), "".join(misspelt)


def _misspelt(word: str, random: Random) -> str:
    """Return most words with a letter dropped, swapped or replaced, or without vowels; return others unchanged."""
    if random.random() >= SHARE_OF_WORDS:
        return word
    place = random.randrange(1, len(word))
    match random.randrange(4):
        case 0:
            return word[:place] + word[place + 1 :]
        case 1:
            return word[: place - 1] + word[place] + word[place - 1] + word[place + 1 :]
        case 2:
            return word[:place] + random.choice("etaoinsr") + word[place + 1 :]
        case _:
            return _LATER_VOWELS.sub("", word)
