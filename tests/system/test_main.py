"""The commands about versions, as a person calls them: results on stdout, what was done on stderr."""

import os
import subprocess
import sys
from dataclasses import replace

import pytest
from conftest import ROOT

from pmip.model.artifact import Artifact
from pmip.store.objects import S3Storage
from pmip.store.versions import ModelStore

FIRST, SECOND, HAND = "20260101T000000Z", "20260202T000000Z", "20260303"


def run(bucket: S3Storage, *words: str, environment: str = "staging") -> subprocess.CompletedProcess[str]:
    settings = {"ENVIRONMENT": environment, "BUCKET": bucket.bucket}
    command = [sys.executable, "-m", "pmip", *words]
    return subprocess.run(
        command, cwd=ROOT, env=os.environ | settings, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.fixture
def store(bucket: S3Storage, artifact: Artifact) -> ModelStore:
    """Publish two versions, and upload one by hand whose metadata hold what nobody expects."""
    store = ModelStore(bucket, "staging")
    assert artifact.metadata
    metrics = {"leave_one_source_out": {"accuracy": 0.9534, "mcc": 0.9061}, "held_out": {"accuracy": 0.97, "mcc": None}}
    files = [{"name": "a.csv", "rows": 1000}, {"name": "b.csv", "rows": 370}]
    for model_id in (FIRST, SECOND):
        changes = {"training_data_id": model_id[:8], "training_files": files, "metrics": metrics}
        store.publish(Artifact(artifact.model, replace(artifact.metadata, model_id=model_id, **changes)))
    odd = b'{"model_id": "x", "training_data_id": "\\u001b[2J", "metrics": {"held_out": 5}, "training_files": [5]}'
    bucket.write(f"models/staging/{HAND}/metadata.json", odd)
    bucket.write(f"models/staging/{HAND}/model.pkl", artifact.model)
    return store


def test_versions_are_a_table_newest_first(store: ModelStore, bucket: S3Storage) -> None:
    """With data and figures of each, and whether it is in service or retired; --ids tells the ids in service alone."""
    store.retire(SECOND)
    told = run(bucket, "versions")
    assert (told.returncode, told.stderr) == (0, "")
    assert told.stdout.splitlines() == [
        "model id          data      comments  new video: accuracy, MCC  held out: accuracy, MCC  state",
        "20260303          ?[2J      -         - -                       - -                      in service",
        "20260202T000000Z  20260202  1,370     0.953 0.906               0.970 -                  retired",
        "20260101T000000Z  20260101  1,370     0.953 0.906               0.970 -                  older",
    ]
    assert run(bucket, "versions", "--ids").stdout == f"{HAND}\n{FIRST}\n"


@pytest.mark.usefixtures("store")
def test_commands_say_what_they_did(bucket: S3Storage) -> None:
    """Nothing on stdout, and on stderr which version the APIs serve from then on."""
    for words, told in (
        (("retire", HAND), f"{HAND} is retired from staging; its APIs serve {SECOND}"),
        (("restore", HAND), f"{HAND} is restored in staging; its APIs serve {HAND}"),
        (("promote", FIRST), f"{FIRST} is copied from staging to prod; its APIs serve {FIRST}"),
    ):
        done = run(bucket, *words)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", f"==> {told}\n")
    last = run(bucket, "retire", FIRST, environment="prod")
    assert last.stderr == f"==> {FIRST} is retired from prod; it holds no version, so its APIs keep their current one\n"


@pytest.mark.usefixtures("store")
def test_a_reader_that_goes_away_is_no_fault(bucket: S3Storage) -> None:
    """As `head`, or one that takes nothing: there is no traceback."""
    settings = {"ENVIRONMENT": "staging", "BUCKET": bucket.bucket}
    for reader in ("head -n 1", "true"):
        command = ["bash", "-c", f'"$0" -m pmip versions | {reader}', sys.executable]
        ended = subprocess.run(
            command, cwd=ROOT, env=os.environ | settings, capture_output=True, timeout=60, check=True
        )
        assert (ended.stderr, ended.stdout.count(b"\n")) == (b"", int(reader != "true"))
