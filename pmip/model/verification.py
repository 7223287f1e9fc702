"""Checks an artifact and writes what workers read, so that only this process opens the pickle.

Run as `python -m pmip.model.verification FOLDER MODEL_ID ENVIRONMENT [TRUSTED_TYPE …]`.
A refusal ends it with `REFUSED`.
"""

import json
import logging
import os
import resource
import sys
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pmip.errors import ArtifactError
from pmip.model.artifact import GOLDEN_COMMENTS, MODEL, SCORER, Artifact, Metadata, spam_probabilities
from pmip.model.export import NotCompilable, export
from pmip.model.lookups import Lookup
from pmip.model.packing import unpack
from pmip.model.scorer import Scorer
from pmip.model.verification_process import REFUSED

COMPILED_TOLERANCE = 1e-9
CPU_SECONDS = 120
MEMORY_BYTES = 8 * 2**30

log = logging.getLogger(__name__)


def load(artifact: Artifact, model_id: str, environment: str, trusted: Iterable[str] = ()) -> Scorer:
    """Check an artifact and make it ready under a model id; raises `ArtifactError` saying why it must not be served."""
    plain, model = verify(artifact, model_id, environment, trusted)
    return Scorer.from_plain(plain, lambda: model)


def verify(
    artifact: Artifact, model_id: str, environment: str, trusted: Iterable[str] = ()
) -> tuple[dict[str, Any], Any]:
    """Check an artifact; return what `Scorer.from_plain` reads, as JSON keeps it, and the fitted pipeline."""
    model = unpack(artifact, trusted)
    lineage = artifact.metadata or Metadata(model_id, sha256=artifact.sha256)
    lookup, reason = _compiled(model)
    plain = {
        "metadata": asdict(lineage.known_as(model_id, environment)) | {"held_out": {}},  # of use to training alone
        "verified": artifact.metadata is not None,
        "lookup": lookup,
        "reason": reason,
    }
    return plain, model


def _compiled(model: Any) -> tuple[dict[str, Any] | None, str]:
    """Export a model, and believe the result only if it answers the golden comments as the model does."""
    try:
        plain = export(model)
    except NotCompilable as reason:
        return None, str(reason)
    ours = map(Lookup.from_plain(plain).spam_probability, GOLDEN_COMMENTS)
    theirs = spam_probabilities(model, GOLDEN_COMMENTS)
    if all(abs(our - their) <= COMPILED_TOLERANCE for our, their in zip(ours, theirs, strict=True)):
        return plain, ""
    log.error("look-ups and the model disagree on the golden comments; the model itself answers")
    return None, "its look-ups and its pipeline disagree"


def verify_folder(folder: Path, model_id: str, environment: str, trusted: Iterable[str] = ()) -> None:
    """Verify the artifact in a folder of the host's cache and write the result beside it."""
    plain, _ = verify(Artifact.read(folder / MODEL), model_id, environment, trusted)
    if plain["lookup"]:
        (folder / MODEL).unlink()  # nobody will open it
    (folder / SCORER).write_text(json.dumps(plain))


def main(folder: str, model_id: str, environment: str, *trusted: str) -> int:
    """Verify a folder; return 0, or `REFUSED` after writing the reason to stdout."""
    _limit_resources()
    logging.basicConfig(format="%(message)s")
    try:
        verify_folder(Path(folder), model_id, environment, trusted)
    except ArtifactError as error:
        sys.stdout.write(str(error))
        return REFUSED
    return 0


def _limit_resources() -> None:
    """Leave the processor to the requests, and end a pickle that takes too much of the machine."""
    os.nice(5)
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        with suppress(OSError):  # where memory runs out, this process goes before a worker does
            Path("/proc/self/oom_score_adj").write_text("1000")
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
