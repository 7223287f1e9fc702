"""The scripts as a person calls them: help, wrong calls, installation, data in and out, the quick start."""

import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import ROOT, SAMPLE, free_port
from shell import ANSWER, run

from pmip.model.artifact import Artifact
from pmip.store.objects import S3Storage
from pmip.store.versions import LocalModel, ModelStore
from pmip.training.data import seed

SOURCED = ("common.sh", "containers.sh", "aws.sh")
SCRIPTS = sorted(path for path in (ROOT / "scripts").glob("*.sh") if path.name not in SOURCED)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_help_says_what_it_is_for_and_how_to_call_it(script: Path) -> None:
    """The comment at the head of each script is its --help."""
    shown = run(script.name, "--help")
    assert (shown.returncode, shown.stderr) == (0, "")
    assert "usage:" in shown.stdout.lower()
    assert script.name in shown.stdout
    assert "set -" not in shown.stdout


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_each_script_stops_at_the_first_failure(script: Path) -> None:
    """Strict mode is on, and the file is executable."""
    assert "set -euo pipefail" in script.read_text()
    assert script.stat().st_mode & 0o111


@pytest.mark.parametrize(
    "command", [("get_training_data.sh",), ("get_latest_model.sh",), ("seed_training_data.sh", SAMPLE[0])]
)
def test_a_missing_bucket_is_named(command: tuple[object, ...], tmp_path: Path) -> None:
    """Exit 2 and one line, for each script that needs the bucket."""
    outcome = run(*command, DATA_DIR=str(tmp_path))
    assert (outcome.returncode, outcome.stdout) == (2, "")
    assert outcome.stderr == "pmip: BUCKET is missing: the name of the bucket, with or without s3://\n"


def test_seeding_uploads_a_day_once(bucket: S3Storage) -> None:
    """The addresses go to stdout, and the same day is refused a second time."""
    first, second = (run("seed_training_data.sh", *SAMPLE, "20260101", BUCKET=bucket.bucket) for _ in range(2))
    assert first.stdout.splitlines() == [bucket.url(f"training/20260101/{path.name}") for path in SAMPLE]
    assert second.returncode == 1
    assert "holds data already" in second.stderr


def test_seeding_finds_files_beside_the_caller(bucket: S3Storage, tmp_path: Path) -> None:
    """A relative path is the caller's, not the project's, and today is the default day."""
    shutil.copy(SAMPLE[0], tmp_path / "mine.csv")
    outcome = run("seed_training_data.sh", "mine.csv", BUCKET=f"s3://{bucket.bucket}", DATA_DIR=str(tmp_path))
    assert outcome.returncode == 0, outcome.stderr
    assert outcome.stdout.endswith("/mine.csv\n")


def test_the_newest_data_and_model_come_into_the_data_folder(
    bucket: S3Storage, artifact: Artifact, tmp_path: Path
) -> None:
    """Each script prints its result alone; staging is the default environment, and prod has no model yet."""
    seed(bucket, SAMPLE[:1], "20260101")
    published = ModelStore(bucket, "staging").publish(artifact)
    data = run("get_training_data.sh", BUCKET=bucket.bucket, DATA_DIR=str(tmp_path))
    assert data.stdout == f"{tmp_path}/training/20260101/{SAMPLE[0].name}\n"
    model = run("get_latest_model.sh", BUCKET=bucket.bucket, DATA_DIR=str(tmp_path))
    assert model.stdout == "20260101T000000Z\n"
    assert LocalModel(tmp_path).fetch() == published
    missing = run("get_latest_model.sh", "prod", BUCKET=bucket.bucket, DATA_DIR=str(tmp_path))
    assert missing.returncode == 1
    assert "models/prod/ holds no version" in missing.stderr


