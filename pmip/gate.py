"""Training side: what a candidate model must show before it is published, also against the model before it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pmip.errors import GateError
from pmip.scorer import SPAM_THRESHOLD

MOST_REMEMBERED = 5_000


@dataclass(frozen=True)
class Check:
    """One figure and its limit; a figure that is None could not be measured, which fails nothing."""

    figure: str
    value: float | None
    limit: float
    parameter: str
    at_least: bool = True

    @property
    def passed(self) -> bool:
        """Tell whether the figure keeps its limit."""
        return self.value is None or (self.value >= self.limit if self.at_least else self.value <= self.limit)

    @property
    def outcome(self) -> str:
        """Say in words how the figure stands to its limit."""
        return "not measured" if self.value is None else "passed" if self.passed else "FAILED"

    def __str__(self) -> str:
        bound = "at least" if self.at_least else "at most"
        shown = "not measured" if self.value is None else f"{self.value:.4f}"
        return f"{self.figure} is {shown}, {bound} {self.limit:g} is asked for ({self.parameter})"


def require(checks: Iterable[Check]) -> None:
    """Raise `GateError`, naming each figure that fails with its value and its limit."""
    failed = [str(check) for check in checks if not check.passed]
    if failed:
        raise GateError("the model does not pass the gate and is not published: " + "; ".join(failed))


def hash_of(comment: str) -> str:
    """Return the name under which a comment's held-out probability is kept: it tells nothing of the text."""
    return blake2b(comment.encode(errors="replace"), digest_size=8).hexdigest()


def remember(comments: Iterable[str], probability: Iterable[float]) -> dict[str, float]:
    """Return held-out probabilities by hash for a model's metadata: of many, those of the smallest hashes."""
    known = {hash_of(comment): round(float(value), 6) for comment, value in zip(comments, probability, strict=True)}
    return dict(sorted(known.items())[:MOST_REMEMBERED])


def recall(comments: Sequence[str], held_out: Mapping[str, Any]) -> NDArray[np.float64]:
    """Return for each comment what an earlier model's evaluation said, which had not seen it; NaN where it had."""
    return np.array([held_out.get(hash_of(comment), np.nan) for comment in comments], dtype=float)


def flipped(one: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Tell on which rows two models answer with different classes."""
    differs: NDArray[np.bool_] = (one > SPAM_THRESHOLD) != (other > SPAM_THRESHOLD)
    return differs
