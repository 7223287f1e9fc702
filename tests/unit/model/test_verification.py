"""Verification before serving: which artifacts are refused, what workers then read, and what the child process gets."""

import json
import logging
import os
import pickle
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ROOT
from sklearn.base import BaseEstimator
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import MultinomialNB
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.svm import LinearSVC

from pmip.errors import ArtifactError, NotReadableError, VerificationError
from pmip.model.artifact import GOLDEN_COMMENTS, METADATA, MODEL, SCORER, Artifact, Metadata, dumps, pack, run_pickle
from pmip.model.scorer import Scorer
from pmip.model.verification import SLOWEST_SECONDS, load, verify, verify_folder, verify_in_child

SPAM = ["Check it out this free stuff", "I take issue with your characterization"]


class Telling(BaseEstimator):  # type: ignore[misc]
    """A trusted model that raises an error with the names of its environment variables and its oom_score_adj."""

    classes_ = (0, 1)

    def predict_proba(self, comments: list[str]) -> list[list[float]]:
        if "PYTEST_CURRENT_TEST" in os.environ:
            return [[0.5, 0.5]] * len(comments)
        goes_at = Path("/proc/self/oom_score_adj").read_text().strip() if sys.platform == "linux" else 1000
        raise ValueError(f"goes at {goes_at} {' '.join(sorted(os.environ))}")


class Dying(Telling):
    def predict_proba(self, comments: list[str]) -> list[list[float]]:
        """End the process, unless here where it is packed."""
        if "PYTEST_CURRENT_TEST" not in os.environ:
            os.abort()
        return super().predict_proba(comments)


def fitted(classifier: BaseEstimator, labels: list[Any]) -> Pipeline:
    return make_pipeline(TfidfVectorizer(), classifier).fit(SPAM, labels)


def without_numbers(model: Pipeline) -> Pipeline:
    model[-1].coef_ = np.full_like(model[-1].coef_, np.nan)
    return model


def written(folder: Path, artifact: Artifact) -> Path:
    artifact.write(folder)
    return folder


def with_metadata(artifact: Artifact, **changes: Any) -> Artifact:
    assert artifact.metadata
    return replace(artifact, metadata=replace(artifact.metadata, **changes))


def with_first_golden_off_by(artifact: Artifact, gap: float) -> Artifact:
    """Return the artifact as if the model had once scored the first golden comment differently."""
    assert artifact.metadata
    first, *others = artifact.metadata.golden
    return with_metadata(artifact, golden=[first | {"probability": first["probability"] + gap}, *others])


def test_a_linear_model_becomes_plain_data(tmp_path: Path, model: Pipeline, artifact: Artifact) -> None:
    """A verified linear model is plain data that gives the pipeline's answers, and its pickle is removed."""
    verify_folder(written(tmp_path, artifact), "20260202", "prod")
    assert {path.name for path in tmp_path.iterdir()} == {METADATA, SCORER}
    scorer = Scorer.from_plain(json.loads((tmp_path / SCORER).read_text()), pytest.fail)
    assert (scorer.model_id, scorer.description["scorer"], scorer.verified) == ("20260202", "lookups", True)
    assert scorer.probabilities(GOLDEN_COMMENTS) == [
        pytest.approx(row, abs=1e-12) for row in model.predict_proba(GOLDEN_COMMENTS).tolist()
    ]


def test_any_other_model_is_run_only_where_pickles_are_trusted(tmp_path: Path) -> None:
    """Any other model is refused by the name of its class, unless pickles are trusted; then each worker runs it."""
    bayes = pack(fitted(MultinomialNB(), [1, 0]), Metadata("20260101"))
    with pytest.raises(NotReadableError, match=r"contains sklearn\.naive_bayes\.MultinomialNB: .*TRUST_PICKLES=true"):
        verify_folder(written(tmp_path, bayes), "20260101", "staging")
    verify_folder(tmp_path, "20260101", "staging", trust_pickles=True)
    plain = json.loads((tmp_path / SCORER).read_text())
    scorer = Scorer.from_plain(plain, lambda: run_pickle((tmp_path / MODEL).read_bytes()))
    assert (scorer.description["scorer"], scorer.classes(SPAM)) == ("estimator", [1, 0])


def test_a_model_that_can_be_read_is_never_run(artifact: Artifact) -> None:
    """A model that can be read becomes the same plain data whether or not pickles are trusted."""
    trusting, careful = (verify(artifact, "20260202", "prod", trust_pickles=trust)[0] for trust in (True, False))
    assert json.dumps(trusting) == json.dumps(careful)
    assert load(artifact, "20260202", "prod", trust_pickles=True).description["scorer"] == "lookups"


