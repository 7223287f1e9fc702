"""What one training run publishes: the pickled pipeline and the metadata that tell where it comes from."""

import io
import json
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from pmip.errors import ArtifactError

# An artifact is the first two; the third is what its verification made of them.
MODEL, METADATA, SCORER = "model.pkl", "metadata.json", "scorer.json"
MAX_MODEL_BYTES = 2**30  # as a file, and unpacked
MAX_METADATA_BYTES = 2**25  # a run on all comments that were ever labelled writes about 2**20
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
    """The lineage of a model, field by field as metadata.json and /model-info name it. Times are ISO 8601 UTC.

    - `model_id`: the version; `ENVIRONMENT`: where it was trained, and in `/model-info` where it is served.
    - `training_data_id`: the day that names the training data, or `sample`.
    - `training_files`: `name`, `sha256` and number of comments (`rows`) of each file.
    - `trained_at`: when the run began.
    - `parameters`: every parameter of the notebook as it was in this run, and `C`, which the search chose.
    - `metrics`: for `leave_one_source_out`, `grouped_10_fold` and `held_out` what this way of training reaches on
      comments it has not seen: number of `comments`, each figure, and its `spread` (standard deviation over folds,
      for `held_out` over bootstrap samples). Below `baseline` the same of a simple pipeline, below `previous`
      (its `model_id`, `comments`, figures) that of the model before on the rows that both have not seen.
    - `held_out`: the probabilities of held-out comments by the hash of their text
      (`pmip.training.evaluation.hash_of`), as the model that is measured gives them; by these the
      next run compares itself. Not in `/model-info`.
    - `git_revision`: the commit, with `-dirty` when there were changes on top of it.
    - `libraries`: the versions of Python and of what a pickle depends on.
    - `sha256`: of model.pkl.
    - `golden`: comments with the probabilities that must come out again before the model is served.
    - `report`: the key of the report as a page; the executed notebook is beside it as .ipynb.
    - `batch_job_id`: of the AWS Batch job that ran the training.
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

    def to_json(self) -> bytes:
        """Write the metadata as indented JSON."""
        return json.dumps(asdict(self), indent=2, ensure_ascii=False).encode() + b"\n"

    def known_as(self, model_id: str, environment: str) -> "Metadata":
        """Return the same lineage under the name by which the model is served."""
        return replace(self, model_id=model_id, ENVIRONMENT=environment)

    @classmethod
    def from_json(cls, content: bytes) -> "Metadata":
        """Read metadata.json; fields that a later version added are ignored."""
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
    """A pickled model and its metadata; a model that was uploaded by hand has none."""

    model: bytes
    metadata: Metadata | None

    @classmethod
    def read(cls, model: Path) -> "Artifact":
        """Read a pickle, and the metadata.json beside it if there is one."""
        metadata = model.with_name(METADATA)
        return cls(model.read_bytes(), Metadata.from_json(metadata.read_bytes()) if metadata.exists() else None)

    def write(self, folder: Path) -> None:
        """Write both files into a folder that nobody reads yet."""
        (folder / MODEL).write_bytes(self.model)
        if self.metadata:
            (folder / METADATA).write_bytes(self.metadata.to_json())

    @property
    def sha256(self) -> str:
        """Hash the pickle's bytes."""
        return sha256(self.model).hexdigest()


def library_versions() -> dict[str, str]:
    """Return the versions of what a pickle depends on."""
    from importlib.metadata import version  # takes a fifth of the time in which a verification starts

    names = ("scikit-learn", "numpy", "scipy", "joblib", "pmip")
    return {"python": platform.python_version()} | {name: version(name) for name in names}


def spam_probabilities(model: Any, comments: Sequence[str]) -> list[float]:
    """Return the probability of class 1 for each comment."""
    return [float(row[1]) for row in model.predict_proba(list(comments))]


def pack(model: Any, lineage: Metadata) -> Artifact:
    """Pickle a fitted pipeline and complete its lineage by hash, library versions and golden answers."""
    content = dumps(model)
    answers = zip(GOLDEN_COMMENTS, spam_probabilities(model, GOLDEN_COMMENTS), strict=True)
    golden = [{"comment": comment, "probability": probability} for comment, probability in answers]
    digest = sha256(content).hexdigest()
    return Artifact(content, replace(lineage, sha256=digest, libraries=library_versions(), golden=golden))


# joblib brings numpy, which a worker that answers by look-ups does without: it is imported where a pickle is needed.


def dumps(model: object) -> bytes:
    """Pickle a model, compressed."""
    import joblib

    buffer = io.BytesIO()
    joblib.dump(model, buffer, compress=("zlib", 3))
    return buffer.getvalue()


def run_pickle(content: bytes) -> Any:
    """Load a pickle, which can run any code: only where TRUST_PICKLES says that its writer may do that."""
    import joblib

    return joblib.load(io.BytesIO(content))
