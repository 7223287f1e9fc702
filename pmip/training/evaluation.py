"""The evaluation of a model: near-duplicates, the splits into training and test sets, and the metrics."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from hashlib import blake2b
from itertools import chain
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from sklearn import metrics
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, GroupKFold, StratifiedGroupKFold, cross_val_predict
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from pmip.disguises import BYTE_ORDER_MARK
from pmip.errors import TrainingDataError
from pmip.model.scorer import SPAM_THRESHOLD
from pmip.training.spam_share import comment_weights, shifted
from pmip.training.thresholds import BLOCKED, above_threshold

Hashes = NDArray[np.uint64]
Rows = NDArray[np.intp]
Folds = list[tuple[Rows, Rows]]

ALIKE = 0.7  # Jaccard similarity of the words of two near-duplicates
BANDS, ROWS = 8, 3  # of MinHash: it misses 3 of 100 pairs of similarity 0.7
SPACE = 2.0**64
_WORD = re.compile(r"[^\W\d_]+")
_NO_LABEL = str.maketrans("", "", BYTE_ORDER_MARK)  # in one public data set, the byte order mark reveals the label


def groups(comments: Iterable[str]) -> Hashes:
    """Return for each comment its group of near-duplicates, as a hash of their texts."""
    words = [_words(comment) for comment in comments]
    prints = np.array([_fingerprint(tokens) for tokens in words], dtype=np.uint64)
    pairs = np.array([*_same(prints), *_alike(words)], dtype=np.int64).reshape(-1, 2)
    links = coo_matrix((np.ones(len(pairs)), pairs.T), shape=(len(words), len(words)))
    _, members = connected_components(links, directed=False)
    smallest = np.full(len(words), np.iinfo(np.uint64).max, dtype=np.uint64)
    np.minimum.at(smallest, members, prints)
    return _mixed(smallest[members], 1)  # hashed again, because the minimum of a large group is small


def in_test_set(groups: Hashes, share: float) -> NDArray[np.bool_]:
    """Return which comments are held out: whole groups of near-duplicates, and the same ones in every run."""
    return groups < share * SPACE


def sample(groups: Hashes, at_most: int) -> NDArray[np.bool_]:
    """Return a selection of whole groups, made by hash, with at most so many comments in total."""
    _, places, counts = np.unique(_mixed(groups, 2), return_inverse=True, return_counts=True)
    chosen: NDArray[np.bool_] = (np.cumsum(counts) <= at_most)[places]
    return chosen


def _words(comment: str) -> list[str]:
    comment = comment.translate(_NO_LABEL).casefold()
    return sorted(set(_WORD.findall(comment))) or [comment.strip()]


def _fingerprint(words: list[str]) -> int:
    return int.from_bytes(blake2b(" ".join(words).encode(errors="replace"), digest_size=8).digest())


def _same(signatures: NDArray[Any]) -> Iterator[tuple[int, int]]:
    """Yield pairs of indices of equal signatures, which together connect all equal ones."""
    order = np.argsort(signatures, kind="stable")
    equal = signatures[order][1:] == signatures[order][:-1]
    yield from zip(order[1:][equal].tolist(), order[:-1][equal].tolist(), strict=True)


def _alike(words: Sequence[list[str]]) -> Iterator[tuple[int, int]]:
    """Yield pairs of comments that share most of their words: MinHash finds candidates, and each is checked."""
    numbers = {word: _fingerprint([word]) for word in set(chain.from_iterable(words))}
    hashes = np.array([numbers[word] for tokens in words for word in tokens], dtype=np.uint64)
    starts = np.cumsum([0, *map(len, words)])[:-1]
    for band in range(BANDS):
        signature = np.zeros(len(words), dtype=np.uint64)
        for row in range(ROWS):
            signature = _mixed(signature ^ np.minimum.reduceat(_mixed(hashes, 3 + band * ROWS + row), starts), 1)
        yield from (pair for pair in _same(signature) if _share(words[pair[0]], words[pair[1]]) >= ALIKE)


def _share(one: list[str], other: list[str]) -> float:
    common = len(set(one).intersection(other))
    return common / (len(one) + len(other) - common)


def _mixed(hashes: Hashes, salt: int) -> Hashes:
    """Hash the hashes again, differently for each salt, with the last steps of SplitMix64."""
    mixed = hashes + np.uint64(salt * 0x9E3779B97F4A7C15 % 2**64)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    return mixed ^ (mixed >> np.uint64(31))


# By the name of a protocol in the metadata.
TITLES = {
    "leave_one_source_out": "another of these videos",
    "grouped_10_fold": "the same videos",
    "held_out": "held out",
}
MOST_SOURCE_FOLDS = 10
REPEATED = 0.5  # a file repeats another one if that holds at least this share of its distinct texts


def repeated_files(files: Iterable[str], groups: Hashes) -> list[str]:
    """Return a sentence for each file most of whose texts are also in another file."""
    held = {str(name): set(members) for name, members in pd.Series(groups).groupby(np.asarray(files))}
    sentences = []
    for name, texts in held.items():
        others = {other: len(texts & held[other]) / len(texts) for other in held if other != name}
        other = max(others, key=others.__getitem__, default="")
        if other and others[other] >= REPEATED:
            sentences.append(f"{others[other]:.0%} of the distinct texts of {name} are also in {other}.")
    return sentences


def grouped_kfold(y: NDArray[Any], groups: Hashes, folds: int, seed: int) -> StratifiedGroupKFold:
    """Return a splitter that keeps near-duplicates together; it makes fewer folds if there are too few texts."""
    texts = [len(np.unique(groups[y == label])) for label in (0, 1)]
    if min(texts) < 2:
        raise TrainingDataError(
            f"the training set has {texts[0]} distinct comments of CLASS 0 and {texts[1]} of CLASS 1; "
            "each class needs at least 2, and many more for a useful model"
        )
    return StratifiedGroupKFold(min(folds, *texts), shuffle=True, random_state=seed)


def leave_one_source_out(y: NDArray[Any], sources: Iterable[str], groups: Hashes) -> Folds:
    """Return folds that leave out one source each, or several sources each if there are many.

    Near-duplicates of the comments that are left out are removed from the training rows. There are no folds if there is
    only one source, or if a training set would lack a class.
    """
    names = np.asarray(sources)
    number = min(len(np.unique(names)), MOST_SOURCE_FOLDS)
    if number < 2:
        return []
    split = GroupKFold(number).split(y, y, names)
    folds = [(rest[~np.isin(groups[rest], groups[left_out])], left_out) for rest, left_out in split]
    trainable = all(len(np.unique(groups[rest][y[rest] == label])) > 1 for rest, _ in folds for label in (0, 1))
    return folds if trainable else []


def require_both_classes(test_labels: Iterable[int]) -> None:
    """Raise `TrainingDataError` if the held-out comments lack a class, because then nothing can be measured."""
    classes = set(test_labels)
    if len(classes) < 2:
        raise TrainingDataError(
            f"the held-out comments are {f'all of CLASS {classes.pop()}' if classes else 'none'}; "
            "add comments or set a larger HELD_OUT_SHARE, because the evaluation needs both classes"
        )


def protocols(y: NDArray[Any], sources: Iterable[str], groups: Hashes, seed: int, *, short: bool) -> dict[str, Folds]:
    """Return the folds of each cross-validation, the most realistic one first; a short report has only that one."""
    new_source = leave_one_source_out(y, sources, groups)
    if new_source and short:
        return {"leave_one_source_out": new_source}
    ten_folds = {"grouped_10_fold": list(grouped_kfold(y, groups, 10, seed).split(y, y, groups))}
    return {"leave_one_source_out": new_source} | ten_folds if new_source else ten_folds


def baseline(seed: int) -> Pipeline:
    """Return a textbook pipeline: TF-IDF of one to three words, SVD to 100 components, logistic regression."""
    directions = TruncatedSVD(100, random_state=seed)
    return make_pipeline(TfidfVectorizer(ngram_range=(1, 3)), directions, StandardScaler(), LogisticRegression())


def baseline_scores(
    X: NDArray[Any],  # noqa: N803 - the name of scikit-learn
    y: NDArray[Any],
    protocols: Mapping[str, Folds],
    is_test: NDArray[np.bool_],
    seed: int,
    share: float | None,
) -> pd.DataFrame:
    """Return the baseline's probabilities, a column for each protocol; none if the comments are too few for it."""
    model, y_score = baseline(seed), pd.DataFrame(index=range(len(y)))
    with suppress(ValueError):
        for name, folds in protocols.items():
            y_score[name] = cross_val_predict(model, X, y, cv=folds, method="predict_proba")[:, 1]
        y_score.loc[is_test, "held_out"] = model.fit(X[~is_test], y[~is_test]).predict_proba(X[is_test])[:, 1]
    return y_score if share is None else shifted(y_score, float(y.mean()), share)