def test_other_bytes_are_refused_with_both_hashes(artifact: Artifact, tmp_path: Path) -> None:
    """A model.pkl that does not match its metadata is refused with both hashes, and nothing is written."""
    damaged = replace(artifact, model=artifact.model + b"!")
    with pytest.raises(ArtifactError, match=f"is {damaged.sha256}, but metadata.json has {artifact.sha256}"):
        verify_folder(written(tmp_path, damaged), "20260202", "prod")
    assert not (tmp_path / SCORER).exists()


@pytest.mark.parametrize("libraries", [{}, {"scikit-learn": "0.24.2"}, {"scikit-learn": 1.9}])
def test_the_release_of_scikit_learn_decides_nothing(artifact: Artifact, libraries: dict[str, Any]) -> None:
    """A model that gives its golden answers is served, whatever release of scikit-learn wrote it."""
    assert load(with_metadata(artifact, libraries=libraries), "20260202", "prod").verified


@pytest.mark.parametrize("gap", [1e-5, -1e-5, 0.5, float("nan")])
def test_other_golden_answers_are_refused(artifact: Artifact, gap: float) -> None:
    """A model that answers a golden comment differently than at training is refused."""
    with pytest.raises(ArtifactError, match="the answer to golden comment 0 differs"):
        verify(with_first_golden_off_by(artifact, gap), "20260202", "prod")


@pytest.mark.parametrize("gap", [1e-7, -1e-7])
def test_the_last_digits_of_golden_answers_may_differ(artifact: Artifact, gap: float) -> None:
    """A model whose golden answers differ by 1e-7 is served, because other processors add up in another order."""
    verify(with_first_golden_off_by(artifact, gap), "20260202", "prod")


@pytest.mark.parametrize("golden", [["text"], [{}], [{"comment": 1, "probability": 0.5}], [{"comment": "a"}], [None]])
def test_golden_answers_that_cannot_be_replayed_are_refused(artifact: Artifact, golden: list[Any]) -> None:
    """An artifact whose golden comments have another form is refused."""
    with pytest.raises(ArtifactError, match="golden comments cannot be scored"):
        verify(with_metadata(artifact, golden=golden), "20260202", "prod")


@pytest.mark.parametrize("write", [dumps, pickle.dumps])
def test_a_model_uploaded_by_hand_is_served_and_not_verified(model: Pipeline, write: Callable[[Any], bytes]) -> None:
    """A model without metadata is served, reported as not verified, and identified by its hash."""
    artifact = Artifact(write(model), None)
    scorer = load(artifact, "20260202", "staging")
    assert (scorer.verified, scorer.metadata.sha256) == (False, artifact.sha256)
    assert (scorer.model_id, scorer.metadata.ENVIRONMENT) == ("20260202", "staging")
    assert scorer.probabilities(SPAM) == [pytest.approx(row, abs=1e-12) for row in model.predict_proba(SPAM).tolist()]


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (["no", "model"], "is a list, which has no predict_proba"),
        (fitted(LinearSVC(), [1, 0]), "is a Pipeline, which has no predict_proba"),
        (LogisticRegression(), "cannot score comments"),
        (LogisticRegression().fit([[0], [1]], [0, 1]), "cannot be scored"),
        (fitted(MultinomialNB(), [2, 1]), r"classes are \[1, 2\], not \[0, 1\]"),
        (fitted(MultinomialNB(), ["spam", "ham"]), "cannot score comments"),
        (without_numbers(fitted(LogisticRegression(), [1, 0])), "not all between 0 and 1"),
    ],
)
def test_what_is_no_spam_classifier_is_refused_even_where_pickles_are_trusted(model: Any, reason: str) -> None:
    """A trusted model must score texts, with the classes 0 and 1 and probabilities between 0 and 1."""
    with pytest.raises(ArtifactError, match=reason):
        verify(Artifact(dumps(model), None), "20260202", "prod", trust_pickles=True)


def test_a_hostile_file_is_refused_even_where_pickles_are_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A damaged or hostile file is refused without being run, even if pickles are trusted."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ArtifactError, match="instruction that models do not need"):
        verify(Artifact(b"\x80\x02(S'touch marker'\nios\nsystem\n.", None), "20260202", "prod", trust_pickles=True)
    assert not [*tmp_path.iterdir()]


