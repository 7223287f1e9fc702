"""The rehearsal of a model before the search: what could never be trained, saved or served ends the run at once.

Errors of scikit-learn may quote a comment, so messages name their type and their place, not their text.
"""

import pickle
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import issparse
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import StackingClassifier
from sklearn.feature_extraction.text import HashingVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import ParameterGrid
from sklearn.pipeline import Pipeline
from sklearn.utils import get_tags

from pmip.errors import ArtifactError
from pmip.model.artifact import Metadata, pack
from pmip.training import spam_share
from pmip.training.augmentation import Augmented
from pmip.training.publishing import verify_and_load
from pmip.training.scale import place

REHEARSED = 150  # comments of each class
NO_TERMS = (
    "After pruning, no terms remain",
    "empty vocabulary",
    "max_df corresponds to < documents than min_df",
)  # how scikit-learn's errors about it begin
# How a classifier without probabilities gets them; CalibratedClassifierCV can add them to any other.
PROBABILITIES = {"SGDClassifier": 'loss="log_loss"', "VotingClassifier": 'voting="soft"'}


def rehearse(
    pipeline: Any, search_space: Any, comments: NDArray[Any], labels: NDArray[Any], share: float | None = None
) -> str:
    """Fit a pipeline to a few comments, pack and verify it; return why the API cannot read it as data, or a blank.

    Raise `ArtifactError` if it can never be trained, saved or served.
    """
    _require_steps(pipeline)
    _require_probabilities(pipeline["classifier"], share)
    _require_search_space(pipeline, search_space)
    _require_loadable(pipeline)
    model = Augmented(clone(pipeline).steps, share=share)
    rows = np.sort(np.concatenate([np.flatnonzero(labels == label)[:REHEARSED] for label in (0, 1)]))
    try:
        fitted = clone(model).fit(comments[rows], labels[rows]).plain()
    except Exception:  # all comments may have enough features
        fitted = _fit_to_all(model, comments, labels)
    return verify_and_load(pack(fitted, Metadata("20000101"))).reason


def _require_steps(pipeline: Any) -> None:
    if not isinstance(pipeline, Pipeline) or [name for name, _ in pipeline.steps] != ["features", "classifier"]:
        raise ArtifactError("`pipeline` must be a Pipeline with the two steps 'features' and 'classifier'")
    if any(isinstance(step, ColumnTransformer) for step in _parts(pipeline)):
        raise ArtifactError("ColumnTransformer needs a table with columns, but a model gets only the texts of comments")


def _require_probabilities(classifier: Any, share: float | None) -> None:
    name = type(classifier).__name__
    last = classifier
    if isinstance(classifier, StackingClassifier):  # it has predict_proba only once its last classifier is fitted
        last = classifier.final_estimator or LogisticRegression()
    if not hasattr(last, "predict_proba"):
        mend = f"set {PROBABILITIES[name]}" if name in PROBABILITIES else f"use CalibratedClassifierCV({name}())"
        raise ArtifactError(f"{name} has no predict_proba with these settings; {mend}")
    if share is not None and not spam_share.is_supported(classifier):
        raise ArtifactError(f"SPAM_SHARE needs a classifier with sample weights, which {name} does not support")


def _require_search_space(pipeline: Pipeline, search_space: Any) -> None:
    for space in [search_space] if isinstance(search_space, Mapping) else search_space:
        for name, values in space.items():
            if hasattr(values, "rvs"):
                raise ArtifactError(
                    f"search_space gives a distribution for {name}, but GridSearchCV needs a list of values such as "
                    "[1, 10, 100]; or replace GridSearchCV by RandomizedSearchCV in the cell 'The search'"
                )
    valid = pipeline.get_params().keys()
    try:
        unknown = {name for candidate in ParameterGrid(search_space) for name in candidate} - valid
    except (TypeError, ValueError) as error:  # its text quotes the search space, which holds no comment
        raise ArtifactError(f"search_space cannot be used: {error}") from None
    if unknown:
        names = ", ".join(sorted(name for name in valid if name.startswith("classifier__")))
        raise ArtifactError(
            f"search_space names {', '.join(sorted(unknown))}, which the pipeline does not have; the classifier has "
            f"{names}; pipeline.get_params() lists all"
        )


def _require_loadable(pipeline: Pipeline) -> None:
    """Refuse what an API cannot import: a pickle names functions and classes, and does not contain them."""
    mend = "move what the notebook defines to pmip/steps.py or pmip/text.py, and import it from there"
    try:
        pickled = pickle.dumps(pipeline)
    except Exception as error:
        raise ArtifactError(f"`pipeline` cannot be pickled ({type(error).__name__}); {mend}") from None
    if b"__main__" in pickled:
        raise ArtifactError(f"`pipeline` has a function or class of this notebook, which no API can load; {mend}")


def _fit_to_all(model: Augmented, comments: NDArray[Any], labels: NDArray[Any]) -> Pipeline:
    features, classifier = model["features"], model["classifier"]
    try:
        transformed = clone(features).fit_transform(comments, labels)
    except Exception as error:
        if str(error).startswith(NO_TERMS):  # the text of these errors quotes no comment
            raise ArtifactError(
                "a vectorizer finds no word or n-gram that occurs in at least min_df comments; lower min_df, or use "
                "analyzer='char' if the texts have no spaces between words"
            ) from None
        raise ArtifactError(f"the features cannot be fitted to a list of texts ({place(error)})") from None
    tags, name = get_tags(classifier).input_tags, type(classifier).__name__
    if tags.positive_only and transformed.min() < 0:
        signed = any(isinstance(step, HashingVectorizer) for step in _parts(features))
        mend = "; set alternate_sign=False in HashingVectorizer" if signed else ""
        raise ArtifactError(f"{name} does not accept features below 0{mend}")
    if issparse(transformed) and not tags.sparse:
        raise ArtifactError(f"{name} does not accept sparse features; put TruncatedSVD(100) after the vectorizer")
    try:
        return clone(model).fit(comments, labels).plain()
    except Exception as error:
        raise ArtifactError(f"{name} cannot be fitted to the features ({place(error)})") from None


def _parts(pipeline: Any) -> Iterable[Any]:
    return [pipeline, *pipeline.get_params().values()]
