"""The Markdown pages name the settings, parameters, commands, scripts and files that the code has."""

import argparse
import ast
import json
import re
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from conftest import ROOT

from pmip.__main__ import _parser
from pmip.config import Settings

SCRIPTS = (ROOT / "scripts" / "README.md").read_text(encoding="utf-8")
NOTEBOOKS = (ROOT / "notebooks" / "README.md").read_text(encoding="utf-8")
SET_BY_OTHERS = {"AWS_BATCH_JOB_ID", "AWS_ENDPOINT_URL", "AWS_LAMBDA_RUNTIME_API", "PROMETHEUS_MULTIPROC_DIR"}
SET_BY_OTHERS |= {"AWS_BATCH_JOB_ARRAY_INDEX", "AWS_BATCH_JOB_ARRAY_SIZE"}
SOURCED = {"common.sh", "containers.sh", "aws.sh"}


class Asked(Mapping[str, str]):
    """An empty environment that records the names of the variables that are read."""

    def __init__(self) -> None:
        self.names: set[str] = set()

    def __getitem__(self, name: str) -> str:
        self.names.add(name)
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


def pages() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "*.md"], cwd=ROOT, check=True, capture_output=True, text=True, timeout=30
    )
    return [ROOT / line for line in listed.stdout.splitlines()]


def names_in_table(page: str, heading: str) -> set[str]:
    """Return the code words in the first column of the first table below a heading."""
    rows = [line for line in page.split(f"## {heading}\n")[1].split("\n## ")[0].splitlines() if line.startswith("| `")]
    return {name for row in rows for name in re.findall(r"`([^`]+[^/`])`", row.split("|")[1])}


def test_the_settings_are_those_that_are_read() -> None:
    """The table of settings lists each environment variable that pmip reads, except those that other programs set."""
    asked = Asked()
    Settings.from_environ(asked)
    assert names_in_table(SCRIPTS, "Settings") == asked.names - SET_BY_OTHERS


def test_the_parameters_are_those_of_the_notebook() -> None:
    """The table of parameters lists each parameter of the notebook, and no other."""
    cells = json.loads((ROOT / "notebooks" / "model-training.ipynb").read_text(encoding="utf-8"))["cells"]
    [cell] = [cell for cell in cells if "parameters" in cell["metadata"].get("tags", [])]
    statements = ast.parse("".join(cell["source"])).body
    parameters = {ast.unparse(statement.targets[0]) for statement in statements if isinstance(statement, ast.Assign)}
    assert names_in_table(NOTEBOOKS, "Parameters") == parameters


def test_times_and_sizes_are_those_of_the_help() -> None:
    """The README and --help give the same minutes and disk space for the two main commands."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for script, figures in (
        ("quickstart.sh", ("two to three minutes", "0.8 GB")),
        ("test.sh", ("about 3 minutes", "1.1 GB")),
    ):
        for figure in figures:
            assert figure in readme
            assert figure in (ROOT / "scripts" / script).read_text(encoding="utf-8")


def test_each_script_and_command_is_in_the_table() -> None:
    """The page of the scripts lists each script and each command of `python -m pmip`."""
    files = {path.name for path in (ROOT / "scripts").glob("*.sh")} - SOURCED
    assert names_in_table(SCRIPTS, "Each script") == files
    [commands] = [action for action in _parser()._actions if isinstance(action, argparse._SubParsersAction)]
    assert names_in_table(SCRIPTS, "Commands") == set(commands.choices)


@pytest.mark.parametrize("page", pages(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_and_paths_lead_somewhere(page: Path) -> None:
    """Each relative link of a page, with its heading, and each path in its code exists in the repository."""
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\((?!https?:|mailto:)([^)\s]+)\)", text):
        path, _, heading = target.partition("#")
        found = (page.parent / path).resolve() if path else page
        assert found.exists(), f"{page.name}: {target}"
        if heading:
            anchors = {
                re.sub(r"[^\w -]", "", line.lstrip("# ").lower()).replace(" ", "-")
                for line in found.read_text(encoding="utf-8").splitlines()
                if line.startswith("#")
            }
            assert heading in anchors, f"{page.name}: {target}"
    for path in re.findall(r"`((?:pmip|scripts|notebooks|tests)/[\w./-]+\.\w+|(?:pmip|scripts|tests)/\w+/)`", text):
        assert (ROOT / path).exists(), f"{page.name}: {path}"
