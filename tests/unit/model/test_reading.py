"""A model read from model.pkl gives the pipeline's own probabilities; one that look-ups cannot reproduce is refused."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from fitted_models import COMMENTS, WRITERS, check, joblib_dumps, pipelines
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import CountVectorizer, TfidfTransformer, TfidfVectorizer
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.pipeline import FeatureUnion, Pipeline

from pmip import text
from pmip.errors import ArtifactError, NotReadableError, OtherTextError
from pmip.model.reading import read
from pmip.steps import CommentFeatures

TEXTS = ["free song", "song of the day", "free free cards", "who is here", "Love the song", "cards"]
LABELS = [1, 0, 1, 0, 0, 1]


@pytest.mark.filterwarnings("ignore:The parameter:UserWarning", "ignore:Your stop_words:UserWarning")
@settings(max_examples=100, deadline=None, derandomize=True)
@given(
    pipelines(),
    st.sampled_from([*WRITERS.values()]),
    st.lists(COMMENTS, min_size=6, max_size=6),
    st.lists(COMMENTS, min_size=1, max_size=5),
)
def test_a_read_model_answers_as_the_pipeline_does(
    model: tuple[Pipeline, bool], write: Callable[[Any], bytes], corpus: list[str], others: list[str]
) -> None:
    """A model read as data gives the pipeline's probabilities, for any settings, file format and comments."""
    check(*model, write, corpus, others)


@pytest.mark.parametrize("writer", WRITERS)
def test_every_way_of_writing_a_model_is_read_alike(model: Pipeline, writer: str) -> None:
    """A model is read as the same data from every protocol and compression."""
    assert read(WRITERS[writer](model)) == read(joblib_dumps(model))


@pytest.mark.parametrize("labels", [bool, float, np.uint8, ">i4"])
def test_labels_may_be_of_any_type_of_number(labels: Any) -> None:
    """The classes are read as 0 and 1, whatever the type of the labels at training."""
    assert read(joblib_dumps(fitted(labels=np.array(LABELS, labels)))) == read(joblib_dumps(fitted()))


class OwnVectorizer(TfidfVectorizer):  # type: ignore[misc]
    """A subclass, which could compute anything."""


class OwnFeatures(CommentFeatures):
    """A subclass, which could compute anything."""


def fitted(features: Any = None, classifier: Any = None, labels: Any = LABELS) -> Pipeline:
    steps = [("features", features or TfidfVectorizer()), ("classifier", classifier or LogisticRegression())]
    return Pipeline(steps).fit(TEXTS, labels)


def vectorizer(**changes: Any) -> Pipeline:
    return fitted(TfidfVectorizer(**changes))


def changed(step: int, **state: Any) -> Pipeline:
    model = fitted()
    vars(model[step]).update(state)
    return model


def changed_tfidf(**state: Any) -> Pipeline:
    model = fitted()
    vars(model[0]._tfidf).update(state)
    return model


def split(comment: str) -> list[str]:
    """Split a comment with a function that a worker does not have."""
    return comment.split()


def unfitted(features: Any) -> Pipeline:
    return Pipeline([("features", features), fitted().steps[1]])


def weighted(transformer: Any, weight: float) -> FeatureUnion:
    return FeatureUnion([("only", transformer)], transformer_weights={"only": weight})


