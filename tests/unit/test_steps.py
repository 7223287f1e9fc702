"""The pipeline step around the features of comments, in a real pipeline."""

import io
import pickle

import numpy as np
import pytest
from scipy.sparse import csr_matrix
from sklearn.base import clone
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import FeatureUnion, Pipeline

from pmip import text
from pmip.steps import CommentFeatures

SPAM = ["Check out my channel", "subscribe to my channel please", "free gift cards http://cards.com/free"]
SPAM += ["please check out my video on youtube", "make money at home: www.money.com", "SUBSCRIBE to me!!!"]
HAM = ["I love this song", "best song ever <3", "who is here in 2015?", "Eminem is a legend", "this beat is so good"]
HAM += ["love the dance at 2:19"]
COMMENTS, LABELS = SPAM + HAM, [1] * len(SPAM) + [0] * len(HAM)


def make_pipeline() -> Pipeline:
    words = TfidfVectorizer(analyzer=text.token_ngrams, binary=True, min_df=2)
    characters = TfidfVectorizer(
        analyzer="char_wb", ngram_range=(4, 4), preprocessor=text.normalised, binary=True, min_df=2
    )
    features = FeatureUnion([("words", words), ("characters", characters), ("comment", CommentFeatures())])
    return Pipeline([("features", features), ("classifier", LogisticRegression(solver="liblinear", C=100))])


@pytest.fixture(scope="module")
def pipeline() -> Pipeline:
    return make_pipeline().fit(COMMENTS, LABELS)


def test_transform_gives_the_weighted_features() -> None:
    """A row holds the comment's features times the weight, as a sparse float64 matrix."""
    rows = CommentFeatures(weight=0.5).transform(COMMENTS)
    assert isinstance(rows, csr_matrix)
    assert rows.dtype == np.float64
    assert rows.shape == (len(COMMENTS), len(text.COMMENT_FEATURES))
    expected = 0.5 * np.array([text.comment_features(comment) for comment in COMMENTS])
    np.testing.assert_array_equal(rows.toarray(), expected)


def test_the_weight_is_a_parameter() -> None:
    """The weight is read, set and cloned as scikit-learn expects of a parameter."""
    step = CommentFeatures(weight=3.0)
    assert clone(step).get_params() == {"weight": 3.0}
    assert step.set_params(weight=1.0).weight == 1.0


class RecordingUnpickler(pickle.Unpickler):
    def __init__(self, pickled: bytes) -> None:
        super().__init__(io.BytesIO(pickled))
        self.names: set[str] = set()

    def find_class(self, module: str, name: str) -> object:
        if module.startswith("pmip"):
            self.names.add(f"{module}.{name}")
        return super().find_class(module, name)


def test_a_pickle_names_these_and_no_others(pipeline: Pipeline) -> None:
    """A pickled pipeline names exactly these objects of the package, and so they keep their names."""
    unpickler = RecordingUnpickler(pickle.dumps(pipeline))
    unpickler.load()
    assert unpickler.names == {"pmip.steps.CommentFeatures", "pmip.text.token_ngrams", "pmip.text.normalised"}
