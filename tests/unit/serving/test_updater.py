"""The updater on a real store: which version the cache holds after each step, whatever went wrong before."""

import logging
import re
import resource
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from conftest import publish

from pmip import text
from pmip.errors import ModelNotFoundError, VerificationError
from pmip.model.artifact import MAX_METADATA_BYTES, MODEL, SCORER, Artifact
from pmip.model.verification import verify_folder, verify_in_child
from pmip.serving.cache import HostCache
from pmip.serving.updater import Updater
from pmip.store.objects import FolderStorage, S3Storage
from pmip.store.versions import LocalModel, ModelStore

FIRST, SECOND, THIRD = "20260101T000000Z", "20260202T000000Z", "20260303T000000Z"


@pytest.fixture
def storage(tmp_path: Path) -> FolderStorage:
    """Keep the store in a folder."""
    return FolderStorage(tmp_path / "store")


@pytest.fixture
def store(storage: FolderStorage) -> ModelStore:
    """Make an empty store."""
    return ModelStore(storage, "staging")


@pytest.fixture
def cache(tmp_path: Path) -> HostCache:
    """Lead a fresh cache."""
    cache = HostCache(tmp_path / "cache" / "store")
    assert cache.lead()
    return cache


class Verifier:
    """The real verification, which counts its calls and can be told to break off."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.dies = False
        self.meanwhile: Callable[[], object] = list

    def __call__(self, folder: Path, model_id: str) -> None:
        """Verify in this process."""
        self.calls.append(model_id)
        self.meanwhile()
        if self.dies:
            raise VerificationError("its verification ended with status -9")
        verify_folder(folder, model_id, "staging")


@pytest.fixture
def verifier() -> Verifier:
    """Verify for real."""
    return Verifier()


@pytest.fixture
def updater(store: ModelStore, cache: HostCache, verifier: Verifier) -> Updater:
    """Update step by step."""
    return Updater(store, cache, verifier)


def current(cache: HostCache) -> str | None:
    """Name the version that the cache holds."""
    entry = cache.state().current
    return entry.model_id if entry and cache.holds(entry) else None


def test_an_empty_store_is_told_as_such(updater: Updater, cache: HostCache) -> None:
    """It says how to mend it, and when it looked."""
    updater.check()
    state = cache.state()
    assert (state.current, state.load_failures, state.check_errors) == (None, {}, {"no_version": 1})
    assert "does not hold any version; 'bash scripts/train.sh' publishes one" in str(state.last_error)
    assert state.last_check_at


def test_the_newest_version_is_verified_once(
    updater: Updater, store: ModelStore, cache: HostCache, artifact: Artifact, verifier: Verifier
) -> None:
    """Further checks find nothing to do, and a newer version is taken up."""
    publish(store, artifact, FIRST)
    for _ in range(3):
        updater.check()
    assert (current(cache), verifier.calls) == (FIRST, [FIRST])
    publish(store, artifact, SECOND)
    updater.check()
    assert (current(cache), cache.state().last_error) == (SECOND, None)


def test_a_broken_version_is_refused_once_and_the_old_one_stays(
    updater: Updater, store: ModelStore, cache: HostCache, artifact: Artifact, verifier: Verifier, caplog: Any
) -> None:
    """The refusal is logged once, told in last_error, and over when a good version follows."""
    publish(store, artifact, FIRST)
    updater.check()
    publish(store, artifact, SECOND, broken=True)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            updater.check()
    assert (current(cache), verifier.calls) == (FIRST, [FIRST, SECOND])
    assert f"model {SECOND}: the SHA-256" in str(cache.state().last_error)
    assert (len(caplog.records), cache.state().load_failures) == (1, {"damaged": 1})
    publish(store, artifact, THIRD)
    updater.check()
    assert (current(cache), cache.state().last_error, cache.state().refused) == (THIRD, None, {})


def test_a_refusal_outlives_the_leader_until_the_file_is_another_one(
    updater: Updater, store: ModelStore, storage: FolderStorage, cache: HostCache, artifact: Artifact
) -> None:
    """The next leader does not fetch it again; when the file is replaced, it is tried again."""
    publish(store, artifact, FIRST, broken=True)
    updater.check()
    verifier = Verifier()
    successor = Updater(store, cache, verifier)
    successor.check()
    assert (current(cache), verifier.calls, cache.state().load_failures) == (None, [], {"damaged": 1})
    storage.write(f"models/staging/{FIRST}/{MODEL}", artifact.model)
    successor.check()
    assert (current(cache), verifier.calls) == (FIRST, [FIRST])


def test_what_was_not_found_out_is_tried_again(
    updater: Updater, store: ModelStore, cache: HostCache, artifact: Artifact, verifier: Verifier
) -> None:
    """A verification that was killed says nothing against the model; until then the older version serves."""
    publish(store, artifact, FIRST)
    updater.check()
    publish(store, artifact, SECOND)
    verifier.dies = True
    updater.check()
    assert current(cache) == FIRST
    assert cache.state().last_error == f"model {SECOND}: its verification ended with status -9"
    verifier.dies = False
    updater.check()
    assert (current(cache), cache.state().last_error) == (SECOND, None)


def test_at_start_broken_versions_are_passed_over(
    updater: Updater, store: ModelStore, cache: HostCache, artifact: Artifact
) -> None:
    """The next older version serves, and last_error tells of the newest."""
    publish(store, artifact, FIRST)
    publish(store, artifact, SECOND, broken=True)
    publish(store, artifact, THIRD, broken=True)
    updater.check()
    assert current(cache) == FIRST
    assert THIRD in str(cache.state().last_error)


def test_each_refusal_is_told_when_it_happens(
    updater: Updater,
    store: ModelStore,
    cache: HostCache,
    artifact: Artifact,
    verifier: Verifier,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """However many refused versions come before a good one, none waits for the end of the search to be known."""
    publish(store, artifact, FIRST)
    broken = [f"20260401T0000{second:02}Z" for second in range(20)]
    for model_id in broken:
        publish(store, artifact, model_id, broken=True)
    told: list[tuple[int, int]] = []
    verifier.meanwhile = lambda: told.append((len(cache.state().refused), len(caplog.records)))
    updater.check()
    assert told == [(number, number) for number in range(21)]
    assert (current(cache), cache.state().load_failures) == (FIRST, {"damaged": 20})
    assert f"model {broken[-1]}: the SHA-256" in str(cache.state().last_error)


def test_newer_versions_are_looked_for_between_candidates(
    updater: Updater, store: ModelStore, cache: HostCache, artifact: Artifact, verifier: Verifier
) -> None:
    """A good version that is published during a long search is served next, before older ones are tried."""
    for model_id in (FIRST, SECOND):
        publish(store, artifact, model_id, broken=True)
    verifier.meanwhile = lambda: len(verifier.calls) == 1 and publish(store, artifact, THIRD)
    updater.check()
    assert (current(cache), verifier.calls) == (THIRD, [SECOND, THIRD])


@pytest.mark.parametrize(
    ("metadata", "kind"),
    [
        (b'{"model_id": "20260303", "metrics": {"a": ' + b"[" * 900 + b"]" * 900 + b"}}", "metadata"),
        (b'{"model_id": "20260303", "report": "\\ud800"}', "metadata"),
        (b'{"model_id": "20260303", "golden": [{"comment": 5}]}', "damaged"),
        (b" " * (MAX_METADATA_BYTES + 1), "too_large"),
    ],
    ids=["deep", "surrogate", "no golden comment", "huge"],
)
def test_a_fault_in_one_version_never_ends_the_search(
    updater: Updater, storage: FolderStorage, cache: HostCache, artifact: Artifact, metadata: bytes, kind: str
) -> None:
    """Whatever its metadata hold, the version before it serves."""
    publish(updater.store, artifact, FIRST)
    storage.write("models/staging/20260303/metadata.json", metadata)
    storage.write(f"models/staging/20260303/{MODEL}", artifact.model)
    updater.check()
    assert (current(cache), cache.state().load_failures, cache.state().check_errors) == (FIRST, {kind: 1}, {})
    assert str(cache.state().last_error).startswith("model 20260303: ")


def test_a_fault_that_nobody_foresaw_never_ends_the_search(
    updater: Updater, store: ModelStore, cache: HostCache, artifact: Artifact, verifier: Verifier
) -> None:
    """It is told by its class alone, as its text may hold anything, and tried again at the next check."""
    for model_id in (FIRST, SECOND):
        publish(store, artifact, model_id)
    verifier.meanwhile = lambda: len(verifier.calls) == 1 and [][1]
    updater.check()
    assert (current(cache), cache.state().load_failures) == (FIRST, {"unexpected": 1})
    assert cache.state().last_error == f"model {SECOND}: IndexError while it was loaded"
    updater.check()
    assert (current(cache), cache.state().last_error) == (SECOND, None)


def test_a_process_whose_code_is_older_than_its_files_refuses_the_version(
    store: ModelStore, cache: HostCache, artifact: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The child has imported the text functions as the files hold them, the workers as they were at their start."""
    publish(store, artifact, FIRST)
    monkeypatch.setattr(text, "_TOKEN", re.compile(r"\w"))
    Updater(store, cache, partial(verify_in_child, environment="staging")).check()
    assert (current(cache), cache.state().load_failures) == (None, {"golden_answers": 1})
    assert "the code was changed while the API ran: restart it" in str(cache.state().last_error)


