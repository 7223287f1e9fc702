"""Metrics for Prometheus: the sums over all workers, and the state of the worker that answers."""

import logging
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import cache, partial, wraps
from importlib.metadata import version
from pathlib import Path
from typing import Any

from flask import Flask
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4 as CONTENT_TYPE
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from pmip.errors import ModelNotReadyError
from pmip.model.artifact import Metadata
from pmip.model.scorer import SPAM_THRESHOLD
from pmip.serving.reloader import Reloader

__all__ = ["CONTENT_TYPE", "Metrics"]

OTHER = "other"  # label for paths without a route: each label value takes memory, and callers may send any path
SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)
TENTHS = tuple(tenth / 10 for tenth in range(1, 10))
KINDS = {  # the `kind` of each error in pmip.errors, and "unexpected" for any other exception
    "reason": "damaged too_large metadata not_readable golden_answers unusable not_verified access_denied storage "
    "unexpected",
    "kind": "away access_denied no_bucket no_version storage cache unexpected",
}


log = logging.getLogger(__name__)


def _harmless(count: Callable[..., None]) -> Callable[..., None]:
    """Let a fault, such as a folder that somebody removed, be logged once in each process and fail no request."""

    @wraps(count)
    def call(metrics: "Metrics", *args: Any) -> None:
        try:
            count(metrics, *args)
        except Exception as error:
            if not metrics.is_faulty:
                log.error("the metrics of this process are incomplete: %s", error)
            metrics.is_faulty = True

    return call


class Metrics:
    """The metrics of one app; in `folder` the workers of one server share theirs."""

    is_faulty = False

    def __init__(self, reloader: Reloader, folder: Path | None = None, revision: str | None = None) -> None:
        counted = CollectorRegistry()
        self._read = CollectorRegistry() if folder else counted
        if folder:
            MultiProcessCollector(self._read, str(folder))  # type: ignore[no-untyped-call]
        self._read.register(_State(reloader))
        self._read.register(_Server(revision, is_worker=folder is not None))
        # Each time series is looked up once and cached: looking it up takes 8 % of the time of a request.
        self._seconds = cache(
            Histogram(
                "pmip_request_seconds", "Time to answer", ["route", "status"], registry=counted, buckets=SECONDS
            ).labels
        )
        self._comments = cache(Counter("pmip_comments", "Comments scored", ["class"], registry=counted).labels)
        self._spam = cache(
            Histogram("pmip_spam_probability", "Answers", ["model_id"], registry=counted, buckets=TENTHS).labels
        )
        self._kills = Counter("pmip_worker_kills", "Workers that gunicorn ended because they hung", registry=counted)
        self._in_flight = Gauge(
            "pmip_requests_in_flight", "Requests in hand", registry=counted, multiprocess_mode="livesum"
        )

    def count_in_flight(self, app: Flask) -> None:
        """Count the requests of an app from their headers on until their answer is made."""
        app.before_request(partial(self._add_in_flight, 1))
        app.teardown_request(lambda _: self._add_in_flight(-1))

    @_harmless
    def _add_in_flight(self, requests: int) -> None:
        self._in_flight.inc(requests)

    @_harmless
    def answered(self, route: str | None, status: int, seconds: float) -> None:
        """Count an answer of a route."""
        self._seconds(route or OTHER, status).observe(seconds)

    @_harmless
    def scored(self, model_id: str, probabilities: Sequence[float]) -> None:
        """Count scored comments by class, and their probabilities of spam by model."""
        observe = self._spam(model_id).observe
        for probability in probabilities:
            observe(probability)
        spam = sum(probability > SPAM_THRESHOLD for probability in probabilities)
        self._comments(0).inc(len(probabilities) - spam)
        self._comments(1).inc(spam)

    @_harmless
    def killed(self) -> None:
        """Count a worker that hung and was ended; gunicorn's master calls this."""
        self._kills.inc()

    def text(self) -> bytes:
        """Return all metrics in the text format of Prometheus."""
        return generate_latest(self._read)


