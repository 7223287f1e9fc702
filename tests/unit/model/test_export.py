"""What can be exported comes back from JSON unchanged; the rest is refused with the reason."""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import CountVectorizer, TfidfTransformer, TfidfVectorizer
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.pipeline import FeatureUnion, Pipeline

from pmip import text
from pmip.errors import PmipError
from pmip.model.export import NotCompilable, export
from pmip.model.lookups import Lookup
from pmip.steps import CheapFeatures

COMMENTS = ["free song", "song of the day", "free free cards", "who is here", "Love the song", "cards"]
LABELS = [1, 0, 1, 0, 0, 1]


class OwnVectorizer(TfidfVectorizer):  # type: ignore[misc]
    """A subclass, which could compute anything."""


class OwnRegression(LogisticRegression):  # type: ignore[misc]
    """A subclass, which could compute anything."""


class OwnPipeline(Pipeline):  # type: ignore[misc]
    """A subclass, which could compute anything."""


class OwnFeatures(CheapFeatures):
    """A subclass, which could compute anything."""


def fitted(features: Any = None, classifier: Any = None, labels: Any = LABELS) -> Pipeline:
    """Fit a pipeline, by default of a plain vectorizer and a logistic regression."""
    steps = [("features", features or TfidfVectorizer()), ("classifier", classifier or LogisticRegression())]
    return Pipeline(steps).fit(COMMENTS, labels)


def vectorizer(**changes: Any) -> Pipeline:
    """Fit a pipeline whose vectorizer has these settings."""
    return fitted(TfidfVectorizer(**changes))


def changed(change: Callable[[Pipeline], object]) -> Pipeline:
    """Fit a pipeline and change it afterwards."""
    model = fitted()
    change(model)
    return model


def split(comment: str) -> list[str]:
    """Cut a comment by a function that a worker does not have."""
    return comment.split()


def set_coefficient(value: float) -> Callable[[Pipeline], None]:
    """Return the change of one coefficient."""
    return lambda model: model[1].coef_.__setitem__((0, 0), value)


REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "no pipeline": (lambda: LogisticRegression(), "the model is a LogisticRegression"),
    "a subclass of Pipeline": (lambda: OwnPipeline(fitted().steps), "the model is a OwnPipeline"),
    "three steps": (
        lambda: Pipeline([("a", TfidfVectorizer()), ("b", TruncatedSVD(2)), ("c", LogisticRegression())]).fit(
            COMMENTS, LABELS
        ),
        "3 steps",
    ),
    "an unfitted classifier": (
        lambda: Pipeline([("a", TfidfVectorizer()), ("b", LogisticRegression())]),
        "classes are",
    ),
    "an unfitted vectorizer": (lambda: Pipeline([("a", TfidfVectorizer()), fitted().steps[1]]), "is not fitted"),
    "another classifier": (lambda: fitted(classifier=OwnRegression()), "the classifier is a OwnRegression"),
    "another loss": (lambda: fitted(classifier=SGDClassifier(loss="modified_huber")), "loss is modified_huber"),
    "three classes": (lambda: fitted(labels=[0, 1, 2, 0, 1, 2]), r"classes are \[0, 1, 2\]"),
    "classes 1 and 2": (lambda: fitted(labels=[1, 2, 1, 2, 2, 1]), r"classes are \[1, 2\], not \[0, 1\]"),
    "classes that are texts": (lambda: fitted(labels=["1", "0"] * 3), "classes are"),
    "sparse coefficients": (lambda: changed(lambda model: model[1].sparsify()), "the coefficients are a csr_"),
    "coefficients that are no number": (
        lambda: changed(set_coefficient(np.nan)),
        "in the coefficients a number is not finite",
    ),
    "infinite coefficients": (lambda: changed(set_coefficient(np.inf)), "in the coefficients a number is not finite"),
    "huge coefficients": (lambda: changed(set_coefficient(1e7)), "beyond 1,000,000"),
    "coefficients of another type": (
        lambda: changed(lambda model: setattr(model[1], "coef_", model[1].coef_.astype(np.longdouble))),
        "the dtype of the coefficients is",
    ),
    "an infinite intercept": (
        lambda: changed(lambda model: setattr(model[1], "intercept_", np.array([np.inf]))),
        "in the intercept a number",
    ),
    "coefficients missing": (
        lambda: changed(lambda model: setattr(model[1], "coef_", model[1].coef_[:, 1:])),
        "fewer coefficients than features",
    ),
    "features missing": (
        lambda: Pipeline(
            [("a", FeatureUnion([("words", fitted()[0]), ("no", "drop")])), vectorizer(ngram_range=(1, 2)).steps[1]]
        ),
        "more coefficients than features",
    ),
    "an infinite idf": (
        lambda: changed(lambda model: model[0].idf_.__setitem__(0, np.inf)),
        "in the idf a number",
    ),
    "an idf too short": (
        lambda: changed(lambda model: setattr(model[0]._tfidf, "idf_", np.ones(2))),
        "2 idf for",
    ),
    "other vectorizers": (lambda: fitted(OwnVectorizer()), "features come from a OwnVectorizer"),
    "counts": (lambda: fitted(CountVectorizer()), "features come from a CountVectorizer"),
    "other features": (lambda: fitted(OwnFeatures()), "features come from a OwnFeatures"),
    "features passed through": (
        lambda: Pipeline([("a", FeatureUnion([("same", "passthrough")])), fitted().steps[1]]),
        "features come from a str",
    ),
    "a pipeline inside": (
        lambda: fitted(Pipeline([("count", CountVectorizer()), ("weigh", TfidfTransformer())])),
        "features come from a Pipeline",
    ),
    "float32": (lambda: vectorizer(dtype=np.float32), "dtype is float32"),
    "files": (lambda: changed(lambda model: model[0].set_params(input="filename")), "input is filename"),
    "an n-gram range from 0": (lambda: vectorizer(ngram_range=(0, 2)), r"ngram_range is \(0, 2\)"),
    "an own analyzer": (lambda: vectorizer(analyzer=split), "calls split, which is no function of pmip.text"),
    "an own tokenizer": (lambda: vectorizer(tokenizer=split, token_pattern=None), "calls split"),
    "an own preprocessor": (lambda: vectorizer(preprocessor=str.lower), "calls lower"),
    "own accents": (lambda: vectorizer(strip_accents=text.normalise), "strip_accents is a function"),
    "terms that are no texts": (lambda: vectorizer(vocabulary={"free": 0, 7: 1}, lowercase=False), "are no texts"),
    "terms renumbered": (
        lambda: changed(lambda model: model[0].vocabulary_.update(free=99)),
        "gaps in its numbering",
    ),
    "surrogate pairs": (lambda: vectorizer(vocabulary=["free", "\ud83d\ude0d"]), "surrogate pairs"),
    "a weight that is no number": (lambda: fitted(CheapFeatures(weight=np.float32(2))), "weight is of type float32"),
    "an infinite weight": (
        lambda: Pipeline([("a", CheapFeatures(weight=np.inf)), fitted(CheapFeatures()).steps[1]]),
        "in the weighted coefficients a number",
    ),
}


@pytest.mark.parametrize(("model", "reason"), REFUSED.values(), ids=REFUSED)
def test_what_look_ups_cannot_give_is_refused(model: Callable[[], Any], reason: str) -> None:
    """A model whose probabilities could come out different is refused, and the reason is told."""
    with pytest.raises(NotCompilable, match=reason):
        export(model())


def test_a_refusal_is_an_error_of_the_package() -> None:
    """Whoever catches the package's errors catches this one."""
    assert issubclass(NotCompilable, PmipError)


def test_json_keeps_an_export(model: Pipeline) -> None:
    """What is written is what is read, to the last digit."""
    plain = export(model)
    assert json.loads(json.dumps(plain)) == plain


def test_settings_that_do_not_matter_do_not_count() -> None:
    """A function that the analyzer never calls is no reason to refuse."""
    model = fitted(TfidfVectorizer(analyzer="char", ngram_range=(1, 2)))
    model[0].set_params(tokenizer=split, stop_words=["free"])
    assert export(model)["parts"][0]["analyzer"] == "char"


def test_the_settings_of_the_fit_count() -> None:
    """A norm that was changed after the fit changes nothing, as in scikit-learn; other settings do."""
    model = fitted()
    model[0].set_params(norm=None, binary=True)
    assert (export(model)["parts"][0]["norm"], export(model)["parts"][0]["binary"]) == ("l2", True)


def test_word_ngrams_are_pairs_of_tokens() -> None:
    """The package's own analyzer is exported in steps, which find what it finds."""
    model = fitted(TfidfVectorizer(analyzer=text.word_ngrams))
    (part,) = export(model)["parts"]
    assert (part["preprocessor"], part["tokenizer"], part["ngram_range"]) == ("normalise", "tokens", [1, 2])
    names = {name for name, _ in Lookup.from_plain(export(model)).explain("FREE s0ngs, free song")[1]}
    assert names == set(text.word_ngrams("FREE s0ngs, free song")) & model[0].vocabulary_.keys()
