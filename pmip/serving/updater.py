"""The leader's work: it puts the newest usable version of the store into the host's cache.

A check lists the versions, newest first, and downloads the first one that was not refused before. A child process
verifies it, this process loads it and replays its golden comments, and the saved state makes it the current version.
A version that fails is saved with its fault and the next older one is tried; the current version stays until another
one is loaded. A refusal lasts until a file of the version changes. A verification without a result, such as a time-out,
is repeated once; then it is a refusal too.
"""

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pmip.errors import (
    ArtifactError,
    BucketNotFoundError,
    CacheError,
    ModelNotFoundError,
    OtherTextError,
    PmipError,
    StorageAwayError,
    VerificationError,
)
from pmip.model.scorer import Scorer
from pmip.serving.cache import Entry, Fault, HostCache, State
from pmip.store.versions import LocalModel, ModelStore, Version

log = logging.getLogger(__name__)

Verify = Callable[[Path, str], None]
Loaded = tuple[Entry, Scorer]
Faults = dict[str, Fault | None]  # by model id; None for a version that was removed after it was listed
GIVEN_UP = "it is not tried again; train a new version, or retire this one"
OTHER_TEXT = (
    "no version in {} gives its answers of training with the pmip.text of this API: train with this code "
    "('bash scripts/train.sh'), or deploy the code that trained them; {}"
)


