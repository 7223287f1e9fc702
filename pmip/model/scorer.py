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
    """One version of the model, never changed after it was loaded."""

    metadata: Metadata
    verified: bool
    loaded_at: str
    answers: "Compiled | Estimator"

    @classmethod
    def from_plain(cls, plain: dict[str, Any], unpickle: Callable[[], Any]) -> Self:
        """Read what the verification wrote; call `unpickle` only if look-ups are not enough."""
        try:
            metadata, verified, reason = Metadata(**plain["metadata"]), bool(plain["verified"]), plain["reason"]
            lookup = plain["lookup"] and Lookup.from_plain(plain["lookup"])
        except (KeyError, TypeError) as error:
            raise ArtifactError(f"the verified model cannot be read ({type(error).__name__})") from error
        answers = Compiled(lookup) if lookup else Estimator(unpickle(), reason)
        return cls(metadata, verified, datetime.now(UTC).isoformat(timespec="seconds"), answers)

    @property
    def model_id(self) -> str:
        """Name the version that gives the answers."""
        return self.metadata.model_id

    @property
    def kind(self) -> str:
        """Tell whether look-ups answer (`compiled`) or the pickled model itself (`estimator`)."""
        return self.answers.kind

    def classes(self, comments: Sequence[str]) -> list[int]:
        """Return 1 (spam) or 0 (not spam) for each comment."""
        return [_class(probability) for probability in self.answers.spam(comments)]

    def probabilities(self, comments: Sequence[str]) -> list[list[float]]:
        """Return the probabilities of the classes 0 and 1 for each comment."""
        return [_both(probability) for probability in self.answers.spam(comments)]

    def explanations(self, comments: Sequence[str]) -> list[dict[str, Any]]:
        """Return class, probabilities and what each feature adds to the log-odds, largest first, for each comment.

        Raises `NotExplainableError` with the reason when the model is not linear in its features.
        """
        return [self.answers.explain(comment) for comment in comments]


@dataclass(frozen=True)
class Compiled:
    """Answers by look-ups."""

    lookup: Lookup
    kind = "compiled"

    def spam(self, comments: Sequence[str]) -> list[float]:
        """Return the probability of spam for each comment."""
        return list(map(self.lookup.spam_probability, comments))

    def explain(self, comment: str) -> dict[str, Any]:
        """Return the answer with all that led to it."""
        probability = self.lookup.spam_probability(comment)
        intercept, contributions = self.lookup.explain(comment)
        named = [{"feature": feature, "contribution": contribution} for feature, contribution in contributions]
        answer = {"class": _class(probability), "probability": _both(probability)}
        return answer | {"intercept": intercept, "contributions": named}


@dataclass(frozen=True)
class Estimator:
    """Answers by the pickled model; `reason` tells why not by look-ups."""

    model: Any
    reason: str
    kind = "estimator"

    def spam(self, comments: Sequence[str]) -> list[float]:
        """Return the probability of spam for each comment."""
        return spam_probabilities(self.model, comments) if comments else []

    def explain(self, comment: str) -> dict[str, Any]:  # noqa: ARG002
        """Refuse: what a model does that is not linear in its features cannot be told feature by feature."""
        raise NotExplainableError(f"this model's answers cannot be explained: {self.reason}")


def _class(spam_probability: float) -> int:
    return int(spam_probability > SPAM_THRESHOLD)


def _both(spam_probability: float) -> list[float]:
    return [1.0 - spam_probability, spam_probability]