COLUMNS = len(fitted()[0].vocabulary_)
CAN_ONLY_BE_RUN: dict[str, tuple[Callable[[], Any], str]] = {
    "no pipeline": (LogisticRegression, "the model is a LogisticRegression"),
    "a list": (lambda: [1], "the model is a list"),
    "three steps": (lambda: Pipeline([(name, TfidfVectorizer()) for name in "abc"]), "3 steps"),
    "a step of another class": (
        lambda: Pipeline([("a", TfidfVectorizer()), ("b", TruncatedSVD())]),
        r"contains sklearn\.decomposition\._truncated_svd\.TruncatedSVD",
    ),
    "another classifier": (lambda: Pipeline([fitted().steps[0]] * 2), "the classifier is a TfidfVectorizer"),
    "another loss": (
        lambda: fitted(classifier=SGDClassifier(loss="modified_huber")),
        r"contains sklearn\.linear_model\._sgd_fast\.ModifiedHuber",
    ),
    "twice the log-odds": (lambda: changed(1, multi_class="multinomial"), "multi_class=multinomial"),
    "classes that are texts": (lambda: fitted(labels=["1", "0"] * 3), "array of dtype U1"),
    "sparse coefficients": (lambda: changed(1, coef_=fitted()[1].sparsify().coef_), r"contains scipy\.sparse"),
    "coefficients in a list": (lambda: changed(1, coef_=[1.0]), "the coefficients are a list"),
    "coefficients of many classes": (
        lambda: changed(1, coef_=np.ones((3, COLUMNS))),
        "array of the model has the shape",
    ),
    "coefficients that are no number": (lambda: changed(1, coef_=np.full((1, COLUMNS), np.nan)), "is not finite"),
    "infinite coefficients": (lambda: changed(1, coef_=np.full((1, COLUMNS), np.inf)), "is not finite"),
    "huge coefficients": (lambda: changed(1, coef_=np.full((1, COLUMNS), 1e7)), "larger than 1,000,000"),
    "coefficients of whole numbers": (
        lambda: changed(1, coef_=np.ones((1, COLUMNS), int)),
        "dtype of the coefficients is i8",
    ),
    "an infinite intercept": (lambda: changed(1, intercept_=np.array([np.inf])), "in the intercept a number"),
    "an infinite idf": (lambda: changed_tfidf(idf_=np.full(COLUMNS, np.inf)), "in the idf a number"),
    "an infinite weight": (lambda: fitted(weighted(CommentFeatures(), 1e300)), "weight"),
    "a weight that is a text": (lambda: unfitted(CommentFeatures(weight="2")), "weight is of type str"),
    "a subclass of vectorizers": (lambda: fitted(OwnVectorizer()), r"contains .*test_reading\.OwnVectorizer"),
    "a subclass of features": (lambda: fitted(OwnFeatures()), r"contains .*test_reading\.OwnFeatures"),
    "counts": (lambda: fitted(CountVectorizer()), r"contains sklearn\.feature_extraction\.text\.CountVectorizer"),
    "features passed through": (lambda: unfitted("passthrough"), "features come from a str"),
    "features of a pipeline": (lambda: unfitted(Pipeline([("a", TfidfVectorizer())])), "features come from a Pipeline"),
    "features of a transformer": (lambda: unfitted(TfidfTransformer()), "features come from a TfidfTransformer"),
    "float32": (lambda: vectorizer(dtype=np.float32), r"contains numpy\.float32"),
    "float32 by its name": (lambda: vectorizer(dtype="float32"), "dtype is float32"),
    "files": (lambda: changed(0, input="filename"), "input=filename"),
    "an n-gram range from 0": (lambda: changed(0, ngram_range=(0, 2)), "ngram_range"),
    "an n-gram range that is true": (lambda: changed(0, ngram_range=(True, 2)), "ngram_range"),
    "an own analyzer": (lambda: vectorizer(analyzer=split), r"contains .*test_reading\.split"),
    "an own tokenizer": (lambda: vectorizer(tokenizer=split, token_pattern=None), "split"),
    "an own preprocessor": (lambda: vectorizer(preprocessor=str.lower), "getattr"),
    "a class for a function": (lambda: changed(0, preprocessor=np.float64), r"calls numpy\.float64"),
    "a text for a function": (lambda: changed(0, tokenizer="tokens"), "calls tokens"),
    "own accents": (lambda: vectorizer(strip_accents=text.normalised), "strip_accents=pmip.text.normalised"),
    "an expensive pattern": (lambda: vectorizer(token_pattern=r"(?:\w+\s*)+"), "token_pattern is"),
    "scikit-learn's stop words": (lambda: vectorizer(stop_words="english"), "stop_words are english"),
    "surrogate pairs": (lambda: vectorizer(vocabulary=["free", "\ud83d\ude0d"]), "surrogate pairs"),
    "a setting of another type": (lambda: changed(0, binary=1), "TfidfVectorizer has binary=int"),
}
DAMAGED: dict[str, tuple[Callable[[], Any], str]] = {
    "a pipeline of other things": (lambda: Pipeline([1, 2]), "not names and steps"),
    "an unfitted classifier": (
        lambda: Pipeline([("a", TfidfVectorizer()), ("b", LogisticRegression())]),
        "no classes_",
    ),
    "an unfitted vectorizer": (lambda: unfitted(TfidfVectorizer()), "has no _tfidf"),
    "three classes": (lambda: fitted(labels=[0, 1, 2, 0, 1, 2]), r"classes are not \[0, 1\]"),
    "classes 1 and 2": (lambda: fitted(labels=[1, 2, 1, 2, 2, 1]), r"classes are not \[0, 1\]"),
    "coefficients missing": (lambda: changed(1, coef_=np.ones((1, 3))), "fewer coefficients than features"),
    "features missing": (lambda: changed(1, coef_=np.ones((1, 99))), "more coefficients than features"),
    "an idf too short": (lambda: changed_tfidf(idf_=np.ones(2)), "2 idf for"),
    "terms renumbered": (lambda: changed(0, vocabulary_={"free": 1}), "gaps in its numbering"),
    "terms numbered by texts": (lambda: changed(0, vocabulary_={"free": "0"}), "does not map terms to numbers"),
    "terms that are not texts": (lambda: changed(0, vocabulary_={7: 0}), "terms that are not texts"),
}


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::RuntimeWarning")
@pytest.mark.parametrize("write", [joblib_dumps, WRITERS["pickle 2"]])
@pytest.mark.parametrize(("model", "reason"), CAN_ONLY_BE_RUN.values(), ids=CAN_ONLY_BE_RUN)
def test_what_look_ups_cannot_give_is_refused_with_the_way_out(
    model: Callable[[], Any], reason: str, write: Callable[[Any], bytes]
) -> None:
    """A model whose probabilities could differ is refused, and the message gives the reason and the way to run it."""
    with pytest.raises(NotReadableError, match=reason) as refusal:
        read(write(model()))
    assert "can be run but not read as data; if you trust" in str(refusal.value)


