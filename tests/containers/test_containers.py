"""The images, and the containers that the scripts run from them, on a real engine."""

import gzip
import io
import json
import os
import re
import shlex
import shutil
import subprocess
import tarfile
import time
import urllib.request
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import PIPE
from typing import IO

import distributed
import pytest
import yaml
from api import EXAMPLE, answers, ask, direct, is_ready, wait_for
from conftest import ROOT, SAMPLE, free_port, without
from engine import API, IMAGES, MARK, TRAINING, Start, docker
from lambda_events import v2
from s3_proxy import S3Proxy, proxy_before
from shell import ANSWER, command, listens, run

from pmip.errors import ModelNotFoundError
from pmip.model.artifact import Artifact
from pmip.store.objects import S3Storage
from pmip.store.versions import ModelStore, is_model_id
from pmip.training.data import seed

READ_ONLY = ("--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--tmpfs", "/tmp")  # noqa: S108
# https://docs.aws.amazon.com/lambda/latest/dg/images-create.html
MANIFESTS = ("application/vnd.docker.distribution.manifest.v2+json", "application/vnd.oci.image.manifest.v1+json")
QUICK = ("FOLDS=2", "REPORT=short")
GZIP = b"\x1f\x8b"


def found_in(file: IO[bytes], texts: set[bytes]) -> set[bytes]:
    """Return which of the texts a file holds; the file may be larger than the memory."""
    found: set[bytes] = set()
    tail = b""
    while chunk := file.read(2**24):
        found |= {text for text in texts if text in tail + chunk}
        tail = chunk[-100:]
    return found


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[str]:
    if not (program := shutil.which("docker-registry")):
        without("REGISTRY", "docker-registry is not installed")
    port = free_port()
    storage = f"storage: {{filesystem: {{rootdirectory: {tmp_path}}}}}"
    (tmp_path / "config.yml").write_text(f"version: 0.1\n{storage}\nhttp: {{addr: 127.0.0.1:{port}}}\n")
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen([program, "serve", tmp_path / "config.yml"], stdout=log, stderr=log)
    try:
        wait_for(lambda: listens("127.0.0.1", port), 30)
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(30)


def test_what_is_pushed_is_one_manifest(registry: str, project: Path, images: str) -> None:
    """A pushed image is a single manifest, because Lambda does not accept an index of several."""
    pushed = run(project / "scripts" / "push_api_image.sh", f"{registry}/pmip_api", timeout=600, **IMAGES)
    assert pushed.stdout == f"{registry}/pmip_api:{images}\n"
    kinds = {"Accept": ", ".join((*MANIFESTS, "application/vnd.oci.image.index.v1+json"))}
    manifest = urllib.request.Request(f"http://{registry}/v2/pmip_api/manifests/{images}", headers=kinds)
    with direct.open(manifest, timeout=30) as answer:
        assert answer.headers["Content-Type"] in MANIFESTS
    docker("rmi", f"{registry}/pmip_api:{images}", f"{registry}/pmip_api:latest")


def test_no_credential_and_no_stray_file_is_in_history_or_layers(images: str, project: Path) -> None:
    """No layer or history of the API image holds the builder's credentials or stray files, even if deleted later."""
    known = (project / "pmip" / "__init__.py").read_bytes().splitlines()[0]
    found = set()
    with (
        subprocess.Popen(["docker", "save", API], stdout=subprocess.PIPE) as save,
        tarfile.open(fileobj=save.stdout, mode="r|") as image,
    ):
        for member in image:
            if member.isfile() and (part := image.extractfile(member)):
                file = io.BufferedReader(part)  # type: ignore[arg-type]
                layer = gzip.GzipFile(fileobj=file) if file.peek(2)[:2] == GZIP else file
                found |= found_in(layer, {known, MARK.encode()})
    assert found == {known}
    assert MARK not in docker("history", "--no-trunc", API) + docker("inspect", API)


