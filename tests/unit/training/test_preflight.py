"""The preflight: what it refuses, with the cell or the line, and that the project's notebook passes."""

import time
from pathlib import Path
from typing import Any

import nbformat
import pytest
from conftest import ROOT
from nbformat.v4 import new_code_cell, new_notebook, new_output

from pmip.__main__ import main
from pmip.errors import PreflightError
from pmip.training import preflight

NOTEBOOK = ROOT / "notebooks" / "model-training.ipynb"
GOOD = 'ID = ""  # blank: the newest\nSHARE = -0.3\nLIST = [1, 2.0]\nON = True'


def write(folder: Path, parameters: str = GOOD, *others: str, **of_last: Any) -> Path:
    """Write a notebook with a cell of parameters and others."""
    cells = [new_code_cell(parameters, metadata={"tags": ["parameters"]}), *map(new_code_cell, others)]
    cells[-1].update(of_last)
    nbformat.write(new_notebook(cells=cells), folder / "a.ipynb")
    return folder / "a.ipynb"


def test_literals_relative_paths_and_stripped_outputs_pass(tmp_path: Path) -> None:
    """Addresses of pages and buckets are no paths, and a word about tokens is no secret."""
    preflight.check(
        write(tmp_path, GOOD, 'path = Path("..") / "data"', "# https://example.com/home a/b tokens = words")
    )
    preflight.check(NOTEBOOK)


@pytest.mark.parametrize(
    "line", ["N = 2 + 3j * 4", "N = len('')", "n = 1", "N: int = 1", "A = B = 1", "import os", "N +"]
)
def test_what_papermill_cannot_replace_is_refused(line: str, tmp_path: Path) -> None:
    """The message names the line of the parameters cell."""
    with pytest.raises(PreflightError, match=r"parameters cell .*(line 5|is not NAME = literal)"):
        preflight.check(write(tmp_path, f"{GOOD}\n{line}"))


@pytest.mark.parametrize(
    ("source", "what"),
    [
        ('open("/home/ada/x.csv")', "an absolute path"),
        ("open('~/x.csv')", "an absolute path"),
        ('path = "C:\\\\Users\\\\ada"', "an absolute path"),
        ("!ls /tmp/x", "an absolute path"),
        ('key = "AKIAABCDEFGHIJKLMNOP"', "a secret"),
        ('AWS_SECRET_ACCESS_KEY = "abc"', "a secret"),
        ('{"password": "abc"}', "a secret"),
        ('url = "https://ada:abc@example.com"', "a secret"),
    ],
)
def test_paths_and_secrets_are_refused_without_being_told(source: str, what: str, tmp_path: Path) -> None:
    """The message names the cell, and does not repeat what it found."""
    with pytest.raises(PreflightError, match=rf"cell 2 .* seems to hold {what}$") as failure:
        preflight.check(write(tmp_path, GOOD, source))
    assert "abc" not in str(failure.value).removeprefix("a.ipynb")


def test_outputs_are_refused(tmp_path: Path) -> None:
    """Outputs belong to reports; the message says how to take them out."""
    for left in ({"execution_count": 1}, {"outputs": [new_output("stream", text="hello")]}):
        with pytest.raises(PreflightError, match="clear-output"):
            preflight.check(write(tmp_path, GOOD, "1", **left))


def test_there_is_one_cell_of_parameters(tmp_path: Path) -> None:
    """Papermill would put its own at the top without one."""
    nbformat.write(new_notebook(cells=[new_code_cell("1")]), tmp_path / "a.ipynb")
    with pytest.raises(PreflightError, match="0 cells are tagged parameters"):
        preflight.check(tmp_path / "a.ipynb")


def test_the_command_tells_all_mistakes_and_exits_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One line for the person who is about to commit."""
    wrong = write(tmp_path, "N = len('')", 'password = "abc"')
    assert main(["check", "--only-read", str(wrong)]) == 1
    [line] = capsys.readouterr().err.splitlines()
    assert "a.ipynb: line 1 of the parameters cell" in line
    assert "seems to hold a secret" in line


def test_the_whole_notebook_runs_on_a_small_sample(capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is printed when all is well, and nobody waits long for it."""
    started = time.monotonic()
    assert main(["check"]) == 0
    assert capsys.readouterr() == ("", "")
    assert time.monotonic() - started < 90  # 12 on a quiet machine


def test_a_notebook_that_does_not_run_says_why(tmp_path: Path) -> None:
    """Without comments there is nothing to learn from."""
    (tmp_path / "empty.csv").write_text("CONTENT,CLASS\n")
    with pytest.raises(PreflightError, match="0 comments are too few to train on"):
        preflight.run(ROOT, tmp_path)