def test_a_bucket_without_access_and_an_unknown_environment_are_refused(bucket: S3Storage, tmp_path: Path) -> None:
    """Wrong calls are told apart by their exit: 1 for what went wrong, 2 for what was asked wrongly."""
    denied = run("get_training_data.sh", BUCKET=bucket.bucket, DATA_DIR=str(tmp_path), AWS_SECRET_ACCESS_KEY="other")
    assert (denied.returncode, "access denied" in denied.stderr) == (1, True)
    wrong = run("get_latest_model.sh", "production", BUCKET=bucket.bucket, DATA_DIR=str(tmp_path))
    assert wrong.returncode == 2


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Clone the project without its .venv."""
    folder = tmp_path_factory.mktemp("clone") / "pmip"
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(folder)], check=True, timeout=60)
    return folder


def test_a_python_without_venv_is_told_how_to_get_it(clone: Path, tmp_path: Path) -> None:
    """Debian's python3 comes without ensurepip: one line says what to install, and nothing is left."""
    (tmp_path / "ensurepip.py").write_text("raise ImportError")
    outcome = run(clone / "scripts" / "quickstart.sh", "--once", PYTHONPATH=str(tmp_path))
    assert outcome.returncode == 1
    assert outcome.stderr.splitlines()[-1].endswith("on Debian and Ubuntu: apt-get install python3-venv")
    assert not (clone / ".venv").exists()
    assert not (clone / "data").exists()


def test_an_installation_that_fails_is_told_and_tried_again(clone: Path, tmp_path: Path) -> None:
    """Without a package index the quick start stops before it starts anything, and the next call installs anew."""
    for _ in range(2):
        outcome = run(clone / "scripts" / "quickstart.sh", "--once", PIP_NO_INDEX="1", PIP_FIND_LINKS=str(tmp_path))
        assert outcome.returncode == 1
        assert outcome.stderr.splitlines()[-1] == "install.sh: the installation failed; pip said why above"
        assert not (clone / "data").exists()


def test_an_old_python_is_refused(clone: Path, tmp_path: Path) -> None:
    """The message says which Python it was and how to choose another."""
    old = tmp_path / "python3"
    old.write_text(f'#!/bin/sh\nexec {sys.executable} -c "import sys; sys.exit(1)"\n')
    old.chmod(0o755)
    outcome = run(clone / "scripts" / "install.sh", "--venv", PYTHON=str(old))
    assert outcome.returncode == 1
    assert "is not Python 3.11 or later" in outcome.stderr


@pytest.fixture(scope="module")
def quickstart_settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Give the quick start a data folder and ports of its own; the project's .venv is used, or made."""
    folder = tmp_path_factory.mktemp("quickstart")
    settings = {"DATA_DIR": str(folder), "LOCAL_S3_PORT": str(free_port()), "PORT": str(free_port(20_000, 30_000))}
    yield settings | {"PYTHON": ""}
    run("local_s3.sh", "stop", **settings)


@pytest.mark.slow
def test_the_quick_start_answers_and_a_second_run_trains_a_newer_version(quickstart_settings: dict[str, str]) -> None:
    """Nothing but the answer on stdout; the bucket is kept, and both runs stop what they started."""
    runs = [run("quickstart.sh", "--once", timeout=600, **quickstart_settings) for _ in range(2)]
    for outcome in runs:
        assert (outcome.returncode, outcome.stdout) == (0, ANSWER), outcome.stderr
    first, second = (outcome.stderr.split("model:")[1].split()[0] for outcome in runs)
    assert first < second
    assert run("local_s3.sh", "status", **quickstart_settings).returncode == 1


def test_a_port_in_use_stops_the_quick_start_at_once(quickstart_settings: dict[str, str]) -> None:
    """One line names the port and the option, and no server is left running."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        outcome = run("quickstart.sh", "--once", "--port", port, timeout=600, **quickstart_settings)
    assert outcome.returncode == 1
    assert f"port {port} is in use or not allowed; --port chooses another one" in outcome.stderr
    assert run("local_s3.sh", "status", **quickstart_settings).returncode == 1


@pytest.mark.parametrize("arguments", [["--twice"], ["--port"], ["--port", "http"], ["no-such.zip"]])
def test_a_wrong_call_of_the_quick_start_does_nothing(arguments: list[str], tmp_path: Path) -> None:
    """Exit 2 before anything is installed or started."""
    outcome = run("quickstart.sh", *arguments, DATA_DIR=str(tmp_path))
    assert (outcome.returncode, outcome.stdout) == (2, "")
    assert list(tmp_path.iterdir()) == []