@pytest.mark.parametrize(
    ("image", "code"),
    [
        (TRAINING, {"LICENSE", "README.md", "data", "notebooks", "pmip", "requirements.txt", "scripts", "setup.py"}),
        (API, {"LICENSE", "pmip", "requirements.txt", "setup.py"}),
    ],
)
def test_an_image_holds_what_it_needs_and_no_more(image: str, code: set[str], images: str) -> None:
    """Each image holds only the code that it runs, readable by everybody, without build tools, git or caches."""
    look = (
        "ls -A; command -v gcc cc make git; find . ! -perm -a+r; find /root/.cache /tmp -mindepth 1 2>/dev/null; true"
    )
    assert set(docker("run", "--rm", "--user", "0", image, "-c", look).split()) == code


def test_the_api_image_has_no_library_of_training(images: str) -> None:
    """The API image cannot run pickles or notebooks; TRUST_PICKLES ends it with a line about the build that can."""
    names = ("joblib", "jupyter_server", "nbconvert", "numpy", "pandas", "papermill", "pip", "scipy", "sklearn")
    code = f"from importlib.util import find_spec; print(*filter(find_spec, {names}))"
    assert docker("run", "--rm", "--entrypoint", "python", API, "-c", code) == ""
    started = ["docker", "run", "--rm", "--env", "TRUST_PICKLES=true", API]
    refused = subprocess.run(started, capture_output=True, text=True, timeout=60, check=False)
    assert (refused.returncode, refused.stderr.count("\n")) == (1, 1)
    assert "build the API image with EXTRAS=lambda,pickles" in refused.stderr


def test_an_edit_is_built_within_15_seconds(project: Path, images: str) -> None:
    """After an edit of the package and the notebook, the training image is built within 15 seconds."""
    edited = [project / "pmip" / "text.py", project / "notebooks" / "model-training.ipynb"]
    kept = [path.read_text() for path in edited]
    try:
        for path, text in zip(edited, kept, strict=True):
            path.write_text(f"{text}\n")
        begun = time.monotonic()
        built = run(project / "scripts" / "build_training_image.sh", **IMAGES | {"TRAINING_IMAGE": "pmip_test_edited"})
        seconds = time.monotonic() - begun
    finally:
        for path, text in zip(edited, kept, strict=True):
            path.write_text(text)
    assert built.stdout == f"pmip_test_edited:{images}-dirty\n"
    docker("rmi", built.stdout.strip(), "pmip_test_edited:latest")
    assert seconds <= 15


@pytest.fixture
def hosted(images: str, artifact: Artifact, tmp_path: Path) -> Iterator[tuple[str, int]]:
    """Run the API image as its own user without any rights; return its container and port."""
    data = tmp_path / "data"
    data.mkdir()
    (data / "model.pkl").write_bytes(artifact.model)
    port = free_port(20_000, 30_000)
    folder = ("--volume", f"{data}:/usr/src/app/data:ro", "--publish", f"127.0.0.1:{port}:8000")
    container = docker("run", "--detach", "--health-interval", "1s", *READ_ONLY, *folder, API)
    wait_for(lambda: answers(port), 60)
    yield container, port
    docker("rm", "--force", container)


def test_it_serves_without_rights_a_model_that_another_user_wrote(hosted: tuple[str, int]) -> None:
    """Without any rights and on a read-only root, the API serves a mounted model and is reported healthy."""
    container, port = hosted
    wait_for(lambda: ask(port, "/readiness").status == 200, 30)
    assert ask(port, "/predict", EXAMPLE).body == {"result": [{"class": 1}, {"class": 0}]}
    wait_for(lambda: docker("inspect", "--format", "{{.State.Health.Status}}", container) == "healthy", 30)


def test_it_stops_within_5_seconds(hosted: tuple[str, int]) -> None:
    """`docker stop` ends the API within 5 seconds with exit 0."""
    container, _port = hosted
    begun = time.monotonic()
    docker("stop", container)
    assert time.monotonic() - begun <= 5
    assert docker("inspect", "--format", "{{.State.ExitCode}}", container) == "0"


