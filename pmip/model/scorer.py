"""A version of the model, ready to answer: by look-ups, or by the estimator itself if the model cannot be read."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, Self

from pmip.errors import ArtifactError, NotExplainableError
from pmip.model.artifact import Metadata, spam_probabilities
from pmip.model.lookups import Lookup

SPAM_THRESHOLD = 0.5
FEW, LONG = 8, 1000  # give way after so many comments, or one of more characters: a few milliseconds


@dataclass(frozen=True)
class Scorer:
    """One loaded version of the model; it never changes.

    `backend` gives the answers: the look-ups or, for the `reason`, the fitted model.
    """

    metadata: Metadata
    verified: bool
    loaded_at: str
    backend: Any
    reason: str = ""

    @classmethod
    def from_plain(cls, plain: dict[str, Any], unpickle: Callable[[], Any]) -> Self:
        """Return the scorer for the result of a verification; call `unpickle` only if there are no look-ups."""
        try:
            metadata, verified, reason = Metadata(**plain["metadata"]), bool(plain["verified"]), plain["reason"]
            lookup = plain["lookup"] and Lookup.from_plain(plain["lookup"])
        except (KeyError, TypeError) as error:
            raise ArtifactError(f"the verified model cannot be read ({type(error).__name__})") from error
        return cls(metadata, verified, datetime.now(UTC).isoformat(timespec="seconds"), lookup or unpickle(), reason)

    @property
    def model_id(self) -> str:
        """The version that gives the answers."""
        return self.metadata.model_id

    @cached_property
    def description(self) -> dict[str, Any]:
        """What `/model-info` answers about this version, made once; `scorer` is `lookups` or `estimator`."""
        lineage = {name: value for name, value in vars(self.metadata).items() if name not in ("golden", "held_out")}
        how = "lookups" if isinstance(self.backend, Lookup) else "estimator"
        return lineage | {"verified": self.verified, "scorer": how, "loaded_at": self.loaded_at}

    def spam(self, comments: Sequence[str]) -> list[float]:
        """Return the probability of spam for each comment."""
        if isinstance(self.backend, Lookup):
            return list(map(self.backend.spam_probability, _giving_way(comments)))
        return spam_probabilities(self.backend, comments) if comments else []

    def classes(self, comments: Sequence[str]) -> list[int]:
        """Return 1 (spam) or 0 (not spam) for each comment."""
        return [class_of(probability) for probability in self.spam(comments)]

    def probabilities(self, comments: Sequence[str]) -> list[list[float]]:
        """Return the probabilities of the classes 0 and 1 for each comment."""
        return [probabilities_of(probability) for probability in self.spam(comments)]

    def explanations(self, comments: Sequence[str], top: int | None = None) -> list[dict[str, Any]]:
        """Return what `explain` yields."""
        return list(self.explain(comments, top))

    def explain(self, comments: Sequence[str], top: int | None = None) -> Iterator[dict[str, Any]]:
        """Yield for each comment its class, probabilities and the contributions of its features to the log-odds.

        The `top` largest contributions are listed, and `remainder` is the sum of the others. Raise
        `NotExplainableError` with the reason if the model is not linear in its features.
        """
        if not isinstance(self.backend, Lookup):
            raise NotExplainableError(f"this model's answers cannot be explained: {self.reason}")
        for comment in _giving_way(comments):
            yield self._explanation(self.backend, comment, top)

    @staticmethod
    def _explanation(lookup: Lookup, comment: str, top: int | None) -> dict[str, Any]:
        probability = lookup.spam_probability(comment)
        intercept, contributions = lookup.explain(comment)
        top = len(contributions) if top is None else top
        return {
            "class": class_of(probability),
            "probability": probabilities_of(probability),
            "intercept": intercept,
            "contributions": [{"feature": name, "contribution": value} for name, value in contributions[:top]],
            "remainder": sum(value for _, value in contributions[top:]),
        }


def _giving_way(comments: Iterable[str]) -> Iterator[str]:
    """Yield the comments; after every few of them, let the other requests of a worker run.

    gevent, which the API's workers use, has patched `time.sleep` to do this; elsewhere it does nothing.
    """
    for number, comment in enumerate(comments, 1):
        yield comment
        if number % FEW == 0 or len(comment) > LONG:
            time.sleep(0)


def class_of(spam_probability: float) -> int:
    """Return 1 (spam) or 0 (not spam)."""
    return int(spam_probability > SPAM_THRESHOLD)


def probabilities_of(spam_probability: float) -> list[float]:
    """Return the probabilities of the classes 0 and 1."""
    return [1.0 - spam_probability, spam_probability]
