"""The scripts help their callers, refuse wrong calls, install, move data, and run the quick start."""

import fcntl
import os
import pty
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from subprocess import PIPE

import pytest
from api import wait_for
from conftest import ROOT, SAMPLE, free_port
from disks import disk
from shell import ANSWER, command, run

from pmip.model.artifact import Artifact
from pmip.store.objects import S3Storage
from pmip.store.versions import LocalModel, ModelStore
from pmip.training.data import seed

SOURCED = ("common.sh", "containers.sh", "aws.sh")
PASS_ON = ("test.sh", "run_api_container.sh", "run_training_container.sh")  # options, to pytest or a container
SCRIPTS = sorted(path for path in (ROOT / "scripts").glob("*.sh") if path.name not in SOURCED)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_help_says_what_it_is_for_and_how_to_call_it(script: Path) -> None:
    """A user who calls a script by its name with --help gets its name and usage."""
    shown = subprocess.run([str(script), "--help"], capture_output=True, text=True, timeout=30, check=False)
    assert (shown.returncode, shown.stderr) == (0, "")
    assert "usage:" in shown.stdout.lower()
    assert script.name in shown.stdout
    assert "shellcheck" not in shown.stdout


@pytest.mark.parametrize("script", [path for path in SCRIPTS if path.name not in PASS_ON], ids=lambda path: path.name)
def test_an_unknown_option_is_named(script: Path, tmp_path: Path) -> None:
    """Each script names an unknown option and exits with 2 before it does anything else."""
    command(tmp_path, "wrk", "exit 1")
    data = tmp_path / "data"
    outcome = run(script, "--no-such-option", DATA_DIR=str(data), PATH=f"{tmp_path}:{os.environ['PATH']}")
    assert (outcome.returncode, outcome.stdout) == (2, ""), outcome.stderr
    assert "--no-such-option" in outcome.stderr
    assert not data.exists()


@pytest.mark.parametrize("shell", [["sh"], ["zsh"], ["bash", "--posix"]], ids=lambda words: words[0])
def test_another_shell_is_told_to_be_bash(shell: list[str]) -> None:
    """A user who runs a script by another shell reads in one line that it needs bash, and gets exit 2."""
    if not shutil.which(shell[0]):
        pytest.skip(f"{shell[0]} is not installed")
    for script in SCRIPTS:
        outcome = subprocess.run([*shell, str(script)], capture_output=True, text=True, timeout=30, check=False)
        assert (outcome.returncode, outcome.stdout) == (2, ""), script
        assert outcome.stderr == "run the scripts of this project with bash, for example: bash scripts/quickstart.sh\n"


@pytest.mark.parametrize(
    "command", [("get_training_data.sh",), ("get_latest_model.sh",), ("seed_training_data.sh", SAMPLE[0])]
)
def test_a_missing_bucket_is_named(command: tuple[object, ...], tmp_path: Path) -> None:
    """Each script that needs the bucket names the missing BUCKET in one line and exits with 2."""
    outcome = run(*command, DATA_DIR=str(tmp_path))
    assert (outcome.returncode, outcome.stdout) == (2, "")
    assert outcome.stderr == "pmip: BUCKET is missing: set it to the name of the bucket, with or without s3://\n"


def test_seeding_uploads_a_day_once(bucket: S3Storage) -> None:
    """Seeding prints the addresses of the uploaded files, and refuses the same day a second time."""
    first, second = (run("seed_training_data.sh", *SAMPLE, "20260101", BUCKET=bucket.bucket) for _ in range(2))
    assert first.stdout.splitlines() == [bucket.url(f"training/20260101/{path.name}") for path in SAMPLE]
    assert second.returncode == 1
    assert "already holds data" in second.stderr


def test_seeding_finds_files_beside_the_caller(bucket: S3Storage, tmp_path: Path) -> None:
    """Seeding takes a relative path from the caller's folder, and the day may be left out."""
    shutil.copy(SAMPLE[0], tmp_path / "mine.csv")
    outcome = run("seed_training_data.sh", "mine.csv", cwd=tmp_path, BUCKET=f"s3://{bucket.bucket}")
    assert outcome.returncode == 0, outcome.stderr
    assert outcome.stdout.endswith("/mine.csv\n")


