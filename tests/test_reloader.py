"""The reloader on a real store: what it serves after each step, whatever went wrong before."""

import logging
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from pmip.artifact import Artifact
from pmip.errors import ModelNotReadyError
from pmip.folder_storage import FolderStorage
from pmip.local_model import LocalModel
from pmip.model_store import ModelStore
from pmip.reloader import Reloader
from pmip.scorer import Scorer, load
from pmip.storage import S3Storage

SPAM = ["Check it out this free stuff"]


def load_staging(artifact: Artifact, model_id: str) -> Scorer:
    """Load a scorer as the API does."""
    return load(artifact, model_id, "staging")


@pytest.fixture
def storage(tmp_path: Path) -> FolderStorage:
    """Keep the store in a folder."""
    return FolderStorage(tmp_path / "store")


@pytest.fixture
def store(storage: FolderStorage) -> ModelStore:
    """Make an empty store."""
    return ModelStore(storage, "staging")


@pytest.fixture
def reloader(store: ModelStore) -> Reloader:
    """Watch the store, step by step."""
    return Reloader(store, load_staging, poll_seconds=60)


def publish(store: ModelStore, artifact: Artifact, model_id: str, *, broken: bool = False) -> None:
    """Publish the artifact under an id, with bytes that are not those of its sha-256 if it is to be broken."""
    assert artifact.metadata
    model = artifact.model + b"!" if broken else artifact.model
    store.publish(Artifact(model, replace(artifact.metadata, model_id=model_id)))


def test_without_a_model_it_is_not_ready_and_says_why(reloader: Reloader) -> None:
    """An empty store is no fault of the process: it becomes ready by itself later."""
    with pytest.raises(ModelNotReadyError, match="no model is loaded yet"):
        _ = reloader.scorer
    reloader.check()
    with pytest.raises(ModelNotReadyError, match=r"does not hold any version.*train\.sh"):
        _ = reloader.scorer
    assert reloader.last_check_at


def test_it_takes_up_the_newest_version(reloader: Reloader, store: ModelStore, artifact: Artifact) -> None:
    """Each check that finds a newer version serves it."""
    publish(store, artifact, "20260101T000000Z")
    reloader.check()
    first = reloader.scorer
    assert first.model_id == "20260101T000000Z"
    assert first.classes(SPAM) == [1]
    reloader.check()
    assert reloader.scorer is first
    publish(store, artifact, "20260202T000000Z")
    reloader.check()
    assert reloader.scorer.model_id == "20260202T000000Z"
    assert reloader.last_error is None


def test_a_broken_version_is_refused_once_and_the_old_one_stays(
    reloader: Reloader, store: ModelStore, artifact: Artifact, caplog: pytest.LogCaptureFixture
) -> None:
    """The refusal is logged once, told in last_error, and over when a good version follows."""
    publish(store, artifact, "20260101T000000Z")
    reloader.check()
    publish(store, artifact, "20260202T000000Z", broken=True)
    with caplog.at_level(logging.WARNING):
        reloader.check()
        reloader.check()
    assert reloader.scorer.model_id == "20260101T000000Z"
    assert "20260202T000000Z: the sha-256" in str(reloader.last_error)
    assert len(caplog.records) == 1
    publish(store, artifact, "20260303T000000Z")
    reloader.check()
    assert (reloader.scorer.model_id, reloader.last_error) == ("20260303T000000Z", None)


def test_at_start_a_broken_newest_version_is_passed_over(
    reloader: Reloader, store: ModelStore, artifact: Artifact
) -> None:
    """The next older version serves, and last_error tells of the newest."""
    publish(store, artifact, "20260101T000000Z")
    publish(store, artifact, "20260202T000000Z", broken=True)
    publish(store, artifact, "20260303T000000Z", broken=True)
    reloader.check()
    assert reloader.scorer.model_id == "20260101T000000Z"
    assert "20260303T000000Z" in str(reloader.last_error)


def test_a_half_published_version_is_taken_up_when_it_is_whole(
    reloader: Reloader, store: ModelStore, storage: FolderStorage, artifact: Artifact
) -> None:
    """metadata.json alone is no version yet; with model.pkl it is, at the next check."""
    publish(store, artifact, "20260101T000000Z")
    assert artifact.metadata
    storage.write("models/staging/20260202T000000Z/metadata.json", artifact.metadata.to_json())
    reloader.check()
    assert reloader.scorer.model_id == "20260101T000000Z"
    storage.write("models/staging/20260202T000000Z/model.pkl", artifact.model)
    reloader.check()
    assert reloader.scorer.model_id == "20260202T000000Z"


