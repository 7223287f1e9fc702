"""The training run as AWS Batch runs it: its variables, its user, its signals, and kills at any moment.

The notebook is a small one of the tests, which publishes as the real one does but in less time. With LONG_TRIALS=1,
40 of its runs are killed, and 10 runs of the real notebook.
"""

import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import nbformat
import psutil
import pytest
from api import wait_for
from conftest import ROOT, SAMPLE
from disks import disk, make_read_only
from s3_proxy import proxy_before

from pmip.model.verification import load
from pmip.store.objects import S3Storage
from pmip.store.versions import ModelStore
from pmip.training.data import seed

IS_LONG = os.environ.get("LONG_TRIALS") == "1"
SLOWEST_RUN = 300
QUICK = ("FOLDS=2", "REPORT=short")
CELLS = {
    "parameters": 'MODEL_ID = ""',
    "model": """
from pathlib import Path

from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from pmip.training import data
from pmip.model.artifact import Metadata, pack
from pmip.training.comments import read_comments
from pmip.config import Settings
from pmip.store.versions import ModelStore
from pmip.store.objects import S3Storage

settings = Settings.from_environ()
bucket = S3Storage(settings.bucket)
found = data.pull(bucket, Path("..") / settings.data_dir)
comments = read_comments(found.files)
print(f"training data {found.training_data_id}: {len(comments)} comments")
pipeline = make_pipeline(TfidfVectorizer(), LogisticRegression()).fit(comments["CONTENT"], comments["CLASS"])
lineage = Metadata(MODEL_ID, settings.environment, batch_job_id=settings.batch_job_id)
artifact = ModelStore(bucket, settings.environment).publish(pack(pipeline, lineage))
""",
    "model-id": "print(artifact.metadata.model_id)",
}


@dataclass
class Run:
    process: subprocess.Popen[str]
    folder: Path

    @property
    def first(self) -> psutil.Process:
        """The first process of the container, which receives Batch's signals."""
        outside = psutil.Process(self.process.pid)
        return outside.children()[0] if self.process.args[0] == "unshare" else outside  # type: ignore[index]

    def lose_host(self) -> None:
        with_kernel = [self.first, *self.first.children(recursive=True)] if self.process.poll() is None else []
        for process in with_kernel:
            with suppress(psutil.NoSuchProcess):  # it ended with the one before it
                process.kill()
        self.process.wait(30)

    def end(self) -> tuple[int, str, str]:
        """Wait for the end; return the exit status, stdout and the log."""
        status = self.process.wait(SLOWEST_RUN)
        return status, (self.folder / "out").read_text(), (self.folder / "log").read_text()


def in_container() -> list[str]:
    """Return a prefix that runs a command as process 1 without root, or an empty list where that is not allowed."""
    command = ["unshare", "--user", "--map-user=10001", "--map-group=10001"]
    command += ["--pid", "--fork", "--mount-proc", "--kill-child"]
    if shutil.which("unshare") is None or subprocess.run([*command, "true"], check=False).returncode:
        return []
    return command


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Copy the project with the tests' small notebook in place of the real one."""
    folder = tmp_path_factory.mktemp("project")
    for name in ("pmip", "scripts"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "notebooks").mkdir()
    cells = [nbformat.v4.new_code_cell(text, metadata={"tags": [tag]}) for tag, text in CELLS.items()]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(
        nbformat.v4.new_notebook(cells=cells, metadata=kernel), folder / "notebooks" / "model-training.ipynb"
    )
    return folder


@pytest.fixture
def store(bucket: S3Storage) -> ModelStore:
    seed(bucket, SAMPLE, "20260101")
    return ModelStore(bucket, "staging")


Start = Callable[..., Run]


@pytest.fixture
def start(project: Path, bucket: S3Storage, tmp_path: Path) -> Iterator[Start]:
    """Start attempts of jobs; kill those that still run after the test."""
    runs: list[Run] = []

    def start(job: str, project: Path = project, **settings: str) -> Run:
        folder = tmp_path / f"attempt-{len(runs)}"
        folder.mkdir()
        environ = os.environ | dict.fromkeys(("AWS_BATCH_JQ_NAME", "AWS_BATCH_CE_NAME"), "pmip-training")
        environ |= {"AWS_BATCH_JOB_ID": job, "AWS_BATCH_JOB_ATTEMPT": str(len(runs) + 1)}
        environ |= {"ENVIRONMENT": "staging", "BUCKET": bucket.bucket, "DATA_DIR": str(folder / "data")}
        environ |= {"HOME": str(folder), "PYTHONPATH": str(project)} | settings
        command = [*in_container(), "bash", str(project / "scripts" / "train.sh"), *(QUICK if project == ROOT else ())]
        with (folder / "out").open("w") as out, (folder / "log").open("w") as log:
            runs.append(Run(subprocess.Popen(command, env=environ, stdout=out, stderr=log, text=True), folder))
        return runs[-1]

    yield start
    for run in runs:
        run.lose_host()