class Updater:
    """Keeps the newest usable version of a store, or the pinned one, in the cache.

    Each finding of a check is saved at once in the cache's state, which only the leader writes and all workers read.
    """

    def __init__(
        self, store: ModelStore | LocalModel, cache: HostCache, verify: Verify, pinned: str | None = None
    ) -> None:
        self._store = store
        self._cache = cache
        self._verify = verify
        self._pinned = pinned
        self._state = State()

    def check(self) -> Loaded | None:
        """Put the newest usable version into the cache; return it if it is not the one before.

        All errors are logged and saved.
        """
        before = self._state = self._cache.state()
        loaded, error, kind = None, None, None
        try:
            loaded, error = self._take_up_newest()
        except PmipError as problem:
            kind, error = problem.kind, str(problem)
        except OSError as problem:
            kind, error = CacheError.kind, f"the host's cache cannot be written: {problem.strerror}"
        except Exception as problem:  # an unexpected error must not end the thread
            log.exception("the check for a new model failed")
            kind, error = "unexpected", f"{type(problem).__name__} while looking for a new model"
        self._save_outcome(before, error, kind)
        return loaded

    def _take_up_newest(self) -> tuple[Loaded | None, str | None]:
        """Serve the newest usable version; return it if it is new, and what is wrong with a newer one that was refused.

        Each attempt may take minutes, so the versions are listed again after it. Raise when the store or the cache does
        not work, or when no version is usable.
        """
        current, passed = self._sound_current(), Faults()
        while version := self._next(current, passed):
            if current and version[:2] == (current.model_id, current.mark):
                return None, _newest(passed)
            try:
                loaded = self._download_and_verify(version)
            except ModelNotFoundError:
                passed[version.model_id] = None
            except (StorageAwayError, BucketNotFoundError, CacheError, OSError):
                raise
            except Exception as problem:
                self._pass_over(version, problem, passed)
            else:
                self._serve(loaded[0])
                return loaded, _newest(passed)
        raise ModelNotFoundError(self._nothing_usable(passed))

    def _next(self, current: Entry | None, passed: Faults) -> Version | None:
        """Return the newest version that was not tried yet; add newer versions that were refused before to `passed`."""
        for version in self._candidates(current):
            fault = self._state.refused.get(_name(version))
            if fault:
                passed.setdefault(version.model_id, fault)
            elif version.model_id not in passed:
                return version
        return None

    def _candidates(self, current: Entry | None) -> Iterator[Version]:
        """Yield the versions that may be served, newest first. When nothing changed, this costs one S3 request."""
        if self._pinned:
            with suppress(ModelNotFoundError):
                yield self._store.version(self._pinned)
            return
        if current:
            yield from self._store.versions(since=current.model_id)
        yield from self._store.versions()

    def _sound_current(self) -> Entry | None:
        """Return the current version, unless it is missing or damaged in the cache."""
        current = self._state.current
        return current if current and self._cache.holds(current) else None

    def _download_and_verify(self, version: Version) -> Loaded:
        """Download and verify a version; load it here too, because this process may run older code than its child."""
        with self._cache.incoming() as folder:
            self._store.download(version.model_id, folder)
            self._verify(folder, version.model_id)
            entry = self._cache.adopt(folder, version.model_id, version.mark)
        return entry, self._cache.load_and_replay(entry)

    def _serve(self, entry: Entry) -> None:
        """Make a version the current one, and forget the faults of older versions, which are never tried."""
        self._cache.prune(entry, self._state.current)
        newer = {name: fault for name, fault in self._state.refused.items() if name.split()[0] > entry.model_id}
        undecided = [name for name in self._state.undecided if name.split()[0] > entry.model_id]
        self._save(current=entry, refused=newer, undecided=undecided)

    def _pass_over(self, version: Version, problem: Exception, passed: Faults) -> None:
        """Log, count and save the fault of a version; a refusal lasts until a file of the version is replaced."""
        fault, name = _fault(version, problem), _name(version)
        refused, undecided = self._state.refused, self._state.undecided
        if isinstance(problem, VerificationError) and name in undecided:
            fault = fault._replace(text=f"{fault.text}, as the time before: {GIVEN_UP}")
            refused = refused | {name: fault}
        elif isinstance(problem, VerificationError):
            undecided = [*undecided, name]
        elif isinstance(problem, ArtifactError):
            refused = refused | {name: fault}
        passed[version.model_id] = fault
        if fault.text != self._state.last_error:
            log.warning("%s", fault.text)
        failures = _one_more(self._state.load_failures, fault.kind)
        self._save(refused=refused, undecided=undecided, load_failures=failures, last_error=_newest(passed))

    def _save_outcome(self, before: State, error: str | None, kind: str | None) -> None:
        """Save the outcome of a check; `kind` is set if the check failed. Log a new error, and log the recovery."""
        now = datetime.now(UTC).isoformat(timespec="seconds")
        if error and error != self._state.last_error:
            log.warning("%s", error)
        if before.last_error and not kind and (not error or before.last_check_at != before.last_success_at):
            log.info("the check for a new model works again; the last error was: %s", before.last_error)
        errors = _one_more(self._state.check_errors, kind) if kind else self._state.check_errors
        success = self._state.last_success_at if kind else now
        self._save(check_errors=errors, last_success_at=success, last_error=error, last_check_at=now)

    def _save(self, **changes: Any) -> None:
        self._state = replace(self._state, **changes)
        self._cache.save(self._state)

    def _nothing_usable(self, passed: Faults) -> str:
        newest = _newest(passed)
        if newest and all(fault.kind == OtherTextError.kind for fault in passed.values() if fault):
            return OTHER_TEXT.format(self._store, newest)
        if self._pinned:
            missing = f"version {self._pinned}, which PINNED_MODEL_ID names; correct or unset it"
            return newest or f"{self._store} does not hold {missing}"
        return newest or f"{self._store} does not hold any version; 'bash scripts/train.sh' publishes one"


def _name(version: Version) -> str:
    return f"{version.model_id} {version.mark}"


def _newest(passed: Faults) -> str | None:
    """Return what is wrong with the newest of the refused versions."""
    faults = [passed[model_id] for model_id in sorted(passed, reverse=True)]
    return next((fault.text for fault in faults if fault), None)


def _fault(version: Version, problem: Exception) -> Fault:
    if isinstance(problem, PmipError):
        return Fault(problem.kind, f"model {version.model_id}: {problem}")
    log.error("model %s could not be loaded", version.model_id, exc_info=problem)
    return Fault("unexpected", f"model {version.model_id}: {type(problem).__name__} while it was loaded")


def _one_more(counts: Mapping[str, int], kind: str) -> dict[str, int]:
    return {**counts, kind: counts.get(kind, 0) + 1}
