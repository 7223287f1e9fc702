"""Model ids, and the local model of dev: written by the notebook, served by the API, possibly by another user."""

from dataclasses import replace
from pathlib import Path

import pytest

from pmip.errors import ModelNotFoundError, StorageError
from pmip.model.artifact import Artifact
from pmip.store.versions import LOCAL, LocalModel, is_model_id, new_model_id, next_model_id


def with_id(artifact: Artifact, model_id: str) -> Artifact:
    assert artifact.metadata
    return Artifact(artifact.model, replace(artifact.metadata, model_id=model_id))


def test_the_local_model_is_saved_and_fetched(tmp_path: Path, artifact: Artifact) -> None:
    """The local model is readable by every user, and is a new version when it is written again."""
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
    """A model that is saved without metadata does not get those of the model before it."""
    local = LocalModel(tmp_path)
    local.save(artifact)
    local.save(Artifact(b"other", None))
    assert local.fetch() == Artifact(b"other", None)


def test_without_a_local_model_fetch_says_how_to_make_one(tmp_path: Path) -> None:
    """The error without a local model names the missing file and the command that makes one."""
    with pytest.raises(ModelNotFoundError, match=r"model\.pkl.*train\.sh"):
        LocalModel(tmp_path).fetch()


def test_a_data_folder_that_cannot_be_written_is_named(tmp_path: Path, artifact: Artifact) -> None:
    """A data folder that cannot be written raises an error with the path and the reason."""
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match=r"file/data/\.model\.lock: Not a directory"):
        LocalModel(tmp_path / "file" / "data").save(artifact)


@pytest.mark.parametrize("text", ["20190101", "20260228T235959Z", "20240229", "20260101T000000Z"])
def test_real_days_and_times_are_model_ids(text: str) -> None:
    """A UTC time and a plain day are model ids."""
    assert is_model_id(text)


@pytest.mark.parametrize(
    "text",
    ["latest", "20261340", "20260230", "20260101T240000Z", "20260101T0000Z", "2026010", "", "٢٠٢٦٠١٠١", "20260101\n"],
)
def test_nothing_else_is_a_model_id(text: str) -> None:
    """Other names and impossible dates are no model ids."""
    assert not is_model_id(text)


def test_a_new_id_is_a_model_id_and_the_next_is_larger() -> None:
    """Ids sort as text: a later run is larger, and a plain day sorts before the runs of that day."""
    now = new_model_id()
    assert is_model_id(now)
    assert now < next_model_id(now)
    assert next_model_id("20251231T235959Z") == "20260101T000000Z"
    assert is_model_id(next_model_id("20190101"))
    assert "20190101" < "20190101T000000Z"
