"""From a fitted model to a version: the check that an API can serve it, and publishing."""

import re
import subprocess
from collections.abc import Mapping
from typing import Any

from sklearn.pipeline import Pipeline

from pmip.errors import GateError
from pmip.model.artifact import Artifact
from pmip.model.scorer import Scorer
from pmip.model.verification import load
from pmip.store.versions import LocalModel, ModelStore
from pmip.training.gate import Passed


def verify_and_load(artifact: Artifact) -> Scorer:
    """Return the scorer that the API would use for a model of this run, whose pickle is trusted."""
    assert artifact.metadata  # noqa: S101 - `pack` sets it
    return load(artifact, artifact.metadata.model_id, artifact.metadata.ENVIRONMENT, trust_pickles=True)


def publish(passed: Passed, data_dir: LocalModel, store: ModelStore | LocalModel) -> Artifact:
    """Save the version that passed the gate in the data folder, and publish it if the store is in a bucket."""
    if not isinstance(passed, Passed):
        raise GateError("this model has not passed the gate: run the gate's cell first")
    artifact = store.publish(passed.artifact) if isinstance(store, ModelStore) else passed.artifact
    data_dir.save(artifact)
    return artifact


def note(not_readable: str) -> str:
    """Return a sentence about a model that can only be run, for the reason; a blank if it is read as data."""
    return not_readable and (
        f"The API cannot read this model as data ({not_readable}): an API serves it only with TRUST_PICKLES=true, and "
        "cannot explain its answers."
    )


def described(search: Any, best_parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return the pipeline, the search space and the best parameters of a search as values that JSON can represent."""
    best = {
        name: value if isinstance(value, str | int | float) else str(value) for name, value in best_parameters.items()
    }
    space = search.param_grid if hasattr(search, "param_grid") else search.param_distributions
    return {"pipeline": one_line(Pipeline(search.estimator.steps)), "search_space": str(space)} | best


def one_line(pipeline: Pipeline) -> str:
    """Return the settings of a pipeline that differ from the defaults, as one line without memory addresses."""
    shown = pipeline.__repr__(N_CHAR_MAX=10_000)
    return re.sub(r"<function (\S+) at 0x[0-9a-f]+>", r"\1", " ".join(shown.split()))


def git_revision() -> str | None:
    """Return the commit, with `-dirty` if there are uncommitted changes, or None outside a checkout."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()  # noqa: S603
    except (OSError, subprocess.CalledProcessError):
        return None
