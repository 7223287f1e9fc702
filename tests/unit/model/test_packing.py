"""What a run publishes comes back as it was, and what must not be served is refused with the reason."""

import logging
import pickle
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import sklearn
from sklearn.base import BaseEstimator
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.svm import LinearSVC

from pmip.errors import ArtifactError
from pmip.model import unpickling
from pmip.model.artifact import GOLDEN_COMMENTS, Artifact, Metadata, library_versions, spam_probabilities
from pmip.model.packing import pack, unpack

SPAM = ["Check it out this free stuff", "I take issue with your characterization"]
FEATURE_RELEASE = ".".join(sklearn.__version__.split(".")[:2])


def with_metadata(artifact: Artifact, **changes: Any) -> Artifact:
    """Return the artifact with other metadata."""
    assert artifact.metadata
    return replace(artifact, metadata=replace(artifact.metadata, **changes))


def with_first_golden_off_by(artifact: Artifact, gap: float) -> Artifact:
    """Return the artifact as if the model had once scored the first golden comment differently."""
    assert artifact.metadata
    first, *others = artifact.metadata.golden
    return with_metadata(artifact, golden=[first | {"probability": first["probability"] + gap}, *others])


def fitted(classifier: BaseEstimator, labels: list[Any]) -> Pipeline:
    """Fit a classifier on the words of two comments."""
    return make_pipeline(TfidfVectorizer(), classifier).fit(SPAM, labels)


def without_numbers() -> Pipeline:
    """Return a classifier all of whose answers are NaN."""
    model = fitted(LogisticRegression(), [1, 0])
    model[-1].coef_ = np.full_like(model[-1].coef_, np.nan)
    return model


def test_a_packed_model_unpacks_to_the_same_answers(model: Pipeline, artifact: Artifact) -> None:
    """Pack and unpack lose nothing."""
    assert spam_probabilities(unpack(artifact), SPAM) == spam_probabilities(model, SPAM)


def test_packing_completes_the_lineage(model: Pipeline) -> None:
    """Hash, library versions and golden answers come with the model; the rest stays as the run wrote it."""
    lineage = Metadata("20260101T000000Z", "prod", training_data_id="20260101", metrics={"mcc": 0.9})
    artifact = pack(model, lineage)
    assert artifact.metadata
    assert artifact.metadata.sha256 == artifact.sha256
    assert artifact.metadata.libraries == library_versions()
    assert [item["comment"] for item in artifact.metadata.golden] == [*GOLDEN_COMMENTS]
    assert replace(artifact.metadata, sha256=None, libraries={}, golden=[]) == lineage


def test_other_bytes_are_refused_with_both_hashes(artifact: Artifact) -> None:
    """A damaged model.pkl, or one of another run, is told apart before it is unpickled."""
    damaged = replace(artifact, model=artifact.model + b"!")
    with pytest.raises(ArtifactError, match=f"is {damaged.sha256}, metadata.json says {artifact.sha256}"):
        unpack(damaged)


@pytest.mark.parametrize("trained", ["0.24.2", f"{FEATURE_RELEASE}9.0", "2", 1.9 if FEATURE_RELEASE != "1.9" else 1.8])
def test_another_feature_release_is_refused_with_both_versions(artifact: Artifact, trained: Any) -> None:
    """scikit-learn promises nothing across releases, so the model has to be trained again."""
    with pytest.raises(ArtifactError, match=f"scikit-learn {trained}, served with {sklearn.__version__}; retrain"):
        unpack(with_metadata(artifact, libraries={"scikit-learn": trained}))


def test_an_unknown_release_is_refused(artifact: Artifact) -> None:
    """Metadata that do not tell the release vouch for nothing."""
    with pytest.raises(ArtifactError, match="of unknown version"):
        unpack(with_metadata(artifact, libraries={}))


def test_another_patch_release_is_only_logged(artifact: Artifact, caplog: pytest.LogCaptureFixture) -> None:
    """The model serves, and the log tells of both versions."""
    libraries = {"scikit-learn": f"{FEATURE_RELEASE}.99"}
    with caplog.at_level(logging.WARNING):
        unpack(with_metadata(artifact, libraries=libraries))
    assert f"trained with scikit-learn {FEATURE_RELEASE}.99, served with {sklearn.__version__}" in caplog.text


@pytest.mark.parametrize("gap", [1e-5, -1e-5, 0.5, float("nan")])
def test_other_golden_answers_are_refused(artifact: Artifact, gap: float) -> None:
    """A model that answers differently than at training is not the model that was evaluated."""
    with pytest.raises(ArtifactError, match="golden comment 0 scores"):
        unpack(with_first_golden_off_by(artifact, gap))


@pytest.mark.parametrize("gap", [1e-7, -1e-7])
def test_the_last_digits_of_golden_answers_may_differ(artifact: Artifact, gap: float) -> None:
    """Another processor adds up in another order."""
    unpack(with_first_golden_off_by(artifact, gap))


@pytest.mark.parametrize("golden", [["text"], [{}], [{"comment": 1, "probability": 0.5}], [{"comment": "a"}], [None]])
def test_golden_answers_that_cannot_be_replayed_are_refused(artifact: Artifact, golden: list[Any]) -> None:
    """Whatever stands in their place, it is an error of the artifact."""
    with pytest.raises(ArtifactError, match="golden comments cannot be scored"):
        unpack(with_metadata(artifact, golden=golden))


@pytest.mark.parametrize("write", [unpickling.dumps, pickle.dumps])
def test_a_model_that_was_uploaded_by_hand_unpacks(model: Pipeline, write: Any) -> None:
    """Without metadata there is nothing to compare with, and the pickle alone has to do."""
    assert spam_probabilities(unpack(Artifact(write(model), None)), SPAM) == spam_probabilities(model, SPAM)


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (["no", "model"], "is a list, which has no predict_proba"),
        (fitted(LinearSVC(), [1, 0]), "is a Pipeline, which has no predict_proba"),
        (LogisticRegression(), "cannot score comments"),
        (LogisticRegression().fit([[0], [1]], [0, 1]), "cannot score comments"),
        (fitted(LogisticRegression(), [2, 1]), r"classes are \[1, 2\], not \[0, 1\]"),
        (fitted(LogisticRegression(), [-1, 1]), r"classes are \[-1, 1\], not \[0, 1\]"),
        (fitted(LogisticRegression(), ["spam", "ham"]), "cannot score comments"),
        (without_numbers(), "not all between 0 and 1"),
    ],
)
def test_what_is_no_spam_classifier_is_refused(model: Any, reason: str) -> None:
    """It must score texts, with classes 0 and 1 and probabilities that are ones."""
    with pytest.raises(ArtifactError, match=reason):
        unpack(Artifact(unpickling.dumps(model), None))
