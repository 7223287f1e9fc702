"""From a fitted model to a version: what is said before the search, what changed, and what publishing asks for."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from conftest import SAMPLE
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.pipeline import FeatureUnion, Pipeline
from sklearn.svm import LinearSVC

from pmip import steps, text
from pmip.errors import ArtifactError, GateError
from pmip.model.artifact import Artifact, Metadata
from pmip.store.objects import FolderStorage
from pmip.store.versions import LocalModel, ModelStore
from pmip.training import publishing
from pmip.training.augmentation import Augmented
from pmip.training.comments import read_comments
from pmip.training.data import local_files
from pmip.training.evaluation import Check, Passed, gate


def said(classifier: Any, features: Any = None) -> str:
    words = features or TfidfVectorizer(analyzer=text.token_ngrams)
    comments = read_comments(local_files(SAMPLE[:1]))
    model = Augmented(Pipeline([("features", words), ("classifier", classifier)]))
    return publishing.rehearse(model, comments["CONTENT"].to_numpy(), comments["CLASS"].to_numpy())


@pytest.mark.parametrize("classifier", [LogisticRegression(), SGDClassifier(loss="log_loss")])
def test_of_a_model_that_is_read_as_data_nothing_is_said(classifier: Any) -> None:
    """The API explains it."""
    assert said(classifier, FeatureUnion([("comment", steps.CommentFeatures())])) == said(classifier) == ""


@pytest.mark.parametrize(
    ("classifier", "features", "what"),
    [
        (LinearSVC(), None, r"LinearSVC has no predict_proba; use CalibratedClassifierCV\(LinearSVC\(\)\)"),
        (
            LogisticRegression(),
            TfidfVectorizer(analyzer=lambda comment: [comment]),
            "cannot be pickled .* pmip/steps.py",
        ),
        (HistGradientBoostingClassifier(), None, "cannot be fitted .*dense data is required"),
    ],
)
def test_what_could_never_be_served_ends_the_run(classifier: Any, features: Any, what: str) -> None:
    """Before the search, and with the way out."""
    with pytest.raises(ArtifactError, match=what):
        said(classifier, features)


def test_a_pipeline_of_other_steps_is_refused() -> None:
    """The notebook and the reader know it by the names of its two steps."""
    model = Augmented(Pipeline([("words", TfidfVectorizer()), ("classifier", LogisticRegression())]))
    with pytest.raises(ArtifactError, match="the two steps 'features' and 'classifier'"):
        publishing.rehearse(model, [], [])  # type: ignore[arg-type]


def test_too_few_features_for_a_few_comments_are_no_end() -> None:
    """With all comments there may be enough; what scikit-learn said is told."""
    sentence = said(LogisticRegression(), TfidfVectorizer(min_df=10_000))
    assert sentence.startswith("A first fit to 110 comments failed: ")


def test_nothing_is_published_without_the_gates_result(artifact: Artifact, tmp_path: Path) -> None:
    """The result has to be of this very model; then it is saved, and published where the store is a bucket's."""
    local, store = LocalModel(tmp_path / "data"), ModelStore(FolderStorage(tmp_path / "bucket"), "staging")
    for passed in (None, True, Passed("of another model")):
        with pytest.raises(GateError, match="run the gate's cell first"):
            publishing.publish(artifact, passed, local, store)  # type: ignore[arg-type]
    assert (local.versions(), store.published()) == ([], [])
    passed = gate([Check("accuracy", 1.0, 0.9, "MIN_ACCURACY")], artifact)
    published = publishing.publish(artifact, passed, local, store)
    assert published.metadata
    assert store.published() == [published.metadata.model_id]
    assert local.fetch().metadata == published.metadata
    publishing.publish(artifact, passed, local, local)
    assert store.published() == [published.metadata.model_id]


def test_the_versions_before_are_those_with_metadata(artifact: Artifact, tmp_path: Path) -> None:
    """In dev it is the local model; a missing or damaged one is none."""
    local = LocalModel(tmp_path)
    assert publishing.before(local) == []
    local.save(artifact)
    assert publishing.before(local) == [artifact.metadata]
    (tmp_path / "metadata.json").write_text("{")
    assert publishing.before(local) == []
    store = ModelStore(FolderStorage(tmp_path / "bucket"), "staging")
    store.publish(artifact)
    [found] = publishing.before(store)
    assert artifact.metadata
    assert found.model_id == artifact.metadata.model_id


EARLIER = Metadata(
    "20250101T000000Z",
    training_data_id="20250101",
    training_files=[{"name": "a.csv", "sha256": "1" * 64, "rows": 10}],
    parameters={"FOLDS": 3, "C": 5},
    metrics={"held_out": {"accuracy": 0.9, "mcc": 0.8}},
)


def test_figures_of_versions_stand_in_a_line_each() -> None:
    """A figure that a version lacks is missing."""
    table = publishing.versions([EARLIER, Metadata("20240101")])
    assert table["accuracy, held out"].tolist()[0] == 0.9
    assert table[["accuracy, a new video", "MCC, a new video"]].isna().all().all()
    assert table["comments"].tolist() == [10, pd.NA]


def test_what_changed_is_told_with_both_values() -> None:
    """Parameters, files and code; what is the same is left out."""
    files = [*EARLIER.training_files, {"name": "b.csv", "sha256": "2" * 64, "rows": 5}]
    now = replace(
        EARLIER, model_id="20260101T000000Z", training_files=files, parameters={"FOLDS": 3, "C": 10, "SEED": 1}
    )
    changed = publishing.changes(EARLIER, now)
    assert changed.index.tolist() == ["C", "b.csv", "SEED"]
    assert changed.loc["C"].tolist() == ["5", "10"]
    assert changed.loc["SEED"].tolist() == ["–", "1"]
    assert publishing.changes(EARLIER, EARLIER).empty


def test_a_pipeline_is_described_the_same_in_every_run() -> None:
    """Settings that are not the default, without the places of functions in memory."""
    words = TfidfVectorizer(analyzer=text.token_ngrams)
    pipeline = Pipeline([("features", words), ("classifier", LogisticRegression(C=2))])
    expected = "[('features', TfidfVectorizer(analyzer=token_ngrams)), ('classifier', LogisticRegression(C=2))]"
    assert publishing.described(pipeline) == f"Pipeline(steps={expected})"
