"""What the container scripts print and do, tested with a docker command that only records its calls."""

import base64
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from http.server import HTTPServer
from pathlib import Path

import pytest
from api import wait_for
from aws_recorder import AwsRecorder
from conftest import ROOT, free_port
from servers import Handler, serving
from shell import command, listens, revision_of, run

BUILD = ("build_training_image.sh", "build_api_image.sh")
RUN = ("run_training_container.sh", "run_api_container.sh")
PUSH = ("push_training_image.sh", "push_api_image.sh")
REPOSITORY = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/pmip"
NEED_ENGINE = [*((script,) for script in BUILD + RUN), *((script, REPOSITORY) for script in PUSH)]
NEED_ENGINE += [("push_api_image.sh", "--dry-run", REPOSITORY), ("quickstart.sh", "--containers", "--once")]
SECRET = "not-to-be-seen"


@pytest.fixture
def bin_dir(tmp_path: Path) -> Path:
    folder = tmp_path / "bin"
    folder.mkdir()
    return folder


@pytest.fixture
def calls(bin_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Replace docker and aws; return the file of their calls, beside which the input of docker login is kept."""
    file = bin_dir.parent / "calls"
    note = f'echo "docker $*" >>{file}; echo "$BUILDX_NO_DEFAULT_ATTESTATIONS" >>{file}.attestations'
    command(bin_dir, "docker", f'{note}; if [ "$1" = login ]; then cat >>{file}.password; fi; [ "$1" != manifest ]')
    command(bin_dir, "aws", f'echo "aws $*" >>{file}; echo {SECRET}')
    monkeypatch.setenv("PATH", f"{bin_dir}:{os.environ['PATH']}")
    return file


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Clone the project, because a push needs a checkout without changes."""
    folder = tmp_path_factory.mktemp("clone") / "pmip"
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(folder)], check=True, timeout=60)
    return folder


@pytest.mark.parametrize("arguments", NEED_ENGINE, ids=" ".join)
def test_without_an_engine_each_says_so_in_one_line(
    arguments: tuple[str, ...], bin_dir: Path, tmp_path: Path, clone: Path
) -> None:
    """Without a docker command or an engine, each script ends with exit 1 and one line before it creates anything."""
    for name in ("bash", "dirname", "basename", "awk", "git"):
        (bin_dir / name).symlink_to(str(shutil.which(name)))
    script = clone / "scripts" / arguments[0]
    data = {"DATA_DIR": str(tmp_path), "PATH": str(bin_dir)}
    missing = run(script, *arguments[1:], **data)
    command(bin_dir, "docker", "exit 1")
    silent = run(script, *arguments[1:], **data)
    for outcome, what in ((missing, "docker is not installed; "), (silent, "no Docker engine answers; ")):
        assert (outcome.returncode, outcome.stdout) == (1, ""), outcome.stderr
        [line] = outcome.stderr.splitlines()
        assert what in line
    assert not (clone / ".venv").exists()


@pytest.mark.parametrize("script", RUN)
def test_an_image_that_is_missing_is_not_looked_for_elsewhere(script: str, bin_dir: Path, tmp_path: Path) -> None:
    """A missing image is not run from Docker Hub, where anybody may own its name, and one line says how to build it."""
    command(bin_dir, "docker", f'echo "$*" >>{tmp_path}/calls; [ "$1" != image ]')
    outcome = run(script, PATH=f"{bin_dir}:{os.environ['PATH']}", DATA_DIR=str(tmp_path))
    assert outcome.returncode == 1
    assert outcome.stderr.endswith(
        f"'bash scripts/{script.replace('run', 'build').replace('container', 'image')}' builds it\n"
    )
    assert "run" not in (tmp_path / "calls").read_text().split()


