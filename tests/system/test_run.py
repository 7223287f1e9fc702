"""A training run that ends without a model reports why, and leaves no process behind."""

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import nbformat
import psutil
import pytest
from api import wait_for
from conftest import ROOT, SAMPLE
from nbformat.v4 import new_code_cell, new_notebook
from shell import run

from pmip.model.artifact import Artifact
from pmip.store.objects import S3Storage
from pmip.store.versions import ModelStore
from pmip.training.comments import read_comments
from pmip.training.comparison import hash_of
from pmip.training.data import local_files, seed

QUICK = ("FOLDS=2", "REPORT=short")
MODEL_ID = "20260303T000000Z"
PARAMETERS = 'MODEL_ID = ""\nFOLDS = 3\nTRAINING_DATA_ID = ""'
PULL = """from pathlib import Path
from pmip.config import Settings
from pmip.store.objects import S3Storage
from pmip.training import comments, data
settings = Settings.from_environ()
found = data.pull(S3Storage(settings.bucket), Path("..") / settings.data_dir)
print(f"training data {found.training_data_id}")
read = comments.read_comments(found.files)"""
# Two workers of joblib that stay idle, as they do for minutes after each search.
WORKERS = """import time
from joblib import Parallel, delayed
Parallel(n_jobs=2)(delayed(time.sleep)(0.01) for _ in range(4))
print("the workers", "wait")
"""


def train(data_dir: Path, *parameters: str, root: Path = ROOT, **environ: str) -> subprocess.CompletedProcess[str]:
    return run(root / "scripts" / "train.sh", *parameters, timeout=240, DATA_DIR=str(data_dir), **environ)


def project(folder: Path, *sources: str, tags: tuple[str, ...] = ()) -> Path:
    """Copy the project with a small notebook: its parameters and these cells, each of which may have a tag."""
    shutil.copytree(ROOT / "pmip", folder / "pmip")
    shutil.copytree(ROOT / "scripts", folder / "scripts")
    cells = [new_code_cell(PARAMETERS, metadata={"tags": ["parameters"]}), *map(new_code_cell, sources)]
    for cell, tag in zip(cells[1:], tags, strict=False):
        cell.metadata["tags"] = [tag]
    (folder / "notebooks").mkdir()
    nbformat.write(new_notebook(cells=cells), folder / "notebooks" / "model-training.ipynb")
    return folder


def keys(bucket: S3Storage) -> set[str]:
    return {found.key for found in bucket.objects("")}


def test_bad_settings_are_named_together(tmp_path: Path) -> None:
    """A run with bad settings names all of them, exits with 2 and writes nothing."""
    outcome = train(tmp_path, ENVIRONMENT="staging", PORT="x")
    assert (outcome.returncode, outcome.stdout) == (2, "")
    assert "BUCKET is missing" in outcome.stderr
    assert "PORT='x'" in outcome.stderr
    assert list(tmp_path.iterdir()) == []


def test_parameters_out_of_range_are_told_before_the_run(tmp_path: Path) -> None:
    """A run with parameters out of range names all of them in one line, exits with 2 and writes nothing."""
    outcome = train(tmp_path, "FOLDS=1", "TRAINING_DATA_ID=20240231", "REPORT=long")
    assert (outcome.returncode, outcome.stdout) == (2, "")
    [line] = outcome.stderr.splitlines()
    assert line.startswith("pmip: FOLDS=1: must be a number from 2 to 20; TRAINING_DATA_ID=20240231: must be a cal")
    assert line.endswith("REPORT=long: must be full or short")
    assert list(tmp_path.iterdir()) == []


def test_a_notebook_that_is_none_is_told_in_one_line(tmp_path: Path) -> None:
    """A notebook with the marks of an unfinished merge ends the run with one line that says so."""
    root = project(tmp_path / "project")
    (root / "notebooks" / "model-training.ipynb").write_text("<<<<<<< HEAD\n{}")
    outcome = train(tmp_path / "data", root=root)
    assert (outcome.returncode, outcome.stdout) == (1, "")
    [line] = outcome.stderr.splitlines()
    assert line.startswith("pmip: model-training.ipynb: line 1 is the mark of an unfinished merge")


