"""The whole loop works with a real S3 server, gunicorn with three workers, and the notebook run by its script."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd
import pytest
from api import COMMAND, EXAMPLE, Load, answers, ask, running_api, wait_for
from conftest import ROOT, SAMPLE, reloader_of
from shell import run

from pmip.store.objects import S3Storage
from pmip.store.versions import ModelStore
from pmip.training.data import seed

POLL_SECONDS = 2
QUICK = ("FOLDS=2", "REPORT=short", "MIN_ACCURACY=0", "MIN_MCC=-1", "MIN_SPAM_CAUGHT=0")


def train(bucket: S3Storage, data_dir: Path, *parameters: str) -> str:
    settings = {"ENVIRONMENT": "staging", "BUCKET": bucket.bucket, "DATA_DIR": str(data_dir)}
    outcome = run("train.sh", *QUICK, *parameters, timeout=300, **settings)
    assert outcome.returncode == 0, outcome.stderr
    return outcome.stdout.removesuffix("\n")


@pytest.fixture
def port(bucket: S3Storage, tmp_path: Path) -> Iterator[int]:
    """Start the API on an empty bucket."""
    settings = {"ENVIRONMENT": "staging", "BUCKET": f"s3://{bucket.bucket}", "MODEL_POLL_SECONDS": str(POLL_SECONDS)}
    with running_api(tmp_path, until=answers, **settings) as (port, _):
        yield port


def test_from_nothing_to_an_answer_and_on_to_the_next_model(bucket: S3Storage, tmp_path: Path, port: int) -> None:
    """Without a model the API answers 503; then it becomes ready by itself and takes a newer model under load."""
    for reply in (ask(port, "/readiness"), ask(port, "/predict", EXAMPLE)):
        assert (reply.status, reply.headers["Retry-After"]) == (503, "5")
        assert "see /model-info and the log for the reason" in reply.body["message"]
    info = ask(port, "/model-info").body["result"]
    assert info["model_id"] is None
    assert "does not hold any version" in info["last_error"]

    seed(bucket, SAMPLE, "20260101")
    first = train(bucket, tmp_path / "data")
    wait_for(lambda: ask(port, "/readiness").status == 200, POLL_SECONDS + 4)
    wait_for(lambda: all(ask(port, "/predict", EXAMPLE).status == 200 for _ in range(20)), POLL_SECONDS + 4)
    assert ask(port, "/predict", EXAMPLE).body == {"result": [{"class": 1}, {"class": 0}]}
    info = ask(port, "/model-info").body["result"]
    assert (info["model_id"], info["verified"], info["training_data_id"]) == (first, True, "20260101")
    report = {found.key for found in bucket.objects(f"models/staging/{first}/")}
    assert info["report"] in report

    with Load(port) as load:
        second = train(bucket, tmp_path / "data")
        published = time.monotonic()
        wait_for(lambda: len({model for _, _, _, model in load.answers[-40:]} - {second}) == 0, POLL_SECONDS + 4)
    assert {status for _, _, status, _ in load.answers} == {200}
    assert {model for _, _, _, model in load.answers} == {first, second}
    last_old = max(moment for moment, _, _, model in load.answers if model == first)
    assert last_old - published < POLL_SECONDS + 4


def test_the_weeks_after_the_first_model_need_one_command_each(bucket: S3Storage, tmp_path: Path) -> None:
    """A person scores new comments, labels the uncertain ones, adds them and trains; the API serves the third model."""

    def pmip(*arguments: str) -> None:
        settings = os.environ | {"ENVIRONMENT": "staging", "BUCKET": bucket.bucket, "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-m", "pmip", *arguments]
        outcome = subprocess.run(command, cwd=tmp_path, env=settings, capture_output=True, text=True, check=False)
        assert outcome.returncode == 0, outcome.stderr

    pmip("seed-training-data", *map(str, SAMPLE[:2]), "--day", "20260101")
    versions = [train(bucket, tmp_path / "data")]
    for sample in SAMPLE[2:4]:
        table = pd.read_csv(sample)
        table.drop(columns="CLASS").to_csv(tmp_path / "unlabelled.csv", index=False)
        pmip("score", "unlabelled.csv", "--for-labelling", "20", "--output", "new.csv")
        new = pd.read_csv(tmp_path / "new.csv", encoding="utf-8-sig")
        assert (len(new), new["CLASS"].isna().all()) == (20, True)
        new["CLASS"] = new["CONTENT"].map(table.set_index("CONTENT")["CLASS"])
        new.to_csv(tmp_path / "new.csv", index=False)
        pmip("seed-training-data", "--add", "new.csv")
        versions.append(train(bucket, tmp_path / "data"))

    store = ModelStore(bucket, "staging")
    counts = [sum(file["rows"] for file in metadata.training_files) for metadata in store.recent(3)[::-1]]
    assert counts == [counts[0], counts[0] + 20, counts[0] + 40]
    assert all(metadata.metrics["previous"]["comments"] >= 10 for metadata in store.recent(2))
    reloader = reloader_of(store, tmp_path)
    reloader.step()
    assert reloader.scorer.model_id == versions[-1]


def test_two_trainings_of_the_same_second_both_survive(bucket: S3Storage, tmp_path: Path) -> None:
    """Three simultaneous runs with one model id, two of them in one folder, each publish a version with its report."""
    seed(bucket, SAMPLE[:1], "20260101")
    wanted = "20260101T000000Z"
    with ThreadPoolExecutor() as pool:
        runs = [pool.submit(train, bucket, tmp_path / name, f"MODEL_ID={wanted}") for name in ("here", "here", "there")]
        ids = sorted(run.result() for run in runs)
    assert ids == [wanted, "20260101T000001Z", "20260101T000002Z"]
    assert [version.model_id for version in ModelStore(bucket, "staging").versions()] == ids[::-1]
    for model_id in ids:
        folder = f"models/staging/{model_id}/"
        names = {found.key.removeprefix(folder) for found in bucket.objects(folder)}
        assert names == {"model.pkl", "metadata.json", "model-training.ipynb", "model-training.html"}
        metadata = ModelStore(bucket, "staging").fetch(model_id).metadata
        assert metadata
        assert metadata.model_id == model_id


def test_bad_settings_end_the_api_in_one_line() -> None:
    """Gunicorn names all bad settings in one line, without a traceback."""
    environ = os.environ | {"ENVIRONMENT": "prod", "PORT": "http", "MAX_COMMENTS": "0"}
    run = subprocess.run(COMMAND, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=30, check=False)
    assert run.returncode == 1
    [line] = run.stderr.splitlines()
    for name in ("BUCKET", "PORT", "MAX_COMMENTS"):
        assert name in line