def test_retiring_the_newest_version_is_the_rollback(reloader: Reloader, store: ModelStore, artifact: Artifact) -> None:
    """What is newest differs from what serves: the older version comes back, and the restored one after it."""
    publish(store, artifact, "20260101T000000Z")
    publish(store, artifact, "20260202T000000Z")
    reloader.check()
    store.retire("20260202T000000Z")
    reloader.check()
    assert reloader.scorer.model_id == "20260101T000000Z"
    store.restore("20260202T000000Z")
    reloader.check()
    assert reloader.scorer.model_id == "20260202T000000Z"


def test_an_emptied_store_leaves_the_last_good_model_in_service(
    reloader: Reloader, store: ModelStore, artifact: Artifact
) -> None:
    """Serving the last good model beats serving none."""
    publish(store, artifact, "20260101T000000Z")
    reloader.check()
    store.retire("20260101T000000Z")
    reloader.check()
    assert reloader.scorer.model_id == "20260101T000000Z"
    assert "does not hold any version" in str(reloader.last_error)


def test_an_unreachable_store_leaves_the_model_in_service(
    bucket: S3Storage, artifact: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the bucket refuses, the old scorer answers and last_error tells; it recovers by itself."""
    store = ModelStore(bucket, "staging")
    publish(store, artifact, "20260101T000000Z")
    reloader = Reloader(store, load_staging, poll_seconds=60)
    reloader.check()
    reloader.store = ModelStore(S3Storage("pmip-no-such-bucket"), "staging")
    reloader.check()
    assert reloader.scorer.model_id == "20260101T000000Z"
    assert "no such bucket" in str(reloader.last_error)
    reloader.store = store
    reloader.check()
    assert reloader.last_error is None


def test_a_pinned_version_is_served_whatever_is_newest(store: ModelStore, artifact: Artifact) -> None:
    """PINNED_MODEL_ID serves this version only, and says so when it is not there."""
    publish(store, artifact, "20260101T000000Z")
    publish(store, artifact, "20260202T000000Z")
    pinned = Reloader(store, load_staging, poll_seconds=60, pinned="20260101T000000Z")
    pinned.check()
    assert pinned.scorer.model_id == "20260101T000000Z"
    missing = Reloader(store, load_staging, poll_seconds=60, pinned="20250101")
    missing.check()
    assert "does not hold the pinned version 20250101" in str(missing.last_error)


def test_the_local_model_is_taken_up_whenever_it_is_written(tmp_path: Path, artifact: Artifact) -> None:
    """In dev the id stays 'local', and a new file replaces the scorer."""
    local = LocalModel(tmp_path)
    reloader = Reloader(local, load_staging, poll_seconds=60)
    local.save(artifact)
    reloader.check()
    first = reloader.scorer
    assert first.model_id == "local"
    local.save(artifact)
    reloader.check()
    assert reloader.scorer is not first


def test_the_thread_checks_by_itself(store: ModelStore, artifact: Artifact) -> None:
    """start() returns as soon as a first model serves, and looks again every interval."""
    publish(store, artifact, "20260101T000000Z")
    taken_up = threading.Event()

    def load_and_tell(artifact: Artifact, model_id: str) -> Scorer:
        if model_id == "20260202T000000Z":
            taken_up.set()
        return load_staging(artifact, model_id)

    reloader = Reloader(store, load_and_tell, poll_seconds=0.05)
    reloader.start()
    assert reloader.scorer.model_id == "20260101T000000Z"
    publish(store, artifact, "20260202T000000Z")
    assert taken_up.wait(10)


def test_a_check_is_due_once_an_interval(store: ModelStore, artifact: Artifact) -> None:
    """Where no thread can run, a call checks only when the interval has passed."""
    slow, quick = (Reloader(store, load_staging, poll_seconds=seconds) for seconds in (3600, 0))
    for reloader in (slow, quick):
        reloader.check_if_due()
    publish(store, artifact, "20260101T000000Z")
    for reloader in (slow, quick):
        reloader.check_if_due()
    assert quick.scorer.model_id == "20260101T000000Z"
    with pytest.raises(ModelNotReadyError):
        _ = slow.scorer
