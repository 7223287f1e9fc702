"""Scoring files by the command: classes and probabilities are the API's, and each mistake is one line."""

import io
import os
import pickle
import subprocess
import sys
import termios
import zipfile
from contextlib import suppress
from pathlib import Path

import pandas as pd
import pytest
from conftest import SAMPLE

from pmip.model import verification
from pmip.model.artifact import Artifact
from pmip.store.objects import S3Storage
from pmip.store.versions import LOCAL, LocalModel, ModelStore

PANDAS = {"dtype": str, "keep_default_na": False}  # reads a table as it stands there


def score(folder: Path, *words: object, **environ: str) -> subprocess.CompletedProcess[str]:
    """Call the command in a folder whose data folder is its own."""
    command = [sys.executable, "-P", "-m", "pmip", "score", *map(str, words)]
    settings = os.environ | {"DATA_DIR": str(folder / "data"), "ENVIRONMENT": "dev"} | environ
    return subprocess.run(command, cwd=folder, env=settings, capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture
def folder(artifact: Artifact, tmp_path: Path) -> Path:
    LocalModel(tmp_path / "data").save(artifact)
    (tmp_path / "x.csv").write_text("id;Text\n007;subscribe to me\n,\n8;\n".replace(",", ";"))
    return tmp_path


@pytest.mark.parametrize("repeated", [1, 30], ids=["one process", "several processes"])
def test_the_answers_are_those_of_the_api(folder: Path, artifact: Artifact, repeated: int) -> None:
    """Each row keeps its columns and its place, in one process and in several."""
    table = pd.concat([pd.read_csv(SAMPLE[0], **PANDAS)] * repeated)
    table.to_csv(folder / "sample.csv", index=False)
    outcome = score(folder, "sample.csv")
    assert (outcome.returncode, outcome.stderr) == (0, "")
    scored = pd.read_csv(io.StringIO(outcome.stdout, newline=""), **PANDAS)
    comments, scorer = table["CONTENT"].tolist(), verification.load(artifact, LOCAL, "dev")
    assert scored["class"].astype(int).tolist() == scorer.classes(comments)
    assert scored["probability"].astype(float).tolist() == [both[1] for both in scorer.probabilities(comments)]
    assert scored[table.columns].to_numpy().tolist() == table.to_numpy().tolist()


def test_files_of_any_shape_are_scored_together(folder: Path) -> None:
    """A table needs no labels, an empty comment has an answer, and `file` says where a row comes from."""
    with zipfile.ZipFile(folder / "y.zip", "w") as archive:
        archive.writestr("z.tsv", "text\tid\ncall me on my number\t9\n")
    outcome = score(folder, "x.csv", "y.zip", "--column", "Text", "--output", folder / "new" / "scored.csv")
    assert (outcome.returncode, outcome.stdout, outcome.stderr) == (0, "", "")
    scored = pd.read_csv(folder / "new" / "scored.csv", **PANDAS)
    assert list(scored.columns) == ["id", "Text", "file", "class", "probability"]
    expected = [["007", "subscribe to me", "x.csv"], ["8", "", "x.csv"], ["9", "call me on my number", "y.zip/z.tsv"]]
    assert scored[["id", "Text", "file"]].to_numpy().tolist() == expected
    assert all(0 < float(probability) < 1 for probability in scored["probability"])


def test_the_newest_version_or_a_given_one_scores(folder: Path, bucket: S3Storage, artifact: Artifact) -> None:
    """Versions come from the bucket, as they do for the API; one that is not there is named."""
    store, settings = ModelStore(bucket, "staging"), {"ENVIRONMENT": "staging", "BUCKET": bucket.bucket}
    older = store.publish(artifact).metadata
    bucket.write("models/staging/20270101/model.pkl", pickle.dumps(print))
    given = score(folder, "x.csv", "--column", "Text", "--model-id", older.model_id if older else "", **settings)
    assert given.stdout == score(folder, "x.csv", "--column", "Text").stdout
    newest = score(folder, "x.csv", "--column", "Text", **settings)
    assert (newest.returncode, newest.stdout, newest.stderr.count("\n")) == (1, "", 1)
    missing = score(folder, "x.csv", "--model-id", "20260909", **settings)
    assert missing.stderr.startswith(f"pmip: s3://{bucket.bucket}/models/staging/20260909/ holds no model.pkl")


@pytest.mark.parametrize(
    ("words", "status", "reason"),
    [
        (["x.csv"], 1, "x.csv, line 1: no column CONTENT; use --column to name the column of the texts"),
        (["x.csv", "--column", "Text", "--model-id", "20260101"], 2, "--model-id requires ENVIRONMENT=staging or prod"),
        (["y.csv"], 1, "y.csv: there is no such file"),
        (["data/model.pkl"], 1, "data/model.pkl: not a .csv, .tsv, .csv.gz or .zip file"),
        (["scored.csv"], 1, "scored.csv: has a column probability, which scoring adds; rename it"),
        (["x.csv", "--column", "Text", "--output", "data"], 1, "./data: Is a directory"),
    ],
)
def test_a_mistake_is_one_line(folder: Path, words: list[str], status: int, reason: str) -> None:
    """It says what is wrong and where, and nothing is written."""
    (folder / "scored.csv").write_text("CONTENT,probability\nx,1\n")
    outcome = score(folder, *words)
    assert (outcome.returncode, outcome.stdout, outcome.stderr.count("\n")) == (status, "", 1)
    assert outcome.stderr.startswith(f"pmip: {reason}")


@pytest.mark.parametrize("content", [b"no model", b"cos\nsystem\n(S'touch marker'\ntR.", None])
def test_a_model_that_must_not_be_used_is_refused(folder: Path, content: bytes | None) -> None:
    """A damaged pickle, one that does something else, and none at all: no pickle is run to find out."""
    LocalModel(folder / "data").save(Artifact(content or b"", None))
    if content is None:
        (folder / "data" / "model.pkl").unlink()
    outcome = score(folder, "x.csv", "--column", "Text")
    assert (outcome.returncode, outcome.stdout, outcome.stderr.count("\n")) == (1, "", 1)
    assert sorted(path.name for path in folder.iterdir()) == ["data", "x.csv"]


def test_a_terminal_sees_how_far_it_is(folder: Path) -> None:
    """A progress bar is on stderr, and the answers on stdout are the same."""
    terminal, end = os.openpty()
    termios.tcsetwinsize(end, (24, 80))
    command = [sys.executable, "-P", "-m", "pmip", "score", "x.csv", "--column", "Text"]
    settings = os.environ | {"DATA_DIR": "data", "ENVIRONMENT": "dev"}
    outcome = subprocess.run(
        command, cwd=folder, env=settings, stdout=subprocess.PIPE, stderr=end, text=True, timeout=120, check=False
    )
    os.close(end)
    shown = b""
    with suppress(OSError), os.fdopen(terminal, "rb", buffering=0) as screen:  # Linux ends it by an error
        while piece := screen.read(2**16):
            shown += piece
    assert b"score: 100%" in shown
    assert outcome.stdout == score(folder, "x.csv", "--column", "Text").stdout
