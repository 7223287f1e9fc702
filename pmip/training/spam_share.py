"""The share of spam that callers send: moves the probabilities of a classifier to it, and weights comments by it.

A classifier that gives log-odds is shifted after its fit, by the difference of the log-odds of the two shares of spam,
which leaves the order of the comments unchanged. Others are fitted with class weights.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression, LogisticRegressionCV, SGDClassifier
from sklearn.model_selection import GridSearchCV, RandomizedSearchCV
from sklearn.pipeline import Pipeline
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.validation import has_fit_parameter

Weights = NDArray[np.float64]


def weight_parameter(step: Any) -> str:
    """Return the name of the parameter of `fit` for sample weights; blank if the classifier has none."""
    if isinstance(step, Pipeline):
        name, last = step.steps[-1]
        inner = weight_parameter(last)
        return inner and f"{name}__{inner}"
    if isinstance(step, GridSearchCV | RandomizedSearchCV):
        return weight_parameter(step.estimator)
    return "sample_weight" if has_fit_parameter(step, "sample_weight") else ""


def is_supported(classifier: Any) -> bool:
    """Return whether the probabilities of a classifier can be moved to a share of spam."""
    return _gives_log_odds(classifier) or bool(weight_parameter(classifier))


def fit_parameters(classifier: Any, labels: NDArray[Any], weights: Weights, share: float | None) -> dict[str, Weights]:
    """Return the parameters of a classifier's `fit`: its sample weights, if it supports them."""
    name = weight_parameter(classifier)
    if share is not None and not _gives_log_odds(classifier):
        factor = math.exp(_log_odds(share) - _log_odds(_share(classifier, labels, weights)))
        wanted = weights * np.where(labels == 1, factor, 1.0)
        weights = wanted * weights.sum() / wanted.sum()
    return {name: weights} if name else {}


def shift(classifier: Any, labels: NDArray[Any], weights: Weights, share: float | None) -> None:
    """Move the intercept of a fitted classifier from the share of spam in its training set to another share."""
    if share is not None and _gives_log_odds(classifier):
        difference = _log_odds(share) - _log_odds(_share(classifier, labels, weights))
        classifier.intercept_ = classifier.intercept_ + difference


def shifted(probability: Any, share: float, other: float) -> Any:
    """Return an array or a table of probabilities at another share of spam, for comments of the same kinds."""
    factor = math.exp(_log_odds(other) - _log_odds(share))
    return factor * probability / (1 - probability + factor * probability)


def comment_weights(y: NDArray[Any], share: float | None) -> Weights:
    """Return weights with which the comments have a share of spam; all are 1 without a share or both classes."""
    is_spam = np.asarray(y) == 1
    if share is None or is_spam.all() or not is_spam.any():
        return np.ones(len(is_spam))
    weights: Weights = np.where(is_spam, share / is_spam.mean(), (1 - share) / (1 - is_spam.mean()))
    return weights


def _gives_log_odds(classifier: Any) -> bool:
    logistic = isinstance(classifier, LogisticRegression | LogisticRegressionCV | SGDClassifier)
    return logistic and getattr(classifier, "loss", "log_loss") == "log_loss"


def _share(classifier: Any, labels: NDArray[Any], weights: Weights) -> float:
    """Return the share of spam in a weighted training set, with the classifier's own class weights."""
    weights = weights * compute_sample_weight(getattr(classifier, "class_weight", None), labels)
    return float(weights[labels == 1].sum() / weights.sum())


def _log_odds(share: float) -> float:
    return math.log(share / (1 - share))
