"""Helpers of the tests of containers: the engine, images built by the scripts, and scripts that run them."""

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import ROOT, without
from shell import revision_of, run

# Own names, so that the developer's images stay. The test images tagged latest stay too, which shortens the next build.
IMAGES = {"TRAINING_IMAGE": "pmip_test", "API_IMAGE": "pmip_api_test"}
TRAINING, API = IMAGES.values()
MARK = "a-credential-that-stays-outside"
SECRET_NAMES = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "GITHUB_TOKEN", "API_KEYS")
SECRETS = dict.fromkeys(SECRET_NAMES, MARK) | {"PIP_INDEX_URL": f"https://user:{MARK}@127.0.0.1:9/simple"}
SECRET_FILES = (".env", ".aws/credentials", "data/model.pkl", "pmip/.env", "pmip/__pycache__/a.pyc", "notes.txt")
Start = Callable[..., subprocess.Popen[str]]


def docker(*words: str, timeout: float = 120) -> str:
    done = subprocess.run(["docker", *words], capture_output=True, text=True, timeout=timeout, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture(scope="session")
def engine() -> None:
    """Skip the test without an engine, or fail if REQUIRE_CONTAINERS=1."""
    try:
        docker("version")
    except (OSError, AssertionError) as error:
        without("CONTAINERS", f"no container engine answers: {error}")


@pytest.fixture(scope="session")
def project(engine: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Clone the project, and add files that must not get into an image."""
    folder = tmp_path_factory.mktemp("clone") / "pmip"
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(folder)], check=True, timeout=60)
    for name in SECRET_FILES:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(MARK)
    if (ROOT / ".venv").exists():  # otherwise the quick start would create one
        (folder / ".venv").symlink_to(ROOT / ".venv")
    return folder


@pytest.fixture(scope="session")
def images(project: Path) -> Iterator[str]:
    """Build both images by the script with credentials in its environment; return the commit that tags them."""
    revision = revision_of(project)
    older = {image: docker("images", "--quiet", f"{image}:latest") for image in (API, TRAINING)}
    built = run(project / "scripts" / "build_api_image.sh", timeout=1200, **IMAGES, **SECRETS)
    assert (built.returncode, built.stdout) == (0, f"{API}:{revision}\n"), built.stderr[-2000:]
    (project / "data" / "model.pkl").unlink()
    yield revision
    for image, was in older.items():
        docker("rmi", f"{image}:{revision}")
        if was and was != docker("images", "--quiet", f"{image}:latest"):
            subprocess.run(["docker", "rmi", was], capture_output=True, timeout=60, check=False)


@pytest.fixture
def start(project: Path, images: str, tmp_path: Path) -> Iterator[Start]:
    """Start scripts of the project in the background, each with a log file; end them after the test."""
    running: list[subprocess.Popen[str]] = []

    def start(*words: str, **environ: str) -> subprocess.Popen[str]:
        settings = os.environ | IMAGES | environ
        with (tmp_path / f"{len(running)}.log").open("w") as log:
            script = ["bash", str(project / "scripts" / words[0]), *words[1:]]
            running.append(subprocess.Popen(script, env=settings, stdout=log, stderr=subprocess.STDOUT, text=True))
        return running[-1]

    yield start
    for process in running:
        process.terminate()
    for process in running:
        process.wait(60)


@pytest.fixture
def training(project: Path, images: str) -> Callable[..., str]:
    """Run the training container to its end and return its stdout."""

    def call(*words: str, **environ: str) -> str:
        outcome = run(project / "scripts" / "run_training_container.sh", *words, timeout=300, **IMAGES, **environ)
        assert outcome.returncode == 0, outcome.stderr
        return outcome.stdout

    return call
