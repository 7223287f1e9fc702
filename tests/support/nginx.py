"""nginx in front of running APIs, with the configuration of scripts/server."""

import grp
import os
import pwd
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from api import wait_for
from conftest import ROOT, free_port, without
from shell import listens

NGINX = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")


def need_nginx() -> str:
    """Return the path of nginx; without it, skip the test, or fail if REQUIRE_NGINX=1."""
    if NGINX is None:
        reason = "nginx is not installed; 'apt-get install nginx' or 'brew install nginx' installs it"
        without("NGINX", reason)
    return NGINX


@contextmanager
def running_nginx(folder: Path, *api_ports: int) -> Iterator[int]:
    """Run a separate nginx on a port of 127.0.0.1 that forwards requests to the APIs on these ports."""
    nginx, port = need_nginx(), free_port(30_000, 32_000)
    user, group = pwd.getpwuid(os.getuid()).pw_name, grp.getgrgid(os.getgid()).gr_name
    text = (ROOT / "tests" / "support" / "nginx.conf").read_text()
    (folder / "nginx.conf").write_text(text.replace("@USER@", user).replace("@GROUP@", group))
    (folder / "pmip.conf").write_text(_on_ports(port, api_ports))
    with (folder / "nginx.log").open("wb") as log:
        command = [nginx, "-p", f"{folder}/", "-c", "nginx.conf", "-e", "stderr"]
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
    try:
        wait_for(lambda: process.poll() is not None or listens("127.0.0.1", port), 10)
        assert process.poll() is None, (folder / "nginx.log").read_text()
        yield port
    finally:
        process.terminate()
        assert process.wait(30) == 0


def _on_ports(port: int, api_ports: tuple[int, ...]) -> str:
    """Return the configuration of scripts/server with these ports in place of its own."""
    text = (ROOT / "scripts" / "server" / "nginx.conf").read_text()
    servers = "".join(f"  server 127.0.0.1:{api} max_fails=0;\n" for api in api_ports)
    text, blocks = re.subn(r"(  server 127\.0\.0\.1:\d+ max_fails=0;\n)+", servers, text)
    text, listens = re.subn(r"listen 80;", f"listen 127.0.0.1:{port};", text)
    assert (blocks, listens) == (1, 1)
    return text
