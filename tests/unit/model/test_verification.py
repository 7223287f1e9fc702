"""What workers read is what the model answers, written by a process that alone opens the pickle."""

import json
from pathlib import Path

import pytest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.naive_bayes import MultinomialNB
from sklearn.pipeline import Pipeline, make_pipeline

from pmip.errors import ArtifactError
from pmip.model import unpickling
from pmip.model.artifact import GOLDEN_COMMENTS, METADATA, MODEL, SCORER, Artifact, Metadata
from pmip.model.packing import pack
from pmip.model.scorer import Scorer
from pmip.model.verification import load, verify, verify_folder


def written(folder: Path, artifact: Artifact) -> Path:
    """Write an artifact into a folder."""
    artifact.write(folder)
    return folder


def test_a_linear_model_becomes_plain_data(tmp_path: Path, model: Pipeline, artifact: Artifact) -> None:
    """The pickle is not needed any more, and the answers are the same."""
    verify_folder(written(tmp_path, artifact), "20260202", "prod")
    assert {path.name for path in tmp_path.iterdir()} == {METADATA, SCORER}
    scorer = Scorer.from_plain(json.loads((tmp_path / SCORER).read_text()), pytest.fail)
    assert (scorer.model_id, scorer.kind, scorer.verified) == ("20260202", "compiled", True)
    assert scorer.probabilities(GOLDEN_COMMENTS) == [
        pytest.approx(row, abs=1e-12) for row in model.predict_proba(GOLDEN_COMMENTS).tolist()
    ]


def test_any_other_model_stays_a_pickle(tmp_path: Path) -> None:
    """The worker opens it itself, through the same allow-list."""
    bayes = make_pipeline(TfidfVectorizer(), MultinomialNB()).fit(["free stuff", "nice song"], [1, 0])
    verify_folder(written(tmp_path, pack(bayes, Metadata("20260101"))), "20260101", "staging")
    plain = json.loads((tmp_path / SCORER).read_text())
    scorer = Scorer.from_plain(plain, lambda: unpickling.loads((tmp_path / MODEL).read_bytes()))
    assert (scorer.kind, scorer.classes(["free stuff"])) == ("estimator", [1])


def test_what_must_not_be_served_is_refused_and_nothing_is_written(tmp_path: Path, artifact: Artifact) -> None:
    """The reason is that of the artifact's checks."""
    with pytest.raises(ArtifactError, match="sha-256"):
        verify_folder(written(tmp_path, Artifact(artifact.model + b"!", artifact.metadata)), "20260202", "prod")
    assert not (tmp_path / SCORER).exists()


def test_a_model_uploaded_by_hand_is_not_verified(artifact: Artifact) -> None:
    """Its hash tells which file it was."""
    scorer = load(Artifact(artifact.model, None), "20260202", "staging")
    assert (scorer.verified, scorer.metadata.sha256) == (False, artifact.sha256)
    assert (scorer.model_id, scorer.metadata.ENVIRONMENT) == ("20260202", "staging")


def test_the_result_depends_on_the_artifact_alone(artifact: Artifact) -> None:
    """Verified twice, it is the same to the byte: the cache names it by its hash."""
    first, second = (verify(artifact, "20260202", "prod")[0] for _ in range(2))
    assert json.dumps(first) == json.dumps(second)
