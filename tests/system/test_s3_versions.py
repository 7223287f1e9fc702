"""Versions are stored in the same way in a folder and on a real S3 server."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from s3_proxy import S3Proxy

from pmip.errors import AccessDeniedError, AlreadyExistsError, ArtifactError, ModelNotFoundError
from pmip.model.artifact import Artifact
from pmip.store.objects import S3Storage, Storage
from pmip.store.versions import ModelStore


@pytest.fixture
def store(storage: Storage) -> ModelStore:
    return ModelStore(storage, "staging")


def ids(store: ModelStore) -> list[str]:
    return [version.model_id for version in store.versions()]


def with_id(artifact: Artifact, model_id: str, **changes: object) -> Artifact:
    assert artifact.metadata
    return Artifact(artifact.model, replace(artifact.metadata, model_id=model_id, **changes))


def test_publish_and_fetch_return_the_same_artifact(store: ModelStore, artifact: Artifact) -> None:
    """A caller fetches the artifact that was published, with the key of its report."""
    published = store.publish(artifact)
    assert store.fetch("20260101T000000Z") == published
    assert published.model == artifact.model
    assert published.metadata
    assert published.metadata.report == "models/staging/20260101T000000Z/model-training.html"


def test_only_real_versions_are_listed_newest_first(store: ModelStore, storage: Storage, artifact: Artifact) -> None:
    """The versions of one environment are listed newest first, without folders whose name is not a model id."""
    for name in ("20190101", "20260101T000000Z", "latest", "20261340", "20191231"):
        storage.write(f"models/staging/{name}/model.pkl", b"")
    storage.write("models/prod/20270101/model.pkl", b"")
    assert ids(store) == ["20260101T000000Z", "20191231", "20190101"]


def test_what_is_newer_than_a_version_comes_with_it(store: ModelStore, storage: Storage) -> None:
    """`versions(since=…)` lists that version and newer ones with their marks, and no incomplete or older version."""
    for name in ("20191231", "20200101", "20200101T000000Z", "20200102", "latest"):
        storage.write(f"models/staging/{name}/model.pkl", name.encode())
    storage.write("models/staging/20200102/metadata.json", b"{}")
    storage.write("models/staging/20200103/metadata.json", b"{}")
    expected = [store.version(name) for name in ("20200102", "20200101T000000Z", "20200101")]
    assert store.versions(since="20200101") == expected
    storage.delete("models/staging/20200101/model.pkl")
    assert store.versions(since="20200101") == expected[:2]


def test_an_empty_store_has_no_versions(store: ModelStore) -> None:
    """Listing an empty store gives an empty list; fetching its newest version says how to train one."""
    assert store.versions() == []
    with pytest.raises(ModelNotFoundError, match=r"train\.sh"):
        store.fetch_newest()


def test_a_version_older_than_the_newest_is_told(
    store: ModelStore, artifact: Artifact, caplog: pytest.LogCaptureFixture
) -> None:
    """A version older than the newest is published, with a warning that it will not be served."""
    store.publish(with_id(artifact, "20260202T000000Z"))
    store.publish(with_id(artifact, "20260101T000000Z"))
    assert ids(store) == ["20260202T000000Z", "20260101T000000Z"]
    assert caplog.messages == [
        "model 20260101T000000Z will not be served: 20260202T000000Z is newer; is this machine's clock right?"
    ]


def test_a_version_is_never_overwritten(
    store: ModelStore, artifact: Artifact, caplog: pytest.LogCaptureFixture
) -> None:
    """A second run with the same id gets the next id, both versions stay, and no warning is logged."""
    first = store.publish(artifact)
    second = store.publish(with_id(artifact, "20260101T000000Z", trained_at="another"))
    assert ids(store) == ["20260101T000001Z", "20260101T000000Z"]
    assert store.fetch("20260101T000000Z") == first
    assert second.metadata
    assert second.metadata.report == "models/staging/20260101T000001Z/model-training.html"
    assert caplog.messages == []


def test_runs_that_publish_at_once_all_survive(store: ModelStore, artifact: Artifact) -> None:
    """Eight simultaneous runs with one id end as eight versions."""
    runs = [with_id(artifact, "20260101T000000Z", trained_at=str(number)) for number in range(8)]
    with ThreadPoolExecutor(8) as pool:
        published = list(pool.map(store.publish, runs))
    assert len(set(ids(store))) == 8
    assert {run.metadata.trained_at for run in published if run.metadata} == {str(number) for number in range(8)}


def test_a_retried_job_publishes_nothing_more(store: ModelStore, artifact: Artifact) -> None:
    """A second attempt of the same Batch job gets the version that the first one published."""
    first = store.publish(with_id(artifact, "20260101T000000Z", batch_job_id="job-1"))
    again = store.publish(with_id(artifact, "20260102T000000Z", batch_job_id="job-1"))
    assert again == first
    store.publish(with_id(artifact, "20260103T000000Z", batch_job_id="job-2"))
    assert ids(store) == ["20260103T000000Z", "20260101T000000Z"]


def test_a_retried_job_finds_its_version_behind_newer_ones(
    store: ModelStore, storage: Storage, artifact: Artifact
) -> None:
    """A retried job gets its own version back, although newer, unreadable and incomplete versions follow it."""
    first = store.publish(with_id(artifact, "20260101T000000Z", batch_job_id="job-1"))
    store.publish(with_id(artifact, "20260102T000000Z", batch_job_id="job-2"))
    storage.write("models/staging/20260103/model.pkl", artifact.model)
    storage.write("models/staging/20260104/metadata.json", b"damaged")
    storage.write("models/staging/20260104/model.pkl", artifact.model)
    half = with_id(artifact, "20260105T000000Z", batch_job_id="job-1").metadata
    assert half
    storage.write("models/staging/20260105T000000Z/metadata.json", half.to_json())
    assert store.publish(with_id(artifact, "20260106T000000Z", batch_job_id="job-1")) == first
    assert store.published() == ["20260104", "20260103", "20260102T000000Z", "20260101T000000Z"]


def test_the_metadata_of_the_last_versions_is_listed(store: ModelStore, storage: Storage, artifact: Artifact) -> None:
    """`recent` lists the metadata of published or retired versions, newest first; unreadable ones have only an id."""
    for model_id in ("20260101T000000Z", "20260102T000000Z", "20260103T000000Z"):
        store.publish(with_id(artifact, model_id, training_data_id=model_id[:8]))
    for name, content in (("20260104", b"damaged"), ("20260105", b'{"model_id": "\\ud800"}'), ("20260106", b"")):
        storage.write(f"models/staging/{name}/metadata.json", content)
        storage.write(f"models/staging/{name}/model.pkl", b"")
    storage.write("models/staging/20260107/model.pkl", b"")
    store.retire("20260102T000000Z")
    told = [(metadata.model_id, metadata.training_data_id) for metadata in store.recent()]
    unreadable = [("20260107", None), ("20260106", None), ("20260105", None), ("20260104", None)]
    assert told == [*unreadable, ("20260103T000000Z", "20260103"), ("20260101T000000Z", "20260101")]
    assert [metadata.model_id for metadata in store.recent(2)] == ["20260107", "20260106"]
    [retired] = store.recent(retired=True)
    assert (retired.model_id, retired.training_data_id) == ("20260102T000000Z", "20260102")


def test_files_too_large_are_not_read(
    store: ModelStore, storage: Storage, artifact: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model.pkl or metadata.json above its size limit is refused with an error that gives its size in bytes."""
    store.publish(artifact)
    for name in ("MODEL", "METADATA"):
        with monkeypatch.context() as patch:
            patch.setattr(f"pmip.store.versions.MAX_{name}_BYTES", 10)
            with pytest.raises(ArtifactError, match=r"(model\.pkl|metadata\.json) has [0-9,]+ bytes; at most 10 are"):
                store.fetch("20260101T000000Z")


