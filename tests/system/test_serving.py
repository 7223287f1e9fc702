"""The API keeps answering when versions are broken, its leader is killed or S3 fails, and calls S3 rarely when idle.

Each trial has a short form here. The long one is `LONG_TRIALS=1 python -m pytest -s tests/system/test_serving.py`; with
`IDLE_HOUR=1` the idle host is watched for an hour.
"""

import os
import pickle
import re
import shutil
import signal
import statistics
import sys
import time
from contextlib import ExitStack, suppress
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import psutil
import pytest
from api import CLIENTS, Answered, Load, ask, at_bucket, last_error, pss, running_api, served, wait_for
from conftest import free_port, publish, without
from disks import disk, make_read_only
from s3_proxy import S3Proxy
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.naive_bayes import MultinomialNB
from sklearn.pipeline import make_pipeline

from pmip.model.artifact import Artifact, dumps
from pmip.store.objects import S3Storage
from pmip.store.versions import LOCAL, LocalModel, ModelStore, next_model_id

LONG = bool(os.environ.get("LONG_TRIALS"))
IDLE_SECONDS = 3600 if os.environ.get("IDLE_HOUR") else 20
FAULT_SECONDS = 120 if LONG else 8
BROKEN = ("truncated", "other bytes", "malicious", "another classifier", "other golden answers")
STEADY_SECONDS = 20 if LONG else 4
GAP_SECONDS = 3
POLL_SECONDS = 1  # of at_bucket
COMING = [kind for broken in BROKEN for kind in ("good", broken, "good", "good")] if LONG else [*BROKEN, "good"]
FIRST, SECOND = "20260101T000000Z", "20260101T000001Z"


def version(artifact: Artifact, model_id: str, kind: str, evidence: Path) -> Artifact:
    """Return a version that is good, or broken in one of the known ways."""
    model, metadata = artifact.model, artifact.metadata
    assert metadata
    if kind == "truncated":
        model = model[: len(model) // 2]
    if kind == "malicious":
        model = pickle.dumps(_Evil(f"touch {evidence}"))
    if kind == "another classifier":  # it can be run, but not read as data
        model = dumps(make_pipeline(TfidfVectorizer(), MultinomialNB()).fit(["free stuff", "nice song"], [1, 0]))
    metadata = replace(metadata, model_id=model_id, sha256=Artifact(model, None).sha256)
    if kind == "other bytes":
        model += b"!"
    if kind == "other golden answers":
        metadata = replace(metadata, golden=[item | {"probability": 0.123} for item in metadata.golden])
    return Artifact(model, metadata)


class _Evil:
    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (self.command,)


@pytest.fixture
def store(bucket: S3Storage, artifact: Artifact) -> ModelStore:
    """Publish a first version."""
    store = ModelStore(bucket, "staging")
    publish(store, artifact, FIRST)
    return store


def leader_of(master: int) -> psutil.Process:
    """Return the worker that keeps the lock's file open; the others open it only for a moment."""
    while True:
        workers = psutil.Process(master).children()
        holding = [worker for worker in workers if any("leader.lock" in file.path for file in worker.open_files())]
        if len(holding) == 1:
            return holding[0]
        time.sleep(0.01)


def figures(port: str) -> list[Path]:
    return list(Path("/dev/shm").glob(f"pmip-metrics-*-{port}-*"))  # noqa: S108


def fill(path: Path) -> None:
    with suppress(OSError), path.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))


def tell(line: str) -> None:
    sys.stdout.write(f"\n{line}\n")


def p99(answers: list[Answered]) -> float:
    """Return the 99th percentile of the answers' milliseconds."""
    return 1000 * statistics.quantiles([answer.seconds for answer in answers], n=100)[98]


def overlap(answers: list[Answered], old: str, new: str) -> float:
    """Return the seconds from the first answer of a new model to the last one of the old."""
    last_old = max(answer.moment for answer in answers if answer.model_id == old)
    return last_old - min(answer.moment for answer in answers if answer.model_id == new)


