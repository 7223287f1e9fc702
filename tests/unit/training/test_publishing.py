"""Only an artifact that passed the gate is published, and a pipeline is described in one line."""

from pathlib import Path

import pytest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline

from pmip import text
from pmip.errors import GateError
from pmip.model.artifact import Artifact
from pmip.store.objects import FolderStorage
from pmip.store.versions import LocalModel, ModelStore
from pmip.training import publishing
from pmip.training.gate import Check, decide


def test_nothing_is_published_without_the_gates_result(artifact: Artifact, tmp_path: Path) -> None:
    """Only the gate's result is published: it is saved locally, and in the bucket where the store is a bucket's."""
    local, store = LocalModel(tmp_path / "data"), ModelStore(FolderStorage(tmp_path / "bucket"), "staging")
    for passed in (None, True, artifact):
        with pytest.raises(GateError, match="run the gate's cell first"):
            publishing.publish(passed, local, store)  # type: ignore[arg-type]
    assert (local.versions(), store.published()) == ([], [])
    passed = decide([Check("accuracy", 1.0, 0.9, "MIN_ACCURACY")], artifact)
    published = publishing.publish(passed, local, store)
    assert published.metadata
    assert store.published() == [published.metadata.model_id]
    assert local.fetch().metadata == published.metadata
    publishing.publish(passed, local, local)
    assert store.published() == [published.metadata.model_id]


def test_a_pipeline_is_described_the_same_in_every_run() -> None:
    """A pipeline is described by its settings that are not defaults, and without memory addresses of functions."""
    words = TfidfVectorizer(analyzer=text.token_ngrams)
    pipeline = Pipeline([("features", words), ("classifier", LogisticRegression(C=2))])
    expected = "[('features', TfidfVectorizer(analyzer=token_ngrams)), ('classifier', LogisticRegression(C=2))]"
    assert publishing.one_line(pipeline) == f"Pipeline(steps={expected})"