def test_least_privilege_hides_nothing_that_is_there(bucket: S3Storage, proxy: S3Proxy, artifact: Artifact) -> None:
    """A caller with few rights finds the newest model, although S3 answers 403 for missing objects."""
    bucket.write("models/staging/20190101/model.pkl", artifact.model)
    bucket.write("models/staging/20190102/metadata.json", b"{}")
    proxy.fault = "hiding"
    limited = S3Storage(bucket.bucket)
    assert ModelStore(limited, "staging").fetch_newest() == ("20190101", Artifact(artifact.model, None))
    with pytest.raises(AccessDeniedError):
        limited.read("models/staging/20190101/metadata.json")


def test_retire_and_restore_move_a_version(store: ModelStore, storage: Storage, artifact: Artifact) -> None:
    """Retiring moves the newest version away with its report, restoring brings it back, and a missing id is named."""
    oldest = store.publish(artifact)
    newest = store.publish(with_id(artifact, "20260202T000000Z"))
    store.publish_report("20260202T000000Z", {".html": b"report"}, beside_model=True)
    store.retire("20260202T000000Z")
    assert store.fetch_newest() == ("20260101T000000Z", oldest)  # SeaweedFS still lists the emptied folder
    assert storage.read("retired/staging/20260202T000000Z/model-training.html") == b"report"
    store.restore("20260202T000000Z")
    assert store.fetch_newest() == ("20260202T000000Z", newest)
    assert [found.key for found in storage.objects("retired/")] == []
    with pytest.raises(ModelNotFoundError, match=r"models/staging/20260101/? holds no version"):
        store.retire("20260101")


def test_promoting_copies_a_version_once(store: ModelStore, storage: Storage, artifact: Artifact) -> None:
    """Promoting copies a version to prod, may be repeated, never overwrites another model, and names a missing id."""
    published = store.publish(artifact)
    prod = ModelStore(storage, "prod")
    for _ in range(2):
        store.promote("20260101T000000Z", "prod")
    assert prod.fetch_newest() == store.fetch_newest() == ("20260101T000000Z", published)
    storage.write("models/prod/20260101T000000Z/model.pkl", b"another")
    with pytest.raises(AlreadyExistsError, match="holds another model"):
        store.promote("20260101T000000Z", "prod")
    with pytest.raises(ModelNotFoundError, match="holds no version"):
        store.promote("20260202T000000Z", "prod")


def test_a_report_goes_beside_its_model_or_under_runs(store: ModelStore, storage: Storage, tmp_path: Path) -> None:
    """The report of a run that published nothing is kept under runs/."""
    where = store.publish_report("20260101T000000Z", {".ipynb": b"report"}, beside_model=False)
    assert where == storage.url("runs/staging/20260101T000000Z/")
    assert storage.read("runs/staging/20260101T000000Z/model-training.ipynb") == b"report"
