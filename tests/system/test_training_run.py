"""One training run from the outside: its parameters, and what a person sees when it ends without a model."""

import os
import re
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import papermill
import psutil
import pytest
from conftest import ROOT, SAMPLE

from pmip.errors import SettingsError
from pmip.model.artifact import Artifact
from pmip.store.objects import S3Storage
from pmip.store.versions import ModelStore
from pmip.training.comments import read_comments
from pmip.training.data import local_files, seed
from pmip.training.evaluation import hash_of
from pmip.training.run import NOTEBOOK, parse_parameters

QUICK = ("FOLDS=2", "REPORT=short")

HEADER = b"CONTENT,CLASS\n"
ROWS = b"hello there,0\nsubscribe to my channel,1\n" * 20
BAD_FILES = {
    "corrupt zip": ("a.zip", b"PK\x03\x04 no zip", r"training/20260101/a\.zip: not a zip that can be read"),
    "not UTF-8": ("a.csv", HEADER + ROWS + b"caf\xe9,0\n", r"training/20260101/a\.csv, line 42: not UTF-8"),
    "no column": ("a.csv", b"CONTENT,LABEL\n" + ROWS, r"training/20260101/a\.csv, line 1: no column CLASS"),
    "wrong class": ("a.csv", HEADER + ROWS + b"hello,2\n", r"training/20260101/a\.csv, line 42: CLASS must be 0"),
    "empty comment": ("a.csv", HEADER + ROWS + b" ,1\n", r"training/20260101/a\.csv, line 42: CONTENT is empty"),
    "one class": ("a.csv", HEADER + b"hello there,0\n" * 40, r"every comment has CLASS 0"),
    "few rows": ("a.csv", HEADER + b"hello,0\nbuy,1\n", r"2 comments are too few to train on"),
    "no data": ("notes.txt", b"no data", r"no \.csv or \.zip file in any of its 1 dated folders"),
}


