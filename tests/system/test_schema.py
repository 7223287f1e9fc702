"""The API answers as its own document says, whatever Schemathesis sends with all its checks.

`SCHEMA_SECONDS=600 python -m pytest -s tests/system/test_schema.py` sends requests for ten minutes with API keys and
ten without; SCHEMA_SEED chooses other requests.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from api import running_api

from pmip.model.artifact import Artifact

SECONDS = int(os.environ.get("SCHEMA_SECONDS", "20"))
SEED = os.environ.get("SCHEMA_SEED", "1")
SCHEMATHESIS = [sys.executable, "-c", "from schemathesis.cli import schemathesis; schemathesis()", "run"]


@pytest.mark.parametrize(("keys", "shown"), [("", []), ("first,second", ["--header", "X-API-Key: second"])])
def test_every_answer_is_as_the_document_says(keys: str, shown: list[str], artifact: Artifact, tmp_path: Path) -> None:
    """With or without keys, Schemathesis finds no answer that differs from the document, and no error is logged."""
    artifact.write(tmp_path)
    with running_api(tmp_path, API_KEYS=keys) as (port, _):
        command = [*SCHEMATHESIS, f"http://127.0.0.1:{port}/swagger.json", "--checks", "all", "--no-color", *shown]
        asked = subprocess.run(
            [*command, "--max-time", str(SECONDS), "--continue-on-failure", "--seed", SEED],
            cwd=tmp_path,
            env=os.environ | {"COLUMNS": "120"},
            capture_output=True,
            text=True,
            timeout=2 * SECONDS + 120,
            check=False,
        )
    summary = asked.stdout[asked.stdout.find("= SUMMARY =") :]
    sys.stdout.write(summary)
    assert asked.returncode == 0, asked.stdout + asked.stderr
    assert "Tested: 5\n" in summary
    [log] = tmp_path.glob("api-*.log")
    assert '"level": "error"' not in log.read_text()
