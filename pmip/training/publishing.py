"""From a fitted model to a version: a rehearsal before the search, comparison with earlier versions, and publishing."""

import pickle
import re
import subprocess
from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.pipeline import Pipeline

from pmip.errors import ArtifactError, GateError, ModelNotFoundError
from pmip.model.artifact import Artifact, Metadata, pack
from pmip.model.scorer import Scorer
from pmip.model.verification import load
from pmip.store.versions import LocalModel, ModelStore
from pmip.training.augmentation import Augmented
from pmip.training.evaluation import Passed
from pmip.training.table import row

REHEARSED = 150  # comments of each class
SHOWN = 10  # versions in the report
Store = ModelStore | LocalModel


def rehearse(model: Augmented, comments: NDArray[Any], labels: NDArray[Any]) -> str:
    """Fit a model to a few comments, pack and verify it; return a sentence if the API cannot simply serve it.

    The sentence is blank if the API reads the model as data. Raise `ArtifactError` if it can never be saved or served.
    """
    pipeline = model.pipeline
    if not isinstance(pipeline, Pipeline) or [name for name, _ in pipeline.steps] != ["features", "classifier"]:
        raise ArtifactError("`pipeline` must be a Pipeline with the two steps 'features' and 'classifier'")
    if not hasattr(pipeline, "predict_proba"):
        kind = type(pipeline["classifier"]).__name__
        raise ArtifactError(f"{kind} has no predict_proba; use CalibratedClassifierCV({kind}()) instead")
    pickled = _pickled(pipeline)
    rows = np.sort(np.concatenate([np.flatnonzero(labels == label)[:REHEARSED] for label in (0, 1)]))
    try:
        fitted = clone(model).fit(comments[rows], labels[rows]).pipeline_
    except ValueError as error:  # such as too few features; all comments may have enough
        return f"A first fit to {len(rows)} comments failed: {error}"
    except Exception as error:  # a classifier may raise anything
        raise ArtifactError(f"`pipeline` cannot be fitted ({type(error).__name__}: {error})") from error
    if b"__main__" in pickled:
        return "The model holds a class or function of this notebook, which no API can load: move it to pmip/steps.py."
    reason = ready(pack(fitted, Metadata("rehearsal"))).reason
    return reason and (
        f"The API cannot read this model as data ({reason}): it is saved and published, but an API "
        "serves it only with TRUST_PICKLES=true, and cannot explain its answers."
    )


def _pickled(pipeline: Pipeline) -> bytes:
    try:
        return pickle.dumps(pipeline)
    except Exception as error:
        raise ArtifactError(
            f"`pipeline` cannot be pickled ({error}); move what the notebook defines to pmip/steps.py or pmip/text.py"
        ) from None


def ready(artifact: Artifact) -> Scorer:
    """Return the scorer that the API would use for a model of this run, whose pickle is trusted."""
    assert artifact.metadata  # noqa: S101 - `pack` sets it
    return load(artifact, artifact.metadata.model_id, artifact.metadata.ENVIRONMENT, trust_pickles=True)


def publish(artifact: Artifact, passed: Passed, data_dir: LocalModel, store: Store) -> Artifact:
    """Save a model that passed the gate in the data folder, and publish it if the store is in a bucket.

    Raise `GateError` if `passed` is not the gate's result for this model.
    """
    if not isinstance(passed, Passed) or passed.sha256 != artifact.sha256:
        raise GateError("this model has not passed the gate: run the gate's cell first")
    if isinstance(store, ModelStore):
        artifact = store.publish(artifact)
    data_dir.save(artifact)
    return artifact


def before(store: Store) -> list[Metadata]:
    """Return the metadata of the versions before this run, newest first, without unreadable ones."""
    if isinstance(store, ModelStore):
        return store.recent(SHOWN)
    try:
        metadata = store.fetch().metadata
    except (ModelNotFoundError, ArtifactError):
        metadata = None
    return [metadata] if metadata else []


def versions(metadata: Iterable[Metadata]) -> pd.DataFrame:
    """Return a row for each version: its id, its data, and its metrics on a new video and on held-out comments."""
    return pd.DataFrame(map(row, metadata)).astype({"comments": "Int64"})  # which may be missing


def changes(earlier: Metadata, now: Metadata) -> pd.DataFrame:
    """Return a row with both values for each difference in parameters, data and code from an earlier version."""
    then, current = told(earlier), told(now)
    names = [name for name in {**then, **current} if then.get(name) != current.get(name)]
    columns = {earlier.model_id: [then.get(name, "–") for name in names]}
    return pd.DataFrame(columns | {now.model_id: [current.get(name, "–") for name in names]}, index=names)


def told(metadata: Metadata) -> dict[str, str]:
    """Return the data, the code and the parameters of a run as texts, by name."""
    told = {"training data": str(metadata.training_data_id), "git revision": str(metadata.git_revision)}
    for file in metadata.training_files:
        told[f"{file.get('name')}"] = f"{file.get('rows')} comments, sha-256 {str(file.get('sha256'))[:12]}…"
    told |= {name: str(value) for name, value in metadata.parameters.items()}
    return told | {name: f"version {version}" for name, version in metadata.libraries.items()}


def described(pipeline: Pipeline) -> str:
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