def log_loss(y: NDArray[Any], probability: NDArray[np.float64], share: float | None = None) -> float:
    """Return the log-loss of comments of which this share is spam, also if they are all of one class."""
    return float(metrics.log_loss(y, probability, labels=[0, 1], sample_weight=comment_weights(y, share)))


def log_loss_scorer(share: float | None) -> Callable[..., float]:
    """Return the scorer of a search; scikit-learn's own one fails if a test set has only one class.

    It is the log-loss at the share of spam in the data, so that `SPAM_SHARE` does not change which candidate is best.
    """
    scorer: Callable[..., float] = metrics.make_scorer(
        _loss_of_data, greater_is_better=False, response_method="predict_proba", share=share
    )
    return scorer


def _loss_of_data(y: NDArray[Any], probability: NDArray[np.float64], share: float | None) -> float:
    of_data = float(np.clip(np.mean(y), 0.01, 0.99))
    return log_loss(y, probability if share is None else shifted(probability, share, of_data))


def one_standard_error(results: Mapping[str, Any]) -> int:
    """Return the index of the first candidate that is not worse than the best one by more than a standard error.

    This is the standard error of the difference of both over the folds, which is small if all folds agree. So the
    values of a search space should begin with the simplest model.
    """
    mean = results["mean_test_score"]
    folds = np.array([results[name] for name in results if re.fullmatch(r"split\d+_test_score", name)])
    difference = folds[:, [np.argmax(mean)]] - folds
    error = difference.std(axis=0, ddof=1) / np.sqrt(len(folds))
    return int(np.argmax(difference.mean(axis=0) <= error))


