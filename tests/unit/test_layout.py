"""The layout: what the API imports, how long modules and functions may be, and which files the root has."""

import ast
import re
import statistics
import subprocess
import sys
from importlib.metadata import requires
from pathlib import Path

from conftest import ROOT
from packaging.requirements import Requirement

ROOT_ENTRIES = {"pmip", "notebooks", "scripts", "tests", "Dockerfile", "Dockerfile.train", "Dockerrun.aws.json"}
ROOT_ENTRIES |= {"setup.py", "requirements.txt", "README.md", "LICENSE", "CHANGELOG.md"}

PACKAGE = ROOT / "pmip"
MODULES = {path.relative_to(PACKAGE).as_posix(): path.read_text() for path in PACKAGE.rglob("*.py")}
TREES = {name: ast.parse(text) for name, text in MODULES.items()}


def test_only_config_reads_the_environment() -> None:
    """Only pmip/config.py reads environment variables."""
    readers = {
        name
        for name, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and ast.unparse(node) in ("os.environ", "os.getenv")
    }
    assert readers == {"config.py"}


def test_the_api_starts_without_what_it_does_not_need() -> None:
    """The API starts without numpy, scikit-learn and joblib, and without a slow grammar that Jupyter brings."""
    slow = {"numpy", "sklearn", "joblib", "rfc3987_syntax.syntax_helpers"}
    command = f"import sys, pmip.wsgi; sys.exit(bool({slow} & sys.modules.keys()))"
    subprocess.run([sys.executable, "-c", command], cwd=ROOT, check=True, timeout=30)


def test_modules_and_functions_stay_small() -> None:
    """No module has more than 350 lines, no function has more than 40, and the median function at most ten."""
    lengths = {
        f"{name} {node.name}": (node.end_lineno or 0) - node.lineno + 1
        for name, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef)
    }
    assert [name for name, length in lengths.items() if length > 40] == []
    assert statistics.median(lengths.values()) <= 10
    assert [name for name, text in MODULES.items() if len(text.splitlines()) > 350] == []


def test_the_root_holds_only_what_belongs_there() -> None:
    """The root has no files but those of the agreed list and dotfiles."""
    tracked = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True, timeout=30
    ).stdout
    top = {Path(line).parts[0] for line in tracked.splitlines()}
    assert {name for name in top if not name.startswith(".")} <= ROOT_ENTRIES


def test_every_dependency_is_pinned() -> None:
    """Each requirement of setup.py, in any extra, has an exact version in requirements.txt."""
    pinned = set(re.findall(r"^([a-z0-9-]+)==", (ROOT / "requirements.txt").read_text(), re.MULTILINE))
    wanted = {Requirement(line).name for line in requires("pmip") or []}
    assert {"flask", "jupyter", "moto", "apig-wsgi", "pytest"} <= wanted
    assert wanted <= pinned


def test_every_test_says_its_behaviour_in_a_sentence() -> None:
    """Each test has a docstring of at least five words with a full stop, for the reader of a failure."""
    sentence = re.compile(r"(\S+\s+){4,}\S+\.", re.DOTALL)
    for path in (ROOT / "tests").rglob("test_*.py"):
        tests = [node for node in ast.parse(path.read_text(encoding="utf-8")).body if isinstance(node, ast.FunctionDef)]
        docs = {test.name: ast.get_docstring(test) or "" for test in tests if test.name.startswith("test_")}
        assert [name for name, doc in docs.items() if not sentence.fullmatch(doc)] == [], path.name


def test_the_table_of_faults_names_trials_that_exist() -> None:
    """Each test that tests/FAULTS.md names exists."""
    named = re.findall(r"`(test_\w+\.py)::(test_\w+)`", (ROOT / "tests" / "FAULTS.md").read_text(encoding="utf-8"))
    assert len(named) > 30
    for file, name in named:
        [path] = (ROOT / "tests").rglob(file)
        assert f"def {name}(" in path.read_text(encoding="utf-8"), f"{file} has no {name}"
