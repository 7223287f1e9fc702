"""The host's cache: one process leads, all processes read, and damaged or foreign files are not used."""

import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import ROOT

from pmip.errors import ArtifactError, CacheError
from pmip.model.artifact import SCORER, Artifact
from pmip.model.verification import verify_folder
from pmip.serving.cache import STATE, Entry, Fault, HostCache, State, cache_folder

LEAD_UNTIL_KILLED = """
import sys, time
from pathlib import Path
from pmip.serving.cache import HostCache
print(HostCache(Path(sys.argv[1])).acquire_lock(), flush=True)
time.sleep(60)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "user" / "store"


@pytest.fixture
def cache(folder: Path) -> HostCache:
    cache = HostCache(folder)
    assert cache.acquire_lock()
    return cache


def adopted(cache: HostCache, model_id: str, content: str = "{}") -> Entry:
    with cache.incoming() as incoming:
        (incoming / SCORER).write_text(content)
        return cache.adopt(incoming, model_id, "mark")


def test_only_the_first_to_ask_leads(cache: HostCache, folder: Path) -> None:
    """The first process that locks the folder leads, and all others get False, however often they try."""
    other = HostCache(folder)
    assert [asked.acquire_lock() for asked in (other, cache, other, cache)] == [False, True, False, True]


def test_when_the_leader_is_killed_another_one_leads(folder: Path) -> None:
    """When the leader is killed, the kernel frees its lock and another process can lead."""
    leader = subprocess.Popen(
        [sys.executable, "-c", LEAD_UNTIL_KILLED, str(folder)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert leader.stdout
    with leader.stdout:
        assert leader.stdout.readline() == "True\n"
        other = HostCache(folder)
        assert not other.acquire_lock()
        leader.kill()
        leader.wait(10)
    assert other.acquire_lock()


def test_a_leader_of_a_folder_that_was_emptied_leads_no_more(cache: HostCache, folder: Path) -> None:
    """After somebody emptied the folder, another process leads and can write, and the old leader does not lead."""
    for path in folder.iterdir():
        path.unlink()
    other = HostCache(folder)
    assert other.acquire_lock()
    assert not cache.acquire_lock()
    other.save(State(last_error="an error"))
    assert cache.state().last_error == "an error"


def test_the_folder_is_this_users_alone(cache: HostCache, folder: Path) -> None:
    """Only the user can enter the folder, and an unsuitable folder is refused by name with the setting to change."""
    assert cache.acquire_lock()
    assert (folder.stat().st_mode & 0o777, folder.parent.stat().st_mode & 0o777) == (0o700, 0o700)
    open_folder = folder.with_name("open")
    open_folder.mkdir()
    open_folder.chmod(0o755)
    with pytest.raises(CacheError, match=f"{open_folder}: other users can reach it.*MODEL_CACHE_DIR"):
        HostCache(open_folder).acquire_lock()
    (folder / "file").touch()
    with pytest.raises(CacheError, match=r"file/a: it cannot be made \(Not a directory\); set MODEL_CACHE_DIR to"):
        HostCache(folder / "file" / "a" / "b").acquire_lock()
    link = folder.with_name("link")
    link.symlink_to(folder)
    with pytest.raises(CacheError, match="other users can reach it"):
        HostCache(link).acquire_lock()


def test_what_another_user_planted_is_not_read(cache: HostCache, folder: Path) -> None:
    """A process refuses to read a folder of another user, or one that other users can reach."""
    entry = adopted(cache, "20260101")
    cache.save(State(entry))
    reader = HostCache(folder)
    reads = (reader.changed, reader.state, lambda: reader.load_and_replay(entry), lambda: reader.holds(entry))
    for path, mode, owner in ((folder, 0o755, 0), (folder.parent, 0o770, 0), (folder, 0o700, 65534)):
        path.chmod(mode)
        os.chown(path, owner, -1)
        for read in reads:
            with pytest.raises(CacheError, match=f"{path}: other users can reach it"):
                read()
        path.chmod(0o700)
        os.chown(path, 0, -1)
    assert reader.state().current == entry


def test_what_the_leader_tells_is_read_by_all(cache: HostCache, folder: Path) -> None:
    """Every worker reads the whole state that the leader saved, and `changed` differs after each `save`."""
    entry = adopted(cache, "20260101")
    moment, fault = "2026-01-01T00:00:00+00:00", Fault("damaged", "a reason")
    state = State(entry, moment, moment, "an error", {"away": 1}, {"damaged": 3}, {"20260202 mark": fault})
    reader = HostCache(folder)
    assert (reader.changed(), reader.state()) == (None, State())
    cache.save(state)
    first = reader.changed()
    assert reader.state() == state
    cache.save(replace(state, current=None))
    assert reader.changed() not in (None, first)
    assert reader.state().current is None


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "null", '{"current": 1}', '{"current": {}}', '{"other": 1}', "\xff"]
)
def test_a_damaged_state_counts_as_none(cache: HostCache, folder: Path, content: str) -> None:
    """A state file that cannot be read counts as an empty state."""
    (folder / STATE).write_bytes(content.encode("latin-1"))
    assert cache.state() == State()


def test_an_entry_is_read_as_it_was_verified(cache: HostCache, folder: Path, artifact: Artifact) -> None:
    """An entry with one changed byte, or without its file, is refused by name."""
    with cache.incoming() as incoming:
        artifact.write(incoming)
        verify_folder(incoming, "20260101", "staging")
        entry = cache.adopt(incoming, "20260101", "mark")
    path = folder / entry.folder / SCORER
    assert (cache.load_and_replay(entry).model_id, cache.holds(entry)) == ("20260101", True)
    path.write_bytes(path.read_bytes().replace(b"1", b"2", 1))
    assert not cache.holds(entry)
    with pytest.raises(ArtifactError, match=r"scorer\.json in the host's cache is damaged"):
        cache.load_and_replay(entry)
    path.unlink()
    with pytest.raises(ArtifactError, match=r"scorer\.json in the host's cache cannot be read"):
        cache.load_and_replay(entry)


def test_a_damaged_entry_is_replaced(cache: HostCache, folder: Path) -> None:
    """A damaged entry is written again when its version is adopted again; a sound one is not."""
    entry = adopted(cache, "20260101")
    inode = (folder / entry.folder / SCORER).stat().st_ino
    assert adopted(cache, "20260101") == entry
    assert (folder / entry.folder / SCORER).stat().st_ino == inode
    (folder / entry.folder / SCORER).write_text("{")
    assert adopted(cache, "20260101") == entry
    assert cache.holds(entry)


def test_what_nobody_needs_is_removed(cache: HostCache, folder: Path) -> None:
    """Pruning removes old entries, and a new leader the leftovers of the one before; the current entry stays."""
    old, current, left = adopted(cache, "20260101"), adopted(cache, "20260202"), folder / "incoming-half"
    cache.prune(current, None)
    assert (cache.holds(old), cache.holds(current)) == (False, True)
    cache.save(State(current))
    left.mkdir()
    cache.release_lock()
    assert HostCache(folder).acquire_lock()
    assert not left.exists()
    assert (folder / current.folder).is_dir()


def test_the_folders_of_other_releases_go_when_long_unused(folder: Path) -> None:
    """The folder of another release is removed after 30 days without use, and not before."""
    month = 31 * 24 * 3600
    for name, age in (("recent", 0), ("old", month)):
        other = HostCache(folder.with_name(name))
        assert other.acquire_lock()
        other.save(State())
        os.utime(folder.with_name(name) / STATE, (time.time() - age,) * 2)
    assert HostCache(folder).acquire_lock()
    assert {path.name for path in folder.parent.iterdir()} == {"recent", "store"}


def test_another_store_pin_or_user_has_another_folder(tmp_path: Path) -> None:
    """Each store, pinned version and user has a cache folder of its own."""
    assert cache_folder(tmp_path, "s3://a/", None) == cache_folder(tmp_path, "s3://a/", None)
    assert cache_folder(tmp_path, "s3://a/", None) != cache_folder(tmp_path, "s3://b/", None)
    assert cache_folder(tmp_path, "s3://a/", None) != cache_folder(tmp_path, "s3://a/", "20260101")
    assert cache_folder(tmp_path, "").parent == tmp_path / f"pmip-{os.geteuid()}"
    assert cache_folder(None, "").parent.parent.is_dir()