def test_bad_training_data_ends_the_run_with_a_clear_error(bucket: S3Storage, tmp_path: Path) -> None:
    """Bad training data ends the run with bucket, key and line; only the report is kept, under runs/."""
    bucket.write("training/20260101/a.csv", b"CONTENT,CLASS\nhello there,0\nhello,2\n")
    outcome = train(tmp_path, f"MODEL_ID={MODEL_ID}", ENVIRONMENT="staging", BUCKET=bucket.bucket)
    assert (outcome.returncode, outcome.stdout) == (1, "")
    assert "Traceback" not in outcome.stderr
    url = bucket.url("training/20260101/a.csv")
    assert re.search(rf"{url}, line 3: CLASS must be 0", outcome.stderr), outcome.stderr
    report = f"runs/staging/{MODEL_ID}/model-training"
    assert keys(bucket) == {"training/20260101/a.csv", f"{report}.ipynb", f"{report}.html"}
    assert not (tmp_path / "model.pkl").exists()


def test_a_missing_bucket_and_a_refused_key_are_told_apart(bucket: S3Storage, tmp_path: Path) -> None:
    """A missing bucket and denied access have different messages, without the server's address or a key."""
    root = project(tmp_path / "project", PULL)
    data_dir = tmp_path / "data"
    missing = train(data_dir, root=root, ENVIRONMENT="staging", BUCKET="pmip-no-such-bucket")
    assert "s3://pmip-no-such-bucket/training/: there is no such bucket" in missing.stderr
    wrong = {"ENVIRONMENT": "staging", "BUCKET": bucket.bucket, "AWS_SECRET_ACCESS_KEY": "not-the-secret"}
    refused = train(data_dir, root=root, **wrong)
    assert f"s3://{bucket.bucket}/training/: access denied" in refused.stderr
    assert (missing.returncode, refused.returncode) == (1, 1)
    reports = "".join(path.read_text() for path in data_dir.glob("model-training-*"))
    assert "access denied" in reports
    for secret in (os.environ["AWS_ENDPOINT_URL"], os.environ["AWS_ACCESS_KEY_ID"], "not-the-secret", str(root)):
        assert secret not in missing.stderr + refused.stderr + reports


def test_an_unforeseen_error_names_its_cell(tmp_path: Path) -> None:
    """An error in the notebook's own code is reported with its class and cell; only the report has its text."""
    root = project(tmp_path / "project", "print('training data 20260101')", "1 / 0", tags=("training-data",))
    outcome = train(tmp_path / "data", f"MODEL_ID={MODEL_ID}", root=root)
    assert (outcome.returncode, outcome.stdout) == (1, "")
    assert outcome.stderr.splitlines() == [
        "pmip: ZeroDivisionError in cell [4] of the notebook; the report has the whole error",
        "training data 20260101",
        f"report: {tmp_path}/data/model-training-{MODEL_ID}.html",
    ]
    assert "ZeroDivisionError" in (tmp_path / "data" / f"model-training-{MODEL_ID}.html").read_text()


def test_a_gate_that_may_fail_lets_no_model_pass(tmp_path: Path) -> None:
    """A failing cell ends the run even if it is tagged raises-exception, and the cells after it do not run."""
    gate, published = "raise ValueError('too weak')", "print(MODEL_ID)"
    root = project(tmp_path / "project", gate, published, tags=("raises-exception", "model-id"))
    outcome = train(tmp_path / "data", f"MODEL_ID={MODEL_ID}", root=root)
    assert (outcome.returncode, outcome.stdout) == (1, "")
    assert outcome.stderr.startswith("pmip: ValueError in cell [")
    cells = nbformat.read(tmp_path / "data" / f"model-training-{MODEL_ID}.ipynb", as_version=4).cells
    assert cells[-1].outputs == []


