"""Edits on the host that take effect in the training container, on a real engine."""

import json
import os
import re
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from api import direct, wait_for
from conftest import free_port
from engine import TRAINING, Start, docker
from websocket import WebSocket, create_connection


@pytest.fixture
def text_module(project: Path) -> Iterator[Path]:
    """Return a module of the package that a test may edit; undo the edit afterwards."""
    path = project / "pmip" / "text.py"
    kept = path.read_text()
    yield path
    path.write_text(kept)


def test_an_edit_of_the_package_is_what_the_container_imports(text_module: Path, training: Callable[..., str]) -> None:
    """An edit of the package is in effect in the next container, without a build or an installation."""
    text_module.write_text(text_module.read_text() + "\n\ndef added() -> str:\n    return 'edited on the host'\n")
    shown = training("-c", "cd / && python -c 'import pmip.text; print(pmip.text.added())'")
    assert shown == "edited on the host\n"


class Jupyter:
    """A client of the Jupyter server in a container that makes the same requests as Jupyter's pages."""

    def __init__(self, port: int, token: str) -> None:
        self.address = f"127.0.0.1:{port}"
        self.token = token

    def __call__(self, method: str, path: str, payload: object = None) -> Any:
        headers = {"Authorization": f"token {self.token}", "Content-Type": "application/json"}
        body = None if payload is None else json.dumps(payload).encode()
        request = urllib.request.Request(f"http://{self.address}/api/{path}", body, headers, method=method)
        with direct.open(request, timeout=60) as answer:
            return json.load(answer)

    def is_up(self) -> bool:
        try:
            return bool(self("GET", "status"))
        except OSError:
            return False

    def kernel(self) -> WebSocket:
        kernel = self("POST", "kernels", {"name": "python3", "path": "notebooks"})["id"]
        address = f"ws://{self.address}/api/kernels/{kernel}/channels?token={self.token}"
        return create_connection(address, timeout=60, http_no_proxy=["127.0.0.1"])


@pytest.fixture
def jupyter(start: Start, tmp_path: Path) -> Jupyter:
    port = free_port(20_000, 30_000)
    served = "jupyter notebook notebooks/ --ip 0.0.0.0 --port 8888 --no-browser"
    start("run_training_container.sh", "-c", served, JUPYTER_PORT=str(port))
    log = tmp_path / "0.log"
    wait_for(lambda: "/tree?token=" in log.read_text(), 60)
    jupyter = Jupyter(port, re.findall(r"token=(\w+)", log.read_text())[0])
    wait_for(jupyter.is_up, 60)  # it prints its address a moment before it listens
    return jupyter


def test_a_notebook_saved_on_either_side_is_there_on_the_other(jupyter: Jupyter, project: Path) -> None:
    """A notebook that Jupyter saves belongs to the host's user, and Jupyter opens what the host writes."""
    cell = {"cell_type": "markdown", "id": "a", "metadata": {}, "source": "from the container"}
    notebook = {"cells": [cell], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    jupyter("PUT", "contents/mine.ipynb", {"type": "notebook", "content": notebook})
    path = project / "notebooks" / "mine.ipynb"
    try:
        assert path.stat().st_uid == os.getuid()
        path.write_text(path.read_text().replace("from the container", "from the host"))
        [opened] = jupyter("GET", "contents/mine.ipynb")["content"]["cells"]
        assert opened["source"] == "from the host"
        docker("kill", docker("ps", "--quiet", "--filter", f"ancestor={TRAINING}"))
        assert "from the host" in path.read_text()
    finally:
        path.unlink()
