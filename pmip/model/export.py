"""Turns a fitted pipeline of TF-IDF vectorizers and a linear classifier into plain data for `pmip.model.lookups`."""

import json
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

import numpy as np
from sklearn.feature_extraction.text import TfidfTransformer, TfidfVectorizer
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.pipeline import FeatureUnion, Pipeline

from pmip import text
from pmip.errors import PmipError
from pmip.steps import CheapFeatures

# Larger ones lose so many digits in a sum that another order of the terms gives another probability.
LARGEST_NUMBER = 1e6


class NotCompilable(PmipError):  # noqa: N818 - it is an answer about a model more than a fault
    """Raised when look-ups could not give exactly the model's probabilities; the text is the reason."""


def export(model: Any) -> dict[str, Any]:
    """Return all that scoring needs of a fitted spam classifier, as dicts, lists, texts and numbers that JSON keeps."""
    _require(type(model) is Pipeline, f"the model is a {_kind(model)}, not a Pipeline")
    _require(len(model.steps) == 2, f"the pipeline has {len(model.steps)} steps, not features and a classifier")
    features, classifier = model[0], model[1]
    columns = iter(_coefficients(classifier))
    parts = [_part(*weighted, columns) for weighted in _transformers(features, 1.0)]
    _require(not list(columns), "there are more coefficients than features")
    (intercept,) = _numbers(classifier.intercept_, "the intercept")
    data = {"intercept": intercept, "parts": parts}
    _require(json.loads(json.dumps(data)) == data, "its texts hold surrogate pairs, which JSON would join")
    return data


def _require(condition: bool, reason: str) -> None:
    if not condition:
        raise NotCompilable(reason)


def _kind(something: object) -> str:
    return type(something).__name__


def _coefficients(classifier: Any) -> list[float]:
    # Exact types, here and below: a subclass may compute anything.
    _require(type(classifier) in (LogisticRegression, SGDClassifier), f"the classifier is a {_kind(classifier)}")
    loss = getattr(classifier, "loss", "log_loss")
    _require(loss == "log_loss", f"the classifier's loss is {loss}, not log_loss")
    classes = np.asarray(getattr(classifier, "classes_", ())).tolist()
    _require(classes == [0, 1], f"the classifier's classes are {classes}, not [0, 1]")
    _require(isinstance(classifier.coef_, np.ndarray), f"the coefficients are a {_kind(classifier.coef_)}")
    return _numbers(classifier.coef_, "the coefficients")


def _numbers(array: Any, what: str) -> list[float]:
    array = np.asarray(array)
    _require(array.dtype in (np.float64, np.float32), f"the dtype of {what} is {array.dtype}")
    return _sound(array.ravel().tolist(), what)


def _sound(numbers: Iterable[float], what: str) -> list[float]:
    numbers = list(numbers)
    sound = all(abs(number) <= LARGEST_NUMBER for number in numbers)  # which NaN is not
    _require(sound, f"in {what} a number is not finite, or beyond {LARGEST_NUMBER:,.0f}")
    return numbers


def _weighted(weight: float, factors: list[float], columns: Iterator[float]) -> list[float]:
    """Take the next columns' coefficients, one for each factor, and multiply."""
    coefficients = list(islice(columns, len(factors)))
    _require(len(coefficients) == len(factors), "there are fewer coefficients than features")
    products = (weight * factor * coefficient for factor, coefficient in zip(factors, coefficients, strict=True))
    return _sound(products, "the weighted coefficients")


def _transformers(step: Any, weight: float) -> Iterator[tuple[Any, float]]:
    """Find the transformers in the order of their columns, each with the product of the weights that unions give it."""
    if type(step) is not FeatureUnion:
        yield step, weight
        return
    weights = step.transformer_weights or {}
    for name, transformer in step.transformer_list:
        if not (isinstance(transformer, str) and transformer == "drop"):
            own = weights.get(name)
            yield from _transformers(transformer, weight * (1.0 if own is None else _weight(own)))


def _weight(weight: Any) -> float:
    _require(isinstance(weight, int | float), f"a weight is of type {_kind(weight)}, not float")
    return float(weight)


