"""The updater on a real store: which version the cache holds after each check, whatever failed before."""

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
from pmip.serving.cache import HostCache, State
from pmip.serving.updater import Updater
from pmip.store.objects import FolderStorage, S3Storage
from pmip.store.versions import LocalModel, ModelStore

FIRST, SECOND, THIRD = "20260101T000000Z", "20260202T000000Z", "20260303T000000Z"


class Host:
    """A host's cache and a store in a folder; the real verification records its calls, and can be made to fail."""

    def __init__(self, folder: Path, artifact: Artifact) -> None:
        self.storage, self.artifact = FolderStorage(folder / "store"), artifact
        self.store, self.cache = ModelStore(self.storage, "staging"), HostCache(folder / "cache" / "store")
        assert self.cache.acquire_lock()
        self.updater = Updater(self.store, self.cache, self.verify)
        self.verified: list[str] = []
        self.dies = False
        self.meanwhile: Callable[[], object] = list

    def verify(self, folder: Path, model_id: str) -> None:
        self.verified.append(model_id)
        self.meanwhile()
        if self.dies:
            raise VerificationError("its verification ended with status -9")
        verify_folder(folder, model_id, "staging")

    def publish(self, *model_ids: str, broken: bool = False) -> None:
        for model_id in model_ids:
            publish(self.store, self.artifact, model_id, broken=broken)

    def check(self) -> None:
        self.updater.check()

    @property
    def state(self) -> State:
        return self.cache.state()

    @property
    def current(self) -> str | None:
        entry = self.state.current
        return entry.model_id if entry and self.cache.holds(entry) else None


@pytest.fixture
def host(tmp_path: Path, artifact: Artifact) -> Host:
    return Host(tmp_path, artifact)


def test_an_empty_store_is_told_as_such(host: Host) -> None:
    """The error for an empty store says how to publish a version, and the state has the time of the check."""
    host.check()
    state = host.state
    assert (state.current, state.load_failures, state.check_errors) == (None, {}, {"no_version": 1})
    assert "does not hold any version; 'bash scripts/train.sh' publishes one" in str(state.last_error)
    assert state.last_check_at


def test_the_newest_version_is_verified_once(host: Host) -> None:
    """A check returns the newest version, loaded; further checks verify nothing until a newer one is published."""
    host.publish(FIRST)
    loaded = [host.updater.check() for _ in range(3)]
    assert [taken and (taken[0], taken[1].model_id) for taken in loaded] == [(host.state.current, FIRST), None, None]
    assert (host.current, host.verified) == (FIRST, [FIRST])
    host.publish(SECOND)
    host.check()
    assert (host.current, host.state.last_error) == (SECOND, None)


def test_a_broken_version_is_refused_once_and_the_old_one_stays(host: Host, caplog: Any) -> None:
    """A broken version is refused once and named in `last_error`, and the old one serves until a good one follows."""
    host.publish(FIRST)
    host.check()
    host.publish(SECOND, broken=True)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            host.check()
    assert (host.current, host.verified) == (FIRST, [FIRST, SECOND])
    assert f"model {SECOND}: the SHA-256" in str(host.state.last_error)
    assert (len(caplog.records), host.state.load_failures) == (1, {"damaged": 1})
    host.publish(THIRD)
    host.check()
    assert (host.current, host.state.last_error, host.state.refused) == (THIRD, None, {})


def test_a_refusal_outlives_the_leader_until_the_file_is_another_one(host: Host) -> None:
    """A new leader does not fetch a refused version again, unless its file has been replaced."""
    host.publish(FIRST, broken=True)
    host.check()
    host.verified.clear()
    successor = Updater(host.store, host.cache, host.verify)
    successor.check()
    assert (host.current, host.verified, host.state.load_failures) == (None, [], {"damaged": 1})
    host.storage.write(f"models/staging/{FIRST}/{MODEL}", host.artifact.model)
    successor.check()
    assert (host.current, host.verified) == (FIRST, [FIRST])


def test_what_was_not_found_out_is_tried_again(host: Host) -> None:
    """A version whose verification was killed is tried again, and until then the older version serves."""
    host.publish(FIRST)
    host.check()
    host.publish(SECOND)
    host.dies = True
    host.check()
    assert host.current == FIRST
    assert host.state.last_error == f"model {SECOND}: its verification ended with status -9"
    host.dies = False
    host.check()
    assert (host.current, host.state.last_error) == (SECOND, None)


def test_a_version_whose_verification_dies_twice_is_refused_for_good(host: Host) -> None:
    """A version whose verification dies twice is refused, and later leaders do not try it again either."""
    host.publish(FIRST, SECOND)
    host.meanwhile = lambda: setattr(host, "dies", host.verified[-1] == SECOND)
    for _ in range(2):
        host.check()
    Updater(host.store, host.cache, host.verify).check()
    assert (host.current, host.verified) == (FIRST, [SECOND, FIRST, SECOND])
    assert str(host.state.last_error).endswith(
        "status -9, as the time before: it is not tried again; train a new version, or retire this one"
    )
    host.publish(THIRD)
    host.check()
    assert (host.current, host.state.refused, host.state.undecided) == (THIRD, {}, [])


