"""The leader's step: it brings the newest usable version into the host's cache."""

import logging
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from pmip.errors import AccessDeniedError, ArtifactError, ModelNotFoundError, PmipError, VerificationError
from pmip.serving.cache import Entry, HostCache, State
from pmip.store.versions import LocalModel, ModelStore, Version

log = logging.getLogger(__name__)

Verify = Callable[[Path, str], None]


class Updater:
    """Keeps the cache's current version the newest usable one of a store, or the pinned one.

    Whatever fails, the current version stays: another one is verified whole before it replaces it.
    """

    def __init__(
        self, store: ModelStore | LocalModel, cache: HostCache, verify: Verify, *, pinned: str | None = None
    ) -> None:
        self.store = store
        self._cache = cache
        self._verify = verify
        self._pinned = pinned
        self._state = State()

    def check(self) -> None:
        """Take up the newest usable version if it differs from the current one; never raises for a fault outside."""
        self._state = self._cache.state()
        error = self._problem()
        if error and error != self._state.last_error:
            log.warning("%s", error)
        now = datetime.now(UTC).isoformat(timespec="seconds")
        self._cache.save(replace(self._state, last_error=error, last_check_at=now))

    def _problem(self) -> str | None:
        """Return why the newest version, or any, could not be taken up."""
        try:
            current = self._sound()
            return self._take_up(self._candidates(current), current)
        except PmipError as problem:
            return str(problem)
        except OSError as problem:
            return f"the host's cache cannot be written: {problem.strerror}"
        except Exception as problem:  # the thread must outlive a fault that nobody foresaw
            log.exception("the check for a new model failed")
            return f"{type(problem).__name__} while looking for a new model"

    def _candidates(self, current: Entry | None) -> Iterator[Version]:
        """Yield the versions that may be served, newest first; one request tells that all is as it was."""
        if self._pinned:
            with suppress(ModelNotFoundError):
                yield self.store.version(self._pinned)
            return
        if current:
            yield from self.store.versions(since=current.model_id)
        yield from self.store.versions()

    def _take_up(self, candidates: Iterator[Version], current: Entry | None) -> str | None:
        """Serve the first usable candidate; a store that does not answer ends the search."""
        newest_error = None
        for found in candidates:
            try:
                self._serve(found, current)
                return newest_error
            except ModelNotFoundError:  # it is just being published, or was just retired
                continue
            except (ArtifactError, VerificationError, AccessDeniedError) as error:
                newest_error = newest_error or f"model {found.model_id}: {error}"
        missing = f"the pinned version {self._pinned}" if self._pinned else "any version"
        return newest_error or f"{self.store} does not hold {missing}; 'bash scripts/train.sh' publishes one"

    def _serve(self, version: Version, current: Entry | None) -> None:
        if current is None or version[:2] != (current.model_id, current.mark):
            entry = self._verified(version)
            self._cache.prune(entry, self._state.current)
            refused = {name: why for name, why in self._state.refused.items() if name.split()[0] > entry.model_id}
            self._state = replace(self._state, current=entry, refused=refused)  # older ones are asked for no more

    def _sound(self) -> Entry | None:
        """Return the current version, unless the cache has lost or damaged it."""
        current = self._state.current
        return current if current and self._cache.holds(current) else None

    def _verified(self, version: Version) -> Entry:
        """Download and verify a version; a refusal is remembered until another file stands under its id."""
        name = " ".join(version[:2])
        if name in self._state.refused:
            raise ArtifactError(self._state.refused[name])
        try:
            return self._downloaded(version)
        except (ArtifactError, VerificationError) as error:
            refused = self._state.refused | ({name: str(error)} if isinstance(error, ArtifactError) else {})
            self._state = replace(self._state, refused=refused, load_failures=self._state.load_failures + 1)
            raise

    def _downloaded(self, version: Version) -> Entry:
        with self._cache.incoming() as folder:
            self.store.fetch(version.model_id).write(folder)
            self._verify(folder, version.model_id)
            return self._cache.adopt(folder, *version[:2])
