"""The notebook gives the same model from Jupyter and papermill, and its report does not describe the machine."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pytest
from conftest import ROOT, SAMPLE
from edited_notebooks import run_edited
from jupyter_client.manager import run_kernel
from papermill.exceptions import PapermillExecutionError
from shell import run
from sklearn.base import clone
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    f1_score,
    log_loss,
    matthews_corrcoef,
    roc_auc_score,
)
from sklearn.model_selection import ParameterGrid, StratifiedGroupKFold
from sklearn.pipeline import Pipeline

from pmip.model.verification import verify
from pmip.store.versions import LocalModel, is_model_id
from pmip.training.augmentation import copies_of
from pmip.training.comments import read_comments
from pmip.training.comparison import hash_of
from pmip.training.data import local_files
from pmip.training.evaluation import groups, in_test_set

NOTEBOOK = ROOT / "notebooks" / "model-training.ipynb"
QUICK = ("FOLDS=2", "REPORT=short")


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train once by the script, in dev and without AWS; return the folder that the run wrote."""
    folder = tmp_path_factory.mktemp("data")
    outcome = run("train.sh", *QUICK, "MODEL_ID=20260101T000000Z", timeout=240, DATA_DIR=str(folder))
    assert (outcome.returncode, outcome.stdout) == (0, "20260101T000000Z\n"), outcome.stderr
    return folder


def parameters_of(notebook: Path) -> set[str]:
    [cell] = [
        cell for cell in nbformat.read(notebook, as_version=4).cells if "parameters" in cell.metadata.get("tags", [])
    ]
    return set(re.findall(r"^([A-Z_]+) =", cell.source, re.MULTILINE)) - {"MODEL_ID", "DASK_SCHEDULER"}


def test_the_local_model_is_what_the_run_describes(data_dir: Path) -> None:
    """data/model.pkl passes the API's checks, and its metadata names the run, the data and the parameters."""
    artifact = LocalModel(data_dir).fetch()
    verify(artifact, "20260101", "dev")
    metadata = artifact.metadata
    assert metadata
    assert (metadata.model_id, metadata.ENVIRONMENT, metadata.training_data_id) == ("20260101T000000Z", "dev", "sample")
    assert [item["name"] for item in metadata.training_files] == [path.name for path in SAMPLE]
    assert sum(item["rows"] for item in metadata.training_files) == 554
    assert metadata.parameters["FOLDS"] == 2
    assert metadata.parameters["MAX_FLIPPED"] == 0.1
    assert metadata.parameters["classifier__C"] in (10, 40, 160)
    assert "TfidfVectorizer(analyzer=token_ngrams, binary=True" in metadata.parameters["pipeline"]
    assert {name for name in metadata.parameters if name.isupper()} == parameters_of(NOTEBOOK)


def test_the_metadata_holds_the_figures_of_all_protocols(data_dir: Path) -> None:
    """The metadata holds the figures of each protocol with their spread, and of the baseline, as JSON without NaN."""
    metrics = json.loads((data_dir / "metadata.json").read_text(), parse_constant=lambda _: pytest.fail("NaN"))[
        "metrics"
    ]
    assert metrics.keys() == {"leave_one_source_out", "held_out", "baseline"}
    for name in ("leave_one_source_out", "held_out"):
        assert metrics[name]["accuracy"] > 0.8
        assert metrics[name]["spread"]["accuracy"] > 0
    assert metrics["leave_one_source_out"]["comments"] == 554
    assert metrics["baseline"]["held_out"]["mcc"] < metrics["held_out"]["mcc"]


