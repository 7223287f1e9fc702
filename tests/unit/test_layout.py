"""The layout: what the API imports, how long modules and functions may be, and what stands at the root."""

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
    """Settings come in by one door."""
    readers = {
        name
        for name, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and ast.unparse(node) in ("os.environ", "os.getenv")
    }
    assert readers == {"config.py"}


def test_the_way_of_a_request_needs_the_standard_library_only() -> None:
    """Text and look-ups import neither numpy nor scikit-learn."""
    command = "import sys, pmip.model.lookups; sys.exit(bool({'numpy', 'sklearn', 'scipy'} & sys.modules.keys()))"
    subprocess.run([sys.executable, "-c", command], cwd=ROOT, check=True, timeout=30)


def test_the_api_starts_without_what_it_does_not_need() -> None:
    """Only the verification brings scikit-learn; Jupyter's grammar of web addresses alone would take a second."""
    slow = {"numpy", "sklearn", "joblib", "rfc3987_syntax.syntax_helpers"}
    command = f"import sys, pmip.wsgi; sys.exit(bool({slow} & sys.modules.keys()))"
    subprocess.run([sys.executable, "-c", command], cwd=ROOT, check=True, timeout=30)


def test_modules_and_functions_stay_small() -> None:
    """No module has more than 350 lines, no function more than 40, and the median is about ten."""
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
    """Beside the agreed top level only what a tool insists on finding there, and dotfiles."""
    tracked = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True, timeout=30
    ).stdout
    top = {Path(line).parts[0] for line in tracked.splitlines()}
    assert {name for name in top if not name.startswith(".")} <= ROOT_ENTRIES


def test_every_dependency_is_pinned() -> None:
    """Each requirement of setup.py, in whatever extra, has its exact version in requirements.txt."""
    pinned = set(re.findall(r"^([a-z0-9-]+)==", (ROOT / "requirements.txt").read_text(), re.MULTILINE))
    wanted = {Requirement(line).name for line in requires("pmip") or []}
    assert {"flask", "jupyter", "moto", "apig-wsgi", "pytest"} <= wanted
    assert wanted <= pinned


def test_every_test_says_its_behaviour_in_a_sentence() -> None:
    """Its docstring is what a reader learns from a failure."""
    for path in (ROOT / "tests").rglob("test_*.py"):
        tests = [node for node in ast.parse(path.read_text(encoding="utf-8")).body if isinstance(node, ast.FunctionDef)]
        silent = [test.name for test in tests if test.name.startswith("test_") and not ast.get_docstring(test)]
        assert silent == [], path.name


def test_the_table_of_faults_names_trials_that_exist() -> None:
    """Who looks for one finds it."""
    named = re.findall(r"`(test_\w+\.py)::(test_\w+)`", (ROOT / "tests" / "FAULTS.md").read_text(encoding="utf-8"))
    assert len(named) > 30
    for file, name in named:
        [path] = (ROOT / "tests").rglob(file)
        assert f"def {name}(" in path.read_text(encoding="utf-8"), f"{file} has no {name}"
