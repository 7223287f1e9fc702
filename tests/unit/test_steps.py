"""The pipeline step that gives the features of comments, alone and in a fitted pipeline."""

import io
import pickle
from typing import Any

import numpy as np
from scipy.sparse import csr_matrix
from sklearn.base import clone

from pmip import text
from pmip.steps import CommentFeatures

COMMENTS = ["Check out my channel", "free gift cards http://cards.com/free", "I love this song", "best at 2:19 <3"]


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


def test_a_pickle_names_these_and_no_others(recipe: dict[str, Any]) -> None:
    """The pickle of the notebook's model names exactly these objects of pmip, which must therefore keep their names."""
    pipeline = clone(recipe["pipeline"]).fit(COMMENTS * 5, [1, 1, 0, 0] * 5)
    unpickler = RecordingUnpickler(pickle.dumps(pipeline))
    unpickler.load()
    assert unpickler.names == {"pmip.steps.CommentFeatures", "pmip.text.token_ngrams", "pmip.text.normalised"}