def test_it_keeps_its_models_where_a_beanstalk_host_lets_it(images: str, artifact: Artifact, tmp_path: Path) -> None:
    """The image's user fills the cache folder of a Beanstalk host, which other users cannot read."""
    bundle = yaml.safe_load((ROOT / "scripts" / "beanstalk" / ".ebextensions" / "pmip.config").read_text())
    [volume] = json.loads((ROOT / "Dockerrun.aws.json").read_text())["Volumes"]
    [(name, value)] = bundle["option_settings"]["aws:elasticbeanstalk:application:environment"].items()
    mounted = ("--volume", f"{tmp_path}:{Path(volume['HostDirectory']).parent}")
    as_root = ("run", "--rm", "--user", "0", *mounted, API, "-c")
    docker(*as_root, bundle["commands"]["model_cache"]["command"])
    data = tmp_path / "data"
    data.mkdir()
    (data / "model.pkl").write_bytes(artifact.model)
    port = free_port(20_000, 30_000)
    cache = f"{tmp_path / Path(volume['HostDirectory']).name}:{volume['ContainerDirectory']}"
    mounts = ("--volume", cache, "--volume", f"{data}:/usr/src/app/data:ro", "--env", f"{name}={value}")
    container = docker("run", "--detach", "--publish", f"127.0.0.1:{port}:8000", *mounts, API)
    try:
        wait_for(lambda: is_ready(port), 60)
        kept = docker("exec", container, "find", value, "-printf", "%m %U %f\n").splitlines()
    finally:
        docker("rm", "--force", container)
        docker(*as_root, f"rm -r {volume['HostDirectory']}")
    assert {"700 10001 pmip", "700 10001 pmip-10001", "600 10001 leader.lock"} <= set(kept)
    assert any(line.endswith("scorer.json") for line in kept), kept


def test_the_api_image_is_a_lambda_function(images: str, artifact: Artifact, tmp_path: Path) -> None:
    """The API image answers an event by Lambda's entry point, without /dev/shm and with only /tmp to write to."""
    (tmp_path / "model.pkl").write_bytes(artifact.model)
    api = ROOT / "tests" / "support" / "runtime_api.py"
    mounts = ("--volume", f"{tmp_path}:/usr/src/app/data:ro", "--volume", f"{api}:/runtime_api.py:ro")
    tmp_path.chmod(0o755)
    command = ["docker", "run", "--rm", "--interactive", "--ipc", "none", *READ_ONLY, *mounts, "--entrypoint", "python"]
    event = json.dumps(v2("/predict", EXAMPLE))
    ended = subprocess.run(
        [*command, API, "/runtime_api.py"], input=event, stdout=PIPE, text=True, timeout=120, check=True
    )
    answer = json.loads(ended.stdout)
    assert (answer["statusCode"], json.loads(answer["body"])) == (200, {"result": [{"class": 1}, {"class": 0}]})


def test_the_training_image_needs_no_mount(images: str) -> None:
    """The training image runs without any mount, and prints the model id."""
    assert is_model_id(docker("run", "--rm", TRAINING, "scripts/train.sh", *QUICK, timeout=300).splitlines()[-1])


@pytest.fixture
def cluster_of_the_page(images: str) -> Iterator[Callable[[str], str]]:
    """Yield a function that returns a command of the page with the address and image of this test; end containers."""
    port = free_port()

    def here(command: str) -> str:
        command = command.replace("10.0.0.1:8786", f"127.0.0.1:{port}").replace("--entrypoint dask pmip", "{}")
        command = command.replace("--host 10.0.0.1", f"--host 127.0.0.1 --port {port}").split(" #")[0]
        return command.format(f"--label {TRAINING}={port} --entrypoint dask {TRAINING}")

    yield here
    if ours := docker("ps", "--all", "--quiet", "--filter", f"label={TRAINING}={port}").split():
        docker("rm", "--force", *ours)


