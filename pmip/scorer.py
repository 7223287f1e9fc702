"""A loaded artifact, ready to answer: by look-ups where these give the same, else by the estimator itself."""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pmip.artifact import GOLDEN_COMMENTS, Artifact, Metadata, spam_probabilities, unpack
from pmip.errors import NotExplainableError
from pmip.export import NotCompilable, export
from pmip.lookup import Lookup

SPAM_THRESHOLD = 0.5
COMPILED_TOLERANCE = 1e-9

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Scorer:
    """One version of the model, never changed after it was loaded."""

    metadata: Metadata
    verified: bool
    loaded_at: str
    answers: "Compiled | Estimator"

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


def load(artifact: Artifact, model_id: str, environment: str, trusted: Iterable[str] = ()) -> Scorer:
    """Check an artifact and make it ready under a model id; raises `ArtifactError` saying why it must not be served."""
    lineage = artifact.metadata or Metadata(model_id, sha256=artifact.sha256)
    return Scorer(
        metadata=lineage.known_as(model_id, environment),
        verified=artifact.metadata is not None,
        loaded_at=datetime.now(UTC).isoformat(timespec="seconds"),
        answers=_compiled(unpack(artifact, trusted)),
    )


def _compiled(model: Any) -> Compiled | Estimator:
    """Compile a model, and believe the result only if it answers the golden comments as the model does."""
    try:
        compiled = Compiled(Lookup.from_plain(export(model)))
    except NotCompilable as reason:
        return Estimator(model, str(reason))
    pairs = zip(compiled.spam(GOLDEN_COMMENTS), spam_probabilities(model, GOLDEN_COMMENTS), strict=True)
    if all(abs(ours - theirs) <= COMPILED_TOLERANCE for ours, theirs in pairs):
        return compiled
    log.error("look-ups and the model disagree on the golden comments; the model itself answers")
    return Estimator(model, "its look-ups and its pipeline disagree")


def _class(spam_probability: float) -> int:
    return int(spam_probability > SPAM_THRESHOLD)


def _both(spam_probability: float) -> list[float]:
    return [1.0 - spam_probability, spam_probability]
