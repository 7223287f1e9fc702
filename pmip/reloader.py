"""The current scorer, and the step that replaces it when the newest usable version is another one."""

import logging
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime

from pmip.artifact import Artifact
from pmip.errors import ArtifactError, ModelNotFoundError, ModelNotReadyError, PmipError
from pmip.local_model import LocalModel
from pmip.model_store import ModelStore, Version
from pmip.scorer import Scorer

log = logging.getLogger(__name__)

Load = Callable[[Artifact, str], Scorer]


class Reloader:
    """Holds the current scorer and replaces it by the newest usable version, or the pinned one.

    Whatever fails, the scorer in service stays: a version is loaded whole before it replaces another.
    """

    def __init__(
        self, store: ModelStore | LocalModel, load: Load, *, poll_seconds: float, pinned: str | None = None
    ) -> None:
        self.store = store
        self.last_check_at: str | None = None
        self.last_error: str | None = None
        self.load_failures = 0
        self._load = load
        self._poll_seconds = poll_seconds
        self._pinned = pinned
        self._current: tuple[Version, Scorer] | None = None
        self._refused: dict[Version, ArtifactError] = {}
        self._checked_at = float("-inf")
        self._has_scorer = threading.Event()

    @property
    def scorer(self) -> Scorer:
        """The current scorer; raises `ModelNotReadyError` while there is none."""
        if self._current is None:
            raise ModelNotReadyError(self.last_error or "no model is loaded yet")
        return self._current[1]

    def start(self, wait_seconds: float = 5) -> None:
        """Check once an interval from a thread of this process; wait a little for a first model."""
        threading.Thread(target=self._run, name="reloader", daemon=True).start()
        self._has_scorer.wait(wait_seconds)

    def check_if_due(self) -> None:
        """Check when the interval has passed, for a host that runs no threads between two requests."""
        if time.monotonic() - self._checked_at >= self._poll_seconds:
            self.check()

    def check(self) -> None:
        """Take up the newest usable version if it differs from the current one; never raises."""
        self._checked_at = time.monotonic()
        try:
            error = self._take_up(self._candidates())
        except PmipError as problem:
            error = str(problem)
        except Exception as problem:  # the thread must outlive a fault that nobody foresaw
            log.exception("the check for a new model failed")
            error = f"{type(problem).__name__} while looking for a new model"
        if error and error != self.last_error:
            log.warning("%s", error)
        self.last_error = error
        self.last_check_at = datetime.now(UTC).isoformat(timespec="seconds")

    def _run(self) -> None:
        while True:
            self.check()
            time.sleep(self._poll_seconds)

    def _candidates(self) -> list[Version]:
        """Return the versions that may be served, newest first."""
        return [version for version in self.store.versions() if self._pinned in (None, version.model_id)]

    def _take_up(self, candidates: list[Version]) -> str | None:
        """Serve the first candidate that can be loaded; return why a newer one, or any, cannot."""
        newest_error = None
        for version in candidates:
            try:
                if self._current is None or version != self._current[0]:
                    self._serve(version)
                return newest_error
            except ModelNotFoundError:  # it is just being published, or was just retired
                continue
            except PmipError as error:
                newest_error = newest_error or f"model {version.model_id}: {error}"
        missing = f"the pinned version {self._pinned}" if self._pinned else "any version"
        return newest_error or f"{self.store} does not hold {missing}; 'bash scripts/train.sh' publishes one"

    def _serve(self, version: Version) -> None:
        """Load a version and swap it in; a refusal is remembered, so that the version is not fetched again."""
        if version in self._refused:
            raise self._refused[version]
        try:
            scorer = self._load(self.store.fetch(version.model_id), version.model_id)
        except ArtifactError as error:
            self._refused[version] = error
            self.load_failures += 1
            raise
        self._current = (version, scorer)
        self._has_scorer.set()
        log.info("model %s is in service", version.model_id)
