"""The verification in a process of its own: its refusals and faults, and what it is not told."""

import logging
import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from sklearn.base import BaseEstimator

from pmip.errors import ArtifactError, VerificationError
from pmip.model import unpickling
from pmip.model.artifact import SCORER, Artifact, Metadata
from pmip.model.packing import pack
from pmip.model.verification_process import verify_in_process


class Telling(BaseEstimator):  # type: ignore[misc]
    """A trusted model that refuses with what it finds in its environment."""

    classes_ = (0, 1)

    def predict_proba(self, comments: list[str]) -> list[list[float]]:
        """Tell, unless here where it is packed."""
        if "PYTEST_CURRENT_TEST" in os.environ:
            return [[0.5, 0.5]] * len(comments)
        raise ValueError(" ".join(sorted(os.environ)))


class Sacrificed(Telling):
    """A trusted model that refuses with the readiness of its process to be ended when memory runs out."""

    def predict_proba(self, comments: list[str]) -> list[list[float]]:
        """Tell, unless here where it is packed."""
        if "PYTEST_CURRENT_TEST" in os.environ:
            return super().predict_proba(comments)
        raise ValueError(f"goes at {Path('/proc/self/oom_score_adj').read_text()}")


class Dying(Telling):
    """A trusted model that takes its process with it."""

    def predict_proba(self, comments: list[str]) -> list[list[float]]:
        """End the process, unless here where it is packed."""
        if "PYTEST_CURRENT_TEST" not in os.environ:
            os.abort()
        return super().predict_proba(comments)


def written(folder: Path, artifact: Artifact) -> Path:
    """Write an artifact into a folder."""
    artifact.write(folder)
    return folder


def test_a_sound_model_is_written_as_plain_data(
    tmp_path: Path, artifact: Artifact, caplog: pytest.LogCaptureFixture
) -> None:
    """What the verification warns of stands in this process's log."""
    assert artifact.metadata
    release = artifact.metadata.libraries["scikit-learn"]
    patched = replace(artifact.metadata, libraries={"scikit-learn": f"{release}.99"})
    with caplog.at_level(logging.WARNING):
        verify_in_process(written(tmp_path, Artifact(artifact.model, patched)), "20260202", "prod")
    assert (tmp_path / SCORER).exists()
    assert f"trained with scikit-learn {release}.99" in caplog.text


def test_a_refusal_comes_back_with_its_reason(tmp_path: Path) -> None:
    """A pickle that would run code names what it would have run, and did not."""
    evil = tmp_path / "evil"
    harmful = b"cos\nsystem\n(S'touch " + str(evil).encode() + b"'\ntR."
    with pytest.raises(ArtifactError, match=r"contains os\.system, which is not on the allow-list; MODEL_TRUSTED"):
        verify_in_process(written(tmp_path, Artifact(harmful, None)), "20260202", "prod")
    assert not evil.exists()


def test_it_knows_no_credentials(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    """Even a model that is trusted finds nothing of this process's environment."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("API_KEYS", "secret")
    monkeypatch.syspath_prepend(request.path.parent)
    trusted = [f"{__name__}.Telling"]
    with pytest.raises(ArtifactError, match="ValueError") as refusal:
        verify_in_process(written(tmp_path, pack(Telling(), Metadata("20260101"))), "20260101", "prod", trusted)
    assert "PYTHONPATH" in str(refusal.value)
    assert not {"AWS_SECRET_ACCESS_KEY", "API_KEYS", "HOME"} & set(str(refusal.value).split())


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can be told whom to end first")
def test_it_is_the_first_to_go_when_memory_runs_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    """A model that takes all of it costs no worker of the API."""
    monkeypatch.syspath_prepend(request.path.parent)
    trusted = [f"{__name__}.Sacrificed"]
    with pytest.raises(ArtifactError, match="ValueError: goes at 1000"):
        verify_in_process(written(tmp_path, pack(Sacrificed(), Metadata("20260101"))), "20260101", "prod", trusted)


def test_a_process_that_dies_is_no_refusal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    """Out of memory or killed: a later try may succeed."""
    monkeypatch.syspath_prepend(request.path.parent)
    trusted = [f"{__name__}.Dying"]
    with pytest.raises(VerificationError, match="ended with status -6"):
        verify_in_process(written(tmp_path, pack(Dying(), Metadata("20260101"))), "20260101", "prod", trusted)


def test_a_file_that_is_no_pickle_is_a_refusal(tmp_path: Path) -> None:
    """Nothing but a reason comes back."""
    with pytest.raises(ArtifactError, match="the model cannot be unpickled"):
        verify_in_process(written(tmp_path, Artifact(b"text", None)), "20260202", "prod")
    with pytest.raises(ArtifactError, match="has no predict_proba"):
        verify_in_process(written(tmp_path, Artifact(unpickling.dumps([1]), None)), "20260202", "prod")
