"""The files and commands of scripts/server/README.md work with running APIs behind nginx."""

import gzip
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from api import EXAMPLE, Load, ask, is_ready, wait_for
from conftest import ROOT, free_port, without
from nginx import need_nginx, running_nginx
from shell import command

from pmip.http.keys import LOOK_SECONDS
from pmip.model.artifact import Artifact
from pmip.store.versions import LocalModel

FOLDER = ROOT / "scripts" / "server"
UNIT = (FOLDER / "pmip@.service").read_text()
BLOCKS = re.findall(r"```sh\n(.*?)```", (FOLDER / "README.md").read_text(), re.DOTALL)
GUNICORN = shutil.which("gunicorn", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
EXEC = re.findall(r"^ExecStart=/srv/pmip/.venv/bin/gunicorn (.*)$", UNIT, re.MULTILINE)[0]
ENVIRONMENT = re.findall(r"^Environment=(.*)$", UNIT, re.MULTILINE)[0].replace("%i", "$port")
Server = tuple[Path, list[int]]

# A stand-in for systemctl that stops and starts what the unit starts, with the unit's settings.
SYSTEMCTL = f"""
port=${{2#pmip@}}
cd "$(dirname "$0")/.."
if [ -e $port.pid ]; then kill $(cat $port.pid); while [ -e $port.pid ]; do sleep 0.1; done; fi
export {ENVIRONMENT}
set -a; . ./settings; cd srv; PYTHONPATH=$PWD
{GUNICORN} {EXEC} --pid ../$port.pid >>../$port.log 2>&1 </dev/null &
"""


@pytest.fixture
def server(tmp_path: Path, artifact: Artifact) -> Iterator[Server]:
    """Run three APIs as the unit does, from a copy of the code; `systemctl` and `sudo` are stand-ins."""
    need_nginx()
    (tmp_path / "bin").mkdir()
    command(tmp_path / "bin", "sudo", 'exec "$@"')
    command(tmp_path / "bin", "systemctl", SYSTEMCTL)
    shutil.copytree(ROOT / "pmip", tmp_path / "srv" / "pmip")
    LocalModel(tmp_path / "data").save(artifact)
    (tmp_path / "keys").write_text("first\n")
    settings = {"API_KEYS_FILE": tmp_path / "keys", "DATA_DIR": tmp_path / "data", "WEB_CONCURRENCY": 2}
    settings["MODEL_CACHE_DIR"] = tmp_path / "cache"
    (tmp_path / "settings").write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
    ports = [free_port(20_000, 30_000) for _ in range(3)]
    try:
        for port in ports:
            subprocess.run([tmp_path / "bin" / "systemctl", "start", f"pmip@{port}"], check=True, timeout=60)
        wait_for(lambda: all(map(is_ready, ports)), 60)
        yield tmp_path, ports
    finally:
        for file in tmp_path.glob("*.pid"):
            os.kill(int(file.read_text()), 15)
        wait_for(lambda: not list(tmp_path.glob("*.pid")), 60)


def follow_the_page(server: Server, words: str, **replaced: str) -> None:
    """Run the block of the page that contains these words, with this server's folder and ports."""
    folder, ports = server
    [block] = [block for block in BLOCKS if words in block]
    for text, other in {"/etc/pmip": str(folder), "8001 8002": " ".join(map(str, ports)), **replaced}.items():
        block = block.replace(text, other)
    environ = os.environ | {"PATH": f"{folder}/bin:{os.environ['PATH']}"}
    subprocess.run(["bash", "-euc", block], cwd=folder, env=environ, check=True, timeout=300, stdout=subprocess.PIPE)


def new_code(folder: Path, version: str) -> None:
    """Change the version of the code that the APIs run from."""
    routes = folder / "srv" / "pmip" / "routes.py"
    routes.write_text(re.sub("(?m)^VERSION = .*$", f'VERSION = "{version}"', routes.read_text()))


def version(port: int, key: str) -> str:
    return str(ask(port, "/model-info", **{"X-API-Key": key}).body["result"]["version"])


def statuses(port: int, key: str) -> set[int]:
    return {ask(port, "/predict", EXAMPLE, **{"X-API-Key": key}).status for _ in range(20)}


def all_answer(ports: list[int], key: str, status: int) -> Callable[[], bool]:
    return lambda: all(statuses(port, key) == {status} for port in ports)


def test_restarts_a_new_key_and_new_code_lose_no_request(server: Server) -> None:
    """No request is lost while the page's steps rotate a key, restart three APIs and change the code by USR2."""
    folder, ports = server
    with running_nginx(folder, *ports) as front, Load(front, {"X-API-Key": "first"}) as load:
        follow_the_page(server, "openssl rand -hex 20 | sudo tee")
        second = (folder / "keys").read_text().split()[-1]
        wait_for(all_answer(ports, second, 200), 2 * LOOK_SECONDS)
        load.headers["X-API-Key"] = second
        follow_the_page(server, "tail -n 1")
        wait_for(all_answer(ports, "first", 401), 2 * LOOK_SECONDS)

        new_code(folder, "2")
        install = [line for block in BLOCKS for line in block.splitlines() if "git -C" in line]
        follow_the_page(server, "systemctl restart", **dict.fromkeys(install, ""))
        assert [version(port, second) for port in ports] == ["2"] * 3

        new_code(folder, "3")
        file = f"{ports[0]}.pid"
        follow_the_page(server, "kill -USR2", **{"api.pid": file})
        wait_for(lambda: (folder / file).exists() and not (folder / f"{file}.2").exists(), 60)
        assert {version(ports[0], second) for _ in range(10)} == {"3"}
    lost = [answer for answer in load.answers if answer.status != 200]
    sys.stdout.write(f"\n{len(load.answers)} requests, {len(lost)} lost\n")
    assert lost == []
    assert len(load.answers) > 100


def test_the_log_is_rotated_while_the_api_writes_to_it(server: Server) -> None:
    """After logrotate the old lines are in the compressed copy, and the file begins with a new line of the API."""
    if not shutil.which("logrotate"):
        without("LOGROTATE", "logrotate is not installed; 'apt-get install logrotate' installs it")
    folder, [port, *_] = server
    log = folder / f"{port}.log"
    rules = (FOLDER / "logrotate").read_text().replace("/var/log/pmip/*.log", str(log))
    (folder / "logrotate.conf").write_text(rules)
    ask(port, "/healthcheck", **{"X-Request-Id": "before"})
    call = ["logrotate", "--force", "--state", folder / "state", folder / "logrotate.conf"]
    subprocess.run(call, check=True, timeout=60)
    ask(port, "/healthcheck", **{"X-Request-Id": "after"})
    assert b'"before"' in gzip.decompress(Path(f"{log}.1.gz").read_bytes())
    assert log.read_text().startswith("{")
    assert '"after"' in log.read_text()
    assert '"before"' not in log.read_text()


def test_systemd_finds_no_fault_in_the_unit(tmp_path: Path) -> None:
    """The command systemd-analyze finds no fault in the unit, with the gunicorn of this environment."""
    if not shutil.which("systemd-analyze"):
        without("SYSTEMD", "systemd is not installed; 'apt-get install systemd' installs it")
    (tmp_path / "pmip@8001.service").write_text(UNIT.replace("/srv/pmip/.venv/bin/gunicorn", str(GUNICORN)))
    call = ["systemd-analyze", "verify", str(tmp_path / "pmip@8001.service")]
    found = subprocess.run(call, capture_output=True, text=True, timeout=60, check=False)
    assert (found.returncode, found.stderr) == (0, "")
