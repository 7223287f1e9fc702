"""The reloader: each process serves what the host's cache holds, whichever process filled it."""

import logging
import shutil
from pathlib import Path

import pytest
from conftest import publish, reloader_of

from pmip.errors import ModelNotReadyError
from pmip.model.artifact import SCORER, Artifact
from pmip.serving.reloader import Reloader
from pmip.store.objects import FolderStorage
from pmip.store.versions import ModelStore

FIRST, SECOND = "20260101T000000Z", "20260202T000000Z"
SPAM = ["Check it out this free stuff"]


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return ModelStore(FolderStorage(tmp_path / "store"), "staging")


@pytest.fixture
def leader(store: ModelStore, tmp_path: Path) -> Reloader:
    """Make the process that polls the store at each step."""
    leader = reloader_of(store, tmp_path)
    leader.step()
    return leader


@pytest.fixture
def follower(leader: Reloader, store: ModelStore, tmp_path: Path) -> Reloader:
    return reloader_of(store, tmp_path)


def test_before_the_first_look_it_is_not_ready(store: ModelStore, tmp_path: Path) -> None:
    """A new reloader makes no folder, and its scorer raises an error until a model is loaded."""
    with pytest.raises(ModelNotReadyError, match="no model is loaded yet"):
        _ = reloader_of(store, tmp_path).scorer
    assert not (tmp_path / "cache").exists()


def test_all_take_up_what_the_leader_fetched(
    leader: Reloader, follower: Reloader, store: ModelStore, artifact: Artifact
) -> None:
    """A follower serves each version after the leader has fetched it, and reports the same state."""
    for model_id in (FIRST, SECOND):
        publish(store, artifact, model_id)
        follower.step()
        assert follower.last_error or follower.scorer.model_id == FIRST
        for reloader in (leader, follower):
            reloader.step()
            assert (reloader.scorer.model_id, reloader.scorer.classes(SPAM)) == (model_id, [1])
    assert (leader.last_check_at, leader.last_error) == (follower.last_check_at, follower.last_error)


def test_a_scorer_stays_until_there_is_another_one(leader: Reloader, store: ModelStore, artifact: Artifact) -> None:
    """A process keeps its scorer when nothing is new, and also when the new version is refused."""
    publish(store, artifact, FIRST)
    leader.step()
    first = leader.scorer
    leader.step()
    assert leader.scorer is first
    publish(store, artifact, SECOND, broken=True)
    leader.step()
    assert (leader.scorer is first, leader.state.load_failures) == (True, {"damaged": 1})
    assert f"{SECOND}: the SHA-256" in str(leader.last_error)


def test_a_damaged_cache_is_told_and_mended(
    leader: Reloader, follower: Reloader, store: ModelStore, artifact: Artifact, tmp_path: Path
) -> None:
    """A process that finds the cache damaged says so, until the leader has fetched the version again."""
    publish(store, artifact, FIRST)
    leader.step()
    [path] = tmp_path.glob(f"cache/*/*/{SCORER}")
    path.write_text("damaged")
    with pytest.raises(ModelNotReadyError, match=r"scorer\.json in the host's cache is damaged"):
        _ = follower.scorer
    leader.step()
    assert (leader.scorer.model_id, follower.scorer.model_id) == (FIRST, FIRST)


def test_a_cache_that_cannot_be_used_is_told_once(
    store: ModelStore, artifact: Artifact, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """One log line names an unusable cache folder and the setting; when it is usable, the model is loaded."""
    publish(store, artifact, FIRST)
    folder = tmp_path / "cache"
    folder.mkdir(mode=0o755)
    reloader = reloader_of(store, tmp_path)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            reloader.step()
    assert len(caplog.records) == 1
    assert f"{folder}: other users can reach it; remove it, or set MODEL_CACHE_DIR" in str(reloader.last_error)
    shutil.rmtree(folder)
    reloader.step()
    assert (reloader.scorer.model_id, reloader.last_error) == (FIRST, None)


def test_the_thread_looks_by_itself(store: ModelStore, artifact: Artifact, tmp_path: Path) -> None:
    """`start` returns as soon as the thread that polls the store has loaded a first model."""
    publish(store, artifact, FIRST)
    reloader = reloader_of(store, tmp_path, poll_seconds=3600)
    reloader.start(wait_seconds=30)
    assert reloader.scorer.model_id == FIRST


def test_the_interval_is_counted_by_the_clock_that_it_is_given(
    store: ModelStore, artifact: Artifact, tmp_path: Path
) -> None:
    """The store is polled once an interval of the given clock, or earlier if the step is to poll at once."""
    now = 1000.0
    reloader = reloader_of(store, tmp_path, poll_seconds=60, clock=lambda: now)
    reloader.step()
    publish(store, artifact, FIRST)
    reloader.step()
    assert not reloader.is_ready
    reloader.step(at_once=True)
    assert (reloader.is_ready, reloader.scorer.model_id) == (True, FIRST)
    publish(store, artifact, SECOND)
    reloader.step()
    assert reloader.scorer.model_id == FIRST
    now += 60
    reloader.step()
    assert reloader.scorer.model_id == SECOND