def _part(transformer: Any, weight: float, columns: Iterator[float]) -> dict[str, Any]:
    if type(transformer) is CheapFeatures:
        names = list(text.CHEAP_FEATURES)
        weights = _weighted(weight * _weight(transformer.weight), [1.0] * len(names), columns)
        return {"analyzer": "cheap_features", "names": names, "weights": weights} | _preprocessing(None)
    _require(type(transformer) is TfidfVectorizer, f"features come from a {_kind(transformer)}")
    return _analysis(transformer) | _terms(transformer, weight, columns)


def _analysis(vectorizer: Any) -> dict[str, Any]:
    """Tell how a vectorizer cuts a comment into n-grams, without the settings that do not matter to its analyzer."""
    _require(vectorizer.input == "content", f"a vectorizer's input is {vectorizer.input}, not content")
    analyzer = vectorizer.analyzer
    if analyzer is text.word_ngrams:
        # The same in steps, so that the normalised comment can be shared with other vectorizers.
        words = {"tokenizer": "tokens", "token_pattern": None, "stop_words": None}
        return {"analyzer": "word", "ngram_range": [1, 2], **_preprocessing(text.normalise), **words}
    if callable(analyzer):
        return {"analyzer": "callable", "function": _name(analyzer), **_preprocessing(None)}
    low, high = vectorizer.ngram_range
    _require(1 <= low <= high, f"a vectorizer's ngram_range is {low, high}")
    analysis = {"analyzer": analyzer, "ngram_range": [int(low), int(high)]}
    if analyzer == "word":
        analysis |= _tokenisation(vectorizer)
    lowercase, strip_accents = bool(vectorizer.lowercase), vectorizer.strip_accents
    return analysis | _preprocessing(vectorizer.preprocessor, lowercase=lowercase, strip_accents=strip_accents)


def _preprocessing(preprocessor: Any, *, lowercase: bool = False, strip_accents: Any = None) -> dict[str, Any]:
    if preprocessor is not None:
        return {"preprocessor": _name(preprocessor), "lowercase": False, "strip_accents": None}
    _require(not callable(strip_accents), "a vectorizer's strip_accents is a function")
    return {"preprocessor": None, "lowercase": lowercase, "strip_accents": strip_accents}


def _tokenisation(vectorizer: Any) -> dict[str, Any]:
    stop_words = vectorizer.get_stop_words()
    return {
        "tokenizer": None if vectorizer.tokenizer is None else _name(vectorizer.tokenizer),
        "token_pattern": None if vectorizer.tokenizer else vectorizer.token_pattern,
        "stop_words": None if stop_words is None else sorted(word for word in stop_words if isinstance(word, str)),
    }


def _name(function: Any) -> str:
    name = getattr(function, "__name__", _kind(function))
    _require(getattr(text, name, None) is function, f"a vectorizer calls {name}, which is no function of pmip.text")
    return str(name)


def _terms(vectorizer: Any, weight: float, columns: Iterator[float]) -> dict[str, Any]:
    """Tell what the n-grams of a vectorizer's vocabulary weigh, in the order of its columns."""
    tfidf: Any = getattr(vectorizer, "_tfidf", None)  # holds the settings of the fit, which are those that count
    _require(type(tfidf) is TfidfTransformer, "a vectorizer is not fitted")
    _require(np.dtype(vectorizer.dtype) == np.float64, f"a vectorizer's dtype is {np.dtype(vectorizer.dtype)}")
    terms = _vocabulary(vectorizer.vocabulary_)
    idf = _numbers(tfidf.idf_, "the idf") if hasattr(tfidf, "idf_") else [1.0] * len(terms)
    _require(len(idf) == len(terms), f"{len(idf)} idf for {len(terms)} terms")
    return {
        "binary": bool(vectorizer.binary),
        "sublinear_tf": bool(tfidf.sublinear_tf),
        "norm": tfidf.norm,
        "terms": terms,
        "idf": idf,
        "weights": _weighted(weight, idf, columns),
    }


def _vocabulary(vocabulary: dict[Any, Any]) -> list[str]:
    terms = sorted(vocabulary, key=vocabulary.__getitem__)
    _require(all(isinstance(term, str) for term in terms), "a vocabulary holds terms that are no texts")
    _require([vocabulary[term] for term in terms] == [*range(len(terms))], "a vocabulary has gaps in its numbering")
    return [str(term) for term in terms]