def test_each_refusal_is_told_when_it_happens(host: Host, caplog: pytest.LogCaptureFixture) -> None:
    """Each refusal is logged and saved before the next version is tried, however many versions are refused."""
    host.publish(FIRST)
    broken = [f"20260401T0000{second:02}Z" for second in range(20)]
    host.publish(*broken, broken=True)
    told: list[tuple[int, int]] = []
    host.meanwhile = lambda: told.append((len(host.state.refused), len(caplog.records)))
    host.check()
    assert told == [(number, number) for number in range(21)]
    assert (host.current, host.state.load_failures) == (FIRST, {"damaged": 20})
    assert f"model {broken[-1]}: the SHA-256" in str(host.state.last_error)


def test_newer_versions_are_looked_for_between_candidates(host: Host) -> None:
    """A good version that is published during a long search is served before older ones are tried."""
    host.publish(FIRST, SECOND, broken=True)
    host.meanwhile = lambda: len(host.verified) == 1 and host.publish(THIRD)
    host.check()
    assert (host.current, host.verified) == (THIRD, [SECOND, THIRD])


@pytest.mark.parametrize(
    ("metadata", "kind"),
    [
        (b'{"model_id": "20260303", "metrics": {"a": ' + b"[" * 900 + b"]" * 900 + b"}}", "metadata"),
        (b'{"model_id": "20260303", "report": "\\ud800"}', "metadata"),
        (b'{"model_id": "20260303", "golden": [{"comment": 5}]}', "metadata"),
        (b'{"model_id": "20260303"}', "damaged"),
        (b" " * (MAX_METADATA_BYTES + 1), "too_large"),
    ],
    ids=["deep", "surrogate", "no golden comment", "no hash", "huge"],
)
def test_a_fault_in_one_version_never_ends_the_search(host: Host, metadata: bytes, kind: str) -> None:
    """A version with any fault in its metadata is refused by name, and the version before it serves."""
    host.publish(FIRST)
    host.storage.write("models/staging/20260303/metadata.json", metadata)
    host.storage.write(f"models/staging/20260303/{MODEL}", host.artifact.model)
    host.check()
    assert (host.current, host.state.load_failures, host.state.check_errors) == (FIRST, {kind: 1}, {})
    assert str(host.state.last_error).startswith("model 20260303: ")


def test_a_fault_that_nobody_foresaw_never_ends_the_search(host: Host) -> None:
    """An unexpected exception refuses one version, and only its class is reported; the next check tries again."""
    host.publish(FIRST, SECOND)
    host.meanwhile = lambda: len(host.verified) == 1 and [][1]
    host.check()
    assert (host.current, host.state.load_failures) == (FIRST, {"unexpected": 1})
    assert host.state.last_error == f"model {SECOND}: IndexError while it was loaded"
    host.check()
    assert (host.current, host.state.last_error) == (SECOND, None)


def test_a_process_whose_code_is_older_than_its_files_refuses_the_version(host: Host, monkeypatch: Any) -> None:
    """A running API whose pmip.text was changed on disk refuses the version and says that it must be restarted."""
    host.publish(FIRST)
    monkeypatch.setattr(text, "_TOKEN", re.compile(r"\w"))
    Updater(host.store, host.cache, partial(verify_in_child, environment="staging")).check()
    assert (host.current, host.state.load_failures) == (None, {"golden_answers": 1})
    assert "the code was changed while the API ran: restart it" in str(host.state.last_error)