@contextmanager
def held(start: Start, job: str, file: str) -> Iterator[Run]:
    """Start an attempt that cannot upload one file of its version, and wait until it tries."""
    put = rf"PUT \S*/models/\S*/{re.escape(file)}"
    with proxy_before(os.environ["AWS_ENDPOINT_URL"], "held", put) as proxy:
        run = start(job, AWS_ENDPOINT_URL=proxy.endpoint)
        assert proxy.reached.wait(SLOWEST_RUN)
        yield run


def jobs_of(store: ModelStore) -> Counter[str | None]:
    """Count the versions of each job, after checking that every version is complete, unchanged and can be served."""
    jobs: Counter[str | None] = Counter()
    for model_id in store.published():
        version = store.fetch(model_id)
        assert version.metadata, f"{model_id} has no metadata.json"
        assert (version.metadata.model_id, version.metadata.sha256) == (model_id, version.sha256)
        assert load(version, model_id, "staging").verified
        jobs[version.metadata.batch_job_id] += 1
    return jobs


def half_versions(store: ModelStore) -> set[str]:
    return set(store._storage.prefixes(f"models/{store.environment}/")) - set(store.published())


def test_a_job_runs_without_rights(store: ModelStore, start: Start) -> None:
    """A job without root prints only the model id, and its version names the job and holds the report."""
    if os.getuid() == 0 and not in_container():
        pytest.skip("this system does not let root start a process of another user")
    job = str(uuid.uuid4())
    status, printed, log = start(job).end()
    assert (status, [printed]) == (0, [f"{model_id}\n" for model_id in store.published()]), log
    assert jobs_of(store) == {job: 1}
    keys = [found.key for found in store._storage.objects(f"models/staging/{printed.strip()}/")]
    names = ["metadata.json", "model-training.html", "model-training.ipynb", "model.pkl"]
    assert sorted(key.rpartition("/")[2] for key in keys) == names


def test_lost_before_it_published_a_retry_publishes_one_version(store: ModelStore, start: Start) -> None:
    """An attempt killed between metadata.json and model.pkl leaves no version, and the retry publishes it."""
    job = str(uuid.uuid4())
    with held(start, job, "model.pkl") as run:
        run.lose_host()
    assert (len(half_versions(store)), jobs_of(store)) == (1, {})
    status, printed, log = start(job).end()
    assert (status, [printed.strip()]) == (0, store.published()), log
    assert jobs_of(store) == {job: 1}


def test_lost_after_it_published_a_retry_publishes_nothing_more(store: ModelStore, start: Start) -> None:
    """If an attempt is killed before its report, the retry prints the id of its version and adds the report."""
    job = str(uuid.uuid4())
    with held(start, job, "model-training.ipynb") as run:
        run.lose_host()
    [model_id] = store.published()
    assert jobs_of(store) == {job: 1}
    status, printed, log = start(job).end()
    assert (status, printed, store.published()) == (0, f"{model_id}\n", [model_id]), log
    names = {found.key.rpartition("/")[2] for found in store._storage.objects(f"models/staging/{model_id}/")}
    assert {"model-training.ipynb", "model-training.html"} <= names


def test_sigterm_ends_a_run_at_once_with_its_report(store: ModelStore, start: Start) -> None:
    """SIGTERM while a run publishes ends it within 25 seconds with a reason and a report, and without a version."""
    with held(start, str(uuid.uuid4()), "model.pkl") as run:
        run.first.send_signal(signal.SIGTERM)
        begun = time.monotonic()
        status, printed, log = run.end()
        seconds = time.monotonic() - begun
    sys.stderr.write(f"SIGTERM in the publishing second: {seconds:.1f} s\n")
    assert (status, printed, jobs_of(store)) == (143, "", {})
    assert "pmip: stopped by SIGTERM before the end\n" in log
    assert "Traceback" not in log
    [report] = [found.key for found in store._storage.objects("runs/") if found.key.endswith(".html")]
    assert f"report: s3://{store._storage.bucket}/{report.rpartition('/')[0]}/" in log  # type: ignore[union-attr]
    assert seconds < 25


def test_sigterm_before_the_notebook_runs_is_heard_too(store: ModelStore, start: Start) -> None:
    """SIGTERM ends a run before its notebook starts too, though process 1 of a container ignores it by default."""
    run = start(str(uuid.uuid4()))
    wait_for(lambda: any(run.folder.glob("data/running-*")), SLOWEST_RUN)
    run.first.send_signal(signal.SIGTERM)
    status, printed, log = run.end()
    assert (status, printed, store.published()) == (143, "", [])
    assert "stopped by SIGTERM" in log
    assert "Traceback" not in log


