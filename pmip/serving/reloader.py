"""The current scorer of this process, and the step that replaces it when the host's cache holds another one."""

import logging
import threading
import time
from collections.abc import Callable

from pmip.errors import ArtifactError, ModelNotReadyError, OtherTextError, PmipError
from pmip.model.scorer import Scorer
from pmip.serving.cache import Entry, HostCache, State
from pmip.serving.updater import Updater

LOOK_SECONDS = 0.5

log = logging.getLogger(__name__)


class Reloader:
    """Holds the current scorer. Every process reads the cache; only the leader polls the store."""

    def __init__(
        self,
        cache: HostCache,
        updater: Updater,
        *,
        poll_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._cache = cache
        self._updater = updater
        self._poll_seconds = poll_seconds
        self._clock = clock
        self._state = State()
        self._seen: tuple[int, ...] | None = None
        self._fault: str | None = None
        self._current: tuple[Entry, Scorer] | None = None
        self._checked_at = float("-inf")
        self._looking = threading.Lock()
        self._has_scorer = threading.Event()

    @property
    def scorer(self) -> Scorer:
        """The current scorer; raise `ModelNotReadyError` while there is none."""
        if self._current is None:
            self._look()  # another worker may already answer with a model: then this one must not refuse
        if self._current is None:
            raise ModelNotReadyError(self.last_error or "no model is loaded yet")
        return self._current[1]

    @property
    def is_ready(self) -> bool:
        """Whether this process holds a scorer."""
        return self._current is not None

    @property
    def state(self) -> State:
        """The state that the leader of this host saved last."""
        return self._state

    @property
    def last_check_at(self) -> str | None:
        """When the leader of this host last polled the store (ISO 8601, UTC)."""
        return self._state.last_check_at

    @property
    def last_error(self) -> str | None:
        """Why this process does not serve the newest version."""
        return self._fault or self._state.last_error

    def start(self, wait_seconds: float = 5) -> None:
        """Start a thread that reads the cache twice a second; wait at most `wait_seconds` for a first model."""
        threading.Thread(target=self._run, name="reloader", daemon=True).start()
        self._has_scorer.wait(wait_seconds)

    def step(self, *, at_once: bool = False) -> None:
        """Load the version in the cache; the leader first checks the store once the interval has passed.

        With `at_once` the leader checks the store without waiting for the interval.
        """
        self._look()
        try:
            is_due = at_once or self._clock() - self._checked_at >= self._poll_seconds
            if self._cache.acquire_lock() and is_due:
                self._checked_at = self._clock()
                loaded = self._updater.check()
                if loaded:
                    self._swap(*loaded)
                self._look()
        except (PmipError, OSError) as problem:  # a cache that cannot be written
            self._report(f"the host's cache does not work: {problem}")
        except Exception as problem:  # an unexpected error must not end the thread
            self._report(f"{type(problem).__name__} while looking for a new model")

    def _run(self) -> None:
        while True:
            self.step()
            time.sleep(min(LOOK_SECONDS, self._poll_seconds))

    def _look(self) -> None:
        """Load the version in the cache if the cache has changed."""
        with self._looking:
            try:
                seen = self._cache.changed()
                if seen == self._seen:
                    return
                self._state = self._cache.state()
            except PmipError as problem:  # the folder belongs to another user
                self._report(f"the host's cache does not work: {problem}")
                return
            try:
                entry = self._state.current
                if entry and not (self._current and self._current[0] == entry):
                    self._swap(entry, self._cache.load_and_replay(entry))
            except ArtifactError as problem:
                self._report(f"a version could not be loaded: {problem}")
                if problem.kind != OtherTextError.kind:  # the leader replaces damaged files, so try again
                    return
            else:
                self._fault = None
            self._seen = seen

    def _swap(self, entry: Entry, scorer: Scorer) -> None:
        self._current = (entry, scorer)
        self._has_scorer.set()
        log.info("model %s is in service", entry.model_id)

    def _report(self, fault: str) -> None:
        if fault != self._fault:
            log.warning("%s", fault)
        self._fault = fault