def searched(recipe: dict[str, Any], texts: Any, y: Any, named: Any) -> Pipeline:
    """Search and fit the notebook's pipeline in a plain loop over candidates and folds, with copies in each fit."""

    def fitted(rows: Any, parameters: dict[str, Any]) -> Pipeline:
        copies = [copy for comment in texts[rows] for copy in copies_of(comment)]
        labels, weights = np.append(y[rows], np.repeat(y[rows], 2)), np.repeat([1, 0.5], [len(rows), len(copies)])
        pipeline = clone(recipe["pipeline"]).set_params(**parameters)
        return pipeline.fit([*texts[rows], *copies], labels, classifier__sample_weight=weights)

    def losses(parameters: dict[str, Any]) -> Any:
        folds = StratifiedGroupKFold(2, shuffle=True, random_state=0).split(texts, y, named)
        answers = [(y[test], fitted(rest, parameters).predict_proba(texts[test])) for rest, test in folds]
        return np.array([log_loss(truth, answer, labels=[0, 1]) for truth, answer in answers])

    candidates = [(parameters, losses(parameters)) for parameters in ParameterGrid(recipe["search_space"])]
    best = min((found for _, found in candidates), key=np.mean)
    error = {id(found): (found - best).std(ddof=1) / np.sqrt(2) for _, found in candidates}
    first = next(parameters for parameters, found in candidates if (found - best).mean() <= error[id(found)])
    return fitted(np.arange(len(y)), first)


@pytest.mark.parametrize("protocol", ["leave_one_source_out", "held_out"])
def test_the_figures_are_those_of_plain_scikit_learn(data_dir: Path, recipe: dict[str, Any], protocol: str) -> None:
    """The figures equal those of plain scikit-learn, fitted without the tested comments and their near-duplicates."""
    comments = read_comments(local_files(SAMPLE))
    texts, y, named = comments["CONTENT"].to_numpy(), comments["CLASS"].to_numpy(), groups(comments["CONTENT"])
    left_out = [np.flatnonzero(comments["source_file"] == path.name) for path in SAMPLE]
    if protocol == "held_out":
        left_out = [np.flatnonzero(in_test_set(named, 0.3))]
    probability = np.full(len(y), np.nan)
    for test in left_out:
        rest = np.flatnonzero(~np.isin(named, named[test]))
        probability[test] = searched(recipe, texts[rest], y[rest], named[rest]).predict_proba(texts[test])[:, 1]
    truth, answer = y[~np.isnan(probability)], probability[~np.isnan(probability)]
    expected = {
        "comments": len(truth),
        "accuracy": accuracy_score(truth, answer > 0.5),
        "f1": f1_score(truth, answer > 0.5),
        "mcc": matthews_corrcoef(truth, answer > 0.5),
        "log_loss": log_loss(truth, answer),
        "roc_auc": roc_auc_score(truth, answer),
        "average_precision": average_precision_score(truth, answer),
    }
    metadata = LocalModel(data_dir).fetch().metadata
    assert metadata
    figures = metadata.metrics[protocol]
    assert {name: figures[name] for name in expected} == pytest.approx(expected, abs=1e-6)


def test_a_gate_whose_failure_is_ignored_lets_nothing_through(tmp_path: Path) -> None:
    """A failed gate whose error papermill ignores leads to no model, because publishing needs the gate's result."""

    def tagged(cell: Any) -> None:
        if cell.id == "gate":
            cell.metadata["tags"] = ["raises-exception"]

    with pytest.raises(PapermillExecutionError, match="name 'passed' is not defined"):
        run_edited(tmp_path, tagged, MIN_ACCURACY=1.0, MIN_MCC=1.0, MIN_SPAM_CAUGHT=1.0)
    assert not (tmp_path / "model.pkl").exists()


def test_what_is_held_out_follows_from_the_text(data_dir: Path) -> None:
    """The text of a comment decides if it is held out, and the metadata has a probability for these comments alone."""
    comments = read_comments(local_files(SAMPLE))["CONTENT"]
    expected = {hash_of(comment) for comment in comments[in_test_set(groups(comments), 0.3)]}
    metadata = LocalModel(data_dir).fetch().metadata
    assert metadata
    assert metadata.held_out.keys() == expected
    assert all(0 <= probability <= 1 for probability in metadata.held_out.values())


def test_the_report_tells_nothing_of_the_machine(data_dir: Path) -> None:
    """The notebook and its page contain no path of the machine that ran them, and no local address."""
    report = "".join(path.read_text() for path in data_dir.glob("model-training-*"))
    for secret in (str(ROOT), str(data_dir), sys.prefix, str(Path.home()) + "/", "127.0.0.1", "localhost"):
        assert secret not in report