def test_a_run_uses_the_cluster_of_containers_that_the_page_starts(
    cluster_of_the_page: Callable[[str], str], project: Path
) -> None:
    """By the page's commands a scheduler and a worker start from the training image, and a run uses them."""
    page = (ROOT / "notebooks" / "README.md").read_text(encoding="utf-8")
    scheduler, worker, training = re.findall(r"^(?:docker|bash) .*10\.0\.0\.1.*$", page, re.MULTILINE)
    for command_of_page in (scheduler, worker):
        docker(*shlex.split(cluster_of_the_page(command_of_page))[1:])
    address = cluster_of_the_page(training).rsplit("=", 1)[1]
    with distributed.Client(address, timeout=60) as client:
        client.wait_for_workers(1, timeout=60)
    outcome = run(project / "scripts" / "train.sh", f"DASK_SCHEDULER={address}", *QUICK, timeout=300)
    assert outcome.returncode == 0, outcome.stderr
    assert is_model_id(outcome.stdout.strip())


@pytest.fixture
def other_user(tmp_path: Path) -> dict[str, str]:
    """Return settings by which the scripts run as a user who is not root and owns the data folder."""
    folder = tmp_path / "data"
    folder.mkdir()
    if os.getuid():
        return {"DATA_DIR": str(folder)}
    os.chown(folder, 12345, 12346)
    (tmp_path / "bin").mkdir()
    command(tmp_path / "bin", "id", "[ $1 = -u ] && echo 12345 || echo 12346")
    return {"DATA_DIR": str(folder), "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"}


@pytest.fixture
def gate(s3: dict[str, str]) -> Iterator[S3Proxy]:
    with proxy_before(s3["AWS_ENDPOINT_URL"], "held", r"PUT \S*/model\.pkl") as gate:
        yield gate


def test_a_training_run_that_is_stopped_leaves_no_half_version(
    bucket: S3Storage, gate: S3Proxy, start: Start, other_user: dict[str, str]
) -> None:
    """A run stopped between metadata.json and model.pkl ends within 12 seconds and leaves no version."""
    seed(bucket, SAMPLE, "20260101")
    settings = {"ENVIRONMENT": "staging", "BUCKET": bucket.bucket, "AWS_ENDPOINT_URL": gate.endpoint} | other_user
    training = start("run_training_container.sh", "scripts/train.sh", *QUICK, **settings)
    assert gate.reached.wait(300)
    begun = time.monotonic()
    docker("stop", docker("ps", "--quiet", "--filter", f"ancestor={TRAINING}"))
    assert training.wait(30) != 0
    assert time.monotonic() - begun < 12
    assert [item.key.rsplit("/")[-1] for item in bucket.objects("models/")] == ["metadata.json"]
    with pytest.raises(ModelNotFoundError, match="holds no version"):
        ModelStore(bucket, "staging").fetch_newest()


def test_the_api_takes_up_what_the_training_container_publishes(
    bucket: S3Storage,
    start: Start,
    training: Callable[..., str],
    other_user: dict[str, str],
    images: str,
    project: Path,
) -> None:
    """An API container without a model serves what a training container publishes, whose files belong to the caller."""
    seed(bucket, SAMPLE, "20260101")
    port = free_port(20_000, 30_000)
    settings = {"ENVIRONMENT": "staging", "BUCKET": f"s3://{bucket.bucket}", "MODEL_POLL_SECONDS": "1"} | other_user
    api = start("run_api_container.sh", **settings, PORT=str(port))
    wait_for(lambda: answers(port), 60)
    assert ask(port, "/predict", EXAMPLE).status == 503
    model_id = training("scripts/train.sh", "FOLDS=2", **settings).removesuffix("\n")
    wait_for(lambda: ask(port, "/predict", EXAMPLE).headers["X-Model-Id"] == model_id, 30)
    assert ask(port, "/predict", EXAMPLE).body == {"result": [{"class": 1}, {"class": 0}]}
    info = ask(port, "/model-info").body["result"]
    assert (info["git_revision"], info["training_data_id"]) == (images, "20260101")
    asking = ["bash", "-c", f". scripts/containers.sh; servable_version {API}", "scripts/deploy_api.sh"]
    asked = subprocess.run(
        asking, cwd=project, env=os.environ | settings, capture_output=True, text=True, timeout=120, check=False
    )
    assert asked.stdout == f"{model_id}\n", asked.stderr
    written = list(Path(other_user["DATA_DIR"]).rglob("*"))
    assert {"model.pkl", f"model-training-{model_id}.html"} <= {path.name for path in written}
    assert {path.stat().st_uid for path in written} == {os.getuid() or 12345}
    api.terminate()
    assert api.wait(30) == 0