@contextmanager
def waiting_run(folder: Path) -> Iterator[tuple[subprocess.Popen[str], psutil.Process]]:
    """Start a run in its own process group; yield it and its kernel when joblib's workers are idle there.

    At the end none of its processes may be alive.
    """
    root = project(folder / "project", WORKERS, "time.sleep(600)")
    environ = os.environ | {"DATA_DIR": str(folder / "data")}
    command = ["bash", str(root / "scripts" / "train.sh"), f"MODEL_ID={MODEL_ID}"]
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # under nohup, the run too would ignore it
    with subprocess.Popen(command, env=environ, stderr=subprocess.PIPE, text=True, start_new_session=True) as run:
        processes: list[psutil.Process] = []
        try:
            reports = folder / "data"
            wait_for(lambda: any("the workers wait" in path.read_text() for path in reports.glob("*.ipynb")), 60)
            processes = psutil.Process(run.pid).children(recursive=True)
            [kernel] = [process for process in processes if "ipykernel_launcher" in " ".join(process.cmdline())]
            assert len(kernel.children(recursive=True)) >= 3  # two workers, and joblib's tracker of their resources
            yield run, kernel
        finally:
            signal.signal(signal.SIGHUP, before)
            run.kill()
            assert psutil.wait_procs(processes, timeout=10)[1] == [], "some process outlives the run"


def signalled(number: signal.Signals) -> Callable[[subprocess.Popen[str], psutil.Process], None]:
    """Return a function that sends a signal to the process group of a run, as a terminal does."""
    return lambda run, _kernel: os.killpg(run.pid, number)


ENDS: dict[str, tuple[Callable[[subprocess.Popen[str], psutil.Process], None], int, str]] = {
    "Ctrl-C": (signalled(signal.SIGINT), 130, "stopped by SIGINT before the end"),
    "the terminal is closed": (signalled(signal.SIGHUP), 129, "stopped by SIGHUP before the end"),
    "the container is stopped": (signalled(signal.SIGTERM), 143, "stopped by SIGTERM before the end"),
    "memory runs out": (lambda _run, kernel: kernel.kill(), 1, "the notebook's kernel failed: "),
}


@pytest.mark.parametrize("case", ENDS)
def test_a_run_that_is_ended_says_so_in_one_line_and_leaves_its_report(case: str, tmp_path: Path) -> None:
    """A run that is stopped prints one line and the place of its report, and leaves no kernel or worker behind."""
    end, status, said = ENDS[case]
    with waiting_run(tmp_path) as (run, kernel):
        end(run, kernel)
        assert run.wait(60) == status
        assert run.stderr
        said_all = run.stderr.read()
    assert len(said_all.splitlines()) == 2, said_all
    line, report = said_all.splitlines()
    assert line.startswith(f"pmip: {said}")
    assert report == f"report: {tmp_path}/data/model-training-{MODEL_ID}.html"
    assert "the workers wait" in (tmp_path / "data" / f"model-training-{MODEL_ID}.html").read_text()


def test_a_run_that_is_killed_leaves_no_process(tmp_path: Path) -> None:
    """A run that ends by SIGKILL leaves no process behind, although it cannot stop them itself."""
    with waiting_run(tmp_path) as (run, _kernel):
        os.killpg(run.pid, signal.SIGKILL)
        assert run.wait(10) == -signal.SIGKILL


def truth_by_hash() -> dict[str, float]:
    """Return the class of each comment of the sample by its hash: the answers of a perfect model."""
    comments = read_comments(local_files(SAMPLE))
    return dict(zip(map(hash_of, comments["CONTENT"]), comments["CLASS"].astype(float), strict=True))


