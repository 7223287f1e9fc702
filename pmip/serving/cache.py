"""The verified models of this host: one worker, the leader, fills the folder; all workers read it."""

import fcntl
import json
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

from pmip.errors import ArtifactError, CacheError
from pmip.model.artifact import MODEL, SCORER, library_versions, run_pickle, source_hash
from pmip.model.scorer import Scorer
from pmip.model.verification import replay

STATE, LOCK, INCOMING = "state.json", "leader.lock", "incoming-"
UNUSED_SECONDS = 30 * 24 * 3600


@dataclass(frozen=True)
class Entry:
    """A verified version: its folder in the cache, and the hash that reveals a damaged file."""

    folder: str
    model_id: str
    mark: str
    sha256: str


class Fault(NamedTuple):
    """Why a version is not served: a kind, which is a label in /metrics, and a message for people."""

    kind: str
    text: str


@dataclass(frozen=True)
class State:
    """What the leader publishes to all workers.

    - `last_success_at`: time of the last check that reached the store and left the newest usable version in service.
    - `last_error`: why this host does not serve the newest version.
    - `check_errors`, `load_failures`: numbers of failed checks and of versions that failed to load, by kind.
    - `refused`: for each refused version, named by id and mark, the reason.
    - `undecided`: names of the versions whose verification ended once without a result; the next time they are refused.
    """

    current: Entry | None = None
    last_check_at: str | None = None
    last_success_at: str | None = None
    last_error: str | None = None
    check_errors: dict[str, int] = field(default_factory=dict)
    load_failures: dict[str, int] = field(default_factory=dict)
    refused: dict[str, Fault] = field(default_factory=dict)
    undecided: list[str] = field(default_factory=list)


def cache_folder(base: Path | None, *served: object) -> Path:
    """Return a separate folder for each combination of user, served store, libraries and source code of pmip."""
    key = sha256(repr((served, library_versions(), source_hash())).encode()).hexdigest()[:16]
    return (base or Path(tempfile.gettempdir())) / f"pmip-{os.geteuid()}" / key


class HostCache:
    """A folder that only this user can read and write; damaged files in it are treated as missing.

    Its owner and mode are checked before every read, because another user may have created it first.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock: int | None = None

    def acquire_lock(self) -> bool:
        """Return whether this process is the leader: the first process that asks, until it ends."""
        path = self._folder / LOCK
        if self._lock is not None and not (path.exists() and os.path.samestat(os.fstat(self._lock), path.stat())):
            self.release_lock()  # somebody emptied the folder, so the lock that is held protects nothing
        if self._lock is None:
            self._make_folders()
            self._require_private()
            self._lock = _locked(path)
            if self._lock is not None:
                self._remove_leftovers()
        return self._lock is not None

    def release_lock(self) -> None:
        """Let another process lead."""
        if self._lock is not None:
            os.close(self._lock)
        self._lock = None

    def changed(self) -> tuple[int, ...] | None:
        """Return a value that is different after each `save`."""
        try:
            self._require_private()
            status = (self._folder / STATE).stat()
        except OSError:
            return None
        return status.st_ino, status.st_mtime_ns, status.st_size

    def state(self) -> State:
        """Return the state that the leader saved last."""
        try:
            self._require_private()
            written = json.loads((self._folder / STATE).read_bytes())
            entry, refused = written.pop("current"), written.pop("refused")
            faults = {name: Fault(*fault) for name, fault in refused.items()}
            return State(current=None if entry is None else Entry(**entry), refused=faults, **written)
        except (OSError, ValueError, TypeError, AttributeError, KeyError):
            return State()

    def save(self, state: State) -> None:
        """Write the state for all workers; they read either the old state or the new one, never a part."""
        partial = self._folder / f"{INCOMING}{STATE}"
        partial.write_text(json.dumps(asdict(state)))
        partial.replace(self._folder / STATE)

    @contextmanager
    def incoming(self) -> Iterator[Path]:
        """Yield a temporary folder for a version that is not yet verified."""
        folder = Path(tempfile.mkdtemp(dir=self._folder, prefix=INCOMING))
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def adopt(self, incoming: Path, model_id: str, mark: str) -> Entry:
        """Move a verified version into the cache."""
        digest = sha256((incoming / SCORER).read_bytes()).hexdigest()
        entry = Entry(f"{model_id}-{digest[:16]}", model_id, mark, digest)
        if not self.holds(entry):
            shutil.rmtree(self._folder / entry.folder, ignore_errors=True)
            incoming.rename(self._folder / entry.folder)
        return entry

    def holds(self, entry: Entry) -> bool:
        """Return whether an entry exists and is undamaged."""
        with suppress(ArtifactError):
            return bool(self._read(entry, SCORER, entry.sha256))
        return False

    def load_and_replay(self, entry: Entry) -> Scorer:
        """Load the scorer of an entry, and replay its golden comments with the code of this process."""
        plain = json.loads(self._read(entry, SCORER, entry.sha256))
        scorer = Scorer.from_plain(plain, lambda: run_pickle(self._read(entry, MODEL, plain["metadata"]["sha256"])))
        try:
            replay(scorer.spam, scorer.metadata.golden)
        except ArtifactError as error:
            raise ArtifactError(f"{error}; the code was changed while the API ran: restart it", error.kind) from error
        return scorer

    def prune(self, *kept: Entry | None) -> None:
        """Remove all entries but these."""
        names = {entry.folder for entry in kept if entry}
        for path in self._folder.iterdir():
            if path.is_dir() and path.name not in names:
                shutil.rmtree(path, ignore_errors=True)

    def _read(self, entry: Entry, name: str, digest: str) -> bytes:
        try:
            self._require_private()
            content = (self._folder / entry.folder / name).read_bytes()
        except OSError as error:
            raise ArtifactError(f"{name} in the host's cache cannot be read ({error.strerror})") from error
        if sha256(content).hexdigest() != digest:
            raise ArtifactError(f"{name} in the host's cache is damaged")
        return content

    def _make_folders(self) -> None:
        for folder in (self._folder.parent, self._folder):
            try:
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            except OSError as error:
                advice = "set MODEL_CACHE_DIR to a folder that this user can write"
                raise CacheError(f"{folder}: it cannot be made ({error.strerror}); {advice}") from error

    def _require_private(self) -> None:
        for folder in (self._folder.parent, self._folder):
            status = folder.lstat()
            if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o077:
                advice = "remove it, or set MODEL_CACHE_DIR to another folder"
                raise CacheError(f"{folder}: other users can reach it; {advice}")

    def _remove_leftovers(self) -> None:
        """Remove unfinished work of a killed leader, and folders of other releases that are not used any more."""
        self.prune(self.state().current)
        for sibling in self._folder.parent.iterdir():
            state = sibling / STATE
            if state.exists() and time.time() - state.stat().st_mtime > UNUSED_SECONDS:
                shutil.rmtree(sibling, ignore_errors=True)


def _locked(path: Path) -> int | None:
    """Lock a file until this process ends, even by a crash; return `None` if another process holds the lock."""
    file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)  # child processes do not inherit it
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(file)
        return None
    return file
