"""Scale: work on all cores or on a Dask cluster, and a fit to very many comments in parts."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ROOT, SAMPLE, free_port
from joblib import Parallel, delayed
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import MultinomialNB
from sklearn.pipeline import FeatureUnion, make_pipeline

from pmip import steps, text
from pmip.errors import ClusterError, TrainingRunError
from pmip.model.artifact import dumps
from pmip.model.reading import read
from pmip.training import evaluation, scale
from pmip.training.augmentation import Augmented
from pmip.training.comments import read_comments
from pmip.training.data import local_files
from pmip.training.scale import workers

Columns = tuple[np.ndarray[Any, Any], np.ndarray[Any, Any], np.ndarray[Any, Any]]


def model(classifier: Any, directions: int = 0) -> Augmented:
    """Return a model of the kind that the notebook uses, or one with dense features."""
    words = TfidfVectorizer(analyzer=text.token_ngrams, binary=True, min_df=2)
    features: Any = FeatureUnion([("words", words), ("comment", steps.CommentFeatures())])
    if directions:
        features = make_pipeline(features, TruncatedSVD(directions, random_state=0))
    return Augmented([("features", features), ("classifier", classifier)])


def sample() -> Columns:
    comments = read_comments(local_files(SAMPLE))
    return comments["CONTENT"].to_numpy(), comments["CLASS"].to_numpy(), evaluation.groups(comments["CONTENT"])


@pytest.fixture
def in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scale, "MANY", 100)
    monkeypatch.setattr(scale, "ROWS_A_PART", 100)


def test_few_comments_are_fitted_as_the_model_says() -> None:
    """The result is the plain pipeline of an ordinary fit."""
    comments, labels, groups = sample()
    expected = model(LogisticRegression(C=10)).fit(comments, labels)
    fitted = scale.fit(model(LogisticRegression(C=10)), comments, labels, groups)
    assert np.array_equal(fitted.predict_proba(comments), expected.predict_proba(comments))


@pytest.mark.usefixtures("in_parts")
def test_in_parts_and_at_once_give_the_same_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """When features are learnt from all comments, only the digits of 32 bit differ; coefficients end in 64 bit."""
    monkeypatch.setattr(evaluation, "sample", lambda groups, _: np.ones(len(groups), dtype=bool))
    comments, labels, groups = sample()
    exact = LogisticRegression(C=10, tol=1e-6, max_iter=2000)
    fitted = scale.fit(model(exact), comments, labels, groups)
    at_once = model(exact).plain()
    at_once["features"].fit(comments)
    texts, classes, weights = scale.with_copies(comments, labels, 0.5)
    at_once["classifier"].fit(at_once["features"].transform(texts), classes, sample_weight=weights)
    assert fitted["classifier"].coef_.dtype == np.float64
    assert np.allclose(fitted.predict_proba(comments), at_once.predict_proba(comments), atol=2e-3)
    assert len(read(dumps(fitted))["parts"]) == 2


@pytest.mark.usefixtures("in_parts")
@pytest.mark.parametrize("other", [model(MultinomialNB()), model(LogisticRegression(C=10), directions=20)])
def test_of_many_comments_the_features_are_learnt_from_some(other: Augmented) -> None:
    """Whatever the classifier, and with sparse or dense features; the classifier learns from all."""
    comments, labels, groups = sample()
    fitted = scale.fit(other, comments, labels, groups)
    chosen = evaluation.sample(groups, scale.MANY)
    of_chosen = model(MultinomialNB())["features"].fit(comments[chosen])
    union = fitted["features"] if isinstance(fitted["features"], FeatureUnion) else fitted["features"][0]
    assert union.get_params()["words"].vocabulary_ == of_chosen.get_params()["words"].vocabulary_
    assert (fitted.predict(comments) == labels).mean() > 0.8


def share_out(tasks: list[Any], scheduler: str = "") -> list[Any]:
    """Do tasks as scikit-learn does, within the context that the notebook uses."""
    with workers("sharing out", scheduler):
        return list(Parallel()(delayed(task[0])(*task[1:]) for task in tasks))


def test_the_step_and_its_seconds_are_told(capfd: pytest.CaptureFixture[str]) -> None:
    """Results come in the order of the tasks, from processes of their own, which end with the step."""
    assert share_out([(pow, number, 3) for number in range(6)]) == [0, 1, 8, 27, 64, 125]
    first, second = capfd.readouterr().err.splitlines()
    assert first == "sharing out started"
    assert second.startswith("sharing out: ")
    one, other = (set(share_out([(os.getpid,)] * 8)) for _ in range(2))
    assert os.getpid() not in one | other
    assert not one & other


def test_an_error_of_a_worker_is_the_error_of_the_step() -> None:
    """The message has its type and its place without its text, which may quote a comment."""
    with pytest.raises(TrainingRunError, match=r"^sharing out failed \(ValueError in .*, line \d+, \w+\)$"):
        share_out([(float, "1"), (float, "a comment")])


Cluster = Callable[..., str]


@pytest.fixture
def start_cluster(tmp_path: Path) -> Iterator[Cluster]:
    """Start a Dask scheduler with worker processes of its own, and end them with the test."""
    distributed = pytest.importorskip("distributed", reason="the extra dask is not installed")
    running: list[subprocess.Popen[bytes]] = []

    def start(workers: int = 2, **environ: str) -> str:
        address = f"tcp://127.0.0.1:{free_port()}"
        script = "from distributed.cli.dask_{0} import main; main()"
        run_scheduler = ["-c", script.format("scheduler"), "--host", address, "--no-dashboard"]
        running.append(subprocess.Popen([sys.executable, *run_scheduler], cwd=tmp_path))
        for _ in range(workers):
            worker = ["-c", script.format("worker"), address, "--nthreads", "1", "--no-dashboard", "--no-nanny"]
            command = [sys.executable, *worker, "--local-directory", str(tmp_path)]
            running.append(subprocess.Popen(command, cwd=tmp_path, env=os.environ | environ))
        with distributed.Client(address, timeout=60) as client:
            if workers:
                client.wait_for_workers(workers, timeout=60)
        return address

    yield start
    for process in running:
        process.kill()  # asked to end while its scheduler does, a worker may wait for ever
    for process in running:
        process.wait(30)


def test_two_dask_workers_give_the_same_as_this_machine(start_cluster: Cluster) -> None:
    """The work is done by them, and the results come in the order of the tasks."""
    address = start_cluster(2, PYTHONPATH=f"{ROOT}:{os.environ.get('PYTHONPATH', '')}")
    tasks = [(divmod, number, 7) for number in range(20)]
    assert share_out(tasks, address) == [divmod(*task[1:]) for task in tasks]
    assert os.getpid() not in share_out([(os.getpid,)] * 8, address)


def test_workers_that_cannot_import_the_package_are_refused(start_cluster: Cluster, tmp_path: Path) -> None:
    """Within seconds, where joblib alone would wait for ever."""
    (tmp_path / "without" / "pmip").mkdir(parents=True)
    (tmp_path / "without" / "pmip" / "__init__.py").write_text("raise ImportError('it is not here')")
    address = start_cluster(1, PYTHONPATH=f"{tmp_path / 'without'}:{os.environ.get('PYTHONPATH', '')}")
    started = time.monotonic()
    with pytest.raises(ClusterError, match=r"cannot import pmip .*install it there too"):
        share_out([(os.getpid,)], address)
    assert time.monotonic() - started < 20


def test_a_cluster_without_workers_or_scheduler_is_refused(start_cluster: Cluster) -> None:
    """The message says which of the two is missing."""
    with pytest.raises(ClusterError, match="has no workers"):
        share_out([(os.getpid,)], start_cluster(0))
    for address in ("tcp://127.0.0.1:1", "cluster", "tcp://127.0.0.1:http"):
        with pytest.raises(ClusterError, match=f"no Dask scheduler answers at {address}; give an address such as tcp"):
            share_out([(os.getpid,)], address)
