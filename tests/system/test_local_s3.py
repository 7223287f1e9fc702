"""The script for development starts, stops and describes the local S3 server."""

import os
import secrets
import socket
import stat
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from functools import partial
from http.client import HTTPConnection, HTTPException
from importlib.util import find_spec
from itertools import product
from pathlib import Path

import boto3
import psutil
import pytest
from api import wait_for
from botocore.config import Config
from mypy_boto3_s3 import S3Client
from shell import command, listens, run

OFFSETS = [*range(0, 9 * 617, 617), 8 * 617 + 10_000]  # of the ten ports, from LOCAL_S3_PORT
Script = Callable[..., subprocess.CompletedProcess[str]]


def free_port() -> int:
    """Return the first of ten free ports, all below those that systems choose by themselves."""
    while True:
        port = 10_000 + secrets.randbelow(7_000)
        if not any(listens("127.0.0.1", port + offset) for offset in OFFSETS):
            return port


def script_in(data_dir: Path, port: int, **settings: str) -> Script:
    """Return a call of the script with this data folder and port."""
    return partial(run, "local_s3.sh", **{"DATA_DIR": str(data_dir), "LOCAL_S3_PORT": str(port)} | settings)


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make the data folder of the shared server, with a space in its name."""
    return tmp_path_factory.mktemp("data folder")


@pytest.fixture(scope="module")
def script(data_dir: Path) -> Iterator[Script]:
    """Share one data folder and port among the tests, and stop the server at the end."""
    script = script_in(data_dir, free_port())
    yield script
    assert script("stop").returncode == 0


@pytest.fixture
def server(script: Script) -> Script:
    started = script("start")
    assert started.returncode == 0, started.stderr
    return script


def process_of(data_dir: Path) -> psutil.Process:
    return psutil.Process(int((data_dir / "local-s3" / "server.pid").read_text().split()[0]))


def is_alive(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


def settings(script: Script) -> dict[str, str]:
    """Return the variables that `env` exports."""
    lines = [line for line in script("env").stdout.splitlines() if line.startswith("export ")]
    return dict(line.removeprefix("export ").split("=", 1) for line in lines)


def client(script: Script, **other: str) -> S3Client:
    """Make a client with the settings that `env` prints, or others."""
    names = {"AWS_ENDPOINT_URL": "endpoint_url", "AWS_DEFAULT_REGION": "region_name"}
    values = {names.get(name, name.lower()): value for name, value in (settings(script) | other).items()}
    return boto3.client("s3", config=Config(retries={"total_max_attempts": 1}, proxies={}), **values)


def test_start_is_fine_to_repeat(server: Script, data_dir: Path) -> None:
    """A second start leaves the running server alone, says so and leaves no bucket of its own behind."""
    before = process_of(data_dir)
    again = server("start")
    assert (again.returncode, again.stdout, process_of(data_dir)) == (0, "", before)
    assert "already" in again.stderr
    assert "local-s3-probe" not in [bucket["Name"] for bucket in client(server).list_buckets()["Buckets"]]


def test_env_points_a_shell_at_the_server(server: Script) -> None:
    """After eval of `env`, boto3 reaches the server, whatever profile, token or address the shell had."""
    in_the_way = {"AWS_PROFILE": "x", "AWS_SESSION_TOKEN": "x", "AWS_ENDPOINT_URL_S3": "http://x", "NO_PROXY": "*"}
    code = "import boto3; print(boto3.client('s3').list_buckets()['ResponseMetadata']['HTTPStatusCode'])"
    shell = ["bash", "-c", 'eval "$1"; exec "$2" -c "$3"', "bash", server("env").stdout, sys.executable, code]
    found = subprocess.run(shell, env=os.environ | in_the_way, capture_output=True, text=True, timeout=60, check=False)
    assert found.stdout == "200\n", found.stderr
    assert server("status").stdout.strip() == settings(server)["AWS_ENDPOINT_URL"]


def test_only_env_tells_the_secret(server: Script, data_dir: Path) -> None:
    """Only `env` prints the secret; other output, the log and the command line do not, and its file is the owner's."""
    secret = settings(server)["AWS_SECRET_ACCESS_KEY"]
    words = process_of(data_dir).cmdline()
    results = [server(word) for word in ("stop", "start", "status")]
    told = [text for result in results for text in (result.stdout, result.stderr)]
    assert secret not in "".join([*words, *told, (data_dir / "local-s3" / "server.log").read_text()])
    assert stat.S_IMODE((data_dir / "local-s3" / "credentials").stat().st_mode) == 0o600
    assert settings(server)["AWS_SECRET_ACCESS_KEY"] == secret