def test_under_load_only_good_versions_ever_answer(
    bucket: S3Storage, store: ModelStore, artifact: Artifact, tmp_path: Path
) -> None:
    """Under load every answer is from a good version, and a killed leader loses at most one request of each client.

    A gevent worker answers several clients at a time, and all that it is answering is lost when it is killed.
    """
    good, model_id, kills = [FIRST], FIRST, list[float]()
    with running_api(tmp_path, **at_bucket(bucket)) as (port, process):
        with Load(port) as load:
            time.sleep(STEADY_SECONDS)
            steady = load.answers[:]
            for number, kind in enumerate(COMING):
                model_id = next_model_id(model_id)
                store.publish(version(artifact, model_id, kind, tmp_path / "evil"))
                good += [model_id] if kind == "good" else []
                if number % 3 == 2:
                    leader_of(process.pid).send_signal(signal.SIGKILL)
                    kills.append(time.monotonic())
                time.sleep(GAP_SECONDS)
            wait_for(lambda: load.answers[-1].model_id == good[-1], 60)
            time.sleep(1)
        restless = load.answers[len(steady) :]
        info = ask(port, "/model-info").body["result"]
        memory = pss(process.pid)
    lost = [answer for answer in load.answers if answer.status == 0]  # taken by the killed worker
    answered = [answer for answer in load.answers if answer.status]
    known = sorted({answer.model_id for answer in answered})  # a version may be replaced before it answers
    overlaps = [overlap(answered, old, new) for old, new in pairwise(known)]
    tell(f"{len(answered)} answers, {len(lost)} lost by {len(kills)} killed leaders, {len(known)} versions served")
    tell(f"overlap s {[round(seconds, 2) for seconds in overlaps]}; {memory:.0f} MB")
    tell(f"p99 ms {p99(steady):.1f} → {p99(restless):.1f}")
    assert {answer.status for answer in answered} == {200}
    assert set(known) <= set(good)
    assert (known[0], known[-1]) == (good[0], good[-1])
    assert len(lost) <= len(kills) * CLIENTS
    assert all(any(abs(answer.moment - kill) < 1 for kill in kills) for answer in lost)
    assert max(overlaps) <= 1
    assert not (tmp_path / "evil").exists()
    assert info["model_id"] == good[-1]
    assert p99(restless) <= 3 * p99(steady)
    assert memory <= 160


@pytest.mark.parametrize("fault", ["stopped", "slow", "cut", "throttled", "corrupted", 503, 403])
def test_a_failing_s3_fails_no_request(
    bucket: S3Storage, store: ModelStore, proxy: S3Proxy, artifact: Artifact, tmp_path: Path, fault: str | int
) -> None:
    """While S3 fails, every request is answered and /model-info says so; after it, the next version is served."""
    with running_api(tmp_path, **at_bucket(bucket)) as (port, _), Load(port) as load:
        proxy.fault = fault
        publish(store, artifact, SECOND)
        time.sleep(FAULT_SECONDS)
        told = ask(port, "/model-info").body["result"]
        proxy.fault = None
        wait_for(lambda: load.answers[-1].model_id == SECOND, 40)
        wait_for(lambda: last_error(port) is None, 10)
    assert {answer.status for answer in load.answers} == {200}
    if fault not in ("slow", "throttled"):  # slow calls still come to an end
        assert told["model_id"] == FIRST
        assert f"s3://{bucket.bucket}/models/staging/" in told["last_error"]


def test_a_model_damaged_on_its_way_is_fetched_again(
    bucket: S3Storage, store: ModelStore, proxy: S3Proxy, artifact: Artifact, tmp_path: Path
) -> None:
    """A good version that arrives incomplete or corrupted is fetched again, and is served when it arrives whole."""
    with running_api(tmp_path, **at_bucket(bucket)) as (port, _):
        proxy.failing, model_id = re.compile(r"GET .*/(model\.pkl|metadata\.json)"), FIRST
        for fault in ("cut", "corrupted"):
            proxy.fault, model_id = fault, next_model_id(model_id)
            publish(store, artifact, model_id)
            wait_for(lambda: last_error(port) is not None, 30)
            proxy.fault = None
            wait_for(lambda model_id=model_id: served(port) == model_id, 30)


@pytest.mark.usefixtures("store")
def test_a_killed_master_takes_its_workers_and_figures_along(bucket: S3Storage, tmp_path: Path) -> None:
    """A killed master's workers end, and the next server at its port removes the folder of its metrics."""
    port = str(free_port(20_000, 30_000))
    settings = at_bucket(bucket) | {"PORT": port, "TMPDIR": str(tmp_path)}
    with running_api(tmp_path, ends_with=-signal.SIGKILL, **settings) as (_, process):
        workers = psutil.Process(process.pid).children()
        process.kill()
        wait_for(lambda: not any(worker.is_running() for worker in workers), 20)
    assert len(figures(port)) == 1
    with running_api(tmp_path, **settings):
        assert len(figures(port)) == 1
    assert figures(port) == []


def test_a_full_disk_under_the_cache_fails_no_request(
    bucket: S3Storage, store: ModelStore, artifact: Artifact, tmp_path: Path
) -> None:
    """A full disk under the cache fails no request and is in /model-info; with space the next version is served."""
    with disk(tmp_path / "small", "size=4m") as folder:
        settings = at_bucket(bucket) | {"MODEL_CACHE_DIR": str(folder)}
        with running_api(tmp_path, **settings) as (port, _), Load(port) as load:
            fill(folder / "filler")
            publish(store, artifact, SECOND)
            wait_for(lambda: "No space left" in (last_error(port) or ""), 30)
            assert served(port) == FIRST
            (folder / "filler").unlink()
            wait_for(lambda: served(port) == SECOND, 30)
    assert {answer.status for answer in load.answers} == {200}


