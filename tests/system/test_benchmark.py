"""The benchmark prints its tables or the reason for its failure, and leaves no process and no file."""

import os
import shutil
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from conftest import ROOT, SAMPLE
from shell import command

from pmip.model.artifact import Artifact
from pmip.store.versions import LocalModel

SCRIPT = ROOT / "scripts" / "benchmark.sh"
NO_ERRORS = '{"requests": 9, "microseconds": 1, "p50": 1, "p99": 1, "errors": {"status other than 2xx": 0, "read": 0}}'
needs_wrk = pytest.mark.skipif(not shutil.which("wrk"), reason="wrk is not installed")


@pytest.fixture
def saved(artifact: Artifact, tmp_path: Path) -> Path:
    """Save a real, small model outside the folder of the benchmark's own files."""
    LocalModel(tmp_path / "model").save(artifact)
    (tmp_path / "temporary").mkdir()
    return tmp_path / "model" / "model.pkl"


def start(saved: Path, *arguments: object, **environ: str) -> subprocess.Popen[str]:
    """Start the benchmark in a session of its own, from the folder above the model's."""
    return subprocess.Popen(
        ["bash", str(SCRIPT), *map(str, arguments)],
        cwd=saved.parent.parent,
        env=os.environ | {"TMPDIR": str(saved.parent.parent / "temporary")} | environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def finish(process: subprocess.Popen[str], seconds: float = 600) -> tuple[int, str, str]:
    with process:
        stdout, stderr = process.communicate(timeout=seconds)
    return process.returncode, stdout, stderr


def left_by(saved: Path, process: subprocess.Popen[str]) -> list[str]:
    left = []
    for one in psutil.process_iter():
        with suppress(psutil.NoSuchProcess, OSError):
            if os.getsid(one.pid) == process.pid:
                left.append(f"{one.pid} {one.status()} {one.cmdline()}")
    return left + [path.name for path in (saved.parent.parent / "temporary").iterdir()]


def serves(process: subprocess.Popen[str]) -> bool:
    try:
        servers = [one for one in psutil.Process(process.pid).children() if "gunicorn" in one.cmdline()]
        return any(server.children() for server in servers)
    except psutil.NoSuchProcess:
        return False


def stand_in_for_wrk(folder: Path, line: str) -> str:
    """Write a stand-in for wrk that prints one line; return a PATH on which it comes first."""
    command(folder, "wrk", f"echo '{line}'")
    return f"{folder}:{os.environ['PATH']}"


@needs_wrk
def test_a_short_run_prints_the_tables_alone(saved: Path) -> None:
    """A short run prints one row for each load and server, whatever ENVIRONMENT is, and leaves no process or file."""
    options = ("--seconds", 1, "--rounds", 1, "--comments", SAMPLE[0], "model/model.pkl")
    process = start(saved, *options, ENVIRONMENT="prod")
    status, stdout, stderr = finish(process)
    assert status == 0, stderr
    loads, states = (
        [[cell.strip() for cell in line.strip("|").split("|")] for line in half.splitlines()]
        for half in stdout.split("\n\n")
    )
    servers = ["no-op", "API", "plain"]
    assert [row[:3] for row in loads[2:]] == [[n, c, s] for n in ("1", "100") for c in ("4", "32") for s in servers]
    assert {row[4] for row in loads[2:] if row[2] == "no-op"} == {"1.00"}
    assert all(float(cell) > 0 for row in loads[2:] for cell in row[3:])
    assert [row[0] for row in states[2:]] == servers
    assert all(float(row[1]) > 0 for row in states[2:])
    assert left_by(saved, process) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_leaves_nothing(saved: Path, tmp_path: Path, number: signal.Signals) -> None:
    """A benchmark that is stopped by a signal ends with the signal's status, and leaves no process or file."""
    process = start(saved, saved, PATH=stand_in_for_wrk(tmp_path, NO_ERRORS))
    while not serves(process):
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(number)
    status, stdout, _ = finish(process, 60)
    assert (status, stdout) == (128 + number, "")
    assert left_by(saved, process) == []


def test_an_error_under_load_fails_the_benchmark(saved: Path, tmp_path: Path) -> None:
    """An error under load fails the benchmark with a message that names server, load and errors, without a table."""
    errors = NO_ERRORS.replace('2xx": 0', '2xx": 3')
    process = start(saved, saved, PATH=stand_in_for_wrk(tmp_path, errors))
    status, stdout, stderr = finish(process)
    assert (status, stdout) == (1, "")
    assert "no-op with 1 comments a request and 4 clients had errors: 3 × status other than 2xx" in stderr
    assert left_by(saved, process) == []


@pytest.mark.parametrize(
    ("arguments", "status", "reason"),
    [
        (["--comments", "no-such.csv", "model/model.pkl"], 1, "no-such.csv: there is no such file"),
        (["no-model.pkl"], 1, "no-model.pkl: there is no such model"),
        (["--rounds", "0"], 2, "'0' is not a whole number of at least 1"),
    ],
)
def test_a_wrong_call_is_refused_in_one_line(
    saved: Path, tmp_path: Path, arguments: list[str], status: int, reason: str
) -> None:
    """A wrong call ends with one last line that gives the reason, without a traceback."""
    process = start(saved, *arguments, PATH=stand_in_for_wrk(tmp_path, NO_ERRORS))
    ended, stdout, stderr = finish(process, 60)
    assert (ended, stdout) == (status, "")
    assert reason in stderr.splitlines()[-1]
    assert "Traceback" not in stderr