def test_the_newest_data_and_model_come_into_the_data_folder(
    bucket: S3Storage, artifact: Artifact, tmp_path: Path
) -> None:
    """The newest data and the newest model of staging come into the data folder; prod without a model is reported."""
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
    """Denied access to the bucket exits with 1, and an unknown environment with 2."""
    denied = run("get_training_data.sh", BUCKET=bucket.bucket, DATA_DIR=str(tmp_path), AWS_SECRET_ACCESS_KEY="other")
    assert (denied.returncode, "access denied" in denied.stderr) == (1, True)
    wrong = run("get_latest_model.sh", "production", BUCKET=bucket.bucket, DATA_DIR=str(tmp_path))
    assert wrong.returncode == 2


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """Clone the project without its .venv, with the scripts as they are now."""
    folder = tmp_path / "pmip"
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(folder)], check=True, timeout=60)
    shutil.copytree(ROOT / "scripts", folder / "scripts", dirs_exist_ok=True)
    return folder


def test_a_python_without_venv_is_told_how_to_get_it(clone: Path, tmp_path: Path) -> None:
    """The first Python that is new enough is used; if it lacks ensurepip, one line names the package to install."""
    (tmp_path / "ensurepip.py").write_text("raise ImportError")
    for name in ("python3", "python3.13", "python3.12"):
        command(tmp_path, name, "exit 1")
    (tmp_path / "python3.11").symlink_to(sys.executable)
    path = f"{tmp_path}:{os.environ['PATH']}"
    outcome = run(clone / "scripts" / "install.sh", "--venv", PYTHONPATH=str(tmp_path), PATH=path, PYTHON="")
    assert outcome.returncode == 1
    assert outcome.stderr.splitlines()[-1].endswith("on Debian and Ubuntu: apt-get install python3.11-venv")
    assert not (clone / ".venv").exists()


def test_an_old_python_is_refused(clone: Path, tmp_path: Path) -> None:
    """An old Python is refused with a message that says how to choose another."""
    command(tmp_path, "python3", "exit 1")
    outcome = run(clone / "scripts" / "install.sh", "--venv", PYTHON=str(tmp_path / "python3"))
    assert outcome.returncode == 1
    assert "is not Python 3.11 or later; set PYTHON=/path/to/python3 to another one" in outcome.stderr


def test_a_venv_that_is_half_made_or_of_another_folder_is_made_anew(clone: Path, tmp_path: Path) -> None:
    """A .venv that Ctrl-C left incomplete, or that was created in another folder, is created again by the next call."""
    environ = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path)}
    install = ["bash", str(clone / "scripts" / "install.sh"), "--venv"]
    first = subprocess.Popen(install, env=os.environ | environ, stderr=PIPE, text=True, start_new_session=True)
    wait_for((clone / ".venv" / "bin" / "python").exists, 60)
    os.killpg(first.pid, signal.SIGINT)
    assert "install.sh: stopped; the next call continues the installation\n" in first.communicate(timeout=60)[1]
    assert first.returncode == 130
    assert not (clone / ".venv" / "bin" / "pip").exists()
    for folder in (clone, tmp_path / "renamed"):
        if folder != clone:
            clone.rename(folder)
        for told in (True, False):
            outcome = run(folder / "scripts" / "install.sh", "--venv", **environ)
            assert outcome.returncode == 1
            assert (".venv is incomplete or was created in another folder" in outcome.stderr) is told
            assert "No matching distribution found for setuptools" in outcome.stderr
            assert outcome.stderr.splitlines()[-1] == "install.sh: the installation failed; the reason is above"


def test_a_full_disk_is_told_with_what_is_free(tmp_path: Path) -> None:
    """An installation on a full disk fails with a last line that gives the free space and its place."""
    with disk(tmp_path / "disk", "size=12m") as small:
        clone = small / "pmip"
        subprocess.run(["git", "clone", "--quiet", "--depth=1", f"file://{ROOT}", str(clone)], check=True, timeout=60)
        shutil.copytree(ROOT / "scripts", clone / "scripts", dirs_exist_ok=True)
        outcome = run(clone / "scripts" / "install.sh", "--venv")
    assert outcome.returncode == 1
    assert re.search(r"the disk is full: \d+ MB are free for \.venv in /", outcome.stderr.splitlines()[-1])


