"""Verifies an artifact and writes the data for the workers, in a process without credentials and with limits.

Run as `python -m pmip.model.verification FOLDER MODEL_ID ENVIRONMENT [trust]`; it exits with `REFUSED` after a refusal.
"""

import json
import logging
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from random import Random
from typing import Any

from pmip.errors import ArtifactError, NotReadableError, OtherTextError, VerificationError
from pmip.model.artifact import GOLDEN_COMMENTS, MODEL, SCORER, Artifact, GoldenComment, Metadata, run_pickle
from pmip.model.reading import read
from pmip.model.scorer import Scorer

GOLDEN_TOLERANCE = 1e-6
REFUSED = 65  # EX_DATAERR of sysexits.h
SLOWEST_SECONDS = 1.0  # of processor time for one long comment; the notebook's model takes 0.02 s
LONG_COMMENT = "".join(Random(0).choices("abcdefghijklmnopqrstuvwxyz0123456789     .!?</>äñбвг歌曲😍", k=10_000))  # noqa: S311
SECONDS = 180
CPU_SECONDS = 60
# The largest model that may be read takes about 200 MB; a model that is run brings scikit-learn.
READING_BYTES, RUNNING_BYTES = 2**30, 8 * 2**30

log = logging.getLogger(__name__)

Score = Callable[[Sequence[str]], list[float]]


def load(artifact: Artifact, model_id: str, environment: str, *, trust_pickles: bool = False) -> Scorer:
    """Verify an artifact and return its scorer; raise `ArtifactError` if it must not be served."""
    return verify(artifact, model_id, environment, trust_pickles=trust_pickles)[1]


def verify(
    artifact: Artifact, model_id: str, environment: str, *, trust_pickles: bool = False
) -> tuple[dict[str, Any], Scorer]:
    """Return the scorer, and before it the data for `Scorer.from_plain`, which JSON can represent.

    Raise `ArtifactError` with the reason if the model must not be served. A pickle is run only if `trust_pickles` is
    true and it cannot be read as data.
    """
    lineage = artifact.metadata or Metadata(model_id, sha256=artifact.sha256)
    _require_same_bytes(artifact, lineage)
    lookup, reason = None, ""
    try:
        lookup = read(artifact.model)
    except NotReadableError as error:
        if not trust_pickles:
            raise
        reason = error.reason
    plain = {
        "metadata": asdict(lineage.known_as(model_id, environment)) | {"held_out": {}},  # only training uses it
        "verified": artifact.metadata is not None,
        "lookup": lookup,
        "reason": reason,
    }
    scorer = Scorer.from_plain(plain, lambda: _run(artifact.model))
    if lookup:
        _require_quick(scorer)
    replay(scorer.spam, lineage.golden)
    return plain, scorer


def _require_same_bytes(artifact: Artifact, lineage: Metadata) -> None:
    if artifact.sha256 != lineage.sha256:
        raise ArtifactError(
            f"the SHA-256 of model.pkl is {artifact.sha256}, but metadata.json has {lineage.sha256}: the file is "
            "damaged or belongs to another run",
            "damaged",
        )


def _require_quick(scorer: Scorer) -> None:
    """Refuse a model that takes so long for one comment that a few callers could stop the API."""
    began = time.thread_time()
    scorer.spam([LONG_COMMENT])
    seconds = time.thread_time() - began
    if seconds > SLOWEST_SECONDS:
        took = f"a comment of {len(LONG_COMMENT):,} characters takes {seconds:.1f} s of processor time"
        raise ArtifactError(f"the model is too slow: {took}, and at most {SLOWEST_SECONDS} s are allowed")


def _run(content: bytes) -> Any:
    """Run a pickle that the operator trusts; it must contain a classifier of the classes 0 and 1."""
    model = run_pickle(content)
    if not hasattr(model, "predict_proba"):
        raise ArtifactError(f"the model is a {type(model).__name__}, which has no predict_proba")
    try:
        classes = [int(label) for label in model.classes_]
    except Exception as error:
        raise ArtifactError(f"the model cannot score comments ({type(error).__name__}: {error})") from error
    if classes != [0, 1]:
        raise ArtifactError(f"the model's classes are {classes}, not [0, 1]")
    return model


