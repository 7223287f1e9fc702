"""Metrics for Prometheus: the sums over all workers, and the state of the worker that answers."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from functools import cache, wraps
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4 as CONTENT_TYPE
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from pmip.errors import ModelNotReadyError
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

    def __init__(self, reloader: Reloader, folder: Path | None = None) -> None:
        counted = CollectorRegistry()
        self._read = CollectorRegistry() if folder else counted
        if folder:
            MultiProcessCollector(self._read, str(folder))  # type: ignore[no-untyped-call]
        self._read.register(_State(reloader))
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
            model.add_metric([self._reloader.scorer.model_id], 1)
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


def _counts(name: str, help_text: str, label: str, counts: Mapping[str, int]) -> Metric:
    """Return a counter with one label; kinds that never occurred are 0, so that the first one is an increase."""
    family = CounterMetricFamily(name, help_text, labels=[label])
    for kind in sorted({*KINDS[label].split(), *counts}):
        family.add_metric([kind], counts.get(kind, 0))
    return family