def test_on_a_terminal_one_line_tells_how_far_it_is(tmp_path: Path) -> None:
    """A user at a terminal sees the seconds and the last output of a command, and all of its output if it fails."""
    shown, terminal = pty.openpty()
    steps = "echo first >&2; sleep 1.5; echo second >&2; sleep 1.5; echo the reason >&2; exit 3"
    called = f". scripts/common.sh; with_progress {tmp_path}/log counting bash -c '{steps}'"
    words = ["bash", "-c", called, "scripts/test.sh"]
    assert subprocess.run(words, cwd=ROOT, stderr=terminal, timeout=30, check=False).returncode == 3
    text = os.read(shown, 10_000).decode()
    assert re.match(r"==> counting\r\n(\r\x1b\[K    \d s  (first|second)?)+\r\x1b\[K", text)
    assert text.endswith("first\r\nsecond\r\nthe reason\r\n")


def test_ports_in_use_stop_the_quick_start_at_once(clone: Path) -> None:
    """The quick start names both ports in use and their settings in one line, before it installs anything."""
    with socket.socket() as api, socket.socket() as s3:
        for taken in (api, s3):
            taken.bind(("127.0.0.1", 0))
            taken.listen()
        ports = [str(taken.getsockname()[1]) for taken in (api, s3)]
        outcome = run(clone / "scripts" / "quickstart.sh", "--once", PORT=ports[0], LOCAL_S3_PORT=ports[1])
    assert outcome.returncode == 1
    told = f"quickstart.sh: in use or not allowed: port {ports[0]} and port {ports[1]}; choose another one"
    assert outcome.stderr == f"{told} with --port or PORT for the API, with LOCAL_S3_PORT for the local S3 server\n"
    assert not (clone / ".venv").exists()


def test_a_second_quick_start_on_the_same_data_is_refused(clone: Path) -> None:
    """A second quick start on the same data is refused with what to do, even while the first waits to install."""
    script, ports = clone / "scripts" / "quickstart.sh", {"PORT": str(free_port()), "LOCAL_S3_PORT": str(free_port())}
    with (clone / "setup.py").open() as installing:
        fcntl.flock(installing, fcntl.LOCK_EX)
        first = subprocess.Popen(
            ["bash", str(script)], env=os.environ | ports, stderr=PIPE, text=True, start_new_session=True
        )
        assert first.stderr
        assert first.stderr.readline() == "==> waiting for another installation into .venv\n"
        second = run(script, **ports)
        os.killpg(first.pid, signal.SIGINT)
        first.communicate(timeout=30)
    assert second.returncode == 1
    assert "another quick start, or its API, uses data; end it, or set another DATA_DIR" in second.stderr


@pytest.fixture(scope="module")
def quickstart_settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Give the quick start its own data folder and ports; the project's .venv is used, or created."""
    folder = tmp_path_factory.mktemp("quickstart")
    settings = {"DATA_DIR": str(folder), "LOCAL_S3_PORT": str(free_port()), "PORT": str(free_port(20_000, 30_000))}
    yield settings | {"PYTHON": ""}
    run("local_s3.sh", "stop", **settings)


@pytest.mark.slow
def test_the_quick_start_answers_and_a_second_run_trains_a_newer_version(quickstart_settings: dict[str, str]) -> None:
    """Whatever the shell has set, the quick start prints only the answer; a second run trains a newer version."""
    proxies = dict.fromkeys(("HTTP_PROXY", "http_proxy"), "http://127.0.0.1:9") | {"NO_PROXY": ""}
    settings = quickstart_settings | proxies | {"API_KEYS": "a-key", "PINNED_MODEL_ID": "20200101"}
    runs = [run("quickstart.sh", "--once", timeout=600, **settings) for _ in range(2)]
    for outcome in runs:
        assert (outcome.returncode, outcome.stdout) == (0, ANSWER), outcome.stderr
        assert "API_KEYS of this shell is ignored" in outcome.stderr
        assert "a-key" not in outcome.stderr
    first, second = (outcome.stderr.split("model:")[1].split()[0] for outcome in runs)
    assert first < second
    assert run("local_s3.sh", "status", **quickstart_settings).returncode == 1


@pytest.mark.parametrize("arguments", [["--twice"], ["--port"], ["--port", "http"], ["no-such.zip"]])
def test_a_wrong_call_of_the_quick_start_does_nothing(arguments: list[str], tmp_path: Path) -> None:
    """A wrong call of the quick start exits with 2 and writes nothing into the data folder."""
    outcome = run("quickstart.sh", *arguments, DATA_DIR=str(tmp_path))
    assert (outcome.returncode, outcome.stdout) == (2, "")
    assert list(tmp_path.iterdir()) == []
