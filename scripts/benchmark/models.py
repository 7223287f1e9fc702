"""What needs the model itself: the right answers, the time of one comment, a model to compare."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import mean, median
from time import thread_time_ns

from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline

from pmip.model.artifact import Artifact, Metadata, pack
from pmip.model.verification import load
from pmip.store.versions import LocalModel, new_model_id
from pmip.training.comments import describe, read_comments
from pmip.training.data import local_files

EXAMPLE = "Check it out this free stuff"
PASSES = 9


def labelled(model: Path, files: Sequence[Path], trust_pickles: bool) -> list[tuple[str, int]]:
    """Return all comments of the files, or the example without files, with the classes that the model gives them.

    The model passes the checks of the API first: the plain route loads it without any.
    """
    comments = _comments(files)
    classes = load(Artifact.read(model), "measured", "dev", trust_pickles=trust_pickles).classes(comments)
    return list(zip(comments, classes, strict=True))


def microseconds(model: Path, files: Sequence[Path], trust_pickles: bool) -> str:
    """Tell how long the API's scorer takes for one comment: a mean over all of them, in the median pass.

    The processor's time is taken, which is the clock's on an idle machine and the truth on a busy one.
    """
    comments = _comments(files)
    scorer = load(Artifact.read(model), "measured", "dev", trust_pickles=trust_pickles)
    passes = [_one_by_one(scorer.classes, comments) for _ in range(PASSES + 1)][1:]  # the first one warms up
    middle = sorted(passes, key=mean)[PASSES // 2]
    scored_by = scorer.description["scorer"]
    return f"{scored_by}, {len(comments)} comments: mean {mean(middle):.1f} µs, median {median(middle):.1f} µs"


def fit_words(folder: Path, files: Sequence[Path]) -> Path:
    """Fit words and word pairs with a logistic regression; save the model in a folder and return its path."""
    found = local_files(files)
    comments = read_comments(found)
    words = TfidfVectorizer(ngram_range=(1, 2))
    model = Pipeline([("words", words), ("classifier", LogisticRegression(C=10, solver="liblinear", random_state=0))])
    model.fit(comments["CONTENT"], comments["CLASS"])
    trained_at = datetime.now(UTC).isoformat(timespec="microseconds")
    lineage = Metadata(new_model_id(), "dev", trained_at=trained_at, training_files=describe(found, comments))
    LocalModel(folder).save(pack(model, lineage))
    return folder / "model.pkl"


def _comments(files: Sequence[Path]) -> list[str]:
    return read_comments(local_files(files))["CONTENT"].tolist() if files else [EXAMPLE]


def _one_by_one(score: Callable[[Sequence[str]], list[int]], comments: list[str]) -> list[float]:
    times = []
    for comment in comments:
        began = thread_time_ns()
        score([comment])
        times.append((thread_time_ns() - began) / 1000)
    return times
