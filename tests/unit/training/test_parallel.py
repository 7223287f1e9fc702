"""Many fits at once: in their order, with a bar, by workers that know the package as it is now."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import ROOT, free_port

from pmip.errors import ClusterError
from pmip.training.scale import each


def cube(number: int) -> int:
    """Compute something in a worker."""
    return number**3


def test_results_come_in_the_order_of_the_tasks(capfd: pytest.CaptureFixture[str]) -> None:
    """The bar counts each of them."""
    assert each(cube, [(number,) for number in range(6)], "cubes") == [0, 1, 8, 27, 64, 125]
    bar = capfd.readouterr().err
    assert all(f"| {number}/6 [" in bar for number in range(7))
    assert "cubes" in bar


def test_no_worker_outlives_its_work() -> None:
    """One that did would know the package as it was before an edit."""
    first, second = (set(each(os.getpid, [()] * 8, "who")) for _ in range(2))
    assert os.getpid() not in first | second
    assert not first & second


def test_an_error_of_a_worker_is_the_error_of_the_call() -> None:
    """Its kind is kept, so that the report can name it."""
    with pytest.raises(ZeroDivisionError):
        each(divmod, [(1, 1), (1, 0)], "division")


Cluster = Callable[..., str]


@pytest.fixture
def start_cluster(tmp_path: Path) -> Iterator[Cluster]:
    """Start a Dask scheduler with worker processes of its own, and end them with the test."""
    pytest.importorskip("distributed", reason="the extra dask is not installed")
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
        wait_for_workers(address, workers)
        return address

    yield start
    for process in running:
        process.kill()  # asked to end while its scheduler does, a worker may wait for ever
    for process in running:
        process.wait(30)


def wait_for_workers(address: str, number: int) -> None:
    """Return when the scheduler knows its workers."""
    from distributed import Client

    with Client(address, timeout=60) as client:
        if number:
            client.wait_for_workers(number, timeout=60)


def test_two_dask_workers_give_the_same_as_this_machine(start_cluster: Cluster) -> None:
    """The work is done by them, and the results come in the order of the tasks."""
    address = start_cluster(2, PYTHONPATH=f"{ROOT}:{os.environ.get('PYTHONPATH', '')}")
    tasks = [(number, 7) for number in range(20)]
    assert each(divmod, tasks, "division", address) == [divmod(*task) for task in tasks]
    assert os.getpid() not in each(os.getpid, [()] * 8, "who", address)


def test_workers_that_cannot_import_the_package_are_refused(start_cluster: Cluster, tmp_path: Path) -> None:
    """Within seconds, where joblib alone would wait for ever."""
    (tmp_path / "without" / "pmip").mkdir(parents=True)
    (tmp_path / "without" / "pmip" / "__init__.py").write_text("raise ImportError('it is not here')")
    address = start_cluster(1, PYTHONPATH=f"{tmp_path / 'without'}:{os.environ.get('PYTHONPATH', '')}")
    started = time.monotonic()
    with pytest.raises(ClusterError, match=r"cannot import pmip .*install it there too"):
        each(cube, [(1,)], "cubes", address)
    assert time.monotonic() - started < 20


def test_a_cluster_without_workers_or_scheduler_is_refused(start_cluster: Cluster) -> None:
    """The message says which of the two is missing."""
    with pytest.raises(ClusterError, match="has no workers"):
        each(cube, [(1,)], "cubes", start_cluster(0))
    for address in ("tcp://127.0.0.1:1", "cluster", "tcp://127.0.0.1:http"):
        with pytest.raises(ClusterError, match=f"no Dask scheduler answers at {address}; such as tcp"):
            each(cube, [(1,)], "cubes", address)
