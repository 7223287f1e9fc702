"""The leader's step: it brings the newest usable version into the host's cache."""

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
Faults = dict[str, Fault | None]  # by model id; None for a version that is gone since it was listed
OTHER_TEXT = (
    "none of the versions in {} answers as at training with the pmip.text of this API: train with this code "
    "('bash scripts/train.sh'), or deploy the code that trained them; {}"
)


@dataclass(frozen=True)
class Updater:
    """Keeps the cache's current version the newest usable one of a store, or the pinned one.

    Whatever fails, the current version stays: another one is verified whole before it replaces it. Everything that a
    check finds out is saved at once in the state of the cache, which all workers read.
    """

    store: ModelStore | LocalModel
    cache: HostCache
    verify: Verify
    pinned: str | None = None

    def check(self) -> None:
        """Take up the newest usable version if it differs from the current one; never raises for a fault outside."""
        before, kind = self.cache.state(), None
        try:
            error = self._take_up_newest()
        except PmipError as problem:
            kind, error = problem.kind, str(problem)
        except OSError as problem:
            kind, error = CacheError.kind, f"the host's cache cannot be written: {problem.strerror}"
        except Exception as problem:  # the thread must outlive a fault that nobody foresaw
            log.exception("the check for a new model failed")
            kind, error = "unexpected", f"{type(problem).__name__} while looking for a new model"
        self._save_outcome(before, error, kind)

    def _take_up_newest(self) -> str | None:
        """Serve the newest usable version; return what is wrong with a newer one.

        A version's own fault never ends the search, and after each of them newer versions are looked for: it may have
        taken minutes. Raises when the store or the cache does not work, or when no version is usable.
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
        """Return the newest version that is still to be tried, and note the newer ones that were refused before."""
        refused = self.cache.state().refused
        for version in self._candidates(current):
            known = refused.get(_name(version))
            if known:
                passed.setdefault(version.model_id, known)
            elif version.model_id not in passed:
                return version
        return None

    def _candidates(self, current: Entry | None) -> Iterator[Version]:
        """Yield the versions that may be served, newest first; while nothing changes this costs one request."""
        if self.pinned:
            with suppress(ModelNotFoundError):
                yield self.store.version(self.pinned)
            return
        if current:
            yield from self.store.versions(since=current.model_id)
        yield from self.store.versions()

    def _sound(self) -> Entry | None:
        """Return the current version, unless the cache has lost or damaged it."""
        current = self.cache.state().current
        return current if current and self.cache.holds(current) else None

    def _verified(self, version: Version) -> Entry:
        """Download and verify a version, and load it here too: this process may run older code than the files hold."""
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
        self.cache.save(replace(state, current=entry, refused=newer))  # older ones are asked for no more

    def _save_fault(self, version: Version, fault: Fault, newest: str | None, *, lasts: bool) -> None:
        """Log, count and save a fault; one that lasts is remembered until another file stands under the id."""
        state = self.cache.state()
        if fault.text != state.last_error:
            log.warning("%s", fault.text)
        refused = state.refused | ({_name(version): fault} if lasts else {})
        failures = _one_more(state.load_failures, fault.kind)
        self.cache.save(replace(state, refused=refused, load_failures=failures, last_error=newest))

    def _save_outcome(self, before: State, error: str | None, kind: str | None) -> None:
        """Save how the check went; `kind` is that of what ended it. A new error is logged, and so is its end."""
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
    """Return what is wrong with the newest of the versions that were passed over."""
    faults = [passed[model_id] for model_id in sorted(passed, reverse=True)]
    return next((fault.text for fault in faults if fault), None)


def _is_of_other_text(fault: Fault) -> bool:
    """Tell whether a model's answers changed with pmip.text, or it names what is no longer there."""
    return fault.kind == "golden_answers" or (fault.kind == "not_readable" and "pmip.text." in fault.text)


def _fault(version: Version, problem: Exception) -> Fault:
    if isinstance(problem, PmipError):
        return Fault(problem.kind, f"model {version.model_id}: {problem}")
    log.error("model %s could not be loaded", version.model_id, exc_info=problem)
    return Fault("unexpected", f"model {version.model_id}: {type(problem).__name__} while it was loaded")


def _one_more(counts: Mapping[str, int], kind: str) -> dict[str, int]:
    return {**counts, kind: counts.get(kind, 0) + 1}