def test_the_child_writes_plain_data_without_numpy(
    tmp_path: Path, artifact: Artifact, caplog: pytest.LogCaptureFixture
) -> None:
    """The child process writes the plain data without importing numpy or scikit-learn, and logs no warning."""
    with caplog.at_level(logging.WARNING):
        verify_in_child(written(tmp_path, artifact), "20260202", "prod")
    assert (tmp_path / SCORER).exists()
    assert not caplog.records
    script = """if True:
        import sys
        from pmip.model.verification import main
        main(sys.argv[1], "20260202", "prod")
        print(*({"numpy", "scipy", "sklearn", "joblib"} & sys.modules.keys()))
    """
    command = [sys.executable, "-c", script, str(written(tmp_path, artifact))]
    assert subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True).stdout == "\n"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"\x80\x02cos\nsystem\nX\x0c\0\0\0touch marker\x85R.", r"contains os\.system: .* TRUST_PICKLES=true"),
        (b"text", "not a pickle of protocol 2 to 5"),
        (dumps([1]), "the model is a list, not a Pipeline"),
    ],
)
def test_a_refusal_comes_back_from_the_child_with_its_reason(tmp_path: Path, content: bytes, reason: str) -> None:
    """A refusal in the child process reaches the caller with its reason, and the pickle has not been run."""
    with pytest.raises(ArtifactError, match=reason):
        verify_in_child(written(tmp_path, Artifact(content, None)), "20260202", "prod")
    assert {path.name for path in tmp_path.iterdir()} == {MODEL}


def test_a_pickle_that_is_run_finds_no_credentials_and_goes_first_when_memory_runs_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    """A trusted model runs without this process's credentials, and the kernel ends it first when memory runs out."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("API_KEYS", "secret")
    monkeypatch.syspath_prepend(request.path.parent)
    folder = written(tmp_path, pack(Telling(), Metadata("20260101")))
    with pytest.raises(ArtifactError, match="ValueError: goes at 1000") as refusal:
        verify_in_child(folder, "20260101", "prod", trust_pickles=True)
    assert "PYTHONPATH" in str(refusal.value)
    assert not {"AWS_SECRET_ACCESS_KEY", "API_KEYS", "HOME"} & set(str(refusal.value).split())


def test_a_child_that_dies_is_no_refusal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    """A child process that dies raises VerificationError and no refusal, because a later attempt may succeed."""
    monkeypatch.syspath_prepend(request.path.parent)
    folder = written(tmp_path, pack(Dying(), Metadata("20260101")))
    with pytest.raises(VerificationError, match="ended with status -6"):
        verify_in_child(folder, "20260101", "prod", trust_pickles=True)


@pytest.mark.parametrize("limits", ["-v 2000000", "-S -v 2000000", "-t 60", "-S -t 60"])
def test_smaller_limits_of_the_shell_stay(tmp_path: Path, artifact: Artifact, limits: str) -> None:
    """A verification under smaller limits of `ulimit` succeeds within them."""
    command = f'ulimit {limits}; exec "$0" -m pmip.model.verification "$1" 20260202 prod'
    run = ["bash", "-c", command, sys.executable, str(written(tmp_path, artifact))]
    subprocess.run(run, cwd=ROOT, check=True, timeout=60)
    assert (tmp_path / SCORER).exists()


def test_a_model_that_is_slow_to_score_is_refused(artifact: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that scores too slowly is refused with its processor time; a real one takes less than half the limit."""
    began = time.thread_time()
    verify(artifact, "20260202", "prod")
    assert time.thread_time() - began < SLOWEST_SECONDS / 2
    monkeypatch.setattr("pmip.model.verification.SLOWEST_SECONDS", 1e-6)
    with pytest.raises(ArtifactError, match=r"too slow: a comment of 10,000 characters takes 0\.. s of processor time"):
        verify(artifact, "20260202", "prod")


@pytest.mark.parametrize(
    ("limit", "content", "reason"),
    [
        ("-t 1", b"\x80\x04" + b"N0" * 2**24 + b"N.", "took more than 60 seconds of processor time"),
        ("-v 250000", bytes(2**28), "needs more memory than it may use"),
    ],
)
def test_a_model_that_takes_too_much_time_or_memory_is_refused(
    tmp_path: Path, limit: str, content: bytes, reason: str
) -> None:
    """A model whose verification takes too much time or memory is refused; otherwise each check would take it again."""
    (tmp_path / MODEL).write_bytes(content)
    script = """if True:
        import pathlib, sys
        from pmip.model.verification import verify_in_child
        verify_in_child(pathlib.Path(sys.argv[1]), "20260202", "prod")
    """
    run = ["bash", "-c", f'ulimit -S {limit}; exec "$0" "$@"', sys.executable, "-c", script, str(tmp_path)]
    ended = subprocess.run(run, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert f"ArtifactError: its verification {reason}" in ended.stderr
