"""The notebook trains any classifier with predict_proba after an edit of one cell."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT
from edited_notebooks import run_edited
from papermill.exceptions import PapermillExecutionError

from pmip.errors import NotReadableError
from pmip.model.verification import load
from pmip.store.versions import LocalModel
from pmip.training.table import table

HEAD = """
from sklearn.calibration import CalibratedClassifierCV
from sklearn.decomposition import TruncatedSVD
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.pipeline import FeatureUnion, Pipeline, make_pipeline
from sklearn.svm import LinearSVC

from pmip import steps, text

words = TfidfVectorizer(analyzer=text.token_ngrams, min_df=2)
features = FeatureUnion([("words", words), ("comment", steps.CommentFeatures())])
pipeline = Pipeline([("features", {features}), ("classifier", {classifier})])
search_space = {search_space}
"""
DENSE = "make_pipeline(features, TruncatedSVD(20, random_state=0))"
MODELS = {
    "calibrated": ("features", "CalibratedClassifierCV(LinearSVC())", '{"classifier__estimator__C": [0.3, 1.0]}'),
    "boosting": (DENSE, "HistGradientBoostingClassifier(max_iter=20, random_state=0)", "{}"),
}
SGD = ("features", 'SGDClassifier(loss="log_loss", random_state=0)', '{"classifier__alpha": [1e-4, 1e-3]}')


def trained(folder: Path, model: tuple[str, str, str], head: str = HEAD) -> str:
    features, classifier, search_space = model

    def edit(cell: Any) -> None:
        if "model" in cell.metadata.get("tags", []):
            names = {"{features}": features, "{classifier}": classifier, "{search_space}": search_space}
            cell.source = head
            for name, value in names.items():
                cell.source = cell.source.replace(name, value)

    executed = run_edited(folder, edit)
    return str([output for cell in executed.cells for output in cell.get("outputs", [])])


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_what_can_only_be_run_is_trained_saved_and_told(tmp_path: Path, model: tuple[str, str, str]) -> None:
    """A model that can only be run is saved; the report says so, and an API loads it only with TRUST_PICKLES."""
    report = trained(tmp_path, model)
    assert "The API cannot read this model as data" in report
    assert "cannot be explained" in report
    artifact = LocalModel(tmp_path).fetch()
    assert artifact.metadata
    assert "needs TRUST_PICKLES" in table([artifact.metadata], [])[1]
    with pytest.raises(NotReadableError, match="TRUST_PICKLES"):
        load(artifact, "it", "dev")
    scorer = load(artifact, "it", "dev", trust_pickles=True)
    assert scorer.description["scorer"] == "estimator"
    assert scorer.classes(["check out my channel http://x.com/free subscribe"]) == [1]


def test_another_linear_model_is_read_as_data(tmp_path: Path) -> None:
    """The API reads another linear model, such as SGDClassifier, as data and explains its answers."""
    report = trained(tmp_path, SGD)
    assert "The API can read a model of this kind as data" in report
    scorer = load(LocalModel(tmp_path).fetch(), "it", "dev")
    assert scorer.description["scorer"] == "lookups"
    assert scorer.explanations(["check out my channel"])[0]["contributions"]


OWN_STEP = '''

class Lengths(TransformerMixin, BaseEstimator):
    """The length of each comment."""

    def fit(self, comments, labels=None):
        return self

    def transform(self, comments):
        return np.array([[len(comment)] for comment in comments])

    def __sklearn_is_fitted__(self):
        return True
'''


def test_a_step_of_ones_own_comes_from_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step that is added to pmip/steps.py is trained, and the report says that the API needs TRUST_PICKLES."""
    package = tmp_path / "code" / "pmip"
    shutil.copytree(ROOT / "pmip", package)
    with (package / "steps.py").open("a") as file:
        file.write(OWN_STEP)
    monkeypatch.setenv("PYTHONPATH", str(package.parent))
    report = trained(tmp_path, ("steps.Lengths()", "LogisticRegression()", "{}"))
    assert "the model contains pmip.steps.Lengths" in report
    assert "TRUST_PICKLES=true" in report
    assert LocalModel(tmp_path).fetch().metadata


def test_a_class_of_the_notebook_ends_the_run(tmp_path: Path) -> None:
    """A step that the notebook defines ends the run without a model, and the error says to move it to pmip/steps.py."""
    head = HEAD.replace(
        "words = ",
        f"import numpy as np\nfrom sklearn.base import BaseEstimator, TransformerMixin\n{OWN_STEP}\nwords = ",
    )
    with pytest.raises(PapermillExecutionError, match=r"which no API can load; move .* to pmip/steps\.py"):
        trained(tmp_path, ("Lengths()", "LogisticRegression()", "{}"), head)
    assert not (tmp_path / "model.pkl").exists()
