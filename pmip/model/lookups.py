"""Scoring of comments by looking up their n-grams, without numpy or scikit-learn.

1. Each transformer of the pipeline is a part: the comment features, or the n-grams of one TF-IDF vectorizer.
2. Parts that prepare a comment in the same way (lower case, accents, `pmip.text.normalised`) share the result.
3. A part splits the prepared comment and looks up the number of each n-gram that the vocabulary has.
4. Lists give for each number the product of coefficient and idf, and what the n-gram adds to the comment's norm.
5. The log-odds are the intercept plus the sums of all parts; the logistic function makes them a probability.
"""

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from functools import lru_cache
from itertools import chain, filterfalse, pairwise
from operator import itemgetter, mul
from typing import Any, Self

from pmip import text
from pmip.errors import ArtifactError

# Every request uses this module: code that depends on a setting is chosen once, when the model is loaded.
# The n-grams of recent words are cached: at most about 10 MB for n-grams of two to five characters.
MAX_REMEMBERED_WORDS = 8192
LONGEST_REMEMBERED_WORD = 24

Contributions = list[tuple[str, float]]

_FUNCTIONS: dict[str, Callable[[str], Any]] = vars(text)
_WHITE_SPACES = re.compile(r"\s\s+")
_STRIP: dict[str | None, Callable[[str], str]] = {
    None: lambda comment: comment,
    "ascii": lambda comment: unicodedata.normalize("NFKD", comment).encode("ascii", "ignore").decode("ascii"),
    "unicode": lambda comment: "".join(filterfalse(unicodedata.combining, unicodedata.normalize("NFKD", comment))),
}
# For each norm: the function whose sum over the values is the mass, and the function from the mass to the norm.
_NORMS: dict[str | None, tuple[Callable[[float], float], Callable[[float], float]]] = {
    "l2": (lambda value: value * value, math.sqrt),
    "l1": (abs, float),
    None: (lambda _: 0.0, float),
}


class Lookup:
    """A linear model as data, ready to score comments."""

    def __init__(self, plain: dict[str, Any]) -> None:
        self._intercept: float = plain["intercept"]
        self._parts: dict[Callable[[str], str], list[_CommentFeatures | _NGrams]] = {}
        for part in plain["parts"]:  # parts with the same preparation share its result
            part_class = _CommentFeatures if part["analyzer"] == "comment_features" else _NGrams
            self._parts.setdefault(_preparation(part), []).append(part_class(part))

    @classmethod
    def from_plain(cls, data: dict[str, Any]) -> Self:
        """Return the lookup for the result of `pmip.model.reading.read`; raise `ArtifactError` for other data."""
        try:
            return cls(data)
        except (LookupError, TypeError, ValueError, re.error) as error:
            raise ArtifactError(f"the plain model cannot be read ({type(error).__name__}: {error})") from error

    def spam_probability(self, comment: str) -> float:
        """Return the probability of class 1."""
        odds = self.log_odds(comment)
        return 1 / (1 + math.exp(-odds)) if odds > -700 else 0.0  # exp(710) overflows

    def log_odds(self, comment: str) -> float:
        """Return the logarithm of the odds that the comment is spam."""
        odds = self._intercept
        for prepare, parts in self._parts.items():
            prepared = prepare(comment)
            for part in parts:
                odds += part.score(prepared)
        return odds

    def explain(self, comment: str) -> tuple[float, Contributions]:
        """Return the intercept and the contribution of each feature, largest first; their sum is the log-odds."""
        explained = [part.explain(prepare(comment)) for prepare, parts in self._parts.items() for part in parts]
        nonzero = filter(itemgetter(1), chain.from_iterable(explained))
        return self._intercept, sorted(nonzero, key=lambda item: -abs(item[1]))


class _CommentFeatures:
    """The contributions of the comment features to the log-odds."""

    def __init__(self, plain: dict[str, Any]) -> None:
        self._weights: list[float] = plain["weights"]
        if plain["names"] != list(text.COMMENT_FEATURES):
            raise ValueError("its features are those of another version")

    def score(self, prepared: str) -> float:
        return math.fsum(map(mul, self._weights, text.comment_features(prepared)))

    def explain(self, prepared: str) -> Contributions:
        return list(zip(text.COMMENT_FEATURES, map(mul, self._weights, text.comment_features(prepared)), strict=True))