def test_an_api_with_newer_text_says_that_all_versions_are_older(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """An API whose pmip.text fits no version says so at each check, and names the code to deploy as one remedy."""
    host.publish(FIRST, SECOND)
    monkeypatch.setattr(text, "_TOKEN", re.compile(r"\w"))
    for _ in range(2):
        host.check()
        error = str(host.state.last_error)
        none = f"no version in {host.store} gives its answers of training with the pmip.text of this API"
        assert error.startswith(none)
        assert f"deploy the code that trained them; model {SECOND}: the answer to golden comment" in error


def test_a_half_published_version_is_taken_up_when_it_is_whole(host: Host) -> None:
    """A version without model.pkl is no error, and is served at the first check after it is complete."""
    host.publish(FIRST)
    assert host.artifact.metadata
    host.storage.write(f"models/staging/{SECOND}/metadata.json", host.artifact.metadata.to_json())
    host.check()
    assert (host.current, host.state.last_error) == (FIRST, None)
    host.storage.write(f"models/staging/{SECOND}/model.pkl", host.artifact.model)
    host.check()
    assert host.current == SECOND


def test_a_rollback_is_seen_on_s3_too(host: Host, bucket: S3Storage) -> None:
    """After a version on S3 is retired, or its model.pkl deleted by hand, the version before it serves."""
    host.store = store = ModelStore(bucket, "staging")
    updater = Updater(store, host.cache, host.verify)
    host.publish(FIRST, SECOND)
    for take_away in (partial(store.retire, SECOND), partial(bucket.delete, f"models/staging/{SECOND}/{MODEL}")):
        updater.check()
        assert host.current == SECOND
        take_away()
        updater.check()
        assert (host.current, host.state.last_error) == (FIRST, None)
        with suppress(ModelNotFoundError):
            store.restore(SECOND)


def test_an_emptied_store_leaves_the_last_good_model_in_service(host: Host) -> None:
    """When the store becomes empty, the last good model stays in service and the error says that no version is left."""
    host.publish(FIRST)
    host.check()
    host.store.retire(FIRST)
    host.check()
    assert host.current == FIRST
    assert "does not hold any version" in str(host.state.last_error)


def test_an_unreachable_store_leaves_the_model_in_service(host: Host, bucket: S3Storage, caplog: Any) -> None:
    """While the store cannot be read, the model serves and `last_error` has the reason; the recovery is logged."""
    host.store = ModelStore(bucket, "staging")
    host.publish(FIRST)
    updater = Updater(host.store, host.cache, host.verify)
    updater.check()
    caplog.set_level(logging.INFO, "pmip")
    before = host.state.last_success_at
    Updater(ModelStore(S3Storage("pmip-no-such-bucket"), "staging"), host.cache, host.verify).check()
    assert host.current == FIRST
    assert "no such bucket" in str(host.state.last_error)
    assert (host.state.check_errors, host.state.last_success_at) == ({"no_bucket": 1}, before)
    updater.check()
    assert (host.state.last_error, host.verified) == (None, [FIRST])
    assert host.state.last_success_at == host.state.last_check_at
    [recovered] = [record.message for record in caplog.records if record.levelno == logging.INFO]
    assert recovered.startswith("the check for a new model works again; the last error was: s3://pmip-no-such-bucket")


def test_a_pinned_version_is_served_whatever_is_newest(host: Host) -> None:
    """An operator who sets PINNED_MODEL_ID gets this version only, or an error if the store does not hold it."""
    host.publish(FIRST, SECOND)
    Updater(host.store, host.cache, host.verify, pinned="20250101").check()
    assert host.current is None
    missing = "does not hold version 20250101, which PINNED_MODEL_ID names; correct or unset it"
    assert missing in str(host.state.last_error)
    Updater(host.store, host.cache, host.verify, pinned=FIRST).check()
    assert host.current == FIRST


def test_the_local_model_is_taken_up_whenever_it_is_written(host: Host, tmp_path: Path) -> None:
    """In dev a newly written model.pkl is verified and served again under the id "local", once for each file."""
    local = LocalModel(tmp_path)
    updater = Updater(local, host.cache, host.verify)
    for _ in range(2):
        local.save(host.artifact)
        updater.check()
        updater.check()
    assert (host.current, host.verified) == ("local", ["local", "local"])


def test_a_successor_serves_what_is_there(host: Host) -> None:
    """A new leader serves the model in the cache, and does not verify it again."""
    host.publish(FIRST)
    host.check()
    entry = host.state.current
    Updater(host.store, host.cache, host.verify).check()
    assert (host.state.current, host.verified) == (entry, [FIRST])


def test_a_damaged_cache_is_mended(host: Host, tmp_path: Path) -> None:
    """After the cache was damaged, the next check fetches the version again."""
    host.publish(FIRST)
    host.check()
    [path] = tmp_path.glob(f"cache/store/*/{SCORER}")
    path.write_text("damaged")
    assert host.current is None
    host.check()
    assert host.current == FIRST


def test_old_versions_leave_the_cache(host: Host, tmp_path: Path) -> None:
    """The cache keeps the current version and the one before it, since a worker may still read that one."""
    for model_id in (FIRST, SECOND, THIRD):
        host.publish(model_id)
        host.check()
    assert {path.parent.name[:16] for path in tmp_path.glob(f"cache/store/*/{SCORER}")} == {SECOND, THIRD}


def test_a_full_disk_is_told(host: Host) -> None:
    """When the cache cannot be written, the old model serves and the error says so; a later check recovers."""
    host.publish(FIRST)
    host.check()
    host.publish(SECOND)
    unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, unlimited[1]))
    try:
        host.check()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
    assert host.current == FIRST
    assert host.state.last_error == "the host's cache cannot be written: File too large"
    host.check()
    assert (host.current, host.state.last_error) == (SECOND, None)
