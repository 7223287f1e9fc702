"""The reader accepts models of other scikit-learn releases, and runs nothing that a pickle names."""

import ast
import json
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import joblib
import numpy as np
import pytest
import scipy.sparse
import sklearn
from conftest import ROOT
from fitted_models import WRITERS
from sklearn.pipeline import Pipeline

from pmip.model.artifact import Artifact, Metadata
from pmip.model.verification import load

RELEASES = ("1.5", "1.6", "1.7")
WRITE = Path(__file__).parent.parent / "support" / "write_models.py"


@pytest.fixture(scope="module", params=RELEASES)
def models_of_a_release(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Let another scikit-learn release, in its own virtual environment, write models and their answers."""
    folder = tmp_path_factory.mktemp("release")
    subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True, timeout=120)
    python = folder / "venv" / "bin" / "python"
    release = [f"scikit-learn=={request.param}.*", *(["numpy<2"] if request.param == "1.5" else [])]
    subprocess.run(["nice", python, "-m", "pip", "install", "--quiet", *release], check=True, timeout=600)
    subprocess.run([python, WRITE, folder], check=True, timeout=120, env={"PYTHONPATH": str(ROOT)})
    return folder


def test_models_of_other_releases_are_served(models_of_a_release: Path) -> None:
    """A model of another scikit-learn release gives the same answers as in that release."""
    golden = json.loads((models_of_a_release / "answers.json").read_text())
    assert len(golden) == 9
    for name, answers in golden.items():
        content = (models_of_a_release / name).read_bytes()
        artifact = Artifact(content, None)
        lineage = Metadata("20260101", sha256=artifact.sha256, golden=answers)
        scorer = load(Artifact(content, lineage), "20260101", "prod")
        assert scorer.description["scorer"] == "lookups"
        assert [spam for _, spam in scorer.probabilities([item["comment"] for item in answers])] == pytest.approx(
            [item["probability"] for item in answers], abs=1e-12
        )


def named() -> set[str]:
    """Return the names of all classes and functions of scikit-learn, numpy, joblib and scipy's sparse matrices."""
    found = set()
    for package in (sklearn, np, joblib, scipy.sparse):
        [folder] = map(Path, package.__path__)
        for path in folder.rglob("*"):
            parts = path.relative_to(folder).parts
            module = ".".join((package.__name__, *parts[:-1], parts[-1].partition(".")[0])).removesuffix(".__init__")
            if path.suffix == ".py":
                defined = ast.parse(path.read_bytes()).body
                found |= {
                    f"{module} {node.name}" for node in defined if isinstance(node, ast.ClassDef | ast.FunctionDef)
                }
            elif path.suffix == ".so" and package is sklearn:
                members = vars(import_module(module)).items()
                found |= {f"{module} {name}" for name, member in members if callable(member) and name.isidentifier()}
    return found


def test_nothing_that_a_pickle_names_is_imported_opened_or_called(tmp_path: Path, model: Pipeline) -> None:
    """An audit hook sees no import, file, process or compiled code while pickles of every class are read."""
    for writer, write in WRITERS.items():
        (tmp_path / f"{writer}.pkl").write_bytes(write(model))
    names = sorted(named() | {f"{module} name" for module in ("antigravity", "this", "idlelib.idle", "no.such")})
    assert len(names) > 2000
    script = [sys.executable, ROOT / "tests" / "support" / "read_with_audit.py", tmp_path]
    ended = subprocess.run(
        script,
        input="\n".join(names),
        text=True,
        capture_output=True,
        timeout=300,
        check=True,
        env={"PYTHONPATH": str(ROOT)},
    )
    counts, sees = ended.stdout.splitlines()
    assert sees == "True"
    read, hostile, refused = map(int, counts.split()[:3])
    assert (read, hostile) == (len(WRITERS), 18 * len(names))
    assert refused == hostile
    assert counts.endswith(" [] []")
