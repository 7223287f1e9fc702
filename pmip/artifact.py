"""What one training run publishes: the pickled pipeline and the metadata that tell where it comes from."""

import json
import logging
import platform
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, fields, replace
from hashlib import sha256
from importlib.metadata import version
from typing import Any

from pmip import unpickling
from pmip.errors import ArtifactError

log = logging.getLogger(__name__)

GOLDEN_TOLERANCE = 1e-6
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
    - `held_out`: the probabilities of held-out comments by `pmip.gate.hash_of` their text, as the model that is
      measured gives them; by these the next run compares itself. Not in `/model-info`.
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
        except (ValueError, AttributeError, TypeError, RecursionError) as error:
            raise ArtifactError(f"metadata.json cannot be read ({error})") from error
        wrong = [name for name, kind in _KINDS.items() if not isinstance(getattr(metadata, name), kind)]
        if wrong:
            raise ArtifactError(f"metadata.json cannot be read (values of a wrong type: {', '.join(wrong)})")
        return metadata


# list[…] and dict[…] can only be checked as list and dict.
_KINDS: dict[str, Any] = {item.name: getattr(item.type, "__origin__", item.type) for item in fields(Metadata)}


@dataclass(frozen=True)
class Artifact:
    """A pickled model and its metadata; a model that was uploaded by hand has none."""

    model: bytes
    metadata: Metadata | None

    @property
    def sha256(self) -> str:
        """Hash the pickle's bytes."""
        return sha256(self.model).hexdigest()


def library_versions() -> dict[str, str]:
    """Return the versions of what a pickle depends on."""
    names = ("scikit-learn", "numpy", "scipy", "joblib", "pmip")
    return {"python": platform.python_version()} | {name: version(name) for name in names}


def pack(model: Any, lineage: Metadata) -> Artifact:
    """Pickle a fitted pipeline and complete its lineage by hash, library versions and golden answers."""
    content = unpickling.dumps(model)
    golden = [
        {"comment": comment, "probability": probability}
        for comment, probability in zip(GOLDEN_COMMENTS, spam_probabilities(model, GOLDEN_COMMENTS), strict=True)
    ]
    digest = sha256(content).hexdigest()
    return Artifact(content, replace(lineage, sha256=digest, libraries=library_versions(), golden=golden))


def unpack(artifact: Artifact, trusted: Iterable[str] = ()) -> Any:
    """Return the fitted pipeline after every check; raises `ArtifactError` saying why it must not be served."""
    if artifact.metadata:
        _require_same_bytes(artifact, artifact.metadata)
        _require_same_library(artifact.metadata)
    model = unpickling.loads(artifact.model, trusted)
    _require_spam_classifier(model)
    _replay(model, artifact.metadata.golden if artifact.metadata else [])
    return model


def spam_probabilities(model: Any, comments: Iterable[str]) -> list[float]:
    """Return the probability of class 1 for each comment."""
    return [float(row[1]) for row in model.predict_proba(list(comments))]


def _require_same_bytes(artifact: Artifact, metadata: Metadata) -> None:
    if artifact.sha256 != metadata.sha256:
        raise ArtifactError(
            f"the sha-256 of model.pkl is {artifact.sha256}, metadata.json says {metadata.sha256}: the file is damaged "
            "or belongs to another run"
        )


def _require_same_library(metadata: Metadata) -> None:
    """scikit-learn promises nothing across releases: https://scikit-learn.org/stable/model_persistence.html."""
    trained, here = str(metadata.libraries.get("scikit-learn", "")), version("scikit-learn")
    if trained.split(".")[:2] != here.split(".")[:2]:
        trained = trained or "of unknown version"
        raise ArtifactError(f"trained with scikit-learn {trained}, served with {here}; retrain the model")
    if trained != here:
        log.warning("model %s: trained with scikit-learn %s, served with %s", metadata.model_id, trained, here)


def _require_spam_classifier(model: Any) -> None:
    if not hasattr(model, "predict_proba"):
        raise ArtifactError(f"the model is a {type(model).__name__}, which has no predict_proba")
    try:
        classes = [int(label) for label in model.classes_]
        probable = all(0 <= p <= 1 for p in spam_probabilities(model, GOLDEN_COMMENTS))
    except Exception as error:
        raise ArtifactError(f"the model cannot score comments ({type(error).__name__}: {error})") from error
    if classes != [0, 1]:
        raise ArtifactError(f"the model's classes are {classes}, not [0, 1]")
    if not probable:
        raise ArtifactError("the model's probabilities are not all between 0 and 1")


def _replay(model: Any, golden: list[dict[str, Any]]) -> None:
    if not golden:
        return
    try:
        answers = spam_probabilities(model, [item["comment"] for item in golden])
        gaps = [abs(answer - item["probability"]) for answer, item in zip(answers, golden, strict=True)]
    except Exception as error:
        raise ArtifactError(f"the golden comments cannot be scored ({type(error).__name__}: {error})") from error
    if not all(gap <= GOLDEN_TOLERANCE for gap in gaps):
        raise ArtifactError(
            f"golden comment {gaps.index(max(gaps))} scores {max(gaps):.2g} away from its answer at training; "
            "the libraries or pmip.text differ from those that trained the model"
        )
