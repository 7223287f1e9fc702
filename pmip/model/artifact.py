"""What one training run publishes: the pickled pipeline, and metadata that describe its training."""

import io
import json
import math
import platform
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from hashlib import sha256
from itertools import chain
from pathlib import Path
from typing import Annotated, Any, TypedDict

import msgspec
from msgspec import Meta

from pmip.errors import ArtifactError

# The first two are the artifact; its verification writes the third.
MODEL, METADATA, SCORER = "model.pkl", "metadata.json", "scorer.json"
MAX_MODEL_BYTES = 2**30  # of the file, and of its decompressed content
MAX_METADATA_BYTES = 2**20  # a file with all 5,000 held-out probabilities has a fifth of this
MAX_VALUES, MAX_DEPTH = 20_000, 20  # of the metadata without `held_out`; a run has about 300 values, 6 levels deep
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

Text = Annotated[str, Meta(max_length=1000)]


class GoldenComment(TypedDict):
    """A fixed text, and its probability of spam at training."""

    comment: Text
    probability: Annotated[float, Meta(ge=0, le=1)]


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

    model_id: Annotated[str, Meta(pattern=r"^[0-9]{8}(T[0-9]{6}Z)?\Z")]
    ENVIRONMENT: Annotated[str, Meta(pattern=r"^(dev|staging|prod)?\Z")] = ""
    training_data_id: Annotated[str, Meta(pattern=r"^([0-9]{8}|sample)\Z")] | None = None
    training_files: list[dict[str, Any]] = field(default_factory=list)
    trained_at: Text | None = None
    parameters: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    git_revision: Text | None = None
    libraries: dict[str, Text] = field(default_factory=dict)
    sha256: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")] | None = None
    golden: Annotated[list[GoldenComment], Meta(max_length=20)] = field(default_factory=list)
    report: Text | None = None
    batch_job_id: Text | None = None
    held_out: dict[str, float] = field(default_factory=dict)
    sources: dict[str, int] = field(default_factory=dict)
    not_readable: str = ""

    def to_json(self) -> bytes:
        """Return the metadata as indented JSON; raise `ArtifactError` if no API would read it."""
        content = json.dumps(asdict(self), indent=2, ensure_ascii=False).encode() + b"\n"
        self.from_json(content)
        return content

    def known_as(self, model_id: str, environment: str) -> "Metadata":
        """Return the same lineage with the id and the environment under which the model is served."""
        return replace(self, model_id=model_id, ENVIRONMENT=environment)

    @classmethod
    def from_json(cls, content: bytes) -> "Metadata":
        """Read metadata.json, which may be hostile; ignore unknown fields, which a later version may have added.

        NaN, infinity and whole numbers of more than 18 digits become None. Raise `ArtifactError` if a value is of a
        wrong form or the values are very many: `/model-info` of every worker answers with them.
        """
        try:
            if len(content) > MAX_METADATA_BYTES:
                raise ValueError(f"it has {len(content):,} bytes; at most {MAX_METADATA_BYTES:,} are read")
            written = json.loads(content, parse_constant=lambda _: None, parse_float=_finite, parse_int=_whole)
            metadata = msgspec.convert(written, cls)
            msgspec.json.encode(metadata)  # raises for texts that UTF-8 cannot represent
            _require_few(value for name, value in vars(metadata).items() if name != "held_out")
        except (ValueError, RecursionError, msgspec.MsgspecError) as error:
            raise ArtifactError(f"metadata.json cannot be read ({error})", "metadata") from error
        return metadata


def _finite(text: str) -> float | None:
    number = float(text)
    return number if math.isfinite(number) else None


def _whole(text: str) -> int | None:
    return int(text) if len(text) <= 18 else None


def _require_few(level: Iterable[Any]) -> None:
    """Require that values, and all values within them, are not too many and not too deep."""
    total = 0
    for _ in range(MAX_DEPTH):
        values = list(level)
        total += len(values)
        if total > MAX_VALUES:
            raise ValueError(f"it has more than {MAX_VALUES:,} values")
        if not values:
            return
        inner = [value.values() if isinstance(value, dict) else value for value in values]
        level = chain.from_iterable(each for each in inner if not isinstance(each, str | int | float | None))
    raise ValueError(f"it has more than {MAX_DEPTH} levels")


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
    """Return the versions of Python and of those libraries that a pickle depends on, as far as they are installed."""
    # This import takes a fifth of the start of a verification.
    from importlib.metadata import PackageNotFoundError, version

    versions = {"python": platform.python_version()}
    for name in ("scikit-learn", "numpy", "scipy", "joblib", "pmip"):
        with suppress(PackageNotFoundError):  # an API that only reads models needs none of them
            versions[name] = version(name)
    return versions


def source_hash() -> str:
    """Return a hash of the source code of pmip, as it is on the disk now."""
    package = Path(__file__).parents[1]
    sources = {path.relative_to(package).as_posix(): path.read_bytes() for path in package.rglob("*.py")}
    return sha256(repr(sorted(sources.items())).encode()).hexdigest()


def software() -> dict[str, str]:
    """Return what the training of a model depends on beside its data: the libraries' versions and pmip's sources."""
    return library_versions() | {"pmip's sources": source_hash()[:12]}


@cache
def loaded_software() -> dict[str, str]:
    """Return the software of this process at the first call; a worker can outlive a change of the files."""
    return software()


def spam_probabilities(model: Any, comments: Sequence[str]) -> list[float]:
    """Return the probability of class 1 for each comment."""
    return [float(row[1]) for row in model.predict_proba(list(comments))]


def pack(model: Any, lineage: Metadata) -> Artifact:
    """Pickle a fitted pipeline; add hash, library versions and golden answers to its lineage."""
    content = dumps(model)
    answers = zip(GOLDEN_COMMENTS, spam_probabilities(model, GOLDEN_COMMENTS), strict=True)
    golden: list[GoldenComment] = [{"comment": comment, "probability": probability} for comment, probability in answers]
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
