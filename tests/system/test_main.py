"""The commands about versions print results on stdout, and what they did on stderr."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from api import at_bucket, running_api
from conftest import ROOT

from pmip.model.artifact import Artifact
from pmip.store.objects import S3Storage
from pmip.store.versions import ModelStore

FIRST, SECOND, HAND = "20260101T000000Z", "20260202T000000Z", "20260303"


def run(bucket: S3Storage, *words: str, environment: str = "staging", **more: str) -> subprocess.CompletedProcess[str]:
    settings = {"ENVIRONMENT": environment, "BUCKET": bucket.bucket} | more
    command = [sys.executable, "-m", "pmip", *words]
    return subprocess.run(
        command, cwd=ROOT, env=os.environ | settings, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.fixture
def store(bucket: S3Storage, artifact: Artifact) -> ModelStore:
    """Publish two versions, and upload one by hand with unexpected metadata."""
    store = ModelStore(bucket, "staging")
    assert artifact.metadata
    metrics = {"leave_one_source_out": {"accuracy": 0.9534, "mcc": 0.9061}, "held_out": {"accuracy": 0.97, "mcc": None}}
    files = [{"name": "a.csv", "rows": 1000}, {"name": "b.csv", "rows": 370}]
    for model_id in (FIRST, SECOND):
        changes = {"training_data_id": model_id[:8], "training_files": files, "metrics": metrics}
        store.publish(Artifact(artifact.model, replace(artifact.metadata, model_id=model_id, **changes)))
    odd = b'{"model_id": "20260303", "metrics": {"held_out": 5}, "training_files": [{}]}'
    bucket.write(f"models/staging/{HAND}/metadata.json", odd)
    bucket.write(f"models/staging/{HAND}/model.pkl", artifact.model)
    return store


def test_versions_are_a_table_newest_first(store: ModelStore, bucket: S3Storage) -> None:
    """`versions` prints each version's data, metrics and state, newest first; `--ids` leaves out retired ones."""
    store.retire(SECOND)
    told = run(bucket, "versions")
    assert (told.returncode, told.stderr) == (0, "")
    assert told.stdout.splitlines() == [
        "model id          data      comments  another video: accuracy, MCC  held out: accuracy, MCC  state",
        "20260303          -         -         - -                           - -                      newest",
        "20260202T000000Z  20260202  1,370     0.953 0.906                   0.970 -                  retired",
        "20260101T000000Z  20260101  1,370     0.953 0.906                   0.970 -                  older",
    ]
    assert run(bucket, "versions", "--ids").stdout == f"{HAND}\n{FIRST}\n"


@pytest.mark.usefixtures("store")
def test_commands_say_what_they_did(bucket: S3Storage) -> None:
    """Each command prints on stderr what it did and which version is now the newest, and nothing on stdout."""
    for words, outcome, newest in (
        (("retire", HAND), f"{HAND} is retired from staging", SECOND),
        (("restore", HAND), f"{HAND} is restored in staging", HAND),
        (("promote", FIRST), f"{FIRST} is copied from staging to prod", FIRST),
    ):
        done = run(bucket, *words)
        hint = f"its newest version is {newest} ('versions --api URL' shows which one an API serves)"
        assert (done.returncode, done.stdout, done.stderr) == (0, "", f"==> {outcome}; {hint}\n")
    last = run(bucket, "retire", FIRST, environment="prod")
    assert last.stderr == f"==> {FIRST} is retired from prod; it holds no version, so its APIs keep their current one\n"


def test_the_newest_version_that_this_code_can_serve_is_told(store: ModelStore, bucket: S3Storage) -> None:
    """`versions --servable` prints the version that an API with this code would serve, or why it would serve none."""
    bucket.write(f"models/staging/{HAND}/metadata.json", b"{}")
    told = run(bucket, "versions", "--servable")
    assert (told.returncode, told.stdout) == (0, f"{SECOND}\n"), told.stderr
    assert f"{HAND}" in told.stderr
    for model_id in store.published()[1:]:
        store.retire(model_id)
    none = run(bucket, "versions", "--servable")
    assert (none.returncode, none.stdout) == (1, "")
    assert f"==> model {HAND}: metadata.json cannot be read" in none.stderr
    assert none.stderr.endswith(f"pmip: this code can serve no version in {store}; the reason is above\n")


@pytest.mark.usefixtures("store")
def test_an_api_is_asked_which_version_it_serves(bucket: S3Storage, tmp_path: Path) -> None:
    """`versions --api` marks the version that the API serves, and says why a wrong address or key fails."""
    with running_api(tmp_path, **at_bucket(bucket), API_KEYS="secret") as (port, _):
        address = f"http://127.0.0.1:{port}"
        lines = run(bucket, "versions", "--api", address, API_KEYS="secret").stdout.splitlines()
        assert [line.split("  ")[-1].strip() for line in lines[1:]] == ["newest", "older, in service", "older"]
        refused = run(bucket, "versions", "--api", address)
        assert (refused.returncode, refused.stdout) == (1, "")
        assert "HTTP Error 401" in refused.stderr
        assert refused.stderr.endswith("set API_KEYS to a key that it accepts\n")
    for url, status, reason in ((address, 1, "Connection refused"), ("file:///etc", 2, "requires an address")):
        done = run(bucket, "versions", "--api", url)
        assert (done.returncode, reason in done.stderr) == (status, True)


@pytest.mark.parametrize("words", [("retire", ""), ("restore", ""), ("retire", "../prod/20260101"), ("promote", "")])
def test_what_is_no_model_id_names_no_version(store: ModelStore, bucket: S3Storage, words: tuple[str, ...]) -> None:
    """A command with an invalid model id, such as an empty one, changes nothing and shows what an id looks like."""
    done = run(bucket, *words)
    assert (done.returncode, len(store.published())) == (1, 3)
    assert done.stderr.startswith(f"pmip: {words[1]!r} is not a model id such as 20260131T235959Z; ")


@pytest.mark.usefixtures("store")
def test_a_reader_that_goes_away_is_no_fault(bucket: S3Storage) -> None:
    """`versions` ends without a traceback when its reader, such as `head`, closes the pipe early."""
    settings = {"ENVIRONMENT": "staging", "BUCKET": bucket.bucket}
    for reader in ("head -n 1", "true"):
        command = ["bash", "-c", f'"$0" -m pmip versions | {reader}', sys.executable]
        ended = subprocess.run(
            command, cwd=ROOT, env=os.environ | settings, capture_output=True, timeout=60, check=True
        )
        assert (ended.stderr, ended.stdout.count(b"\n")) == (b"", int(reader != "true"))
