"""Runs `pmip.model.verification` in a process of its own, which has no credentials and ends with all that it took."""

import logging
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from pmip.errors import ArtifactError, VerificationError

REFUSED = 65  # EX_DATAERR of sysexits.h
SECONDS = 180

log = logging.getLogger(__name__)


def verify_in_process(
    folder: Path, model_id: str, environment: str, trusted: Iterable[str] = (), *, seconds: float = SECONDS
) -> None:
    """Verify the artifact in a folder of the cache, and have the result written beside it.

    Raises `ArtifactError` when it must not be served, `VerificationError` when that could not be found out.
    """
    command = [sys.executable, "-P", "-m", "pmip.model.verification", str(folder), model_id, environment, *trusted]
    try:
        ended = subprocess.run(  # noqa: S603
            command,
            env=_environ(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise VerificationError(f"its verification took more than {seconds} seconds") from None
    if ended.returncode == REFUSED:
        raise ArtifactError(ended.stdout.strip())
    lines = ended.stderr.splitlines()
    if ended.returncode:
        raise VerificationError(f"its verification ended with status {ended.returncode}; {' '.join(lines[-1:])}")
    for line in lines:
        log.warning("%s", line)


def _environ() -> dict[str, str]:
    """Return all that the process is told: nothing of what this one was told in confidence."""
    return {
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        "PYTHONUTF8": "1",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "JOBLIB_MULTIPROCESSING": "0",  # it would warn of hosts without /dev/shm, and nothing here works in parallel
    }
