"""The leader's work: it puts the newest usable version into the host's cache."""

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from pmip.errors import (
    ArtifactError,
    BucketNotFoundError,
    CacheError,
    ModelNotFoundError,
    PmipError,
    StorageAwayError,
)
from pmip.serving.cache import Entry, Fault, HostCache, State
from pmip.store.versions import LocalModel, ModelStore, Version

log = logging.getLogger(__name__)

Verify = Callable[[Path, str], None]
Faults = dict[str, Fault | None]  # by model id; None for a version that was removed after it was listed
OTHER_TEXT = (
    "no version in {} gives its answers of training with the pmip.text of this API: train with this code "
    "('bash scripts/train.sh'), or deploy the code that trained them; {}"
)


@dataclass(frozen=True)
class Updater:
    """Keeps the newest usable version of a store, or the pinned one, in the cache.

    A new version is verified completely before it replaces the current one, so the current version stays whenever
    something fails. Each finding of a check is saved at once in the state of the cache, which all workers read.
    """

    store: ModelStore | LocalModel
    cache: HostCache
    verify: Verify
    pinned: str | None = None

    def check(self) -> None:
        """Put the newest usable version into the cache if it differs from the current one; log and save all errors."""
        before, kind = self.cache.state(), None
        try:
            error = self._take_up_newest()
        except PmipError as problem:
            kind, error = problem.kind, str(problem)
        except OSError as problem:
            kind, error = CacheError.kind, f"the host's cache cannot be written: {problem.strerror}"
        except Exception as problem:  # an unexpected error must not end the thread
            log.exception("the check for a new model failed")
            kind, error = "unexpected", f"{type(problem).__name__} while looking for a new model"
        self._save_outcome(before, error, kind)

    def _take_up_newest(self) -> str | None:
        """Serve the newest usable version; return what is wrong with the newest version if that one was refused.

        A faulty version does not end the search. Each attempt may take minutes, so the versions are listed again after
        it. Raise when the store or the cache does not work, or when no version is usable.
        """
        current, passed = self._sound(), Faults()
        while found := self._next(current, passed):
            if current and found[:2] == (current.model_id, current.mark):
                return _newest(passed)
            try:
                entry = self._verified(found)
            except ModelNotFoundError:
                passed[found.model_id] = None
            except (StorageAwayError, BucketNotFoundError, CacheError, OSError):
                raise
            except Exception as problem:
                passed[found.model_id] = fault = _fault(found, problem)
                self._save_fault(found, fault, _newest(passed), lasts=isinstance(problem, ArtifactError))
            else:
                self._serve(entry)
                return _newest(passed)
        raise ModelNotFoundError(self._nothing_usable(passed))

    def _next(self, current: Entry | None, passed: Faults) -> Version | None:
        """Return the newest version that was not tried yet; add newer versions that were refused before to `passed`."""
        refused = self.cache.state().refused
        for version in self._candidates(current):
            known = refused.get(_name(version))
            if known:
                passed.setdefault(version.model_id, known)
            elif version.model_id not in passed:
                return version
        return None

    def _candidates(self, current: Entry | None) -> Iterator[Version]:
        """Yield the versions that may be served, newest first. When nothing changed, this costs one S3 request."""
        if self.pinned:
            with suppress(ModelNotFoundError):
                yield self.store.version(self.pinned)
            return
        if current:
            yield from self.store.versions(since=current.model_id)
        yield from self.store.versions()

    def _sound(self) -> Entry | None:
        """Return the current version, unless it is missing or damaged in the cache."""
        current = self.cache.state().current
        return current if current and self.cache.holds(current) else None

    def _verified(self, version: Version) -> Entry:
        """Download and verify a version; load it here too, because this process may run older code than its child."""
        with self.cache.incoming() as folder:
            self.store.fetch(version.model_id).write(folder)
            self.verify(folder, version.model_id)
            entry = self.cache.adopt(folder, version.model_id, version.mark)
        self.cache.scorer(entry)
        return entry

    def _serve(self, entry: Entry) -> None:
        state = self.cache.state()
        self.cache.prune(entry, state.current)
        newer = {name: fault for name, fault in state.refused.items() if name.split()[0] > entry.model_id}
        self.cache.save(replace(state, current=entry, refused=newer))  # versions older than the current are never tried

    def _save_fault(self, version: Version, fault: Fault, newest: str | None, *, lasts: bool) -> None:
        """Log, count and save a fault; if it `lasts`, do not try the version again until its file is replaced."""
        state = self.cache.state()
        if fault.text != state.last_error:
            log.warning("%s", fault.text)
        refused = state.refused | ({_name(version): fault} if lasts else {})
        failures = _one_more(state.load_failures, fault.kind)
        self.cache.save(replace(state, refused=refused, load_failures=failures, last_error=newest))

    def _save_outcome(self, before: State, error: str | None, kind: str | None) -> None:
        """Save the outcome of a check; `kind` is set if the check failed. Log a new error, and log the recovery."""
        state, now = self.cache.state(), datetime.now(UTC).isoformat(timespec="seconds")
        if error and error != state.last_error:
            log.warning("%s", error)
        if before.last_error and not kind and (not error or before.last_check_at != before.last_success_at):
            log.info("the check for a new model works again; the last error was: %s", before.last_error)
        if kind:
            state = replace(state, check_errors=_one_more(state.check_errors, kind))
        else:
            state = replace(state, last_success_at=now)
        self.cache.save(replace(state, last_error=error, last_check_at=now))

    def _nothing_usable(self, passed: Faults) -> str:
        newest = _newest(passed)
        if newest and all(_is_of_other_text(fault) for fault in passed.values() if fault):
            return OTHER_TEXT.format(self.store, newest)
        missing = f"the pinned version {self.pinned}" if self.pinned else "any version"
        return newest or f"{self.store} does not hold {missing}; 'bash scripts/train.sh' publishes one"


def _name(version: Version) -> str:
    return f"{version.model_id} {version.mark}"


def _newest(passed: Faults) -> str | None:
    """Return what is wrong with the newest of the refused versions."""
    faults = [passed[model_id] for model_id in sorted(passed, reverse=True)]
    return next((fault.text for fault in faults if fault), None)


def _is_of_other_text(fault: Fault) -> bool:
    """Return whether the model needs another pmip.text: its answers differ, or a function that it names is missing."""
    return fault.kind == "golden_answers" or (fault.kind == "not_readable" and "pmip.text." in fault.text)


def _fault(version: Version, problem: Exception) -> Fault:
    if isinstance(problem, PmipError):
        return Fault(problem.kind, f"model {version.model_id}: {problem}")
    log.error("model %s could not be loaded", version.model_id, exc_info=problem)
    return Fault("unexpected", f"model {version.model_id}: {type(problem).__name__} while it was loaded")


def _one_more(counts: Mapping[str, int], kind: str) -> dict[str, int]:
    return {**counts, kind: counts.get(kind, 0) + 1}