def test_it_listens_on_one_address_alone(server: Script) -> None:
    """The server's ten ports are open at 127.0.0.1, and closed at another address of the machine."""
    port = int(server("status").stdout.rsplit(":", 1)[1])
    assert all(listens("127.0.0.1", port + offset) for offset in OFFSETS)
    assert not any(listens("127.0.0.2", port + offset) for offset in OFFSETS)


def test_no_port_gives_or_takes_an_object_without_a_password(server: Script) -> None:
    """No caller without the password, not even a web page, reads or changes an object at any of the ten ports."""
    port, kept = int(server("status").stdout.rsplit(":", 1)[1]), b"kept" * 100_000
    client(server).create_bucket(Bucket="guarded")
    client(server).put_object(Bucket="guarded", Key="key", Body=kept)
    paths = ("/", "/guarded/key", "/buckets/guarded/key", "/buckets/guarded/?pretty=y", "/1,01", "/ui/index.html")
    for number, path, method in product((port + offset for offset in OFFSETS), paths, ("GET", "PUT", "POST", "DELETE")):
        with suppress(OSError, HTTPException), closing(HTTPConnection("127.0.0.1", number, timeout=5)) as caller:
            caller.request(
                method, path, b"other" if method in ("PUT", "POST") else None, {"Origin": "http://evil.test"}
            )
            answer = caller.getresponse()
            assert answer.status >= 400 or answer.headers["Access-Control-Allow-Origin"] != "*"
            assert b"kept" not in answer.read(), f"{method} {number}{path}"
            assert "guarded" not in path or answer.status >= 400, f"{method} {number}{path}"
    assert client(server).get_object(Bucket="guarded", Key="key")["Body"].read() == kept
    assert [found["Key"] for found in client(server).list_objects_v2(Bucket="guarded")["Contents"]] == ["key"]


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_objects_survive(server: Script, data_dir: Path, end: str) -> None:
    """Objects are still there after a stop, and after a kill that leaves a stale pid file."""
    client(server).create_bucket(Bucket=f"before-{end}")
    client(server).put_object(Bucket=f"before-{end}", Key="key", Body=b"kept")
    process = process_of(data_dir)
    if end == "stop":
        assert server("stop").returncode == 0
    else:
        process.kill()
        wait_for(lambda: not is_alive(process), 30)
    assert not is_alive(process)
    assert (server("status").returncode, server("env").returncode, server("env").stdout) == (1, 1, "")
    assert server("start").returncode == 0
    assert client(server).get_object(Bucket=f"before-{end}", Key="key")["Body"].read() == b"kept"


def test_stop_spares_a_process_that_is_not_its_own(tmp_path: Path) -> None:
    """`stop` ends no foreign process that has the number in a stale pid file, and exits with 0."""
    (tmp_path / "local-s3").mkdir()
    with subprocess.Popen(["sleep", "60"]) as other:
        (tmp_path / "local-s3" / "server.pid").write_text(f"{other.pid} http://127.0.0.1:8333\n")
        stopped = script_in(tmp_path, 8333)("stop")
        spared = other.poll() is None
        other.kill()
    assert (spared, stopped.returncode) == (True, 0)
    assert "not running" in stopped.stderr


@pytest.mark.parametrize(("name", "mode"), [("", 0o777), ("credentials", 0o666), ("server.pid", 0o620)])
@pytest.mark.parametrize("word", ["start", "env", "stop"])
def test_files_that_others_may_change_are_not_used(tmp_path: Path, name: str, mode: int, word: str) -> None:
    """The script refuses files that others may write, because a command in them would run in the user's shell."""
    path = tmp_path / "local-s3" / name
    (tmp_path / "local-s3").mkdir()
    (tmp_path / "local-s3" / "credentials").write_text(f"touch {tmp_path}/marker\n")
    (tmp_path / "local-s3" / "server.pid").write_text("1 $(touch marker)\n")
    path.chmod(mode)
    refused = script_in(tmp_path, 8333)(word)
    assert (refused.returncode, refused.stdout, refused.stderr.count("\n")) == (1, "", 1)
    told = "belongs to another user, or others may write to it; delete "
    assert f"{str(path).rstrip('/')} {told}" in refused.stderr
    assert not (tmp_path / "marker").exists()