def test_dev_fetches_the_newest_model_of_staging_or_says_how_to_make_one(
    bucket: S3Storage, artifact: Artifact, start: Start, tmp_path: Path
) -> None:
    """In dev, the API without a bucket says how to train a model, and with a bucket serves staging's newest."""
    (tmp_path / "data").mkdir()
    settings = {"DATA_DIR": str(tmp_path / "data"), "PORT": str(free_port(20_000, 30_000)), "WEB_CONCURRENCY": "1"}
    waiting = start("run_api_container.sh", **settings)
    wait_for(lambda: answers(int(settings["PORT"])), 60)
    assert "run_training_container.sh scripts/train.sh' trains one" in (tmp_path / "0.log").read_text()
    waiting.terminate()
    waiting.wait(30)
    ModelStore(bucket, "staging").publish(artifact)
    settings |= {"PORT": str(free_port(20_000, 30_000)), "BUCKET": bucket.bucket}
    start("run_api_container.sh", **settings)
    wait_for(lambda: answers(int(settings["PORT"])), 60)
    wait_for(lambda: ask(int(settings["PORT"]), "/readiness").status == 200, 30)
    assert ask(int(settings["PORT"]), "/model-info").body["result"]["sha256"] == artifact.sha256


@pytest.mark.parametrize("script", ["run_training_container.sh", "run_api_container.sh"])
def test_a_profile_of_the_caller_works_in_containers(
    script: str, project: Path, images: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A container can use AWS_PROFILE from the read-only ~/.aws, and can write only the credentials' cache there."""
    monkeypatch.delenv("AWS_CONFIG_FILE")
    monkeypatch.delenv("AWS_SHARED_CREDENTIALS_FILE")
    (tmp_path / ".aws" / "login" / "cache").mkdir(parents=True)
    (tmp_path / ".aws" / "credentials").write_text(f"[mine]\naws_access_key_id = me\naws_secret_access_key = {MARK}\n")
    (tmp_path / ".aws" / "credentials").chmod(0o600)
    code = (
        "python -c 'import boto3; print(boto3.Session().get_credentials().access_key)'; "
        "touch ~/.aws/new ~/.aws/login/cache/new; touch ~/new"
    )
    environ = {"HOME": str(tmp_path), "AWS_PROFILE": "mine", "DOCKER_CONFIG": os.devnull}
    outcome = run(project / "scripts" / script, "-c", code, **IMAGES, **environ)
    assert outcome.stdout == "me\n", outcome.stderr
    assert "Read-only file system" in outcome.stderr
    assert MARK not in outcome.stderr
    assert {path.name for path in (tmp_path / ".aws").iterdir()} == {"credentials", "login"}
    assert [path.name for path in (tmp_path / ".aws" / "login" / "cache").iterdir()] == ["new"]


def test_the_quick_start_in_containers_answers(project: Path, images: str, tmp_path: Path) -> None:
    """The quick start in containers trains on a zip file from any folder and prints the example's answer."""
    with zipfile.ZipFile(tmp_path / "comments.zip", "w") as archive:
        for path in SAMPLE:
            archive.write(path, path.name)
    (tmp_path / "data").mkdir()
    ports = {"LOCAL_S3_PORT": str(free_port()), "PORT": str(free_port(20_000, 30_000))}
    settings = IMAGES | ports | {"DATA_DIR": str(tmp_path / "data"), "PYTHON": ""}
    words = ("--containers", "--once", tmp_path / "comments.zip")
    outcome = run(project / "scripts" / "quickstart.sh", *words, timeout=600, **settings)
    assert (outcome.returncode, outcome.stdout) == (0, ANSWER), outcome.stderr
    assert docker("ps", "--quiet", "--filter", f"ancestor={API}") == ""
