"""Each command of the README and of the pages behind it runs as written, in the order of the pages."""

import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from api import direct, wait_for
from conftest import ROOT, free_port
from test_get_youtube_spam_collection import serving_the_collection

README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [README, *((ROOT / page / "README.md").read_text(encoding="utf-8") for page in ("notebooks", "scripts"))]
COMMANDS = [
    line
    for block in re.findall(r"```bash\n(.*?)```", "\n".join(PAGES), re.DOTALL)
    for line in block.replace("\\\n", " ").splitlines()
]
# Commands that run until they are stopped, each with a path that it serves and a text of the answer.
SERVERS = {
    "bash scripts/quickstart.sh": ("/swagger.json", "free stuff"),
    "jupyter notebook notebooks/": ("/api/status", "kernels"),
    "gunicorn -c python:pmip.gunicorn_conf pmip.wsgi:app": ("/model-info", "local"),
}
THIS_VERY_TEST = "bash scripts/test.sh"
CLUSTER = "10.0.0.1"  # needs several machines; test_containers.py runs these commands on one
Start = Callable[[str], subprocess.Popen[bytes]]


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Clone the project as a newcomer does, but use the existing .venv, to save a minute."""
    folder = tmp_path_factory.mktemp("newcomer") / "pmip"
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(folder)], check=True, timeout=60)
    if not (ROOT / ".venv").exists():
        subprocess.run(["bash", "scripts/install.sh", "--venv", "train,local"], cwd=ROOT, check=True, timeout=600)
    (folder / ".venv").symlink_to(ROOT / ".venv")
    return folder


@pytest.fixture(scope="module")
def environ() -> dict[str, str]:
    """Return an environment with free ports, and nothing else that a newcomer would not have."""
    hidden = ("PYTHON", "VIRTUAL_ENV")
    ports = {"PORT": str(free_port(20_000, 30_000)), "LOCAL_S3_PORT": str(free_port()), "BROWSER": "true"}
    return {name: value for name, value in os.environ.items() if name not in hidden} | ports


@pytest.fixture
def serve(clone: Path, environ: dict[str, str]) -> Iterator[Start]:
    """Yield a function that runs a command in the background, in its own process group; all end after the test."""
    running: list[subprocess.Popen[bytes]] = []

    def start(command: str) -> subprocess.Popen[bytes]:
        shell = ["bash", "-c", f"source .venv/bin/activate && exec {command}"]
        running.append(subprocess.Popen(shell, cwd=clone, env=environ, start_new_session=True))
        return running[-1]

    yield start
    for process in running:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(60)


def body_of(url: str, seconds: float) -> str:
    deadline = time.monotonic() + seconds
    while True:
        try:
            with direct.open(url, timeout=10) as answer:
                return answer.read().decode()
        except OSError:
            assert time.monotonic() < deadline, f"{url} does not answer"
            time.sleep(0.2)


def test_all_commands_but_the_servers_run_in_their_order(clone: Path, environ: dict[str, str]) -> None:
    """All commands except the servers run in order, in one shell that stops at the first failure."""
    skipped = {*SERVERS, THIS_VERY_TEST}
    script = [line for line in COMMANDS if line not in skipped and "curl" not in line and CLUSTER not in line]
    with serving_the_collection() as server:
        run = subprocess.run(
            ["bash", "-euxo", "pipefail", "-c", "\n".join(script)],
            cwd=clone,
            env=environ | {"YOUTUBE_SPAM_COLLECTION_URL": server.url},
            capture_output=True,
            text=True,
            timeout=900,
            check=False,
        )
    assert run.returncode == 0, run.stderr
    assert (clone / "data" / "metadata.json").exists()


def test_the_quick_start_answers_the_curl_and_ctrl_c_ends_all(
    serve: Start, environ: dict[str, str], clone: Path
) -> None:
    """The README's request to the quick start gets the README's answer, and Ctrl-C ends the API and the S3 server."""
    process = serve("bash scripts/quickstart.sh 2>../told")
    path, text = SERVERS["bash scripts/quickstart.sh"]
    assert text in body_of(f"http://127.0.0.1:{environ['PORT']}{path}", 240)
    body_of(f"http://127.0.0.1:{environ['PORT']}/readiness", 60)
    [curl] = [line for line in COMMANDS if line.startswith("curl")]
    answer = subprocess.run(
        ["bash", "-c", curl.replace(":8000", f":{environ['PORT']}")],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert answer.stdout.strip() in README
    assert '"class": 1' in answer.stdout
    wait_for(lambda: "Ctrl-C ends" in (clone.parent / "told").read_text(), 60)
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(60) == 0
    status = ["bash", "scripts/local_s3.sh", "status"]
    assert subprocess.run(status, cwd=clone, env=environ, capture_output=True, timeout=60, check=False).returncode == 1
    with pytest.raises(OSError, match="refused"):
        direct.open(f"http://127.0.0.1:{environ['PORT']}/", timeout=10)


def test_the_api_and_jupyter_start_as_written(serve: Start, environ: dict[str, str]) -> None:
    """The API, with the model that train.sh made before, and Jupyter start by the commands of the pages."""
    api, jupyter = (
        SERVERS["gunicorn -c python:pmip.gunicorn_conf pmip.wsgi:app"],
        SERVERS["jupyter notebook notebooks/"],
    )
    serve("gunicorn -c python:pmip.gunicorn_conf pmip.wsgi:app")
    assert api[1] in body_of(f"http://127.0.0.1:{environ['PORT']}{api[0]}", 30)
    port = free_port(20_000, 30_000)
    serve(f"jupyter notebook notebooks/ --no-browser --allow-root --port {port} --IdentityProvider.token=secret")
    assert jupyter[1] in body_of(f"http://127.0.0.1:{port}{jupyter[0]}?token=secret", 60)
