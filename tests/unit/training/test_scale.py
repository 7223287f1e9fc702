"""A run uses all cores or a Dask cluster, and fits very many comments in parts."""

import os
import shutil
import socketserver
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Thread, Timer
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
from pmip.errors import ClusterError, TrainingDataError, TrainingRunError
from pmip.model.artifact import dumps
from pmip.model.reading import read
from pmip.training import cluster, evaluation, scale
from pmip.training.augmentation import Augmented
from pmip.training.comments import read_comments
from pmip.training.data import local_files
from pmip.training.scale import workers

Columns = tuple[np.ndarray[Any, Any], np.ndarray[Any, Any], np.ndarray[Any, Any]]


def model(classifier: Any, directions: int = 0) -> Augmented:
    """Return a model like the notebook's, or one with dense features if `directions` is given."""
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
    """A model of few comments gives the same probabilities as an ordinary fit."""
    comments, labels, groups = sample()
    expected = model(LogisticRegression(C=10)).fit(comments, labels)
    fitted = scale.fit(model(LogisticRegression(C=10)), comments, labels, groups)
    assert np.array_equal(fitted.predict_proba(comments), expected.predict_proba(comments))


@pytest.mark.usefixtures("in_parts")
def test_in_parts_and_at_once_give_the_same_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fit in parts gives the probabilities of a fit at once, within 0.002, and coefficients of 64 bits."""
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
    """Of many comments, the features are fitted to a sample, and over 80 % of all are classified correctly."""
    comments, labels, groups = sample()
    fitted = scale.fit(other, comments, labels, groups)
    chosen = evaluation.sample(groups, scale.MANY)
    of_chosen = model(MultinomialNB())["features"].fit(comments[chosen])
    union = fitted["features"] if isinstance(fitted["features"], FeatureUnion) else fitted["features"][0]
    assert union.get_params()["words"].vocabulary_ == of_chosen.get_params()["words"].vocabulary_
    assert (fitted.predict(comments) == labels).mean() > 0.8


def share_out(tasks: list[Any], scheduler: str = "") -> list[Any]:
    """Run tasks as scikit-learn does, within the context that the notebook uses."""
    with workers("sharing out", scheduler):
        return list(Parallel()(delayed(task[0])(*task[1:]) for task in tasks))


def test_the_step_and_its_seconds_are_told(capfd: pytest.CaptureFixture[str]) -> None:
    """A step writes its name and duration to stderr, runs in processes that end with it, and keeps the tasks' order."""
    assert share_out([(pow, number, 3) for number in range(6)]) == [0, 1, 8, 27, 64, 125]
    first, second = capfd.readouterr().err.splitlines()
    assert first == "sharing out started"
    assert second.startswith("sharing out: ")
    one, other = (set(share_out([(os.getpid,)] * 8)) for _ in range(2))
    assert os.getpid() not in one | other
    assert not one & other


def test_an_error_of_a_worker_is_the_error_of_the_step() -> None:
    """An error of a worker is reported by its type and place, because its text may quote a comment."""
    with pytest.raises(TrainingRunError, match=r"^sharing out failed \(ValueError in .*, line \d+, \S+\)$"):
        share_out([(float, "1"), (float, "a comment")])


Cluster = Callable[..., str]


@pytest.fixture
def running() -> dict[str, subprocess.Popen[bytes]]:
    """Return the processes of a test's cluster: its scheduler and its last worker."""
    return {}


@pytest.fixture
def start_cluster(tmp_path: Path, running: dict[str, subprocess.Popen[bytes]]) -> Iterator[Cluster]:
    """Start a Dask scheduler with worker processes of its own, and end them with the test."""
    distributed = pytest.importorskip("distributed", reason="the extra dask is not installed")
    processes: list[subprocess.Popen[bytes]] = []

    def start(workers: int = 2, *, threads: int = 1, **environ: str) -> str:
        address = f"tcp://127.0.0.1:{free_port()}"
        script = "from distributed.cli.dask_{0} import main; main()"
        run_scheduler = ["-c", script.format("scheduler"), "--host", address, "--no-dashboard"]
        running["scheduler"] = subprocess.Popen([sys.executable, *run_scheduler], cwd=tmp_path)
        processes.append(running["scheduler"])
        for _ in range(workers):
            worker = [
                "-c",
                script.format("worker"),
                address,
                "--nthreads",
                str(threads),
                "--no-dashboard",
                "--no-nanny",
            ]
            command = [sys.executable, *worker, "--local-directory", str(tmp_path)]
            running["worker"] = subprocess.Popen(command, cwd=tmp_path, env=os.environ | environ)
            processes.append(running["worker"])
        with distributed.Client(address, timeout=60) as client:
            if workers:
                client.wait_for_workers(workers, timeout=60)
        return address

    yield start
    for process in processes:
        process.kill()  # a worker that is terminated together with its scheduler may wait for ever
    for process in processes:
        process.wait(30)


