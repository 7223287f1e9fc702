"""One training run from the outside: its parameters, and what a person sees when it ends without a model."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import papermill
import psutil
import pytest
from conftest import ROOT

from pmip.errors import SettingsError
from pmip.storage import S3Storage
from pmip.training_run import NOTEBOOK, parse_parameters

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
        timeout=120,
        check=False,
    )


def keys(bucket: S3Storage) -> set[str]:
    """List what the bucket holds."""
    return {found.key for found in bucket.objects("")}


def test_parameters_keep_the_type_of_their_default() -> None:
    """An id of digits stays text, a number becomes one, and blank means the default."""
    known = papermill.inspect_notebook(str(NOTEBOOK))
    arguments = ["TRAINING_DATA_ID=20240101", "FOLDS=3", "HELD_OUT_SHARE=.5", "SEED=", "INVERSE_REGULARISATIONS=[1, 2]"]
    assert parse_parameters(arguments, known) == {
        "TRAINING_DATA_ID": "20240101",
        "FOLDS": 3,
        "HELD_OUT_SHARE": 0.5,
        "INVERSE_REGULARISATIONS": [1, 2],
    }


@pytest.mark.parametrize("argument", ["FLODS=3", "FOLDS", "FOLDS=three", "FOLDS=3.5", "INVERSE_REGULARISATIONS=1"])
def test_a_mistyped_parameter_is_refused(argument: str) -> None:
    """Papermill would only warn and train with the default."""
    with pytest.raises(SettingsError, match=r"FOLDS|INVERSE_REGULARISATIONS"):
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
    run = train(tmp_path, "FOLDS=1")
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
