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
from pmip.serving.cache import HostCache, State
from pmip.serving.updater import Updater
from pmip.store.objects import FolderStorage, S3Storage
from pmip.store.versions import LocalModel, ModelStore

FIRST, SECOND, THIRD = "20260101T000000Z", "20260202T000000Z", "20260303T000000Z"


class Host:
    """A host's cache and a store in a folder; the real verification notes its calls, and can be told to break off."""

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
    """The error says how to publish a version, and the state has the time of the check."""
    host.check()
    state = host.state
    assert (state.current, state.load_failures, state.check_errors) == (None, {}, {"no_version": 1})
    assert "does not hold any version; 'bash scripts/train.sh' publishes one" in str(state.last_error)
    assert state.last_check_at


def test_the_newest_version_is_verified_once(host: Host) -> None:
    """A check returns the version that it took up, loaded; further checks do nothing until a newer one is published."""
    host.publish(FIRST)
    loaded = [host.updater.check() for _ in range(3)]
    assert [taken and (taken[0], taken[1].model_id) for taken in loaded] == [(host.state.current, FIRST), None, None]
    assert (host.current, host.verified) == (FIRST, [FIRST])
    host.publish(SECOND)
    host.check()
    assert (host.current, host.state.last_error) == (SECOND, None)


def test_a_broken_version_is_refused_once_and_the_old_one_stays(host: Host, caplog: Any) -> None:
    """The refusal is logged once, stays in `last_error`, and disappears when a good version follows."""
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
    """The next leader does not fetch it again; when the file is replaced, it is tried again."""
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
    """A verification that was killed says nothing against the model; until then the older version serves."""
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
    """A hostile version costs two attempts, and not one at each check; a later leader does not try it again either."""
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
    """A good version that is published during a long search is served next, before older ones are tried."""
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
    """Whatever its metadata hold, the version before it serves."""
    host.publish(FIRST)
    host.storage.write("models/staging/20260303/metadata.json", metadata)
    host.storage.write(f"models/staging/20260303/{MODEL}", host.artifact.model)
    host.check()
    assert (host.current, host.state.load_failures, host.state.check_errors) == (FIRST, {kind: 1}, {})
    assert str(host.state.last_error).startswith("model 20260303: ")


def test_a_fault_that_nobody_foresaw_never_ends_the_search(host: Host) -> None:
    """The error names only the class of the exception, whose text may hold anything; the next check tries again."""
    host.publish(FIRST, SECOND)
    host.meanwhile = lambda: len(host.verified) == 1 and [][1]
    host.check()
    assert (host.current, host.state.load_failures) == (FIRST, {"unexpected": 1})
    assert host.state.last_error == f"model {SECOND}: IndexError while it was loaded"
    host.check()
    assert (host.current, host.state.last_error) == (SECOND, None)


def test_a_process_whose_code_is_older_than_its_files_refuses_the_version(host: Host, monkeypatch: Any) -> None:
    """The child has imported the text functions as the files hold them, the workers as they were at their start."""
    host.publish(FIRST)
    monkeypatch.setattr(text, "_TOKEN", re.compile(r"\w"))
    Updater(host.store, host.cache, partial(verify_in_child, environment="staging")).check()
    assert (host.current, host.state.load_failures) == (None, {"golden_answers": 1})
    assert "the code was changed while the API ran: restart it" in str(host.state.last_error)


def test_an_api_with_newer_text_says_that_all_versions_are_older(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until a version is trained with the same code, the message names both remedies."""
    host.publish(FIRST, SECOND)
    monkeypatch.setattr(text, "_TOKEN", re.compile(r"\w"))
    for _ in range(2):
        host.check()
        error = str(host.state.last_error)
        none = f"no version in {host.store} gives its answers of training with the pmip.text of this API"
        assert error.startswith(none)
        assert f"deploy the code that trained them; model {SECOND}: the answer to golden comment" in error


def test_a_half_published_version_is_taken_up_when_it_is_whole(host: Host) -> None:
    """metadata.json alone is no version yet, and no error; with model.pkl it is, at the next check."""
    host.publish(FIRST)
    assert host.artifact.metadata
    host.storage.write(f"models/staging/{SECOND}/metadata.json", host.artifact.metadata.to_json())
    host.check()
    assert (host.current, host.state.last_error) == (FIRST, None)
    host.storage.write(f"models/staging/{SECOND}/model.pkl", host.artifact.model)
    host.check()
    assert host.current == SECOND


def test_a_rollback_is_seen_on_s3_too(host: Host, bucket: S3Storage) -> None:
    """Retiring a version, or deleting its model.pkl by hand, brings back the version before it."""
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
    """Serving the last good model beats serving none."""
    host.publish(FIRST)
    host.check()
    host.store.retire(FIRST)
    host.check()
    assert host.current == FIRST
    assert "does not hold any version" in str(host.state.last_error)


def test_an_unreachable_store_leaves_the_model_in_service(host: Host, bucket: S3Storage, caplog: Any) -> None:
    """When the bucket refuses, the model stays and last_error tells; it recovers by itself, which is logged."""
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
    """PINNED_MODEL_ID serves this version only, and says so when it is not there."""
    host.publish(FIRST, SECOND)
    Updater(host.store, host.cache, host.verify, pinned="20250101").check()
    assert host.current is None
    missing = "does not hold version 20250101, which PINNED_MODEL_ID names; correct or unset it"
    assert missing in str(host.state.last_error)
    Updater(host.store, host.cache, host.verify, pinned=FIRST).check()
    assert host.current == FIRST


def test_the_local_model_is_taken_up_whenever_it_is_written(host: Host, tmp_path: Path) -> None:
    """In dev the id stays 'local', and a new file is verified anew."""
    local = LocalModel(tmp_path)
    updater = Updater(local, host.cache, host.verify)
    for _ in range(2):
        local.save(host.artifact)
        updater.check()
        updater.check()
    assert (host.current, host.verified) == ("local", ["local", "local"])


def test_a_successor_serves_what_is_there(host: Host) -> None:
    """A leader that takes over neither fetches nor verifies again."""
    host.publish(FIRST)
    host.check()
    entry = host.state.current
    Updater(host.store, host.cache, host.verify).check()
    assert (host.state.current, host.verified) == (entry, [FIRST])


def test_a_damaged_cache_is_mended(host: Host, tmp_path: Path) -> None:
    """The next check fetches and verifies the version again."""
    host.publish(FIRST)
    host.check()
    [path] = tmp_path.glob(f"cache/store/*/{SCORER}")
    path.write_text("damaged")
    assert host.current is None
    host.check()
    assert host.current == FIRST


def test_old_versions_leave_the_cache(host: Host, tmp_path: Path) -> None:
    """The version before the current one stays, since a worker may just be reading it."""
    for model_id in (FIRST, SECOND, THIRD):
        host.publish(model_id)
        host.check()
    assert {path.parent.name[:16] for path in tmp_path.glob(f"cache/store/*/{SCORER}")} == {SECOND, THIRD}


def test_a_full_disk_is_told(host: Host) -> None:
    """Files that cannot be written end neither the thread nor the service; later it goes on by itself."""
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