def train(data_dir: Path, *parameters: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run the script as a person would."""
    return subprocess.run(
        ["bash", str(ROOT / "scripts" / "train.sh"), *parameters],
        env=os.environ | {"DATA_DIR": str(data_dir)} | environ,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def keys(bucket: S3Storage) -> set[str]:
    """List what the bucket holds."""
    return {found.key for found in bucket.objects("")}


def test_parameters_keep_the_type_of_their_default() -> None:
    """An id of digits stays text, a number becomes one, and blank means the default."""
    known = papermill.inspect_notebook(str(NOTEBOOK))
    arguments = ["TRAINING_DATA_ID=20240101", "FOLDS=3", "HELD_OUT_SHARE=.5", "SEED="]
    assert parse_parameters(arguments, known) == {
        "TRAINING_DATA_ID": "20240101",
        "FOLDS": 3,
        "HELD_OUT_SHARE": 0.5,
    }


@pytest.mark.parametrize("argument", ["FLODS=3", "FOLDS", "FOLDS=three", "FOLDS=3.5"])
def test_a_mistyped_parameter_is_refused(argument: str) -> None:
    """Papermill would only warn and train with the default."""
    with pytest.raises(SettingsError, match="FOLDS"):
        parse_parameters([argument], papermill.inspect_notebook(str(NOTEBOOK)))


def test_bad_settings_are_named_together(tmp_path: Path) -> None:
    """One message, exit 2, nothing written."""
    run = train(tmp_path, ENVIRONMENT="staging", PORT="x")
    assert (run.returncode, run.stdout) == (2, "")
    assert "BUCKET is missing" in run.stderr
    assert "PORT='x'" in run.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("case", BAD_FILES)
def test_bad_training_data_ends_the_run_with_a_clear_error(case: str, bucket: S3Storage, tmp_path: Path) -> None:
    """The error names bucket, key and line, nothing is published, and the report is kept under runs/."""
    name, content, message = BAD_FILES[case]
    bucket.write(f"training/20260101/{name}", content)
    run = train(tmp_path, "MODEL_ID=20260303T000000Z", ENVIRONMENT="staging", BUCKET=bucket.bucket)
    assert (run.returncode, run.stdout) == (1, "")
    assert "Traceback" not in run.stderr
    assert re.search(message, run.stderr), run.stderr
    report = "runs/staging/20260303T000000Z/model-training"
    assert keys(bucket) == {f"training/20260101/{name}", f"{report}.ipynb", f"{report}.html"}
    assert not (tmp_path / "model.pkl").exists()


def test_without_a_dated_folder_the_error_says_how_to_upload_data(bucket: S3Storage, tmp_path: Path) -> None:
    """Names that are no calendar day are named in a warning and passed over; in dev the bucket stays as it was."""
    bucket.write("training/20261340/a.csv", HEADER + ROWS)
    run = train(tmp_path, BUCKET=f"s3://{bucket.bucket}")
    assert run.returncode == 1
    assert "no folder that is named by a day" in run.stderr
    assert "seed_training_data.sh" in run.stderr
    assert keys(bucket) == {"training/20261340/a.csv"}


def test_a_missing_bucket_and_a_refused_key_are_told_apart(bucket: S3Storage, tmp_path: Path) -> None:
    """No such bucket is one message, no access another; neither shows the server's address or a key."""
    missing = train(tmp_path, ENVIRONMENT="staging", BUCKET="pmip-no-such-bucket")
    assert "s3://pmip-no-such-bucket/training/: there is no such bucket" in missing.stderr
    refused = train(tmp_path, ENVIRONMENT="staging", BUCKET=bucket.bucket, AWS_SECRET_ACCESS_KEY="not-the-secret")
    assert f"s3://{bucket.bucket}/training/: access denied" in refused.stderr
    assert (missing.returncode, refused.returncode) == (1, 1)
    reports = "".join(path.read_text() for path in tmp_path.glob("model-training-*"))
    for secret in (os.environ["AWS_ENDPOINT_URL"], os.environ["AWS_ACCESS_KEY_ID"], "not-the-secret", str(ROOT)):
        assert secret not in missing.stderr + refused.stderr + reports


def test_an_unforeseen_error_names_its_cell(tmp_path: Path) -> None:
    """A mistake in the notebook's own code tells kind, text, cell and report."""
    run = train(tmp_path, "FOLDS=1", "REPORT=short")
    assert run.returncode == 1
    assert "n_splits=1" in run.stderr
    assert "(cell [" in run.stderr
    assert "report: " in run.stderr
    assert list(tmp_path.glob("model-training-*.html"))


def test_a_kernel_that_is_killed_leaves_its_report(tmp_path: Path) -> None:
    """As when memory runs out: one line says so, and the report shows the cells that ran."""
    command = [sys.executable, "-m", "pmip", "train"]
    environ = os.environ | {"DATA_DIR": str(tmp_path)}
    with subprocess.Popen(command, cwd=ROOT, env=environ, stderr=subprocess.PIPE, text=True) as process:
        report: list[Path] = []
        while not (report and "training data sample: 554 comments" in report[0].read_text()):
            time.sleep(0.1)
            report = list(tmp_path.glob("*.ipynb"))
            assert process.poll() is None
        [kernel] = psutil.Process(process.pid).children()
        kernel.kill()
        assert process.wait(60) == 1
        assert process.stderr
        error = process.stderr.read()
    assert "the notebook's kernel failed" in error
    assert "Traceback" not in error
    assert "554 comments" in next(tmp_path.glob("*.html")).read_text()
    assert not (tmp_path / "model.pkl").exists()


def truth_by_hash() -> dict[str, float]:
    """Return by hash what is true of each comment of the sample: the answers of a perfect model."""
    comments = read_comments(local_files(SAMPLE))
    return dict(zip(map(hash_of, comments["CONTENT"]), comments["CLASS"].astype(float), strict=True))


GATES = {
    "a minimum": (
        ("MIN_MCC=0.9999",),
        None,
        r"MCC on the held-out comments is 0\.\d+, at least 0\.9999 is asked for \(MIN_MCC\)$",
    ),
    "the drop": (
        ("MAX_MCC_DROP=0.0001", "MAX_FLIPPED=1"),
        lambda truth: truth,
        r"drop of MCC against the model before is 0\.\d+, at most 0\.0001 is asked for \(MAX_MCC_DROP\)$",
    ),
    "the flips": (
        ("MAX_FLIPPED=0.1",),
        lambda truth: 1 - truth,
        r"share of flipped answers is 0\.\d+, at most 0\.1 is asked for \(MAX_FLIPPED\)$",
    ),
}


@pytest.mark.parametrize("case", GATES)
def test_a_model_that_misses_a_limit_is_not_published(
    case: str, artifact: Artifact, bucket: S3Storage, tmp_path: Path
) -> None:
    """The error names the figure, its value and its limit, and the report stands under runs/."""
    parameters, answer, message = GATES[case]
    seed(bucket, SAMPLE, "20260101")
    assert artifact.metadata
    if answer:
        known = {name: answer(truth) for name, truth in truth_by_hash().items()}
        earlier = replace(artifact.metadata, model_id="20260101T000000Z", held_out=known)
        ModelStore(bucket, "staging").publish(replace(artifact, metadata=earlier))
    before = keys(bucket)
    run = train(tmp_path, "MODEL_ID=20260303T000000Z", *QUICK, *parameters, ENVIRONMENT="staging", BUCKET=bucket.bucket)
    assert (run.returncode, run.stdout) == (1, "")
    [line] = [line for line in run.stderr.splitlines() if line.startswith("pmip: ")]
    assert "does not pass the gate and is not published" in line
    assert re.search(message, line), line
    report = "runs/staging/20260303T000000Z/model-training"
    assert keys(bucket) - before == {f"{report}.ipynb", f"{report}.html"}
    assert not (tmp_path / "model.pkl").exists()
    assert "does <strong>not</strong> pass" in (tmp_path / "model-training-20260303T000000Z.html").read_text()


def test_a_model_before_that_was_measured_on_other_comments_is_not_compared(
    artifact: Artifact, bucket: S3Storage, tmp_path: Path
) -> None:
    """The report says that there are too few to compare, and the model is published; the log tells each step."""
    seed(bucket, SAMPLE, "20260101")
    ModelStore(bucket, "staging").publish(artifact)
    run = train(tmp_path, *QUICK, ENVIRONMENT="staging", BUCKET=bucket.bucket)
    assert run.returncode == 0, run.stderr
    page = (tmp_path / f"model-training-{run.stdout.strip()}.html").read_text()
    assert "Only 0 of the held-out comments are new to model 20260101T000000Z too: too few to compare." in page
    assert not re.search(r"[^\n\x20-\x7e]", run.stderr), "control characters"
    steps = re.findall(r"^==> cross-validation: (\d+)/16 \(", run.stderr, re.MULTILINE)
    assert steps == [str(step) for step in range(17)]


def test_a_report_is_full_or_short(tmp_path: Path) -> None:
    """Another value is told before anything is read."""
    run = train(tmp_path, "REPORT=long")
    assert run.returncode == 1
    assert "REPORT=long: must be full or short" in run.stderr
