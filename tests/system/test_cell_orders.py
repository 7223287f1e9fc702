"""The notebook's cells, run in any order in a real kernel, publish a version only with its own description."""

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from conftest import ROOT, SAMPLE
from jupyter_client.manager import run_kernel

from pmip.model.artifact import run_pickle
from pmip.store.versions import LocalModel

CELLS = {cell.id: cell.source for cell in nbformat.read(ROOT / "notebooks" / "model-training.ipynb", 4).cells}
QUICK = "REPORT, FOLDS, MAX_FLIPPED, MAX_MCC_DROP, MIN_COMPARED = 'short', 2, 1, 2, 0"
MODEL = """from pmip import text
from sklearn.dummy import DummyClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
pipeline = Pipeline([("features", TfidfVectorizer(analyzer=text.token_ngrams)), ("classifier", {})])
search_space = {{}}"""
FIRST, OTHER, USELESS = (
    MODEL.format(classifier)
    for classifier in ("LogisticRegression(C=10)", "LogisticRegression(C=9)", "DummyClassifier(strategy='prior')")
)
ALL = ["read", FIRST, "search", "protocols", "before", "fit", "this-run"]
EDIT = "edit pmip/text.py"
UNDO = "undo the edit"
STOPPED = {
    step: CELLS[step].replace("\nprovenance.finish(", "\nraise KeyboardInterrupt\nprovenance.finish(")
    for step in ("search", "protocols")
}
SERVED, MEASURED = "'The model that is served'", "'How good is it\\?'"

# After all cells have run: the cells that are run next, and a part of the refusal, or the published classifier.
ORDERS: dict[str, tuple[list[str], str]] = {
    "a useless model behind the figures of a good one": ([USELESS, "search", "fit", "this-run"], MEASURED),
    "only the cell of the model": ([OTHER, "gate"], "'The search' .* other pipeline or search space"),
    "no evaluation and no fit": ([OTHER, "search", "this-run"], f"{MEASURED}.*{SERVED}"),
    "no fit": ([OTHER, "search", "protocols", "before", "this-run"], SERVED),
    "no description": ([OTHER, "search", "protocols", "before", "fit", "gate"], "'This version'"),
    "no comparison": ([OTHER, "search", "protocols", "fit", "this-run"], "'Comparison with the previous model'"),
    "an interrupted search": ([STOPPED["search"], "fit", "this-run"], "'The search' did not end"),
    "an interrupted evaluation": ([STOPPED["protocols"], "this-run"], f"{MEASURED} did not end"),
    "other code for the final fit": ([EDIT, "fit", "this-run"], "'The search' was made with other code"),
    "other code after the description": ([EDIT, "gate"], "'This version' was made with other code"),
    "an edit that is undone": ([EDIT, "fit", UNDO, "this-run"], f"{SERVED} was made with other code"),
    "other data": (["TRAINING_DATA_ID = '20250101'", "read", "fit", "this-run"], "'The search' .* other comments"),
    "another seed": (["SEED = 1", "fit", "this-run"], "'The search' was made with other parameters"),
    "a share of spam": (["SPAM_SHARE = 0.2", "gate"], f"{SERVED} was made with other parameters"),
    "another search space": (["search_space = {'classifier__C': [1, 2]}", "gate"], "other pipeline or search space"),
    "a changed step": (["pipeline.set_params(classifier__C=2)", "gate"], "other pipeline or search space"),
    "figures after the fit": ([OTHER, "search", "fit", "protocols", "before", "this-run", "gate"], "C=9"),
    "a limit of the gate": (["MIN_ACCURACY = 0", "gate"], "C=10"),
}


class Notebook:
    """The notebook in a real kernel, which imports a copy of the package."""

    def __init__(self, kernel: Any, folder: Path) -> None:
        self._kernel, self.folder, self.module = kernel, folder, folder / "code" / "pmip" / "text.py"
        self._text = self.module.read_text()

    def run(self, action: str) -> str:
        """Run a cell by its id, or some code, or edit the package; return the error, if there is one."""
        if action in (EDIT, UNDO):
            self.module.write_text(self._text + "\n_EDITED = True\n" * (action == EDIT))
            return ""
        reply = self._kernel.execute_interactive(CELLS.get(action, action), timeout=300, output_hook=lambda _: None)
        return f"{reply['content']['ename']}: {reply['content']['evalue']}" if "ename" in reply["content"] else ""

    def published(self) -> bytes:
        return b"".join((self.folder / "data" / name).read_bytes() for name in ("metadata.json", "model.pkl"))


@pytest.fixture(scope="module")
def notebook(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Notebook]:
    folder = tmp_path_factory.mktemp("orders")
    shutil.copytree(ROOT / "pmip", folder / "code" / "pmip")
    (folder / "notebooks").mkdir()
    for day, files in {"20250101": SAMPLE[2:4], "20260101": SAMPLE[:2]}.items():
        (folder / "data" / "training" / day).mkdir(parents=True)
        for file in files:
            shutil.copy(file, folder / "data" / "training" / day)
    environ = os.environ | {"DATA_DIR": str(folder / "data"), "ENVIRONMENT": "dev", "BUCKET": ""}
    environ |= {"PYTHONPATH": str(folder / "code"), "LOKY_MAX_CPU_COUNT": "1"}
    with run_kernel(env=environ, cwd=str(folder / "notebooks")) as kernel:
        notebook = Notebook(kernel, folder)
        for action in ("autoreload", "parameters", QUICK, "imports"):
            assert notebook.run(action) == ""
        yield notebook


@pytest.mark.parametrize("case", ORDERS)
def test_a_version_is_published_only_with_its_own_description(notebook: Notebook, case: str) -> None:
    """The gate names the cells with results of another model, code or data; a published version describes its model."""
    actions, outcome = ORDERS[case]
    for action in (UNDO, "parameters", QUICK, FIRST):
        notebook.run(action)
    if notebook.run("this-run"):  # some step is not of the first model
        assert [notebook.run(action) for action in ALL] == [""] * len(ALL)
    assert [notebook.run("gate"), notebook.run("publish")] == ["", ""]
    before = notebook.published()
    errors = [error for action in (*actions, "publish") if (error := notebook.run(action))]
    if not outcome.startswith("C="):
        assert any(error.startswith("GateError") for error in errors), errors
        assert re.search(outcome, " ".join(errors)), errors
        assert notebook.published() == before
        return
    assert errors == []
    artifact = LocalModel(notebook.folder / "data").fetch()
    assert artifact.metadata
    assert outcome in artifact.metadata.parameters["pipeline"]
    assert outcome == f"C={run_pickle(artifact.model)['classifier'].C}"
