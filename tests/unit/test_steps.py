"""The pipeline step around the features of comments, in a real pipeline."""

import io
import pickle

import joblib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_matrix
from sklearn.base import clone
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import FeatureUnion, Pipeline

from pmip import text
from pmip.steps import CommentFeatures

SPAM = ["Check out my channel", "subscribe to my channel please", "free gift cards http://cards.com/free"]
SPAM += ["please check out my video on youtube", "make money at home: www.money.com", "SUBSCRIBE to me!!!"]
HAM = ["I love this song", "best song ever <3", "who is here in 2015?", "Eminem is a legend", "this beat is so good"]
HAM += ["love the dance at 2:19"]
COMMENTS, LABELS = SPAM + HAM, [1] * len(SPAM) + [0] * len(HAM)


def make_pipeline() -> Pipeline:
    """Return a pipeline such as the notebook's, unfitted."""
    words = TfidfVectorizer(analyzer=text.token_ngrams, binary=True, min_df=2)
    characters = TfidfVectorizer(
        analyzer="char_wb", ngram_range=(4, 4), preprocessor=text.normalised, binary=True, min_df=2
    )
    features = FeatureUnion([("words", words), ("characters", characters), ("comment", CommentFeatures())])
    return Pipeline([("features", features), ("classifier", LogisticRegression(solver="liblinear", C=100))])


@pytest.fixture(scope="module")
def pipeline() -> Pipeline:
    """Return the pipeline fitted on a handful of comments."""
    return make_pipeline().fit(COMMENTS, LABELS)


def test_transform_gives_the_weighted_features() -> None:
    """A row holds the comment's features times the weight, as a sparse float64 matrix."""
    rows = CommentFeatures(weight=0.5).transform(COMMENTS)
    assert isinstance(rows, csr_matrix)
    assert rows.dtype == np.float64
    assert rows.shape == (len(COMMENTS), len(text.COMMENT_FEATURES))
    expected = 0.5 * np.array([text.comment_features(comment) for comment in COMMENTS])
    np.testing.assert_array_equal(rows.toarray(), expected)


def test_no_comments_make_no_rows() -> None:
    """An empty list gives a matrix without rows."""
    assert CommentFeatures().fit_transform([]).shape == (0, len(text.COMMENT_FEATURES))


def test_any_iterable_of_comments_will_do() -> None:
    """A generator and an array of comments give what the list gives."""
    expected = CommentFeatures().transform(COMMENTS).toarray()
    np.testing.assert_array_equal(CommentFeatures().transform(iter(COMMENTS)).toarray(), expected)
    np.testing.assert_array_equal(CommentFeatures().transform(np.array(COMMENTS, dtype=object)).toarray(), expected)


def test_the_weight_is_a_parameter() -> None:
    """The weight is read, set and cloned as scikit-learn expects of a parameter."""
    step = CommentFeatures(weight=3.0)
    assert clone(step).get_params() == {"weight": 3.0}
    assert step.set_params(weight=1.0).weight == 1.0


def test_the_weight_can_be_searched() -> None:
    """A grid search can choose the weight inside the pipeline."""
    search = GridSearchCV(make_pipeline(), {"features__comment__weight": [0.0, 1.0]}, cv=2).fit(COMMENTS, LABELS)
    assert search.best_params_["features__comment__weight"] in {0.0, 1.0}


def test_an_unfitted_pipeline_step_is_ready() -> None:
    """The step learns nothing, so that it transforms and names its columns before any fit."""
    assert CommentFeatures().get_feature_names_out().tolist() == list(text.COMMENT_FEATURES)


def test_the_pipeline_names_its_features(pipeline: Pipeline) -> None:
    """Each coefficient of the fitted pipeline has a readable feature name."""
    names = pipeline[:-1].get_feature_names_out()
    assert len(names) == pipeline[-1].coef_.shape[1]
    assert {"words__my chnl", "comment__has address"} <= set(names)


def test_the_pipeline_learns(pipeline: Pipeline) -> None:
    """The pipeline tells spam from other comments, in disguise too."""
    spam = ["CHECK out mу сhаnnel", "s.u.b.s.c.r.i.b.e to me"]
    assert pipeline.predict(spam).tolist() == [1, 1]
    assert pipeline.predict(["love this song", "so good"]).tolist() == [0, 0]


@settings(max_examples=20, deadline=None)
@given(st.lists(st.text(st.characters()), min_size=1, max_size=5))
def test_a_pickled_pipeline_gives_the_same_probabilities(pipeline: Pipeline, comments: list[str]) -> None:
    """A fitted pipeline that went through pickle or joblib gives exactly the probabilities it gave before."""
    expected = pipeline.predict_proba(comments)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(pipeline)).predict_proba(comments), expected)
    file = io.BytesIO()
    joblib.dump(pipeline, file)
    file.seek(0)
    np.testing.assert_array_equal(joblib.load(file).predict_proba(comments), expected)


class RecordingUnpickler(pickle.Unpickler):
    """Notes the names that a pickle looks up in this package."""

    def __init__(self, pickled: bytes) -> None:
        super().__init__(io.BytesIO(pickled))
        self.names: set[str] = set()

    def find_class(self, module: str, name: str) -> object:
        """Note the name, then look it up."""
        if module.startswith("pmip"):
            self.names.add(f"{module}.{name}")
        return super().find_class(module, name)


def test_a_pickle_names_these_and_no_others(pipeline: Pipeline) -> None:
    """A pickled pipeline names exactly these objects of the package, and so they keep their names."""
    unpickler = RecordingUnpickler(pickle.dumps(pipeline))
    unpickler.load()
    assert unpickler.names == {"pmip.steps.CommentFeatures", "pmip.text.token_ngrams", "pmip.text.normalised"}
