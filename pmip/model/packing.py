"""Pickles a fitted pipeline into an artifact, and unpickles it again if nothing speaks against it."""

import logging
from collections.abc import Iterable
from dataclasses import replace
from hashlib import sha256
from importlib.metadata import version
from typing import Any

from pmip.errors import ArtifactError
from pmip.model import unpickling
from pmip.model.artifact import GOLDEN_COMMENTS, Artifact, Metadata, library_versions, spam_probabilities

GOLDEN_TOLERANCE = 1e-6

log = logging.getLogger(__name__)


def pack(model: Any, lineage: Metadata) -> Artifact:
    """Pickle a fitted pipeline and complete its lineage by hash, library versions and golden answers."""
    content = unpickling.dumps(model)
    golden = [
        {"comment": comment, "probability": probability}
        for comment, probability in zip(GOLDEN_COMMENTS, spam_probabilities(model, GOLDEN_COMMENTS), strict=True)
    ]
    digest = sha256(content).hexdigest()
    return Artifact(content, replace(lineage, sha256=digest, libraries=library_versions(), golden=golden))


def unpack(artifact: Artifact, trusted: Iterable[str] = ()) -> Any:
    """Return the fitted pipeline after every check; raises `ArtifactError` saying why it must not be served."""
    if artifact.metadata:
        _require_same_bytes(artifact, artifact.metadata)
        _require_same_library(artifact.metadata)
    model = unpickling.loads(artifact.model, trusted)
    _require_spam_classifier(model)
    _replay(model, artifact.metadata.golden if artifact.metadata else [])
    return model


def _require_same_bytes(artifact: Artifact, metadata: Metadata) -> None:
    if artifact.sha256 != metadata.sha256:
        raise ArtifactError(
            f"the sha-256 of model.pkl is {artifact.sha256}, metadata.json says {metadata.sha256}: the file is damaged "
            "or belongs to another run"
        )


def _require_same_library(metadata: Metadata) -> None:
    """scikit-learn promises nothing across releases: https://scikit-learn.org/stable/model_persistence.html."""
    trained, here = str(metadata.libraries.get("scikit-learn", "")), version("scikit-learn")
    if trained.split(".")[:2] != here.split(".")[:2]:
        trained = trained or "of unknown version"
        raise ArtifactError(f"trained with scikit-learn {trained}, served with {here}; retrain the model")
    if trained != here:
        log.warning("model %s: trained with scikit-learn %s, served with %s", metadata.model_id, trained, here)


def _require_spam_classifier(model: Any) -> None:
    if not hasattr(model, "predict_proba"):
        raise ArtifactError(f"the model is a {type(model).__name__}, which has no predict_proba")
    try:
        classes = [int(label) for label in model.classes_]
        probable = all(0 <= p <= 1 for p in spam_probabilities(model, GOLDEN_COMMENTS))
    except Exception as error:
        raise ArtifactError(f"the model cannot score comments ({type(error).__name__}: {error})") from error
    if classes != [0, 1]:
        raise ArtifactError(f"the model's classes are {classes}, not [0, 1]")
    if not probable:
        raise ArtifactError("the model's probabilities are not all between 0 and 1")


def _replay(model: Any, golden: list[dict[str, Any]]) -> None:
    if not golden:
        return
    try:
        answers = spam_probabilities(model, [item["comment"] for item in golden])
        gaps = [abs(answer - item["probability"]) for answer, item in zip(answers, golden, strict=True)]
    except Exception as error:
        raise ArtifactError(f"the golden comments cannot be scored ({type(error).__name__}: {error})") from error
    if not all(gap <= GOLDEN_TOLERANCE for gap in gaps):
        raise ArtifactError(
            f"golden comment {gaps.index(max(gaps))} scores {max(gaps):.2g} away from its answer at training; "
            "the libraries or pmip.text differ from those that trained the model"
        )
