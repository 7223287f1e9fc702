"""Helpers of the tests of scripts: run one from another folder, put commands on the path, look for open ports."""

import os
import socket
import subprocess
from pathlib import Path

from conftest import ROOT

ANSWER = '{"result": [{"class": 1}, {"class": 0}]}\n'


def run(
    *command: object, cwd: Path = Path("/"), timeout: float = 120, **environ: str
) -> subprocess.CompletedProcess[str]:
    """Run a script from a folder; an empty setting is removed from the environment."""
    words = [str(word) for word in command]
    script = Path(words[0]) if Path(words[0]).is_absolute() else ROOT / "scripts" / words[0]
    settings = {name: value for name, value in (os.environ | environ).items() if value}
    return subprocess.run(
        ["bash", str(script), *words[1:]],
        cwd=cwd,
        env=settings,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def command(folder: Path, name: str, text: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{text}\n")
    (folder / name).chmod(0o755)


def revision_of(checkout: Path) -> str:
    head = ["git", "-C", str(checkout), "rev-parse", "HEAD"]
    return subprocess.run(head, check=True, capture_output=True, text=True, timeout=30).stdout.strip()


def listens(address: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((address, port)) == 0