def path_of(package: Path) -> dict[str, str]:
    return {"PYTHONPATH": f"{package}:{os.environ.get('PYTHONPATH', '')}"}


def test_two_dask_workers_give_the_same_as_this_machine(start_cluster: Cluster) -> None:
    """Two Dask workers return the results in the order of the tasks, and this process runs none of them."""
    address = start_cluster(2, **path_of(ROOT))
    tasks = [(divmod, number, 7) for number in range(20)]
    assert share_out(tasks, address) == [divmod(*task[1:]) for task in tasks]
    assert os.getpid() not in share_out([(os.getpid,)] * 8, address)


def changed_line(package: Path) -> None:
    (package / "pmip" / "text.py").write_text((package / "pmip" / "text.py").read_text() + "# changed\n")


def other_numpy(package: Path) -> None:
    (package / "numpy-1.99.dist-info").mkdir()
    (package / "numpy-1.99.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: numpy\nVersion: 1.99\n")


def no_pmip(package: Path) -> None:
    (package / "pmip" / "__init__.py").write_text("raise ImportError('it is not here')")


@pytest.mark.filterwarnings("ignore:Mismatched versions")
@pytest.mark.parametrize(
    ("change", "difference"),
    [
        (changed_line, r"has pmip's sources \w+, not \w+;"),
        (other_numpy, r"has numpy 1\.99, not \d"),
        (no_pmip, r"cannot import pmip \(.*it is not here.*\);"),
    ],
)
def test_a_worker_with_other_software_is_refused_by_name(
    change: Callable[[Path], None], difference: str, start_cluster: Cluster, tmp_path: Path
) -> None:
    """A Dask worker with other code or libraries is refused by name, because it would train another model."""
    package = tmp_path / "other"
    shutil.copytree(ROOT / "pmip", package / "pmip")
    change(package)
    address = start_cluster(1, **path_of(package))
    with pytest.raises(ClusterError, match=rf"the Dask worker tcp://\S+ {difference}.*start all workers anew"):
        share_out([(os.getpid,)], address)


@pytest.mark.parametrize(
    ("killed", "lost"),
    [
        ("worker", r"1 of 1 workers of the Dask scheduler \S+ are lost \(tcp://\S+\);"),
        ("scheduler", r"the Dask scheduler \S+ does not answer any more;"),
    ],
)
def test_a_lost_part_of_the_cluster_ends_the_step_in_one_sentence(
    killed: str, lost: str, start_cluster: Cluster, running: dict[str, subprocess.Popen[bytes]]
) -> None:
    """A lost worker or scheduler ends the step with an error that names it, instead of waiting for ever."""
    address = start_cluster(1, threads=2, **path_of(ROOT))  # for one thread alone joblib would work here
    Timer(5, running[killed].kill).start()
    with pytest.raises(ClusterError, match=rf"{lost} start the cluster again"):
        share_out([(time.sleep, 600)] * 2, address)


def test_a_cluster_without_workers_or_scheduler_is_refused(start_cluster: Cluster) -> None:
    """A cluster without workers or without a scheduler is refused, and the message says which is missing."""
    with pytest.raises(ClusterError, match="has no workers"):
        share_out([(os.getpid,)], start_cluster(0))
    for address in ("tcp://127.0.0.1:1", "cluster", "tcp://127.0.0.1:http"):
        with pytest.raises(ClusterError, match=f"no Dask scheduler answers at {address}; give an address such as tcp"):
            share_out([(os.getpid,)], address)


@pytest.mark.usefixtures("start_cluster")
@pytest.mark.parametrize("says", [b"", b"SSH-2.0-OpenSSH_9.2 \r\n" * 9])
def test_another_server_at_the_address_of_the_scheduler_is_refused(
    says: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that is silent, or speaks another protocol than Dask's, is refused like a missing scheduler."""
    monkeypatch.setattr(cluster, "SECONDS_TO_CONNECT", 1)

    class Other(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.sendall(says)
            self.request.recv(10)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Other) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        address = f"tcp://127.0.0.1:{server.server_address[1]}"
        with pytest.raises(ClusterError, match=f"no Dask scheduler answers at {address}"):
            share_out([(os.getpid,)], address)
        server.shutdown()


def test_comments_that_do_not_fit_into_memory_are_refused_with_the_number_that_does() -> None:
    """Comments that do not fit into memory are refused with the number that does; 8 GB are enough for 3 million."""
    scale.require_memory(3_000_000, 8 * 10**9)
    scale.require_memory(1_000)
    with pytest.raises(TrainingDataError, match=r"10,000,000 comments need about 25 GB .*8\.0 GB here fit 3,200,000"):
        scale.require_memory(10_000_000, 8 * 10**9)
