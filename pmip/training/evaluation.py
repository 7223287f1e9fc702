"""The evaluation of a model: near-duplicates, splits, metrics and the gate."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
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
from sklearn.model_selection import GridSearchCV, GroupKFold, StratifiedGroupKFold
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from pmip.errors import GateError, TrainingDataError
from pmip.model.artifact import Artifact
from pmip.model.scorer import SPAM_THRESHOLD

Hashes = NDArray[np.uint64]
Rows = NDArray[np.intp]
Folds = list[tuple[Rows, Rows]]

ALIKE = 0.7  # Jaccard similarity of the words of two near-duplicates
BANDS, ROWS = 8, 3  # of MinHash: it misses 3 of 100 pairs of similarity 0.7
SPACE = 2.0**64
_WORD = re.compile(r"[^\W\d_]+")
_NO_LABEL = str.maketrans("", "", "\ufeff")  # in one public data set, the byte order mark reveals the label


def groups(comments: Iterable[str]) -> Hashes:
    """Return for each comment its group of near-duplicates, as a hash of their texts."""
    words = [_words(comment) for comment in comments]
    prints = np.array([_fingerprint(found) for found in words], dtype=np.uint64)
    pairs = np.array([*_same(prints), *_alike(words)], dtype=np.int64).reshape(-1, 2)
    links = coo_matrix((np.ones(len(pairs)), pairs.T), shape=(len(words), len(words)))
    _, members = connected_components(links, directed=False)
    smallest = np.full(len(words), np.iinfo(np.uint64).max, dtype=np.uint64)
    np.minimum.at(smallest, members, prints)
    return _mixed(smallest[members], 1)  # hashed again, because the minimum of a large group is small


def held_out(groups: Hashes, share: float) -> NDArray[np.bool_]:
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
    hashes = np.array([numbers[word] for found in words for word in found], dtype=np.uint64)
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


MOST_SOURCE_FOLDS = 10
REPEATED = 0.5  # a file repeats another one if that holds at least this share of its distinct texts

# scikit-learn's own scorer fails if a test set has only one class.
LOG_LOSS = metrics.make_scorer(
    metrics.log_loss, greater_is_better=False, response_method="predict_proba", labels=[0, 1]
)


def repeated_files(files: Iterable[str], groups: Hashes) -> list[str]:
    """Return a sentence for each file most of whose texts are also in another file."""
    held = {str(name): set(found) for name, found in pd.Series(groups).groupby(np.asarray(files))}
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


def require_both_classes(held_out: Iterable[int]) -> None:
    """Raise `TrainingDataError` if the held-out comments lack a class, because then nothing can be measured."""
    found = set(held_out)
    if len(found) < 2:
        raise TrainingDataError(
            f"the held-out comments are {f'all of CLASS {found.pop()}' if found else 'none'}; "
            "add comments or set a larger HELD_OUT_SHARE, because the evaluation needs both classes"
        )


def baseline(seed: int) -> Pipeline:
    """Return a textbook pipeline: TF-IDF of one to three words, SVD to 100 components, logistic regression."""
    directions = TruncatedSVD(100, random_state=seed)
    return make_pipeline(TfidfVectorizer(ngram_range=(1, 3)), directions, StandardScaler(), LogisticRegression())


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


BLOCKED_HAM = 0.01  # at most this share of good comments may be blocked where `spam_caught` is measured
CALIBRATION_BINS = 10


def scores(y: NDArray[Any], probability: NDArray[np.float64]) -> dict[str, float]:
    """Return each metric by its name, at the API's threshold; most of them are NaN if there is only one class."""
    decision = (probability > SPAM_THRESHOLD).astype(int)
    always = {
        "accuracy": metrics.accuracy_score(y, decision),
        "log_loss": metrics.log_loss(y, probability, labels=[0, 1]),
        "calibration_error": calibration_error(y, probability),
    }
    if len(np.unique(y)) < 2:
        return always | dict.fromkeys(("f1", "mcc", "roc_auc", "average_precision", "spam_caught"), np.nan)
    of_two_classes = {
        "f1": metrics.f1_score(y, decision, zero_division=0.0),
        "mcc": metrics.matthews_corrcoef(y, decision),
        "roc_auc": metrics.roc_auc_score(y, probability),
        "average_precision": metrics.average_precision_score(y, probability),
        "spam_caught": spam_caught(y, probability),
    }
    return {name: float(value) for name, value in (always | of_two_classes).items()}


def spam_caught(y: NDArray[Any], probability: NDArray[np.float64]) -> float:
    """Return the largest share of spam that a threshold catches while it blocks at most 1 % of the good comments."""
    blocked, caught, _ = metrics.roc_curve(y, probability)
    return float(caught[blocked <= BLOCKED_HAM].max())


