"""nginx in front of a running API, with the configuration beside this file."""

import grp
import os
import pwd
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
    """Return where nginx is; without it skip, or fail when REQUIRE_NGINX=1."""
    if NGINX is None:
        reason = "nginx is not installed; 'apt-get install nginx' or 'brew install nginx' installs it"
        without("NGINX", reason)
    return NGINX


@contextmanager
def running_nginx(folder: Path, api_port: int) -> Iterator[int]:
    """Run an nginx of its own on a port of 127.0.0.1 that passes requests on to the API's."""
    nginx, port = need_nginx(), free_port(30_000, 32_000)
    user, group = pwd.getpwuid(os.getuid()).pw_name, grp.getgrgid(os.getgid()).gr_name
    text = (ROOT / "tests" / "support" / "nginx.conf").read_text()
    for name, value in {"USER": user, "GROUP": group, "PORT": port, "API_PORT": api_port}.items():
        text = text.replace(f"@{name}@", str(value))
    (folder / "nginx.conf").write_text(text)
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