class _State(Collector):
    """The state of this worker's reloader, collected each time the metrics are read."""

    def __init__(self, reloader: Reloader) -> None:
        self._reloader = reloader

    def collect(self) -> Iterator[Metric]:
        state = self._reloader.state
        yield _counts("pmip_load_failures", "Versions that could not be loaded", "reason", state.load_failures)
        yield _counts("pmip_check_errors", "Checks for a new model that failed", "kind", state.check_errors)
        model = GaugeMetricFamily("pmip_model_info", "The model in service", labels=["model_id"])
        with suppress(ModelNotReadyError):
            scorer = self._reloader.scorer
            model.add_metric([scorer.model_id], 1)
            yield from _dates(scorer.metadata)
        yield model
        is_newest = self._reloader.is_ready and not self._reloader.last_error
        yield GaugeMetricFamily("pmip_model_is_newest", "1 if the newest version is in service", value=is_newest)
        for name, help_text, moment in (
            ("pmip_last_check", "Last check for a new model", state.last_check_at),
            ("pmip_last_successful_check", "Last successful check for a new model", state.last_success_at),
        ):
            if moment:
                value = datetime.fromisoformat(moment).timestamp()
                yield GaugeMetricFamily(f"{name}_timestamp_seconds", help_text, value=value)


class _Server(Collector):
    """The code and the memory of this server."""

    def __init__(self, revision: str | None, *, is_worker: bool) -> None:
        self._labels = [version("pmip"), revision or "unknown"]
        self._is_worker = is_worker

    def collect(self) -> Iterator[Metric]:
        build = GaugeMetricFamily("pmip_build_info", "The code that answers", labels=["version", "revision"])
        build.add_metric(self._labels, 1)
        yield build
        memory = GaugeMetricFamily("pmip_memory_bytes", "Memory of all processes", labels=[])
        with suppress(OSError):  # only Linux tells it, and a worker may end in the meantime
            pids = _gunicorn() if self._is_worker else [os.getpid()]
            memory.add_metric([], sum(_proportional_set_size(pid) for pid in pids))
        yield memory


def _gunicorn() -> list[int]:
    """Return the process ids of gunicorn's master, which is this worker's parent, and of all its workers."""
    master = os.getppid()
    return [master, *map(int, Path(f"/proc/{master}/task/{master}/children").read_text().split())]


def _proportional_set_size(pid: int) -> int:
    """Return the bytes of memory of a process; of pages that several processes share, each counts its part."""
    found = re.search(r"^Pss: +(\d+) kB", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)
    return 1024 * int(found[1]) if found else 0


def _dates(metadata: Metadata) -> Iterator[Metric]:
    """Yield when the model was trained and of which day its data are, as far as its ids tell."""
    trained = _seconds(metadata.model_id) or _seconds(metadata.trained_at)  # in dev the id is no time
    data = _seconds(metadata.training_data_id)
    for name, help_text, value in (
        ("pmip_model_trained", "When the model in service was trained", trained),
        ("pmip_training_data", "The day of the data that it was trained on", data),
    ):
        if value is not None:
            yield GaugeMetricFamily(f"{name}_timestamp_seconds", help_text, value=value)


def _seconds(text: str | None) -> float | None:
    """Return the seconds since 1970 of a time or day in ISO 8601, or `None`; what has no time zone is UTC."""
    try:
        moment = datetime.fromisoformat(text or "")
    except ValueError:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _counts(name: str, help_text: str, label: str, counts: Mapping[str, int]) -> Metric:
    """Return a counter with one label; kinds that never occurred are 0, so that the first one is an increase."""
    family = CounterMetricFamily(name, help_text, labels=[label])
    for kind in sorted({*KINDS[label].split(), *counts}):
        family.add_metric([kind], counts.get(kind, 0))
    return family
