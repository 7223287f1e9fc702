"""The local model of dev: written by the notebook, served by the API, possibly by another user."""

from dataclasses import replace
from pathlib import Path

import pytest

from pmip.errors import ModelNotFoundError
from pmip.model.artifact import Artifact, Metadata
from pmip.store.objects import FolderStorage
from pmip.store.versions import LOCAL, LocalModel


def with_id(artifact: Artifact, model_id: str) -> Artifact:
    """Copy an artifact under another model id."""
    assert artifact.metadata
    return Artifact(artifact.model, replace(artifact.metadata, model_id=model_id))


def test_the_local_model_is_saved_and_fetched(tmp_path: Path, artifact: Artifact) -> None:
    """Dev has one model, readable by the user of a container, and its mark changes when it is written again."""
    local = LocalModel(tmp_path / "data")
    assert local.versions() == []
    local.save(artifact)
    [first] = local.versions()
    assert first.model_id == LOCAL
    assert local.fetch() == artifact
    assert (tmp_path / "data" / "model.pkl").stat().st_mode & 0o777 == 0o644
    local.save(with_id(artifact, "20260909T000000Z"))
    assert local.versions() != [first]


def test_saving_a_model_without_metadata_removes_the_old_metadata(tmp_path: Path, artifact: Artifact) -> None:
    """Metadata of another model must not stay beside it."""
    local = LocalModel(tmp_path)
    local.save(artifact)
    local.save(Artifact(b"other", None))
    assert local.fetch() == Artifact(b"other", None)


def test_without_a_local_model_fetch_says_how_to_make_one(tmp_path: Path) -> None:
    """The message names the file and the command."""
    with pytest.raises(ModelNotFoundError, match=r"model\.pkl.*train\.sh"):
        LocalModel(tmp_path).fetch()


def test_the_local_model_has_the_layout_of_one_folder(tmp_path: Path, artifact: Artifact) -> None:
    """model.pkl and metadata.json, and no half-written file."""
    LocalModel(tmp_path).save(artifact)
    names = {found.key for found in FolderStorage(tmp_path).objects("")}
    assert names == {"model.pkl", "metadata.json", ".model.lock"}
    assert Metadata.from_json((tmp_path / "metadata.json").read_bytes()) == artifact.metadata