def test_the_page_asks_no_other_host_for_anything(data_dir: Path) -> None:
    """The page loads nothing from other hosts, so it opens offline, and its top says that the model passes."""
    page = (data_dir / "model-training-20260101T000000Z.html").read_text()
    assert not re.findall(r"""(?:src|href)=["']https?://[^"']*|import\(["']https?:""", page)
    top, _rest = page.split('<h2 id="The-comments">')
    assert "passes the gate" in top
    assert page.index("How good is it?") > 0


def test_the_two_examples_are_scored_as_the_api_scores_them(data_dir: Path) -> None:
    """The report shows the README's comments with the classes that the API gives."""
    cells = nbformat.read(data_dir / "model-training-20260101T000000Z.ipynb", as_version=4).cells
    [cell] = [cell for cell in cells if "served.classes(examples)" in cell.source]
    assert re.findall(r"characterization\s+0|free stuff\s+1", cell.outputs[-1].data["text/plain"])


def pictures(notebook: Path) -> list[str]:
    outputs = [output for cell in nbformat.read(notebook, as_version=4).cells for output in cell.get("outputs", [])]
    found = [output["data"]["image/png"] for output in outputs if "image/png" in output.get("data", {})]
    assert len(found) >= 5
    return found


def test_it_gives_the_same_model_from_jupyter(data_dir: Path, tmp_path: Path) -> None:
    """Run by Jupyter in notebooks/ without papermill, the notebook gives the script's model, figures and pictures."""
    command = [sys.executable, "-m", "nbconvert", "--to", "notebook", "--execute", "--output-dir", str(tmp_path)]
    source = nbformat.read(NOTEBOOK, as_version=4)
    for cell in source.cells:
        cell.source = cell.source.replace("FOLDS = 3", "FOLDS = 2").replace('REPORT = "full"', 'REPORT = "short"')
    copy = NOTEBOOK.with_name(f".{tmp_path.name}.ipynb")
    try:
        nbformat.write(source, copy)
        environ = os.environ | {"DATA_DIR": str(tmp_path)}
        subprocess.run([*command, str(copy)], env=environ, capture_output=True, timeout=240, check=True)
    finally:
        copy.unlink()
    here, there = (LocalModel(folder).fetch().metadata for folder in (tmp_path, data_dir))
    assert here
    assert there
    assert is_model_id(here.model_id)
    for name in ("golden", "metrics", "parameters", "held_out", "sha256"):
        assert getattr(here, name) == getattr(there, name), name
    assert pictures(tmp_path / copy.name) == pictures(data_dir / "model-training-20260101T000000Z.ipynb")


def test_an_edit_of_the_package_reaches_the_running_kernel(tmp_path: Path) -> None:
    """An edit of pmip/text.py takes effect in a running kernel, by %autoreload in the notebook's first cell."""
    shutil.copytree(ROOT / "pmip", tmp_path / "pmip")
    module = tmp_path / "pmip" / "text.py"
    [first] = [cell for cell in nbformat.read(NOTEBOOK, as_version=4).cells if cell.id == "autoreload"]
    with run_kernel(env=os.environ | {"PYTHONPATH": str(tmp_path)}, cwd=str(tmp_path)) as kernel:
        said: list[str] = []

        def told_by(code: str) -> str:
            said.clear()
            kernel.execute_interactive(
                code, timeout=60, output_hook=lambda message: said.append(message["content"].get("text", ""))
            )
            return "".join(said)

        told_by(f"{first.source}\nfrom pmip import text")
        assert told_by("print(text.__file__)").startswith(str(tmp_path))
        assert told_by("print(text.token_ngrams('GREAT song'))") == "['grt', 'sng', 'grt sng']\n"
        edited = module.read_text().replace(
            "def token_ngrams(comment: str) -> list[str]:", "def was(comment: str) -> list[str]:"
        )
        module.write_text(f"{edited}\n\ndef token_ngrams(comment: str) -> list[str]:\n    return was(comment)[::-1]\n")
        assert told_by("print(text.token_ngrams('GREAT song'))") == "['grt sng', 'sng', 'grt']\n"
