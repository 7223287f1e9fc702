"""A loaded artifact, ready to answer."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pmip.artifact import Artifact, Metadata, spam_probabilities, unpack

SPAM_THRESHOLD = 0.5


@dataclass(frozen=True)
class Scorer:
    """One version of the model, never changed after it was loaded."""

    metadata: Metadata
    verified: bool
    kind: str
    loaded_at: str
    _model: Any

    @property
    def model_id(self) -> str:
        """Name the version that gives the answers."""
        return self.metadata.model_id

    def classes(self, comments: Sequence[str]) -> list[int]:
        """Return 1 (spam) or 0 (not spam) for each comment."""
        return [int(probability > SPAM_THRESHOLD) for probability in self._spam(comments)]

    def probabilities(self, comments: Sequence[str]) -> list[list[float]]:
        """Return the probabilities of the classes 0 and 1 for each comment."""
        return [[1.0 - probability, probability] for probability in self._spam(comments)]

    def _spam(self, comments: Sequence[str]) -> list[float]:
        return spam_probabilities(self._model, comments) if comments else []


def load(artifact: Artifact, model_id: str, environment: str, trusted: Iterable[str] = ()) -> Scorer:
    """Check an artifact and make it ready under a model id; raises `ArtifactError` saying why it must not be served."""
    lineage = artifact.metadata or Metadata(model_id, sha256=artifact.sha256)
    return Scorer(
        metadata=lineage.known_as(model_id, environment),
        verified=artifact.metadata is not None,
        kind="estimator",
        loaded_at=datetime.now(UTC).isoformat(timespec="seconds"),
        _model=unpack(artifact, trusted),
    )