@pytest.mark.parametrize(("notebook", "kills"), [("small", 40 if IS_LONG else 3), ("real", 10)])
def test_kills_at_random_moments_leave_whole_versions_or_none(
    notebook: str, kills: int, store: ModelStore, start: Start, s3: dict[str, str], project: Path
) -> None:
    """Kills at random moments, half of them during publishing, leave whole versions or none; a retry publishes once."""
    if notebook == "real" and not IS_LONG:
        pytest.skip("takes a quarter of an hour: LONG_TRIALS=1 runs it")
    begin = partial(start, project=ROOT if notebook == "real" else project)
    begun = time.monotonic()
    assert begin("first").end()[0] == 0
    seconds = time.monotonic() - begun
    job, moments = str(uuid.uuid4()), Counter[str]()
    for kill in range(kills):
        with proxy_before(s3["AWS_ENDPOINT_URL"], "trickled", r"PUT \S*/models/") as proxy:
            run = begin(job, AWS_ENDPOINT_URL=proxy.endpoint)
            if kill % 2 == 0:
                assert proxy.reached.wait(SLOWEST_RUN)
            with suppress(subprocess.TimeoutExpired):
                run.process.wait(random.uniform(0, 1 if kill % 2 == 0 else seconds))
            is_publishing = proxy.reached.is_set()
            run.lose_host()
        jobs = jobs_of(store)
        assert max(jobs.values()) == 1
        moments["after" if jobs[job] else "while" if is_publishing else "before"] += 1
        job = str(uuid.uuid4()) if jobs[job] else job
    figures = f"{dict(moments)} it published; {len(half_versions(store))} half versions, {len(jobs)} whole ones"
    sys.stderr.write(f"{kills} kills of the {notebook} notebook, whose run takes {seconds:.0f} s: {figures}\n")
    status, printed, log = begin(job).end()
    assert (status, jobs_of(store)[job], printed.strip() in store.published()) == (0, 1, True), log


@pytest.mark.parametrize("fault", ["stopped", "cut", 503])
def test_s3_gone_at_any_step_leaves_whole_versions_or_none(
    fault: str | int, store: ModelStore, start: Start, s3: dict[str, str]
) -> None:
    """If S3 fails from any request on, a failed run says so and keeps its report; a retry leaves one version."""
    with proxy_before(s3["AWS_ENDPOINT_URL"]) as proxy:
        assert start("first", AWS_ENDPOINT_URL=proxy.endpoint).end()[0] == 0
        steps = range(len(proxy.requests))
        for step in steps if IS_LONG else sorted(random.sample(steps, 2)):
            job, proxy.fault, proxy.passed = str(uuid.uuid4()), fault, step
            run = start(job, AWS_ENDPOINT_URL=proxy.endpoint)
            status, printed, log = run.end()
            proxy.fault = None
            method, path = proxy.requests[step][1:]
            sys.stderr.write(f"{fault} from request {step} on ({method} {path[:60]}): {status} {log[-150:]!r}\n")
            assert (status, printed != "") in ((0, True), (1, False))
            assert ("pmip: " in log) == (status == 1)
            assert "Traceback" not in log
            assert len(list(run.folder.glob("data/model-training-*.html"))) == 1
            assert jobs_of(store)[job] <= 1
            assert start(job).end()[0] == 0
            assert jobs_of(store)[job] == 1


@pytest.mark.parametrize("kilobytes", [4, 16, 64, 128, 256])
def test_a_full_disk_is_named(kilobytes: int, store: ModelStore, start: Start, tmp_path: Path) -> None:
    """The log of a run on a full disk says that no space is left, whether the run could publish or not."""
    job = str(uuid.uuid4())
    with disk(tmp_path / "data", f"size={kilobytes}k") as folder:
        status, printed, log = start(job, DATA_DIR=str(folder)).end()
        assert "No space left on device" in log
    assert "Traceback" not in log
    assert (status, printed.split()) in ((0, store.published()), (1, []))


def test_a_disk_that_cannot_be_written_is_named(store: ModelStore, start: Start, tmp_path: Path) -> None:
    """A run whose data folder cannot be written ends with exit 2 and the name of the folder."""
    with disk(tmp_path / "data", "size=1m") as folder:
        make_read_only(folder)
        status, _, log = start(str(uuid.uuid4()), DATA_DIR=str(folder)).end()
    told = f"pmip: DATA_DIR={folder}: the report cannot be written there (Read-only file system)\n"
    assert (status, log) == (2, told)