GATES = (
    ("MIN_MCC=0.9999", r"MCC on the held-out comments is 0\.\d+ ± 0\.\d+, at least 0\.9999 is required \(MIN_MCC\)"),
    ("MAX_MCC_DROP=0.0001", r"drop of MCC against the previous model is 0\.\d+ ± 0\.\d+, at most 0\.0001 is required"),
    ("MAX_FLIPPED=0", r"share of flipped answers is 0\.\d+ ± 0\.\d+, at most 0 is required \(MAX_FLIPPED\)$"),
)


def test_a_model_that_misses_its_limits_is_not_published(artifact: Artifact, bucket: S3Storage, tmp_path: Path) -> None:
    """A model that misses its limits is not published; the error gives each figure and limit, data and report."""
    seed(bucket, SAMPLE, "20260101")
    assert artifact.metadata
    earlier = replace(artifact.metadata, model_id="20260101T000000Z", held_out=truth_by_hash())
    ModelStore(bucket, "staging").publish(replace(artifact, metadata=earlier))
    before = keys(bucket)
    limits = [limit for limit, _ in GATES]
    outcome = train(tmp_path, f"MODEL_ID={MODEL_ID}", *QUICK, *limits, ENVIRONMENT="staging", BUCKET=bucket.bucket)
    assert (outcome.returncode, outcome.stdout) == (1, "")
    line, data, split, report = outcome.stderr[outcome.stderr.index("pmip: ") :].splitlines()
    assert "does not pass the gate and is not published" in line
    for _, message in GATES:
        assert re.search(message, line), line
    assert data.startswith("training data 20260101: 554 comments")
    assert re.fullmatch(r"\d+ comments in the training set, \d+ held out", split)
    assert report == f"report: {bucket.url(f'runs/staging/{MODEL_ID}/')}"
    kept = f"runs/staging/{MODEL_ID}/model-training"
    assert keys(bucket) - before == {f"{kept}.ipynb", f"{kept}.html"}
    assert not (tmp_path / "model.pkl").exists()
    assert "does <strong>not</strong> pass" in (tmp_path / f"model-training-{MODEL_ID}.html").read_text()


def test_a_run_tells_its_steps_its_data_and_how_good_the_model_is(
    artifact: Artifact, bucket: S3Storage, tmp_path: Path
) -> None:
    """A run prints steps, data and figures, and publishes a model that cannot be compared only with MIN_COMPARED=0."""
    odd = tmp_path / r"cheap $50 \mix $60.csv"
    shutil.copy(SAMPLE[0], odd)
    seed(bucket, [odd, *SAMPLE[1:]], "20260101")
    ModelStore(bucket, "staging").publish(artifact)
    outcome = train(tmp_path, *QUICK, ENVIRONMENT="staging", BUCKET=bucket.bucket)
    assert "number of comments held out in both runs is 0, at least 10 is required (MIN_COMPARED)" in outcome.stderr
    outcome = train(tmp_path, *QUICK, "MIN_COMPARED=0", ENVIRONMENT="staging", BUCKET=bucket.bucket)
    assert outcome.returncode == 0, outcome.stderr
    page = (tmp_path / f"model-training-{outcome.stdout.strip()}.html").read_text()
    assert "the previous model, 20260101T000000Z, both held out 0 comments: too few to compare the two models." in page
    assert not re.search(r"[^\n\x20-\x7e]", outcome.stderr), "control characters"
    steps = re.findall(r"^==> (.*) started$\n==> \1: \d+\.\d s$", outcome.stderr, re.MULTILINE)
    assert steps == ["search", "cross-validation", "search and fit on all comments"]
    told = rf"^==> model {outcome.stdout.strip()}, trained on 554 comments of training data 20260101, passed the gate: "
    figure = r"accuracy 0\.\d{3} and MCC 0\.\d{3}"
    told += f"on another of these videos {figure}, held out {figure}$"
    assert re.search(told, outcome.stderr, re.MULTILINE), outcome.stderr