def at_the_edge(search: GridSearchCV) -> list[str]:
    """Return a sentence for each parameter whose best value is the smallest or the largest searched value."""
    sentences = []
    for name, best in search.best_params_.items():
        values = search.cv_results_[f"param_{name}"]
        tried = {
            value for value in values if isinstance(value, int | float | np.number) and not isinstance(value, bool)
        }
        if len(tried) > 1 and best in (min(tried), max(tried)):
            end = "smallest" if best == min(tried) else "largest"
            sentences.append(f"The best {name}, {best:g}, is the {end} searched value; one beyond it may be better.")
    return sentences


CALIBRATION_BINS = 10


def scores(y: NDArray[Any], probability: NDArray[np.float64], share: float | None = None) -> dict[str, float]:
    """Return each metric by its name, at the API's threshold, for comments of which this share is spam.

    Most of them are NaN if there is only one class.
    """
    decision, weights = (probability > SPAM_THRESHOLD).astype(int), comment_weights(y, share)
    always = {
        "accuracy": metrics.accuracy_score(y, decision, sample_weight=weights),
        "log_loss": log_loss(y, probability, share),
        "calibration_error": calibration_error(y, probability, weights),
    }
    if len(np.unique(y)) < 2:
        return always | dict.fromkeys(("f1", "mcc", "roc_auc", "average_precision"), np.nan)
    of_two_classes = {
        "f1": metrics.f1_score(y, decision, zero_division=0.0, sample_weight=weights),
        "mcc": metrics.matthews_corrcoef(y, decision, sample_weight=weights),
        "roc_auc": metrics.roc_auc_score(y, probability),
        "average_precision": metrics.average_precision_score(y, probability, sample_weight=weights),
    }
    return {name: float(value) for name, value in (always | of_two_classes).items()}