@pytest.mark.parametrize(("model", "fault"), DAMAGED.values(), ids=DAMAGED)
def test_what_no_fit_leaves_behind_is_damaged(model: Callable[[], Any], fault: str) -> None:
    """A damaged model is refused with the fault; running it would not help, so it does not count as only runnable."""
    with pytest.raises(ArtifactError, match=fault) as refusal:
        read(joblib_dumps(model()))
    assert not isinstance(refusal.value, NotReadableError)


def test_settings_that_do_not_matter_do_not_count() -> None:
    """A setting that the analyzer never uses does not cause a refusal."""
    model = fitted(TfidfVectorizer(analyzer="char", ngram_range=(1, 2)))
    model[0].set_params(token_pattern="(a+)+", stop_words="english")
    assert read(joblib_dumps(model))["parts"][0]["analyzer"] == "char"


def test_the_settings_of_the_fit_count() -> None:
    """A norm that was changed after the fit has no effect, as in scikit-learn; other changed settings have."""
    model = fitted()
    model[0].set_params(norm=None, binary=True)
    (part,) = read(joblib_dumps(model))["parts"]
    assert (part["norm"], part["binary"]) == ("l2", True)


def test_unions_that_hold_one_another_end() -> None:
    """A union that would have to be walked 2^60 times is refused after twenty transformers."""
    union = FeatureUnion([("no", "drop")])
    for _ in range(60):
        union = FeatureUnion([("a", union), ("b", union)])
    with pytest.raises(NotReadableError, match="more than 20 transformers"):
        read(joblib_dumps(unfitted(union)))


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"vocabulary_": {f"{n}": n for n in range(40_000)}}, "the vocabularies have more than 500,000 terms"),
        ({"stop_words": ["x" * 2_000_000]}, "the terms have more than 20,000,000 characters"),
        ({"analyzer": "char", "ngram_range": (1, 10)}, "the lengths of all n-grams add up to more than 100"),
    ],
)
def test_a_small_file_does_not_become_a_large_or_slow_model(settings: dict[str, Any], reason: str) -> None:
    """Transformers that share a vocabulary, stop list or n-gram range count once each towards a model's limits."""
    model = changed(0, **settings)
    columns = len(model[0].vocabulary_)
    vars(model[0]._tfidf)["idf_"] = np.ones(columns)
    vars(model[1])["coef_"] = np.ones((1, 15 * columns))
    model.steps[0] = ("features", FeatureUnion([(f"part {n}", model[0]) for n in range(15)]))
    with pytest.raises(NotReadableError, match=reason):
        read(joblib_dumps(model))


@pytest.mark.parametrize("names", [None, text.COMMENT_FEATURES, ("has address", "share of capitals")])
def test_a_model_with_other_comment_features_names_them(names: Any) -> None:
    """A model of other comment features is refused with both lists; one from before they had names is still read."""
    model = fitted(CommentFeatures())
    assert model[0].feature_names_ == text.COMMENT_FEATURES
    vars(model[0]).update(feature_names_=names)
    if names is None:
        del model[0].feature_names_
    if names in (None, text.COMMENT_FEATURES):
        assert read(joblib_dumps(model)) == read(joblib_dumps(fitted(CommentFeatures())))
        return
    here = ", ".join(text.COMMENT_FEATURES)
    reason = f"with the comment features has address, share of capitals; this pmip.text computes {here}: deploy the API"
    with pytest.raises(OtherTextError, match=reason):
        read(joblib_dumps(model))