@pytest.mark.parametrize("script", RUN)
def test_settings_and_credentials_pass_by_name(script: str, calls: Path, tmp_path: Path) -> None:
    """Settings and credentials reach docker by name without a value, and this machine's HOST and PORT do not."""
    secrets = dict.fromkeys(("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "API_KEYS"), SECRET)
    settings = {"ENVIRONMENT": "staging", "BUCKET": "pmip-test", "HOST": "0.0.0.0", "MAX_COMMENTS": "7"}  # noqa: S104
    ports = {"PORT": str(free_port()), "JUPYTER_PORT": str(free_port())}
    outcome = run(script, DATA_DIR=str(tmp_path), **secrets, **settings, **ports)
    assert outcome.returncode == 0, outcome.stderr
    called = calls.read_text().splitlines()[-1]
    assert SECRET not in calls.read_text() + outcome.stdout + outcome.stderr
    for name in (*secrets, "ENVIRONMENT", "BUCKET", "MAX_COMMENTS"):
        assert f"--env {name} " in called
    assert "--env HOST" not in called
    assert "--env PORT" not in called
    assert "--network" not in called
    port = ports["JUPYTER_PORT"] if "training" in script else ports["PORT"]
    assert f"--publish 127.0.0.1:{port}:8" in called


@pytest.mark.parametrize("script", RUN)
def test_credentials_of_a_program_are_handed_over(script: str, bin_dir: Path, calls: Path, tmp_path: Path) -> None:
    """Credentials of a credential_process pass by name, and the container can write the cache of `aws login`."""
    credentials = f"AWS_ACCESS_KEY_ID=me\nAWS_SECRET_ACCESS_KEY={SECRET}\nAWS_SESSION_TOKEN={SECRET} ="
    export = f'[ "$2" = get ] && echo a-program || printf "%s\\n" "{credentials}"'
    command(bin_dir, "aws", export)
    (tmp_path / ".aws" / "login" / "cache").mkdir(parents=True)
    ports = {"PORT": str(free_port()), "JUPYTER_PORT": str(free_port())}
    outcome = run(script, DATA_DIR=str(tmp_path), ENVIRONMENT="staging", HOME=str(tmp_path), **ports)
    assert outcome.returncode == 0, outcome.stderr
    called = calls.read_text().splitlines()[-1]
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        assert f"--env {name} " in called
    assert SECRET not in called + outcome.stdout + outcome.stderr
    aws_folder = f"{tmp_path}/.aws"
    assert f"--volume {aws_folder}:/tmp/.aws:ro --volume {aws_folder}/login/cache:/tmp/.aws/login/cache " in called
    assert "sso" not in called


@pytest.mark.parametrize(("script", "setting"), list(zip(RUN, ("JUPYTER_PORT", "PORT"), strict=True)))
def test_a_port_in_use_is_told(script: str, setting: str, calls: Path, tmp_path: Path) -> None:
    """A server does not start if its port is in use; a command runs without the port, and a message says so."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        environ = {setting: str(taken.getsockname()[1]), "DATA_DIR": str(tmp_path), "ENVIRONMENT": "prod"}
        server, shell = run(script, **environ), run(script, "-c", "true", **environ)
    assert (server.returncode, f"is in use; choose another one with {setting}" in server.stderr) == (1, True)
    assert (shell.returncode, f"publishes none; choose another one with {setting}" in shell.stderr) == (0, True)
    assert "--publish" not in calls.read_text()
    assert run("run_training_container.sh", "scripts/train.sh", **environ).stderr == ""


@pytest.mark.parametrize("script", PUSH)
@pytest.mark.parametrize(
    "arguments", [[], ["--dry-run"], ["https://a/b"], ["a/b:latest"], ["a/b", "c/d"], ["--help-me"]]
)
def test_a_wrong_call_pushes_nothing(script: str, arguments: list[str], calls: Path, tmp_path: Path) -> None:
    """A wrong call of a push script ends with exit 2 before docker is called."""
    outcome = run(script, *arguments, DATA_DIR=str(tmp_path))
    assert (outcome.returncode, outcome.stdout) == (2, "")
    assert not calls.exists()


@pytest.mark.parametrize(("script", "image"), list(zip(PUSH, ("pmip", "pmip_api"), strict=True)))
def test_a_push_is_of_the_commit_and_of_latest(
    script: str, image: str, calls: Path, clone: Path, aws: AwsRecorder
) -> None:
    """A push tags the commit and latest; AWS's password is never shown, and stdout holds only the image's name."""
    revision = revision_of(clone)
    token = base64.b64encode(f"AWS:{SECRET}".encode()).decode()
    aws.answer("GetAuthorizationToken", {"authorizationData": [{"authorizationToken": token}]})
    outcome = run(clone / "scripts" / script, REPOSITORY, AWS_DEFAULT_REGION="")  # the repository names the region
    assert (outcome.returncode, outcome.stdout) == (0, f"{REPOSITORY}:{revision}\n"), outcome.stderr
    registry = REPOSITORY.split("/")[0]
    expected = [f"docker login --username AWS --password-stdin {registry}"]
    for tag in (revision, "latest"):
        expected += [f"docker tag {image}:{revision} {REPOSITORY}:{tag}", f"docker push {REPOSITORY}:{tag}"]
    made = calls.read_text().splitlines()
    assert [call for call in made if call.split()[1] in ("login", "tag", "push")] == expected
    assert Path(f"{calls}.password").read_text() == f"{SECRET}\n"
    assert SECRET not in calls.read_text() + outcome.stdout + outcome.stderr


def test_without_the_password_nothing_is_pushed(calls: Path, clone: Path, aws: AwsRecorder) -> None:
    """If AWS refuses the registry's password, nothing is pushed, and the operator reads AWS's message."""
    aws.refuse("GetAuthorizationToken")
    refused = run(clone / "scripts" / "push_api_image.sh", REPOSITORY)
    assert (refused.returncode, "you may not GetAuthorizationToken" in refused.stderr) == (1, True)
    assert "docker push" not in calls.read_text()


@pytest.mark.parametrize("script", BUILD)
def test_images_are_built_without_attestations(script: str, calls: Path, tmp_path: Path) -> None:
    """Images are built without attestations, because Lambda does not accept an index of manifests."""
    assert run(script, DATA_DIR=str(tmp_path)).returncode == 0
    assert "docker build" in calls.read_text()
    assert {*Path(f"{calls}.attestations").read_text().split()} == {"1"}


def test_an_image_that_is_in_the_registry_stays(bin_dir: Path, calls: Path, clone: Path) -> None:
    """A commit's image that is already in the registry is not pushed again, and its name is printed."""
    command(bin_dir, "docker", f'echo "docker $*" >>{calls}; if [ "$1" = login ]; then cat >/dev/null; fi')
    outcome = run(clone / "scripts" / "push_api_image.sh", REPOSITORY)
    assert (outcome.returncode, outcome.stdout) == (0, f"{REPOSITORY}:{revision_of(clone)}\n"), outcome.stderr
    assert "docker push" not in calls.read_text()


def test_a_dry_run_prints_the_commands_alone(calls: Path, clone: Path) -> None:
    """A dry run prints the commands of a push and runs none; registries other than AWS's get no login."""
    outcome = run(clone / "scripts" / "push_api_image.sh", "--dry-run", REPOSITORY)
    words = [line.split()[:2] for line in outcome.stdout.splitlines()]
    assert outcome.stdout.startswith("aws ecr get-login-password --region eu-west-1 | docker login ")
    assert words == [["aws", "ecr"], ["docker", "tag"], ["docker", "push"], ["docker", "tag"], ["docker", "push"]]
    other = run(clone / "scripts" / "push_api_image.sh", "--dry-run", "registry.example.com:5000/team/pmip")
    assert [line.split()[:2] for line in other.stdout.splitlines()] == words[1:]
    assert {call.split()[1] for call in calls.read_text().splitlines()} <= {"version", "image"}


def test_changes_that_are_not_committed_are_not_pushed(calls: Path, tmp_path: Path, clone: Path) -> None:
    """A checkout with uncommitted changes is not pushed, because a model's lineage names a commit."""
    changed = tmp_path / "changed"
    subprocess.run(["git", "clone", "--quiet", str(clone), str(changed)], check=True, timeout=60)
    (changed / "setup.py").write_text("")
    outcome = run(changed / "scripts" / "push_training_image.sh", REPOSITORY)
    assert (outcome.returncode, "commit them and build again" in outcome.stderr) == (1, True)
    assert "push" not in calls.read_text()


class Hello(Handler):
    def do_GET(self) -> None:  # noqa: N802
        self.answer(200, b"hello")


@pytest.fixture
def server() -> Iterator[int]:
    with serving(HTTPServer(("127.0.0.1", 0), Hello)) as http:
        yield http.server_port


def forward(address: str, port: int, pid: int) -> subprocess.CompletedProcess[str]:
    """Forward a port of another address of this machine to the same server on 127.0.0.1 while a process lives."""
    words = [sys.executable, str(ROOT / "scripts" / "forward_port.py"), address, str(port), str(pid)]
    return subprocess.run(words, capture_output=True, text=True, timeout=30, check=False)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the loopback has one address only")
def test_a_port_is_forwarded_while_its_process_lives(server: int) -> None:
    """A forwarded port answers while its process lives, also after the caller has continued, and then closes."""
    with subprocess.Popen(["sleep", "60"]) as process:
        forwarded = int(forward("127.0.0.2", server, process.pid).stdout)
        with socket.create_connection(("127.0.0.2", forwarded), timeout=10) as client:
            client.sendall(b"GET / HTTP/1.0\r\n\r\n")
            client.shutdown(socket.SHUT_WR)
            with client.makefile("rb") as answer:
                assert answer.read().endswith(b"hello")
        process.terminate()
    wait_for(lambda: not listens("127.0.0.2", forwarded), 10)


@pytest.mark.parametrize("address", ["", "0.0.0.0", "::", "192.0.2.77", "name"])  # noqa: S104
def test_nothing_is_forwarded_to_the_network(address: str, server: int) -> None:
    """Forwarding is refused for all addresses, no address, a name and the address of another machine."""
    assert forward(address, server, os.getpid()).returncode == 1
