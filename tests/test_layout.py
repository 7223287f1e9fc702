"""The house: which room may import which, how long rooms and functions may be, and what stands at the root."""

import ast
import re
import statistics
import subprocess
import sys
from importlib.metadata import requires
from pathlib import Path

import pytest
from conftest import ROOT
from packaging.requirements import Requirement

# Rooms and what they may import inside the package; the doors at the end may import anything above them.
MAY_IMPORT: dict[str, set[str]] = {
    "errors": set(),
    "config": {"errors"},
    "folder_storage": {"errors"},
    "storage": {"errors", "folder_storage"},
    "comments": {"errors"},
    "training_data": {"errors", "storage", "folder_storage", "comments"},
    "disguises": set(),
    "text": {"disguises"},
    "copies": {"disguises"},
    "steps": {"text"},
    "artifact": {"errors"},
    "pickled_arrays": {"errors"},
    "unpickling": {"errors", "artifact", "pickled_arrays"},
    "packing": {"errors", "artifact", "unpickling"},
    "model_id": set(),
    "model_store": {"errors", "folder_storage", "storage", "artifact", "model_id"},
    "local_model": {"errors", "folder_storage", "artifact", "model_store"},
    "export": {"errors", "steps", "text"},
    "lookup": {"errors", "text"},
    "scorer": {"errors", "artifact", "lookup"},
    "verification": {"errors", "artifact", "packing", "export", "lookup", "scorer", "verification_process"},
    "verification_process": {"errors"},
    "host_cache": {"errors", "artifact"},
    "updater": {"errors", "model_store", "local_model", "host_cache"},
    "reloader": {"errors", "scorer", "host_cache", "updater", "unpickling"},
    "payload": {"errors"},
    "api_keys": set(),
    "http_errors": {"errors", "request_log"},
    "swagger": {"http_errors"},
    "metrics": {"errors", "scorer", "reloader"},
    "request_log": {"metrics"},
    "answers": {"errors", "scorer", "reloader"},
    "routes": {
        "reloader",
        "payload",
        "answers",
        "swagger",
        "api_keys",
        "http_errors",
        "request_log",
        "metrics",
    },
    "near_duplicates": set(),
    "evaluation": {"errors", "scorer"},
    "gate": {"errors", "scorer"},
    "parallel": {"errors"},
    "fitting": {"near_duplicates", "parallel"},
    "counting": {"steps"},
    "report_page": set(),
    "run_report": {"errors", "config", "storage", "model_id", "model_store", "report_page"},
    "training_run": {"errors", "config", "model_id", "run_report"},
    "preflight": {"errors"},
}
DOORS = {"wiring", "wsgi", "gunicorn_conf", "lambda_handler", "__main__"}
ROOT_ENTRIES = {"pmip", "notebooks", "scripts", "tests", "setup.py", "README.md", "requirements.txt", "LICENSE"}
FOR_LATER = {"Dockerfile", "Dockerfile.train", "Dockerrun.aws.json"}

MODULES = {path.stem: ast.parse(path.read_text()) for path in (ROOT / "pmip").glob("*.py")}


def imports(tree: ast.Module) -> set[str]:
    """Collect the rooms that a module imports, wherever in its text."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == "pmip":
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("pmip."):
            found.add(str(node.module).split(".")[1])
        elif isinstance(node, ast.Import):
            found |= {name.name.split(".")[1] for name in node.names if name.name.startswith("pmip.")}
    return found


def test_every_room_is_known() -> None:
    """A new module gets a place in the house before it gets code."""
    assert set(MODULES) - {"__init__"} == MAY_IMPORT.keys() | DOORS


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_arrows_run_one_way(room: str) -> None:
    """A room imports only what the table allows."""
    assert imports(MODULES[room]) <= MAY_IMPORT[room]


@pytest.mark.parametrize(
    ("library", "rooms"),
    [
        ("boto3", {"storage"}),
        ("flask", {"http_errors", "request_log", "routes", "wiring", "lambda_handler"}),
        ("pandas", {"comments", "fitting"}),
        ("papermill", {"training_run"}),
        ("prometheus_client", {"metrics", "gunicorn_conf"}),
        ("pickle", set()),
        ("joblib", {"parallel", "unpickling"}),
    ],
)
def test_a_library_has_its_room(library: str, rooms: set[str]) -> None:
    """What touches the outside is in one place each."""
    users = {
        room
        for room, tree in MODULES.items()
        for node in ast.walk(tree)
        if (isinstance(node, ast.Import) and any(name.name.split(".")[0] == library for name in node.names))
        or (isinstance(node, ast.ImportFrom) and str(node.module).split(".")[0] == library)
    }
    assert users == rooms


def test_only_config_reads_the_environment() -> None:
    """Settings come in by one door."""
    readers = {
        room
        for room, tree in MODULES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and ast.unparse(node) in ("os.environ", "os.getenv")
    }
    assert readers == {"config"}


def test_the_way_of_a_request_needs_the_standard_library_only() -> None:
    """Text and look-ups import neither numpy nor scikit-learn."""
    command = "import sys, pmip.lookup; sys.exit(bool({'numpy', 'sklearn', 'scipy'} & sys.modules.keys()))"
    subprocess.run([sys.executable, "-c", command], cwd=ROOT, check=True, timeout=30)


def test_the_api_starts_without_what_it_does_not_need() -> None:
    """Only the verification brings scikit-learn; Jupyter's grammar of web addresses alone would take a second."""
    slow = {"numpy", "sklearn", "joblib", "rfc3987_syntax.syntax_helpers"}
    command = f"import sys, pmip.wsgi; sys.exit(bool({slow} & sys.modules.keys()))"
    subprocess.run([sys.executable, "-c", command], cwd=ROOT, check=True, timeout=30)


def test_rooms_and_functions_stay_small() -> None:
    """No module over 200 lines, no function over 40, and a median of about ten."""
    lengths = {
        f"{room}.{node.name}": (node.end_lineno or 0) - node.lineno + 1
        for room, tree in MODULES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef)
    }
    assert max(lengths.values()) <= 40
    assert statistics.median(lengths.values()) <= 10
    long = [room for room in MODULES if len((ROOT / "pmip" / f"{room}.py").read_text().splitlines()) > 200]
    assert long == []


def test_the_root_holds_only_what_belongs_there() -> None:
    """Beside the agreed top level only what a tool insists on finding there, and dotfiles."""
    tracked = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True, timeout=30
    ).stdout
    top = {Path(line).parts[0] for line in tracked.splitlines()}
    assert {name for name in top if not name.startswith(".")} <= ROOT_ENTRIES | FOR_LATER


def test_every_dependency_is_pinned() -> None:
    """Each requirement of setup.py, in whatever extra, has its exact version in requirements.txt."""
    pinned = set(re.findall(r"^([a-z0-9-]+)==", (ROOT / "requirements.txt").read_text(), re.MULTILINE))
    wanted = {Requirement(line).name for line in requires("pmip") or []}
    assert {"flask", "jupyter", "moto", "apig-wsgi", "pytest"} <= wanted
    assert wanted <= pinned


def test_the_table_of_faults_names_trials_that_exist() -> None:
    """Who looks for one finds it."""
    named = re.findall(r"`(test_\w+\.py)::(test_\w+)`", (ROOT / "tests" / "FAULTS.md").read_text(encoding="utf-8"))
    assert len(named) > 30
    for file, name in named:
        assert f"def {name}(" in (ROOT / "tests" / file).read_text(encoding="utf-8"), f"{file} has no {name}"