def calibration_bins(probability: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return for each probability the number of its bin; the bins have equal widths."""
    bins: NDArray[np.int64] = np.minimum((probability * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
    return bins


def calibration_error(y: NDArray[Any], probability: NDArray[np.float64], weights: NDArray[np.float64]) -> float:
    """Return the mean difference of probability and share of spam over ten bins of equal width (ECE)."""
    gaps = np.bincount(calibration_bins(probability), weights=weights * (y - probability))
    return float(np.abs(gaps).sum() / weights.sum())


def evaluate(
    y: NDArray[Any],
    y_score: pd.DataFrame,
    protocols: Mapping[str, Folds],
    groups: Hashes,
    *,
    share: float | None,
    seed: int,
) -> dict[str, dict[str, Any]]:
    """Return the metrics of each column of `y_score`, whose rows without a probability do not count.

    A cross-validation has its spread over its folds. The held-out comments have it over bootstrap samples, and their
    two halves choose each other's thresholds.
    """
    metrics_of = {}
    for name, probability in y_score.items():
        rows = np.flatnonzero(probability.notna())
        if name in protocols:
            parts = spread_over = [left_out for _, left_out in protocols[name]]
        else:
            first_half = _mixed(groups[rows], 3) < SPACE / 2
            parts = [np.flatnonzero(first_half), np.flatnonzero(~first_half)]
            spread_over = list(resamples(groups[rows], 100, seed))
        metrics_of[str(name)] = summarise(y[rows], probability.to_numpy()[rows], parts, spread_over, share)
    return metrics_of


def summarise(
    y: NDArray[Any],
    probability: NDArray[np.float64],
    parts: Sequence[Rows] = (),
    spread_over: Iterable[Rows] = (),
    share: float | None = None,
) -> dict[str, Any]:
    """Return the metrics over all rows, and as `spread` the standard deviation of each over some sets of rows."""
    above = {name: above_threshold(y, probability, parts, blocked) for name, blocked in BLOCKED.items()}

    def figures(rows: Any) -> dict[str, float]:
        caught = {name: _mean(blocked[rows][y[rows] == 1]) for name, blocked in above.items()}
        return scores(y[rows], probability[rows], share) | caught

    over = [figures(rows) for rows in spread_over]
    values = figures(np.arange(len(y)))
    spread = {name: _rounded(_deviation([one[name] for one in over])) for name in values}
    return {"comments": len(y)} | {name: _rounded(value) for name, value in values.items()} | {"spread": spread}


def resamples(groups: NDArray[Any], rounds: int, seed: int) -> Iterable[Rows]:
    """Yield bootstrap samples of the rows, drawn by whole groups of near-duplicates."""
    _, places = np.unique(groups, return_inverse=True)
    rows_of = np.split(np.argsort(places, kind="stable"), np.cumsum(np.bincount(places))[:-1])
    generator = np.random.default_rng(seed)
    for _ in range(rounds):
        yield np.concatenate([rows_of[group] for group in generator.integers(len(rows_of), size=len(rows_of))])


def _mean(values: NDArray[Any]) -> float:
    return float(values.mean()) if len(values) else np.nan


def _deviation(values: list[float]) -> float:
    known = [value for value in values if not np.isnan(value)]
    return float(np.std(known)) if len(known) > 1 else np.nan


def _rounded(value: float) -> float | None:
    return None if np.isnan(value) else round(float(value), 6)