def calibration(y: NDArray[Any], probability: NDArray[np.float64]) -> pd.DataFrame:
    """Return for each of ten bins of equal width that is not empty: mean `probability`, `spam` and `comments`."""
    bins = np.minimum((probability * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
    table = pd.DataFrame({"probability": probability, "spam": y, "comments": 1}).groupby(bins)
    return table.agg({"probability": "mean", "spam": "sum", "comments": "sum"})


def calibration_error(y: NDArray[Any], probability: NDArray[np.float64]) -> float:
    """Return the mean difference of probability and share of spam over ten bins of equal width (ECE)."""
    bins = calibration(y, probability)
    return float((bins["spam"] - bins["comments"] * bins["probability"]).abs().sum() / len(y))


def summarise(y: NDArray[Any], probability: NDArray[np.float64], parts: Iterable[Rows]) -> dict[str, Any]:
    """Return the metrics over all rows, and as `spread` the standard deviation of each over parts of the rows."""
    over_parts = [scores(y[part], probability[part]) for part in parts]
    figures = scores(y, probability)
    spread = {name: _deviation([part[name] for part in over_parts]) for name in figures}
    rounded = {name: _rounded(value) for name, value in figures.items()}
    return {"comments": len(y), **rounded, "spread": {name: _rounded(value) for name, value in spread.items()}}


def resamples(groups: NDArray[Any], rounds: int, seed: int) -> Iterable[Rows]:
    """Yield bootstrap samples of the rows, drawn by whole groups of near-duplicates."""
    _, places = np.unique(groups, return_inverse=True)
    rows_of = np.split(np.argsort(places, kind="stable"), np.cumsum(np.bincount(places))[:-1])
    generator = np.random.default_rng(seed)
    for _ in range(rounds):
        yield np.concatenate([rows_of[group] for group in generator.integers(len(rows_of), size=len(rows_of))])


def _deviation(values: list[float]) -> float:
    known = [value for value in values if not np.isnan(value)]
    return float(np.std(known)) if len(known) > 1 else np.nan


def _rounded(value: float) -> float | None:
    return None if np.isnan(value) else round(float(value), 6)


MOST_REMEMBERED = 5_000


@dataclass(frozen=True)
class Check:
    """One metric and its limit; a `value` of None could not be measured, and does not fail the gate."""

    figure: str
    value: float | None
    limit: float
    parameter: str
    at_least: bool = True

    @property
    def passed(self) -> bool:
        """Whether the metric is within its limit."""
        return self.value is None or (self.value >= self.limit if self.at_least else self.value <= self.limit)

    @property
    def outcome(self) -> str:
        """The outcome of the check in words."""
        return "not measured" if self.value is None else "passed" if self.passed else "FAILED"

    def __str__(self) -> str:
        bound = "at least" if self.at_least else "at most"
        shown = "not measured" if self.value is None else f"{self.value:.4f}"
        return f"{self.figure} is {shown}, {bound} {self.limit:g} is required ({self.parameter})"


@dataclass(frozen=True)
class Passed:
    """The gate's result for one model, which publishing requires; only `gate` creates it."""

    sha256: str


def gate(checks: Iterable[Check], artifact: Artifact) -> Passed:
    """Return the result that publishing requires; raise `GateError` with each metric that misses its limit."""
    checks = list(checks)
    failed = [str(check) for check in checks if not check.passed]
    if failed:
        raise GateError("the model does not pass the gate and is not published: " + "; ".join(failed))
    if all(check.value is None for check in checks):
        raise GateError("the model is not published: none of the gate's metrics was measured")
    return Passed(artifact.sha256)


def hash_of(comment: str) -> str:
    """Return the key of a comment's held-out probability in the metadata; it does not reveal the text."""
    return blake2b(comment.encode(errors="replace"), digest_size=8).hexdigest()


def remember(comments: Iterable[str], probability: Iterable[float]) -> dict[str, float]:
    """Return held-out probabilities by hash for a model's metadata; at most those of the 5,000 smallest hashes."""
    known = {hash_of(comment): round(float(value), 6) for comment, value in zip(comments, probability, strict=True)}
    return dict(sorted(known.items())[:MOST_REMEMBERED])


def recall(comments: Sequence[str], held_out: Mapping[str, Any]) -> NDArray[np.float64]:
    """Return for each comment its held-out probability by an earlier model, or NaN if the metadata has none."""
    return np.array([held_out.get(hash_of(comment), np.nan) for comment in comments], dtype=float)


def flipped(one: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return on which rows two models answer with different classes."""
    differs: NDArray[np.bool_] = (one > SPAM_THRESHOLD) != (other > SPAM_THRESHOLD)
    return differs
