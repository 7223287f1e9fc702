"""What many tests share: a real S3 server, new buckets, and a model that was really fitted."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from random import Random, SystemRandom
from typing import Any, NoReturn

import boto3
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import FeatureUnion, Pipeline

from pmip import steps, text
from pmip.model.artifact import Artifact, Metadata, pack
from pmip.model.verification import verify_folder
from pmip.serving.cache import HostCache
from pmip.serving.reloader import Reloader
from pmip.serving.updater import Updater
from pmip.store.objects import FolderStorage, S3Storage, Storage
from pmip.store.versions import LocalModel, ModelStore
from pmip.training.comments import read_comments
from pmip.training.data import local_files

ROOT = Path(__file__).resolve().parent.parent
SAMPLE = sorted((ROOT / "notebooks" / "sample-training-data").glob("*.csv"))
# `scripts/test.sh` runs the folder unit and these files of system, without tests that are marked `slow`;
# `scripts/test.sh --all` runs all tests.
QUICK_SYSTEM_FILES = ["test_get_youtube_spam_collection", "test_lambda_handler", "test_local_s3", "test_main"]
QUICK_SYSTEM_FILES += ["test_s3_objects", "test_s3_versions", "test_scripts"]
SLOW_FIXTURES = ("start_cluster",)  # needs the extra 'dask'
ALONE_FILES = ("test_load", "test_benchmark", "test_behind_nginx", "test_serving", "test_callers", "test_scoring")
# Files whose tests run in one process of pytest-xdist, so that the emulator is started only once.
ON_THE_EMULATOR = ("test_aws_page", "test_cloudformation", "test_iam")

# The processes of pytest-xdist inherit the seed, because all of them must collect the same tests.
SEED = os.environ.setdefault("TEST_SEED", str(SystemRandom().randrange(10**6)))
WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
WORKERS = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
PORTS = Random(os.getpid())

pytest_plugins = ["aws_recorder", "engine", "emulator", "s3_proxy"]

# A process in the background ignores Ctrl-C, and a shell that inherits this from it could not trap Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)

# No test may use the settings or the AWS account of the person who runs it.
HIDDEN = {"ENVIRONMENT", "BUCKET", "DATA_DIR", "PINNED_MODEL_ID", "GIT_REVISION", "PYTHON_IMAGE"}
for name in [*os.environ]:
    if name.startswith("AWS_") or name in HIDDEN:
        del os.environ[name]
os.environ |= {"PYTHON": sys.executable, "AWS_EC2_METADATA_DISABLED": "true", "AWS_CONFIG_FILE": os.devnull}
os.environ |= {"AWS_SHARED_CREDENTIALS_FILE": os.devnull, "NO_PROXY": "127.0.0.1,localhost"}


def pytest_report_header() -> str:
    """Report the seed of all random choices, so that a run can be repeated."""
    return f"TEST_SEED={os.environ['TEST_SEED']}"


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the slow tests and those that must run alone, and run the slow folders first."""
    for item in items:
        folder, fixtures = item.path.relative_to(ROOT / "tests").parts[0], getattr(item, "fixturenames", ())
        if (folder != "unit" and item.path.stem not in QUICK_SYSTEM_FILES) or set(SLOW_FIXTURES) & set(fixtures):
            item.add_marker("slow")
        if item.path.stem in ALONE_FILES:
            item.add_marker("alone")
    order = ["containers", "aws", "system", "hostile", "browser", "unit"]
    items.sort(key=lambda item: order.index(item.path.relative_to(ROOT / "tests").parts[0]))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Run the tests of a file in one process, and so those of files that share an emulator or images."""
    from xdist.scheduler import LoadFileScheduling

    class ByFile(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = Path(nodeid.split("::")[0])
            if file.stem in ON_THE_EMULATOR or file.parent.name == "containers":
                return file.parent.name
            return file.stem

    return ByFile(config, log)


def without(what: str, reason: str) -> NoReturn:
    """Skip a test whose program is missing, or fail it if for example REQUIRE_BROWSER=1 demands it."""
    (pytest.fail if os.environ.get(f"REQUIRE_{what}") == "1" else pytest.skip)(reason)


def free_port(low: int = 10_000, high: int = 17_000) -> int:
    """Return a port of 127.0.0.1 on which nothing listens and which no other process of the tests uses."""
    while True:
        port = PORTS.randrange(low + WORKER, high, WORKERS)
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)):
                return port


def seeded(what: str) -> Random:
    return Random(f"{what} {SEED}")


def publish(store: ModelStore, artifact: Artifact, model_id: str, *, broken: bool = False) -> None:
    """Publish the artifact under an id; if it is to be broken, its bytes do not have the hash of its metadata."""
    assert artifact.metadata
    model = artifact.model + b"!" if broken else artifact.model
    store.publish(Artifact(model, replace(artifact.metadata, model_id=model_id)))


def reloader_of(
    store: ModelStore | LocalModel,
    folder: Path,
    *,
    poll_seconds: float = 0,
    trust_pickles: bool = False,
    clock: Callable[[], float] = time.monotonic,
) -> Reloader:
    """Watch a store through a cache in a folder; each step polls the store and verifies in this process."""
    cache = HostCache(folder / "cache" / "of-one-store")
    verify = partial(verify_folder, environment=store.environment, trust_pickles=trust_pickles)
    return Reloader(cache, Updater(store, cache, verify), poll_seconds=poll_seconds, clock=clock)


def local_reloader(folder: Path, artifact: Artifact) -> Reloader:
    """Save the artifact as the local model of dev, and return a reloader that has loaded it."""
    local = LocalModel(folder)
    local.save(artifact)
    reloader = reloader_of(local, folder)
    reloader.step()
    return reloader


@pytest.fixture(autouse=True, scope="session")
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keep the models that the tests verify out of the cache of the person who runs the tests."""
    os.environ["MODEL_CACHE_DIR"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def s3_settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Start a real S3 server for the whole session, and yield the variables with which boto3 uses it."""
    folder = tmp_path_factory.mktemp("s3")
    script = ["bash", str(ROOT / "scripts" / "local_s3.sh")]
    environ = os.environ | {"DATA_DIR": str(folder), "LOCAL_S3_PORT": str(free_port())}
    subprocess.run([*script, "start"], env=environ, check=True, timeout=120)
    try:
        shown = subprocess.run([*script, "env"], env=environ, check=True, capture_output=True, text=True, timeout=60)
        exports = [line.removeprefix("export ") for line in shown.stdout.splitlines() if line.startswith("export ")]
        yield dict(line.split("=", 1) for line in exports)
    finally:
        subprocess.run([*script, "stop"], env=environ, check=True, timeout=60)


@pytest.fixture
def s3(s3_settings: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Point boto3 to the real S3 server, in this process and in those that it starts."""
    for name, value in s3_settings.items():
        monkeypatch.setenv(name, value)
    return s3_settings


@pytest.fixture
def bucket(s3: dict[str, str]) -> Iterator[S3Storage]:
    """Make a new bucket on the real S3 server, and delete it afterwards, since the server has room for some hundred."""
    storage = S3Storage(f"pmip-test-{uuid.uuid4().hex[:12]}")
    storage.create()
    yield storage
    # These settings are passed explicitly, because the test may have put a proxy or wrong ones into the environment.
    keys = (s3["AWS_ACCESS_KEY_ID"], s3["AWS_SECRET_ACCESS_KEY"])
    session = boto3.session.Session(*keys, region_name=s3["AWS_DEFAULT_REGION"])
    made = session.resource("s3", endpoint_url=s3["AWS_ENDPOINT_URL"]).Bucket(storage.bucket)
    made.objects.delete()
    made.delete()


@pytest.fixture(params=["folder", "s3"])
def storage(request: pytest.FixtureRequest) -> Storage:
    """Run a test once on a folder and once on a bucket, because both must behave alike."""
    if request.param == "folder":
        return FolderStorage(request.getfixturevalue("tmp_path") / "storage")
    return request.getfixturevalue("bucket")


@pytest.fixture(scope="session")
def model() -> Pipeline:
    """Fit a real, small pipeline that names classes and functions of the package."""
    comments = read_comments(local_files(SAMPLE[:1]))
    words = TfidfVectorizer(analyzer=text.token_ngrams, sublinear_tf=True)
    features = FeatureUnion([("words", words), ("comment", steps.CommentFeatures())])
    return Pipeline([("features", features), ("classifier", LogisticRegression(C=10))]).fit(
        comments["CONTENT"], comments["CLASS"]
    )


@pytest.fixture(scope="session")
def artifact(model: Pipeline) -> Artifact:
    return pack(model, Metadata("20260101T000000Z", "staging", trained_at="2026-01-01T00:00:00+00:00"))


@pytest.fixture(scope="session")
def recipe() -> dict[str, Any]:
    """Run the notebook's cell that makes `pipeline` and `search_space`, and return its variables."""
    cells = json.loads((ROOT / "notebooks" / "model-training.ipynb").read_text())["cells"]
    [cell] = ["".join(cell["source"]) for cell in cells if "model" in cell["metadata"].get("tags", [])]
    names: dict[str, Any] = {}
    exec(cell, names)  # noqa: S102 - the code is our own
    return names