class _NGrams:
    """The contributions of one TF-IDF vectorizer to the log-odds."""

    def __init__(self, plain: dict[str, Any]) -> None:
        mass, self._norm = _NORMS[plain["norm"]]
        self._find = _finder(plain)
        # An n-gram's number is its index in these lists; 0 means an unknown n-gram.
        self._terms: list[str] = ["", *plain["terms"]]
        self._weights: list[float] = [0.0, *plain["weights"]]
        self._masses = [0.0, *map(mass, plain["idf"])]
        self._readable = ('"{}"' if plain["analyzer"] in ("char", "char_wb") else "{}").format
        self._repeated = _repeated(mass, sublinear=plain["sublinear_tf"])

    def score(self, prepared: str) -> float:
        weights, masses, numbers = self._weights, self._masses, self._find(prepared)
        if len(set(numbers)) == len(numbers):
            return sum(map(weights.__getitem__, numbers)) / (self._norm(sum(map(masses.__getitem__, numbers))) or 1.0)
        total = mass = 0.0
        for number, count in Counter(numbers).items():
            factor, mass_factor = self._repeated(count) if count > 1 else (1.0, 1.0)
            total += factor * weights[number]
            mass += mass_factor * masses[number]
        return total / (self._norm(mass) or 1.0)

    def explain(self, prepared: str) -> Contributions:
        factors = [(number, *self._repeated(count)) for number, count in Counter(self._find(prepared)).items()]
        mass = sum(mass_factor * self._masses[number] for number, _, mass_factor in factors)
        norm, weights = self._norm(mass) or 1.0, self._weights
        return [(self._readable(self._terms[number]), factor * weights[number] / norm) for number, factor, _ in factors]


def _repeated(mass: Callable[[float], float], *, sublinear: bool) -> Callable[[int], tuple[float, float]]:
    """Return the function from the count of an n-gram in a comment to the factors of its weight and its mass."""
    frequency = (lambda count: 1 + math.log(count)) if sublinear else float
    return lru_cache(maxsize=1024)(lambda count: (frequency(count), mass(frequency(count))))


def _finder(plain: dict[str, Any]) -> Callable[[str], Collection[int]]:
    """Return the function that finds the numbers of the n-grams in a prepared comment, repeated unless binary."""
    known = {term: number for number, term in enumerate(plain["terms"], 1)}.get
    cut = _cutter(plain)

    def find(prepared: str) -> list[int]:
        return list(filter(None, map(known, cut(prepared))))

    find_all = _word_by_word(find) if plain["analyzer"] == "char_wb" else find
    return (lambda prepared: set(find_all(prepared))) if plain["binary"] else find_all


def _word_by_word(find: Callable[[str], list[int]]) -> Callable[[str], list[int]]:
    remembered = lru_cache(MAX_REMEMBERED_WORDS)(find)

    def find_all(prepared: str) -> list[int]:
        numbers: list[int] = []
        for word in prepared.split():
            numbers += remembered(word) if len(word) <= LONGEST_REMEMBERED_WORD else find(word)
        return numbers

    return find_all


def _cutter(plain: dict[str, Any]) -> Callable[[str], Iterable[str]]:
    """Return the function that splits a prepared comment (for char_wb one word of it) into n-grams."""
    if plain["analyzer"] == "callable":
        return _FUNCTIONS[plain["function"]]
    low, high = plain["ngram_range"]
    if plain["analyzer"] == "char_wb":
        return lambda word: _padded_runs(f" {word} ", low, high)
    if plain["analyzer"] == "char":
        return lambda prepared: _runs(_WHITE_SPACES.sub(" ", prepared), low, high)
    words = _tokenizer(plain)
    if (low, high) == (1, 2):
        return lambda prepared: _and_pairs(words(prepared))
    return words if high == 1 else lambda prepared: map(" ".join, _runs(words(prepared), low, high))


def _and_pairs(words: Sequence[str]) -> Iterable[str]:
    return chain(words, map(" ".join, pairwise(words)))


def _runs(units: Sequence[str], low: int, high: int) -> list[Any]:
    lengths = range(low, min(high, len(units)) + 1)
    return [units[i : i + n] for n in lengths for i in range(len(units) - n + 1)]


def _padded_runs(word: str, low: int, high: int) -> list[str]:
    shorter = _runs(word, low, min(high, len(word) - 1))
    return [*shorter, word] if high >= len(word) else shorter  # a short word is one n-gram, as in scikit-learn


def _tokenizer(plain: dict[str, Any]) -> Callable[[str], Sequence[str]]:
    words = _FUNCTIONS[plain["tokenizer"]] if plain["tokenizer"] else re.compile(plain["token_pattern"]).findall
    if plain["stop_words"] is None:
        return words
    stop_words = frozenset(plain["stop_words"])
    return lambda prepared: [word for word in words(prepared) if word not in stop_words]


def _preparation(plain: dict[str, Any]) -> Callable[[str], str]:
    """Return the function that prepares a comment before it is split into n-grams."""
    if plain["preprocessor"]:
        return _FUNCTIONS[plain["preprocessor"]]
    strip = _STRIP[plain["strip_accents"]]
    if not plain["lowercase"]:
        return strip
    return str.lower if plain["strip_accents"] is None else lambda comment: strip(comment.lower())