def test_concurrent_starts_make_one_server(tmp_path: Path) -> None:
    """Of three simultaneous starts one starts the server, and the others report that it already runs."""
    script = script_in(tmp_path, free_port())
    with ThreadPoolExecutor() as pool:
        started = list(pool.map(script, ["start"] * 3))
    try:
        assert [result.returncode for result in started] == [0, 0, 0]
        assert sum("already" in result.stderr for result in started) == 2
    finally:
        assert script("stop").returncode == 0


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere ps belongs to the system")
def test_it_needs_no_ps(tmp_path: Path) -> None:
    """The script knows and stops its server without ps, which small images do not have."""
    command(tmp_path, "ps", "exit 127")
    script = script_in(tmp_path, free_port(), PATH=f"{tmp_path}:{os.environ['PATH']}")
    assert script("start").returncode == 0
    process = process_of(tmp_path)
    try:
        assert (script("status").returncode, script("env").returncode) == (0, 0)
    finally:
        script("stop")
    assert not is_alive(process)


def test_a_port_in_use_is_named(tmp_path: Path) -> None:
    """A start on a port in use fails, names the port and LOCAL_S3_PORT, and leaves nothing running."""
    port = free_port()
    script = script_in(tmp_path, port)
    with socket.create_server(("127.0.0.1", port + OFFSETS[1])):
        refused = script("start")
    assert (refused.returncode, script("status").returncode) == (1, 1)
    assert f"port {port + OFFSETS[1]} is in use; choose another LOCAL_S3_PORT" in refused.stderr


def test_a_failed_start_shows_the_log_and_leaves_nothing(tmp_path: Path) -> None:
    """A start whose server ends at once fails with lines of its log, and leaves no pid file."""
    (tmp_path / "local-s3" / "objects").mkdir(parents=True)
    (tmp_path / "local-s3" / "objects" / "filerldb2").write_text("in the way")
    failed = script_in(tmp_path, free_port())("start")
    assert failed.returncode == 1, failed.stderr
    assert "filerldb2" in failed.stderr
    assert not (tmp_path / "local-s3" / "server.pid").exists()


@pytest.fixture
def bare(tmp_path: Path) -> Script:
    """Return a call of the script with a Python that has neither SeaweedFS nor any package."""
    venv.create(tmp_path / "venv", symlinks=True)
    return script_in(tmp_path, free_port(), PYTHON=str(tmp_path / "venv" / "bin" / "python"), PATH="/usr/bin:/bin")


def test_without_any_server_start_names_the_install_command(bare: Script) -> None:
    """Without SeaweedFS and moto, start prints one line with the install command."""
    refused = bare("start")
    assert (refused.returncode, refused.stderr.count("\n")) == (1, 1)
    assert "bash scripts/install.sh --venv train,local" in refused.stderr


@pytest.mark.skipif(not find_spec("moto"), reason="moto's server is not installed")
def test_moto_stands_in_with_a_warning(bare: Script) -> None:
    """Without SeaweedFS, start runs moto's server and warns that it loses its objects."""
    started = bare("start", PYTHONPATH=sysconfig.get_path("purelib"))
    try:
        assert started.returncode == 0, started.stderr
        assert "loses all objects when it stops" in started.stderr
        assert client(bare).list_buckets()["Buckets"] == []
    finally:
        assert bare("stop").returncode == 0


@pytest.mark.parametrize("arguments", [(), ("restart",), ("start", "now"), ("start",)])
def test_wrong_usage_exits_2(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    """A missing, unknown or extra command, or a wrong port, exits with 2 and starts no server."""
    assert script_in(tmp_path, 0)(*arguments).returncode == 2
    assert not (tmp_path / "local-s3" / "server.pid").exists()
