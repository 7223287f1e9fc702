"""Augmentation: the training set also gets damaged copies of comments, so that the model recognises misspelt words."""

import pickle
import re
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from functools import lru_cache
from multiprocessing import current_process
from random import Random
from typing import Any, Self

import joblib
import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, MetaEstimatorMixin, clone
from sklearn.model_selection import GridSearchCV, RandomizedSearchCV
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import has_fit_parameter

from pmip.disguises import unescaped

MOST_FITTED = 5  # how many fitted features a worker caches: one for each fold of a search
COPIED_AT_MOST = 15_000  # comments; from a larger training set, which has more variety, only a sample is copied
SHARE_OF_WORDS = 0.75  # how many words are misspelt

_WORD = re.compile(r"[^\W\d_]{3,}")
_GAP = re.compile(r"(?<=\w) (?=\w)")
_LATER_VOWELS = re.compile("(?<=.)[aeiouAEIOU]")
_LINK = re.compile(
    r"(<[^<>]*>|(?<![^\s>])[^\s>]*(?:://|www\.|\.com|\.be/|@)\S*)"
)  # never damaged: spam needs links that work


class Augmented(ClassifierMixin, MetaEstimatorMixin, BaseEstimator):  # type: ignore[misc]
    """Fits a pipeline to comments and to two damaged copies of each; a copy has the sample weight `weight`.

    It has the parameters of the pipeline, so that a search uses the same names. After `fit`, `pipeline_` is the plain,
    fitted pipeline, which scores comments without this class. Copies have the weight of comments if the classifier
    does not support sample weights.
    """

    def __init__(self, pipeline: Pipeline, weight: float = 0.5) -> None:
        self.pipeline = pipeline
        self.weight = weight

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the parameters of this class and, if `deep`, those of the pipeline, without a prefix."""
        own = {"pipeline": self.pipeline, "weight": self.weight}
        return self.pipeline.get_params() | own if deep else own

    def set_params(self, **params: Any) -> Self:
        """Set parameters of this class or of the pipeline."""
        for name in {"pipeline", "weight"} & params.keys():
            setattr(self, name, params.pop(name))
        self.pipeline.set_params(**params)
        return self

    def fit(self, X: Sequence[str], y: Sequence[int]) -> Self:  # noqa: N803 - the names of scikit-learn
        """Fit a clone of the pipeline."""
        comments, labels, weights = with_copies(X, y, self.weight)
        self.pipeline_ = clone(self.pipeline)
        features, transformed = fitted_features(self.pipeline_["features"], comments, labels)
        fit_weighted(self.pipeline_["classifier"], transformed, labels, weights)
        self.pipeline_.steps[0] = ("features", features)
        self.classes_ = self.pipeline_.classes_
        return self

    def predict(self, X: Sequence[str]) -> NDArray[Any]:  # noqa: N803
        """Return the class of each comment."""
        classes: NDArray[Any] = self.pipeline_.predict(X)
        return classes

    def predict_proba(self, X: Sequence[str]) -> NDArray[np.float64]:  # noqa: N803
        """Return the probabilities of the classes for each comment."""
        probabilities: NDArray[np.float64] = self.pipeline_.predict_proba(X)
        return probabilities


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


def fit_weighted(classifier: Any, features: Any, labels: NDArray[Any], weights: NDArray[np.float64]) -> None:
    """Fit a classifier, with sample weights if it supports them."""
    name = weight_parameter(classifier)
    classifier.fit(features, labels, **({name: weights} if name else {}))


def weight_parameter(step: Any) -> str:
    """Return the name of the parameter of `fit` for sample weights; blank if the classifier has none."""
    if isinstance(step, Pipeline):
        name, last = step.steps[-1]
        inner = weight_parameter(last)
        return inner and f"{name}__{inner}"
    if isinstance(step, GridSearchCV | RandomizedSearchCV):
        return weight_parameter(step.estimator)
    return "sample_weight" if has_fit_parameter(step, "sample_weight") else ""


_fitted: OrderedDict[str, tuple[Any, Any]] = OrderedDict()  # used only in a joblib worker, which lives for one search


def fitted_features(features: Any, comments: list[str], labels: NDArray[Any]) -> tuple[Any, Any]:
    """Return the features fitted to comments, and the comments transformed by them.

    A search fits the same features for each candidate classifier, so its workers cache the result.
    """
    key = _key(features, comments, labels) if current_process().name.startswith("Loky") else None
    if key is None:
        return features, features.fit_transform(comments, labels)
    if key not in _fitted:
        while len(_fitted) >= MOST_FITTED:
            _fitted.popitem(last=False)
        _fitted[key] = features, features.fit_transform(comments, labels)
    return _fitted[key]


def _key(*parts: Any) -> str | None:
    try:
        return str(joblib.hash(parts))
    except (pickle.PicklingError, AttributeError, TypeError):  # a class that is defined in the notebook
        return None


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
