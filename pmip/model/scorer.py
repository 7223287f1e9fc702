"""A version of the model, ready to answer: by look-ups where these give the same, else by the estimator itself."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Self

from pmip.errors import ArtifactError, NotExplainableError
from pmip.model.artifact import Metadata, spam_probabilities
from pmip.model.lookups import Lookup

SPAM_THRESHOLD = 0.5


@dataclass(frozen=True)
class Scorer:
    """One version of the model, never changed after it was loaded.

    `backend` gives the answers: the look-ups, or the fitted model where there are none, and then `reason` says why.
    """

    metadata: Metadata
    verified: bool
    loaded_at: str
    backend: Any
    reason: str = ""

    @classmethod
    def from_plain(cls, plain: dict[str, Any], unpickle: Callable[[], Any]) -> Self:
        """Read what the verification wrote; call `unpickle` only if look-ups are not enough."""
        try:
            metadata, verified, reason = Metadata(**plain["metadata"]), bool(plain["verified"]), plain["reason"]
            lookup = plain["lookup"] and Lookup.from_plain(plain["lookup"])
        except (KeyError, TypeError) as error:
            raise ArtifactError(f"the verified model cannot be read ({type(error).__name__})") from error
        return cls(metadata, verified, datetime.now(UTC).isoformat(timespec="seconds"), lookup or unpickle(), reason)

    @property
    def model_id(self) -> str:
        """Name the version that gives the answers."""
        return self.metadata.model_id

    @property
    def kind(self) -> str:
        """Tell whether look-ups answer (`compiled`) or the pickled model itself (`estimator`)."""
        return "compiled" if isinstance(self.backend, Lookup) else "estimator"

    def spam(self, comments: Sequence[str]) -> list[float]:
        """Return the probability of spam for each comment."""
        if isinstance(self.backend, Lookup):
            return list(map(self.backend.spam_probability, comments))
        return spam_probabilities(self.backend, comments) if comments else []

    def classes(self, comments: Sequence[str]) -> list[int]:
        """Return 1 (spam) or 0 (not spam) for each comment."""
        return [_class(probability) for probability in self.spam(comments)]

    def probabilities(self, comments: Sequence[str]) -> list[list[float]]:
        """Return the probabilities of the classes 0 and 1 for each comment."""
        return [_both(probability) for probability in self.spam(comments)]

    def explanations(self, comments: Sequence[str], top: int | None = None) -> list[dict[str, Any]]:
        """Return for each comment its class, its probabilities, and what its features add to the log-odds of spam.

        The `top` largest contributions are listed, and `remainder` is the sum of all others. Raises
        `NotExplainableError` with the reason when the model is not linear in its features.
        """
        if not isinstance(self.backend, Lookup):
            raise NotExplainableError(f"this model's answers cannot be explained: {self.reason}")
        return [self._explanation(self.backend, comment, top) for comment in comments]

    def answers(self, kind: str, comments: Sequence[str], top: int | None) -> tuple[list[dict[str, Any]], list[float]]:
        """Return the rows of one type of answer, and the probabilities of spam behind them."""
        if kind == "explanation":
            rows = self.explanations(comments, top)
            return rows, [row["probability"][1] for row in rows]
        spam, form = self.spam(comments), _class if kind == "class" else _both
        return [{kind: form(probability)} for probability in spam], spam

    @staticmethod
    def _explanation(lookup: Lookup, comment: str, top: int | None) -> dict[str, Any]:
        probability = lookup.spam_probability(comment)
        intercept, contributions = lookup.explain(comment)
        top = len(contributions) if top is None else top
        return {
            "class": _class(probability),
            "probability": _both(probability),
            "intercept": intercept,
            "contributions": [{"feature": name, "contribution": value} for name, value in contributions[:top]],
            "remainder": sum(value for _, value in contributions[top:]),
        }


def _class(spam_probability: float) -> int:
    return int(spam_probability > SPAM_THRESHOLD)


def _both(spam_probability: float) -> list[float]:
    return [1.0 - spam_probability, spam_probability]