def replay(score: Score, golden: list[GoldenComment]) -> None:
    """Require that the model returns probabilities, and its golden answers again if it has any."""
    try:
        probable = all(0 <= probability <= 1 for probability in score(GOLDEN_COMMENTS))
        answers = score([item["comment"] for item in golden])
        gaps = [abs(answer - item["probability"]) for answer, item in zip(answers, golden, strict=True)]
    except Exception as error:
        raise ArtifactError(f"the golden comments cannot be scored ({type(error).__name__}: {error})") from error
    if not probable:
        raise ArtifactError("the model's probabilities are not all between 0 and 1")
    if not all(gap <= GOLDEN_TOLERANCE for gap in gaps):
        raise OtherTextError(
            f"the answer to golden comment {gaps.index(max(gaps))} differs by {max(gaps):.2g} from that of training; "
            "the libraries or pmip.text differ from those that trained the model"
        )


def verify_folder(folder: Path, model_id: str, environment: str, *, trust_pickles: bool = False) -> None:
    """Verify the artifact in a folder of the host's cache and write the result beside it."""
    plain = verify(Artifact.read(folder / MODEL), model_id, environment, trust_pickles=trust_pickles)[0]
    if plain["lookup"]:
        (folder / MODEL).unlink()  # no longer needed
    (folder / SCORER).write_text(json.dumps(plain))


def verify_in_child(
    folder: Path, model_id: str, environment: str, *, trust_pickles: bool = False, seconds: float = SECONDS
) -> None:
    """Do the same in a child process, which releases all its resources when it ends.

    Raise `ArtifactError` if the model must not be served, and `VerificationError` if the verification itself failed.
    """
    command = [sys.executable, "-P", "-m", "pmip.model.verification", str(folder), model_id, environment]
    try:
        ended = subprocess.run(  # noqa: S603
            [*command, "trust"] if trust_pickles else command,
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
        kind, _, reason = ended.stdout.strip().partition(" ")
        raise ArtifactError(reason, kind)
    if ended.returncode == -signal.SIGXCPU:
        raise ArtifactError(f"its verification took more than {CPU_SECONDS} seconds of processor time")
    lines = ended.stderr.splitlines()
    if ended.returncode:
        raise VerificationError(f"its verification ended with status {ended.returncode}; {' '.join(lines[-1:])}")
    for line in lines:
        log.warning("%s", line)


def _environ() -> dict[str, str]:
    """Return the child's environment, which holds no credentials."""
    return {
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        "PYTHONUTF8": "1",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "JOBLIB_MULTIPROCESSING": "0",  # not needed, and joblib warns on hosts without /dev/shm
    }


def main(folder: str, model_id: str, environment: str, *trust: str) -> int:
    """Verify a folder; return 0, or `REFUSED` after writing the error's kind and text to stdout."""
    trust_pickles = trust == ("trust",)
    _limit_resources(RUNNING_BYTES if trust_pickles else READING_BYTES)
    try:
        verify_folder(Path(folder), model_id, environment, trust_pickles=trust_pickles)
    except ArtifactError as error:
        sys.stdout.write(f"{error.kind} {error}")
        return REFUSED
    except MemoryError:
        sys.stdout.write("too_large its verification needs more memory than it may use")
        return REFUSED
    return 0


def _limit_resources(memory: int) -> None:
    """Give requests priority, and limit the processor time and the memory of the verification."""
    os.nice(5)
    _limit(resource.RLIMIT_CPU, CPU_SECONDS, CPU_SECONDS + 5)  # the soft limit sends SIGXCPU
    _limit(resource.RLIMIT_CORE, 0, 0)
    if sys.platform == "linux":
        with suppress(OSError):  # if memory runs out, the kernel ends this process before a worker
            Path("/proc/self/oom_score_adj").write_text("1000")
        _limit(resource.RLIMIT_AS, memory, memory)


def _limit(limited: int, soft: int, hard: int) -> None:
    """Set a limit; keep a smaller limit that the shell has set (ulimit)."""
    old_soft, old_hard = (sys.maxsize if old == resource.RLIM_INFINITY else old for old in resource.getrlimit(limited))
    resource.setrlimit(limited, (min(soft, old_soft, old_hard), min(hard, old_hard)))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
