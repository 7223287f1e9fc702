"""Training side: the figures of a classifier with their spread, and the folds that they are measured on."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn import metrics
from sklearn.model_selection import GroupKFold, StratifiedGroupKFold

from pmip.errors import TrainingDataError
from pmip.scorer import SPAM_THRESHOLD

BLOCKED_HAM = 0.01  # the share of good comments that may be lost when asking how much spam is caught
CALIBRATION_BINS = 10
MOST_SOURCE_FOLDS = 10

Rows = NDArray[np.intp]
Folds = list[tuple[Rows, Rows]]


def scores(truth: NDArray[Any], probability: NDArray[np.float64]) -> dict[str, float]:
    """Return each figure by its name, at the API's threshold; where there is only one class, NaN for most of them."""
    decision = (probability > SPAM_THRESHOLD).astype(int)
    always = {
        "accuracy": metrics.accuracy_score(truth, decision),
        "log_loss": metrics.log_loss(truth, probability, labels=[0, 1]),
        "calibration_error": calibration_error(truth, probability),
    }
    if len(np.unique(truth)) < 2:
        return always | dict.fromkeys(("f1", "mcc", "roc_auc", "average_precision", "spam_caught"), np.nan)
    of_two_classes = {
        "f1": metrics.f1_score(truth, decision, zero_division=0),
        "mcc": metrics.matthews_corrcoef(truth, decision),
        "roc_auc": metrics.roc_auc_score(truth, probability),
        "average_precision": metrics.average_precision_score(truth, probability),
        "spam_caught": spam_caught(truth, probability),
    }
    return {name: float(value) for name, value in (always | of_two_classes).items()}


def spam_caught(truth: NDArray[Any], probability: NDArray[np.float64]) -> float:
    """Return the largest share of spam that some threshold catches while it blocks at most 1 % of the good comments."""
    blocked, caught, _ = metrics.roc_curve(truth, probability)
    return float(caught[blocked <= BLOCKED_HAM].max())


def calibration_error(truth: NDArray[Any], probability: NDArray[np.float64]) -> float:
    """Return how far probability and share of spam are apart, on average over ten bins of equal width (ECE)."""
    bins = np.minimum((probability * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
    gaps = np.bincount(bins, weights=truth - probability, minlength=CALIBRATION_BINS)
    return float(np.abs(gaps).sum() / len(truth))


def summarise(truth: NDArray[Any], probability: NDArray[np.float64], parts: Iterable[Rows]) -> dict[str, Any]:
    """Return the figures over all rows, and as `spread` the standard deviation of each over parts of the rows."""
    over_parts = [scores(truth[part], probability[part]) for part in parts]
    figures = scores(truth, probability)
    spread = {name: _deviation([part[name] for part in over_parts]) for name in figures}
    rounded = {name: _rounded(value) for name, value in figures.items()}
    return {"comments": len(truth), **rounded, "spread": {name: _rounded(value) for name, value in spread.items()}}


def resamples(groups: NDArray[Any], rounds: int, seed: int) -> Iterable[Rows]:
    """Yield bootstrap samples of the rows, drawn by whole groups of near-duplicates."""
    _, places = np.unique(groups, return_inverse=True)
    rows_of = np.split(np.argsort(places, kind="stable"), np.cumsum(np.bincount(places))[:-1])
    generator = np.random.default_rng(seed)
    for _ in range(rounds):
        yield np.concatenate([rows_of[group] for group in generator.integers(len(rows_of), size=len(rows_of))])


def grouped_folds(labels: NDArray[Any], groups: NDArray[Any], folds: int, seed: int) -> Folds:
    """Split into folds of like class balance, near-duplicates together; into fewer when there are not enough texts."""
    texts = [len(np.unique(groups[labels == label])) for label in (0, 1)]
    if min(texts) < 2:
        raise TrainingDataError(
            f"of CLASS 0 there are {texts[0]} different comments to learn from, of CLASS 1 {texts[1]}; "
            "both need 2 at least, and many more to be of use"
        )
    splitter = StratifiedGroupKFold(min(folds, *texts), shuffle=True, random_state=seed)
    return list(splitter.split(labels, labels, groups))


def require_both_classes(held_out: Iterable[int]) -> None:
    """Refuse a held-out part on which nothing can be measured."""
    found = set(held_out)
    if len(found) < 2:
        raise TrainingDataError(
            f"the held-out comments are {f'all of CLASS {found.pop()}' if found else 'none'}; "
            "more comments, or a larger HELD_OUT_SHARE, are needed to measure anything"
        )


def source_folds(labels: NDArray[Any], sources: Sequence[str] | NDArray[Any]) -> Folds:
    """Leave out one source after the other, or several together when there are many; none when it is the only one.

    A source without which one class would be missing cannot be left out, and is passed over.
    """
    number = min(len(np.unique(np.asarray(sources))), MOST_SOURCE_FOLDS)
    if number < 2:
        return []
    found = GroupKFold(number).split(labels, labels, np.asarray(sources))
    return [(rest, left_out) for rest, left_out in found if len(np.unique(labels[rest])) == 2]


def _deviation(values: list[float]) -> float:
    known = [value for value in values if not np.isnan(value)]
    return float(np.std(known)) if len(known) > 1 else np.nan


def _rounded(value: float) -> float | None:
    return None if np.isnan(value) else round(float(value), 6)