def test_a_clock_that_was_set_back_stops_nothing(
    bucket: S3Storage, store: ModelStore, artifact: Artifact, tmp_path: Path
) -> None:
    """An API whose clock is set back serves its model; if by a day, /model-info says that S3 refuses the signatures."""
    library = next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), None)
    if library is None:
        without("FAKETIME", "libfaketime is not installed; 'apt-get install libfaketime' installs it")
    moments = []
    for back, told in (("+0", None), ("-600", None), ("-86400", f"{bucket.url('models/staging/')}: refused, because")):
        settings = at_bucket(bucket) | {"LD_PRELOAD": str(library), "FAKETIME": back}
        with running_api(tmp_path, **settings) as (port, _):
            wait_for(lambda port=port, told=told: (last_error(port) or "").startswith(told or ""), 30)
            assert served(port) == (SECOND if back == "-86400" else FIRST)
            if back == "-600":
                publish(store, artifact, SECOND)
                wait_for(lambda port=port: served(port) == SECOND, 30)
            moments.append(ask(port, "/model-info").body["result"]["last_check_at"])
    assert moments == sorted(moments, reverse=True)


def test_hosts_do_not_depend_on_each_other(
    bucket: S3Storage, store: ModelStore, artifact: Artifact, tmp_path: Path
) -> None:
    """A host that loses its cache does not affect the other, and both follow a rollback and its undoing."""
    publish(store, artifact, SECOND)
    folders = [tmp_path / "one", tmp_path / "other"]
    for folder in folders:
        folder.mkdir()
    with ExitStack() as hosts:
        ports = [hosts.enter_context(running_api(folder, **at_bucket(bucket)))[0] for folder in folders]
        for port in ports:
            wait_for(lambda port=port: served(port) == SECOND, 30)
        shutil.rmtree(folders[0] / "cache")
        store.retire(SECOND)
        for port in ports:
            wait_for(lambda port=port: served(port) == FIRST, 30)
        store.restore(SECOND)
        for port in ports:
            wait_for(lambda port=port: served(port) == SECOND, 30)


def test_an_api_is_ready_soon_and_takes_up_a_version_soon(
    bucket: S3Storage, store: ModelStore, artifact: Artifact, tmp_path: Path
) -> None:
    """Under load a new version replaces the older one within seconds, and the seconds of two starts are printed."""
    started = []
    for _ in ("empty cache", "from the cache"):
        before = time.monotonic()
        with running_api(tmp_path, **at_bucket(bucket)):
            started.append(time.monotonic() - before)
    with running_api(tmp_path, **at_bucket(bucket)) as (port, _process), Load(port) as load:
        time.sleep(2)
        published = time.monotonic()
        publish(store, artifact, SECOND)
        wait_for(lambda: {answer.model_id for answer in load.answers[-40:]} == {SECOND}, 30)
    taken_up = max(answer.moment for answer in load.answers if answer.model_id == FIRST) - published
    tell(f"ready after {started[0]:.2f} s, from the cache after {started[1]:.2f} s; taken up after {taken_up:.2f} s")
    assert taken_up < POLL_SECONDS + (2 if LONG else 6)


def test_a_data_folder_that_cannot_be_written_is_served(artifact: Artifact, tmp_path: Path) -> None:
    """In dev the API serves the model of a data folder that it cannot write to, without an error."""
    with disk(tmp_path / "data", "size=4m") as folder:
        LocalModel(folder).save(artifact)
        make_read_only(folder)
        with running_api(tmp_path, DATA_DIR=str(folder)) as (port, _):
            assert served(port) == LOCAL
            assert last_error(port) is None


@pytest.mark.usefixtures("store")
def test_with_s3_away_a_host_starts_from_its_cache(bucket: S3Storage, proxy: S3Proxy, tmp_path: Path) -> None:
    """A host that starts while S3 is away serves the verified model of its cache."""
    for proxy.fault in (None, "stopped"):
        with running_api(tmp_path, **at_bucket(bucket)) as (port, _):
            assert served(port) == FIRST
    wait_for(lambda: bool(proxy.requests), 1)


@pytest.mark.usefixtures("store")
def test_an_idle_host_asks_once_an_interval(bucket: S3Storage, proxy: S3Proxy, tmp_path: Path) -> None:
    """An idle host sends S3 at most one request per interval, plus the first, and only to list objects."""
    poll_seconds = 60 if IDLE_SECONDS == 3600 else 2
    with running_api(tmp_path, **at_bucket(bucket) | {"MODEL_POLL_SECONDS": str(poll_seconds)}):
        time.sleep(1)
        proxy.requests.clear()
        time.sleep(IDLE_SECONDS)
        asked = proxy.requests[:]
    tell(f"{len(asked)} requests in {IDLE_SECONDS} s with an interval of {poll_seconds} s")
    assert 0.5 * IDLE_SECONDS / poll_seconds <= len(asked) <= IDLE_SECONDS / poll_seconds + 1
    assert {(method, "list-type=2" in path) for _, method, path in asked} == {("GET", True)}
