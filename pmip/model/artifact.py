"""What one training run publishes: the pickled pipeline, and metadata that describe its training."""

import io
import json
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from pmip.errors import ArtifactError

# The first two are the artifact; its verification writes the third.
MODEL, METADATA, SCORER = "model.pkl", "metadata.json", "scorer.json"
MAX_MODEL_BYTES = 2**30  # of the file, and of its decompressed content
MAX_METADATA_BYTES = 2**25  # typical files have at most 2**20
GOLDEN_COMMENTS = (
    "",
    "Check it out this free stuff",
    "I take issue with your characterization",
    "SUBSCRIBE to my channel!!! http://example.com/watch?v=1 <br />thanks",
    "2:19 is the best part &lt;3 &#39;love&#39; it",
    "ｆｒｅｅ g1ft c@rds, s u b s c r i b e",
    "Люблю эту песню",
    "この曲が大好きです 😍😍",
    "la mejor canción de este año",
    "10000000000 views, 1 dislike, 0 regrets",
)


@dataclass(frozen=True)
class Metadata:
    """The lineage of a model, with the field names of metadata.json and /model-info. Times are ISO 8601 UTC.

    - `model_id`: the version; `ENVIRONMENT`: where it was trained, and in `/model-info` where it is served.
    - `training_data_id`: the day that names the training data, or `sample`.
    - `training_files`: `name`, `sha256` and number of comments (`rows`) of each file.
    - `trained_at`: when the run began.
    - `parameters`: the values of all notebook parameters in this run, and `C`, which the search chose.
    - `metrics`: for each of `leave_one_source_out`, `grouped_10_fold` and `held_out`, the evaluation on comments
      outside the training set: number of `comments`, each metric, and its `spread` (standard deviation over folds;
      for `held_out` over bootstrap samples). `baseline` holds the same for a simple pipeline; `previous` holds the
      `model_id` of the previous model, how its data differ, and its metrics on the `comments` that neither model was
      trained on.
    - `held_out`: the probabilities of the held-out comments, by the hash of their text
      (`pmip.training.comparison.hash_of`), as the evaluated model gives them. The next run compares its model
      with them. Not in `/model-info`.
    - `git_revision`: the commit, with `-dirty` if there were uncommitted changes.
    - `libraries`: the versions of Python and of the libraries that a pickle depends on.
    - `sha256`: of model.pkl.
    - `golden`: comments with their probabilities; the model is served only if it gives these again.
    - `report`: the key of the report as HTML; the executed notebook is beside it as .ipynb.
    - `batch_job_id`: of the AWS Batch job that ran the training.
    - `sources`: the number of comments of each source, of at most the 200 largest.
    - `not_readable`: why the model can only be run, with `TRUST_PICKLES`; blank if it is read as data.
    """

    model_id: str
    ENVIRONMENT: str = ""
    training_data_id: str | None = None
    training_files: list[dict[str, Any]] = field(default_factory=list)
    trained_at: str | None = None
    parameters: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    git_revision: str | None = None
    libraries: dict[str, str] = field(default_factory=dict)
    sha256: str | None = None
    golden: list[dict[str, Any]] = field(default_factory=list)
    report: str | None = None
    batch_job_id: str | None = None
    held_out: dict[str, float] = field(default_factory=dict)
    sources: dict[str, int] = field(default_factory=dict)
    not_readable: str = ""

    def to_json(self) -> bytes:
        """Return the metadata as indented JSON."""
        return json.dumps(asdict(self), indent=2, ensure_ascii=False).encode() + b"\n"

    def known_as(self, model_id: str, environment: str) -> "Metadata":
        """Return the same lineage with the id and the environment under which the model is served."""
        return replace(self, model_id=model_id, ENVIRONMENT=environment)

    @classmethod
    def from_json(cls, content: bytes) -> "Metadata":
        """Read metadata.json; unknown fields, which a later version of pmip may have added, are ignored."""
        try:
            written = json.loads(content, parse_constant=lambda _: None).items()  # NaN is no JSON
            metadata = cls(**{name: value for name, value in written if name in _KINDS})
            json.dumps(asdict(metadata), ensure_ascii=False, allow_nan=False).encode()  # it is written again as JSON
        except (ValueError, AttributeError, TypeError, RecursionError) as error:
            raise ArtifactError(f"metadata.json cannot be read ({error})", "metadata") from error
        wrong = [name for name, kind in _KINDS.items() if not isinstance(getattr(metadata, name), kind)]
        if wrong:
            raise ArtifactError(
                f"metadata.json cannot be read (values of a wrong type: {', '.join(wrong)})", "metadata"
            )
        return metadata


# list[…] and dict[…] can only be checked as list and dict.
_KINDS: dict[str, Any] = {item.name: getattr(item.type, "__origin__", item.type) for item in fields(Metadata)}


@dataclass(frozen=True)
class Artifact:
    """A pickled model and its metadata; a model that was uploaded by hand has no metadata."""

    model: bytes
    metadata: Metadata | None

    @classmethod
    def read(cls, model: Path) -> "Artifact":
        """Read a pickle, and the metadata.json beside it if there is one."""
        metadata = model.with_name(METADATA)
        return cls(model.read_bytes(), Metadata.from_json(metadata.read_bytes()) if metadata.exists() else None)

    def write(self, folder: Path) -> None:
        """Write both files into a folder that no other process reads yet."""
        (folder / MODEL).write_bytes(self.model)
        if self.metadata:
            (folder / METADATA).write_bytes(self.metadata.to_json())

    @property
    def sha256(self) -> str:
        """Hash the pickle's bytes."""
        return sha256(self.model).hexdigest()


def library_versions() -> dict[str, str]:
    """Return the versions of Python and of the libraries that a pickle depends on."""
    from importlib.metadata import version  # this import takes a fifth of the start of a verification

    names = ("scikit-learn", "numpy", "scipy", "joblib", "pmip")
    return {"python": platform.python_version()} | {name: version(name) for name in names}


def spam_probabilities(model: Any, comments: Sequence[str]) -> list[float]:
    """Return the probability of class 1 for each comment."""
    return [float(row[1]) for row in model.predict_proba(list(comments))]


def pack(model: Any, lineage: Metadata) -> Artifact:
    """Pickle a fitted pipeline; add hash, library versions and golden answers to its lineage."""
    content = dumps(model)
    answers = zip(GOLDEN_COMMENTS, spam_probabilities(model, GOLDEN_COMMENTS), strict=True)
    golden = [{"comment": comment, "probability": probability} for comment, probability in answers]
    digest = sha256(content).hexdigest()
    return Artifact(content, replace(lineage, sha256=digest, libraries=library_versions(), golden=golden))


# joblib imports numpy, which a worker that answers by look-ups does not need; so it is imported only in functions.


def dumps(model: object) -> bytes:
    """Pickle a model, compressed."""
    import joblib

    buffer = io.BytesIO()
    joblib.dump(model, buffer, compress=("zlib", 3))
    return buffer.getvalue()


def run_pickle(content: bytes) -> Any:
    """Load a pickle, which can run any code; call this only if TRUST_PICKLES is set."""
    import joblib

    try:
        return joblib.load(io.BytesIO(content))
    except Exception as error:  # the classes in it may raise anything, even after a verification
        raise ArtifactError(f"the model cannot be unpickled ({type(error).__name__}: {error})") from error
