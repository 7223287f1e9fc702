"""A fuzzer tries each reader of outside input, for seconds here and for as long as wanted by scripts/fuzz.sh."""

import importlib.util
import os
import re
import subprocess
from pathlib import Path

import pytest
from conftest import ROOT

SECONDS = 5
needs_atheris = pytest.mark.skipif(
    importlib.util.find_spec("atheris") is None, reason="atheris has no wheel for this Python or machine"
)


def fuzz(folder: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    """Run scripts/fuzz.sh, which keeps its files in `folder`."""
    script = ["bash", str(ROOT / "scripts" / "fuzz.sh"), *words]
    environ = os.environ | {"DATA_DIR": str(folder)}
    return subprocess.run(script, env=environ, capture_output=True, text=True, timeout=120, check=False)


@needs_atheris
@pytest.mark.parametrize("target", ["payload", "normaliser", "csv", "zip", "model", "metadata"])
def test_nothing_is_found(target: str, tmp_path: Path) -> None:
    """Each reader of outside input reads or refuses more than 100 fuzzed inputs without another error."""
    done = fuzz(tmp_path, "--seconds", str(SECONDS), target)
    assert done.returncode == 0, done.stderr
    found = re.fullmatch(rf"{target}: (\d+) inputs, no finding\n", done.stdout)
    assert found
    assert int(found[1]) > 100


@pytest.mark.parametrize("words", [("--seconds",), ("--seconds", "0"), ("--seconds", "x"), ("nothing",)])
def test_a_wrong_call_is_told(words: tuple[str, ...], tmp_path: Path) -> None:
    """A person who calls the script wrongly gets exit code 2, the reason on stderr and no result."""
    done = fuzz(tmp_path, *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert (
        "--seconds requires a whole number" in done.stderr
        or "nothing is not a target; the targets are: payload" in done.stderr
    )