def test_an_api_with_newer_text_says_that_all_versions_are_older(
    updater: Updater, store: ModelStore, cache: HostCache, artifact: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until a version is trained with the same code, the message tells both ways out."""
    for model_id in (FIRST, SECOND):
        publish(store, artifact, model_id)
    monkeypatch.setattr(text, "_TOKEN", re.compile(r"\w"))
    for _ in range(2):
        updater.check()
        error = str(cache.state().last_error)
        assert error.startswith(f"no version in {store} gives its answers of training with the pmip.text of this API")
        assert f"deploy the code that trained them; model {SECOND}: the answer to golden comment" in error


def test_a_half_published_version_is_taken_up_when_it_is_whole(
    updater: Updater, store: ModelStore, storage: FolderStorage, cache: HostCache, artifact: Artifact
) -> None:
    """metadata.json alone is no version yet, and no error; with model.pkl it is, at the next check."""
    publish(store, artifact, FIRST)
    assert artifact.metadata
    storage.write(f"models/staging/{SECOND}/metadata.json", artifact.metadata.to_json())
    updater.check()
    assert (current(cache), cache.state().last_error) == (FIRST, None)
    storage.write(f"models/staging/{SECOND}/model.pkl", artifact.model)
    updater.check()
    assert current(cache) == SECOND


def test_retiring_the_newest_version_is_the_rollback(
    updater: Updater, store: ModelStore, cache: HostCache, artifact: Artifact
) -> None:
    """What is newest differs from what serves: the older version comes back, and the restored one after it."""
    publish(store, artifact, FIRST)
    publish(store, artifact, SECOND)
    updater.check()
    store.retire(SECOND)
    updater.check()
    assert current(cache) == FIRST
    store.restore(SECOND)
    updater.check()
    assert current(cache) == SECOND


def test_a_rollback_is_seen_on_s3_too(bucket: S3Storage, cache: HostCache, artifact: Artifact) -> None:
    """By `retire`, whose emptied folder some servers go on listing, and when only model.pkl is deleted by hand."""
    store = ModelStore(bucket, "staging")
    updater = Updater(store, cache, Verifier())
    for model_id in (FIRST, SECOND):
        publish(store, artifact, model_id)
    for take_away in (partial(store.retire, SECOND), partial(bucket.delete, f"models/staging/{SECOND}/{MODEL}")):
        updater.check()
        assert current(cache) == SECOND
        take_away()
        updater.check()
        assert (current(cache), cache.state().last_error) == (FIRST, None)
        with suppress(ModelNotFoundError):
            store.restore(SECOND)


def test_an_emptied_store_leaves_the_last_good_model_in_service(
    updater: Updater, store: ModelStore, cache: HostCache, artifact: Artifact
) -> None:
    """Serving the last good model beats serving none."""
    publish(store, artifact, FIRST)
    updater.check()
    store.retire(FIRST)
    updater.check()
    assert current(cache) == FIRST
    assert "does not hold any version" in str(cache.state().last_error)


def test_an_unreachable_store_leaves_the_model_in_service(
    bucket: S3Storage, cache: HostCache, artifact: Artifact, verifier: Verifier, caplog: pytest.LogCaptureFixture
) -> None:
    """When the bucket refuses, the model stays and last_error tells; it recovers by itself, which is logged."""
    store = ModelStore(bucket, "staging")
    publish(store, artifact, FIRST)
    updater = Updater(store, cache, verifier)
    updater.check()
    caplog.set_level(logging.INFO, "pmip")
    before = cache.state().last_success_at
    Updater(ModelStore(S3Storage("pmip-no-such-bucket"), "staging"), cache, verifier).check()
    assert current(cache) == FIRST
    assert "no such bucket" in str(cache.state().last_error)
    assert (cache.state().check_errors, cache.state().last_success_at) == ({"no_bucket": 1}, before)
    updater.check()
    assert (cache.state().last_error, verifier.calls) == (None, [FIRST])
    assert cache.state().last_success_at == cache.state().last_check_at
    [recovered] = [record.message for record in caplog.records if record.levelno == logging.INFO]
    assert recovered.startswith("the check for a new model works again; the last error was: s3://pmip-no-such-bucket")


def test_a_replaced_upload_is_seen_on_s3_too(bucket: S3Storage, cache: HostCache, artifact: Artifact) -> None:
    """A refused model that was uploaded by hand is tried again when it is uploaded again."""
    bucket.write(f"models/staging/20190101/{MODEL}", b"text")
    updater = Updater(ModelStore(bucket, "staging"), cache, Verifier())
    updater.check()
    assert "20190101: model.pkl is not a pickle of protocol 2 to 5" in str(cache.state().last_error)
    bucket.write(f"models/staging/20190101/{MODEL}", artifact.model)
    updater.check()
    assert (current(cache), cache.state().last_error) == ("20190101", None)


def test_a_pinned_version_is_served_whatever_is_newest(
    store: ModelStore, cache: HostCache, artifact: Artifact, verifier: Verifier
) -> None:
    """PINNED_MODEL_ID serves this version only, and says so when it is not there."""
    publish(store, artifact, FIRST)
    publish(store, artifact, SECOND)
    Updater(store, cache, verifier, pinned="20250101").check()
    assert current(cache) is None
    assert "does not hold the pinned version 20250101" in str(cache.state().last_error)
    Updater(store, cache, verifier, pinned=FIRST).check()
    assert current(cache) == FIRST


def test_the_local_model_is_taken_up_whenever_it_is_written(
    tmp_path: Path, cache: HostCache, artifact: Artifact, verifier: Verifier
) -> None:
    """In dev the id stays 'local', and a new file is verified anew."""
    local = LocalModel(tmp_path)
    updater = Updater(local, cache, verifier)
    for _ in range(2):
        local.save(artifact)
        updater.check()
        updater.check()
    assert (current(cache), verifier.calls) == ("local", ["local", "local"])


def test_a_successor_serves_what_is_there(
    updater: Updater, store: ModelStore, cache: HostCache, artifact: Artifact, verifier: Verifier
) -> None:
    """A leader that takes over neither fetches nor verifies again."""
    publish(store, artifact, FIRST)
    updater.check()
    entry = cache.state().current
    Updater(store, cache, verifier).check()
    assert (cache.state().current, verifier.calls) == (entry, [FIRST])


def test_a_damaged_cache_is_mended(
    updater: Updater, store: ModelStore, cache: HostCache, artifact: Artifact, tmp_path: Path
) -> None:
    """The next check fetches and verifies the version again."""
    publish(store, artifact, FIRST)
    updater.check()
    [path] = tmp_path.glob(f"cache/store/*/{SCORER}")
    path.write_text("damaged")
    assert current(cache) is None
    updater.check()
    assert current(cache) == FIRST


def test_old_versions_leave_the_cache(
    updater: Updater, store: ModelStore, cache: HostCache, artifact: Artifact, tmp_path: Path
) -> None:
    """The version before the current one stays, since a worker may just be reading it."""
    for model_id in (FIRST, SECOND, THIRD):
        publish(store, artifact, model_id)
        updater.check()
    assert {path.parent.name[:16] for path in tmp_path.glob(f"cache/store/*/{SCORER}")} == {SECOND, THIRD}


def test_a_full_disk_is_told(updater: Updater, store: ModelStore, cache: HostCache, artifact: Artifact) -> None:
    """Files that cannot be written end neither the thread nor the service; later it goes on by itself."""
    publish(store, artifact, FIRST)
    updater.check()
    publish(store, artifact, SECOND)
    unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, unlimited[1]))
    try:
        updater.check()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
    assert current(cache) == FIRST
    assert cache.state().last_error == "the host's cache cannot be written: File too large"
    updater.check()
    assert (current(cache), cache.state().last_error) == (SECOND, None)
