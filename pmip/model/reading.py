"""Reads model.pkl: extracts the data for look-ups from a fitted pipeline, as `pmip.model.pickles` returns it.

Each setting must be supported by the look-ups and have exactly the type that scikit-learn writes; each number must be
finite. Any other model can be run but not read: it raises `NotReadableError`, which names the reason and the remedy. A
damaged or hostile file raises `ArtifactError`.
"""

import re
from collections.abc import Iterator
from itertools import islice
from typing import Any

from pmip import text
from pmip.errors import ArtifactError, OtherTextError
from pmip.model.artifact import MAX_MODEL_BYTES
from pmip.model.pickles import DEPLOY, Array, Dtype, Made, Name, class_name, require, require_sound, shown, stand_ins

# A pickle of a few kilobytes may use the same vocabulary, text or transformer many times, so what comes out is limited.
MAX_TRANSFORMERS = 20  # each transformer takes time for each comment
MAX_TERMS = 500_000  # about 130 MB in each worker; the notebook's recipe has 94,000 for 50,000 comments, its most
MAX_CHARACTERS = 20_000_000  # of all terms
MAX_NGRAM = 10  # a comment has about as many n-grams of each length as it has characters
MAX_NGRAM_LENGTHS = 100  # the sum of the lengths of all vectorizers; two to five characters are 14
# Larger numbers lose so many digits in a sum that the order of the terms changes the probability.
LARGEST_NUMBER = 1e6

# With other patterns a caller could send a comment whose matching takes very long.
_TOKEN_PATTERNS = {r"(?u)\b\w\w+\b"} | {value.pattern for value in vars(text).values() if isinstance(value, re.Pattern)}
_SURROGATE_PAIR = re.compile("[\ud800-\udbff][\udc00-\udfff]")
_RAW = {"preprocessor": None, "lowercase": False, "strip_accents": None}


def read(content: bytes, max_bytes: int = MAX_MODEL_BYTES) -> dict[str, Any]:
    """Return the data for `Lookup.from_plain`: dicts, lists, texts and numbers, which JSON can represent."""
    try:
        return _Model().plain(stand_ins(content, max_bytes))
    except ArtifactError:
        raise
    except MemoryError:
        raise ArtifactError("the model needs more memory than there is") from None
    except Exception as error:  # a damaged pickle can raise anything
        raise ArtifactError(f"model.pkl is damaged, or not a pickled model ({type(error).__name__})") from error


class _Model:
    """Extracts the data for scoring from a pipeline, and counts what is left of each limit."""

    def __init__(self) -> None:
        self._terms, self._characters = MAX_TERMS, MAX_CHARACTERS
        self._transformers, self._ngram_lengths = MAX_TRANSFORMERS, MAX_NGRAM_LENGTHS
        self._columns: Iterator[float] = iter(())

    def plain(self, model: Any) -> dict[str, Any]:
        require(_is(model, "Pipeline"), f"the model is a {class_name(model)}, not a Pipeline")
        steps = _pairs(model["steps"])
        require(len(steps) == 2, f"the pipeline has {len(steps)} steps, not features and a classifier")
        (_, features), (_, classifier) = steps
        coefficients, intercept = _linear(classifier)
        self._columns = iter(coefficients)
        parts = [self._part(*weighted) for weighted in self._weighted(features, 1.0)]
        require_sound(not list(self._columns), "there are more coefficients than features")
        return {"intercept": intercept, "parts": parts}

    def _weighted(self, step: Any, weight: float) -> Iterator[tuple[Any, float]]:
        """Yield the transformers in the order of their columns, each with the product of its unions' weights."""
        self._transformers -= 1
        require(self._transformers >= 0, f"the model has more than {MAX_TRANSFORMERS} transformers")
        if not _is(step, "FeatureUnion"):
            yield step, weight
            return
        weights = step["transformer_weights"] or {}
        require_sound(type(weights) is dict, "the weights of a FeatureUnion are not a dict")
        for name, transformer in _pairs(step["transformer_list"]):
            own = weights.get(name)
            if type(transformer) is not str or transformer != "drop":
                yield from self._weighted(transformer, weight * (1.0 if own is None else _weight(own)))

    def _part(self, transformer: Any, weight: float) -> dict[str, Any]:
        if _is(transformer, "CommentFeatures"):
            names = _feature_names(transformer)
            weights = self._take([1.0] * len(names), weight * _weight(transformer["weight"]))
            return {"analyzer": "comment_features", "names": names, **_RAW, "weights": weights}
        require(_is(transformer, "TfidfVectorizer"), f"features come from a {class_name(transformer)}")
        return self._vectorizer(transformer, weight)

    def _vectorizer(self, vectorizer: Made, weight: float) -> dict[str, Any]:
        """Return how a comment is split into n-grams, and their weights in the order of the vectorizer's columns."""
        tfidf = vectorizer["_tfidf"]  # its settings are those of the fit
        require(_is(tfidf, "TfidfTransformer"), f"a vectorizer weighs by a {class_name(tfidf)}")
        require(_is_float64(vectorizer["dtype"]), f"a vectorizer's dtype is {shown(vectorizer['dtype'])}, not float64")
        analysis, terms = _analysis(vectorizer), _vocabulary(vectorizer["vocabulary_"])
        self._count(terms, analysis)
        idf = _numbers(tfidf["idf_"], "the idf") if "idf_" in tfidf else [1.0] * len(terms)
        require_sound(len(idf) == len(terms), f"there are {len(idf)} idf for {len(terms)} terms")
        weighing = {
            "binary": _choice(vectorizer, "binary", True, False),
            "sublinear_tf": _choice(tfidf, "sublinear_tf", True, False),
            "norm": _choice(tfidf, "norm", "l1", "l2", None),
        }
        return analysis | weighing | {"terms": terms, "idf": idf, "weights": self._take(idf, weight)}

    def _count(self, terms: list[str], analysis: dict[str, Any]) -> None:
        """Require that all vectorizers together stay within the limits of memory and time."""
        texts = [*terms, *(analysis.get("stop_words") or ())]
        self._terms -= len(texts)
        require(self._terms >= 0, f"the vocabularies have more than {MAX_TERMS:,} terms; use min_df or max_features")
        self._characters -= sum(map(len, texts))
        require(self._characters >= 0, f"the terms have more than {MAX_CHARACTERS:,} characters")
        low, high = analysis.get("ngram_range", (1, 1))
        self._ngram_lengths -= sum(range(low, high + 1))
        require(self._ngram_lengths >= 0, f"the lengths of all n-grams add up to more than {MAX_NGRAM_LENGTHS}")

    def _take(self, factors: list[float], weight: float) -> list[float]:
        """Return the products of the factors and the coefficients of the next columns."""
        coefficients = list(islice(self._columns, len(factors)))
        require_sound(len(coefficients) == len(factors), "there are fewer coefficients than features")
        products = (weight * factor * coefficient for factor, coefficient in zip(factors, coefficients, strict=True))
        return _sound(list(products), "the weighted coefficients")


def _feature_names(transformer: Made) -> list[str]:
    """Return the names of the comment features; require those of `pmip.text`. Older models do not hold any."""
    here = text.COMMENT_FEATURES
    names = here
    if "feature_names_" in transformer:
        names = transformer["feature_names_"]
    require_sound(type(names) is tuple and all(type(name) is str for name in names), "feature names are not texts")
    if names != here:
        trained = ", ".join(map(shown, names[:20]))
        difference = f"the comment features {trained}; this pmip.text computes {', '.join(here)}"
        raise OtherTextError(f"the model was trained with {difference}: {DEPLOY}")
    return list(here)


def _is(something: Any, name: str) -> bool:
    return type(something) is Made and class_name(something) == name


def _is_float64(dtype: Any) -> bool:
    if type(dtype) is Name:
        return bool(dtype.path == "numpy.float64")
    return dtype.code == "f8" if type(dtype) is Dtype else type(dtype) is str and dtype == "float64"


def _pairs(pairs: Any) -> list[tuple[str, Any]]:
    sound = type(pairs) is list and all(type(pair) in (tuple, list) and len(pair) == 2 for pair in pairs)
    require_sound(sound and all(type(name) is str for name, _ in pairs), "the model's steps are not names and steps")
    return list(pairs)


def _choice(made: Made, setting: str, *choices: Any) -> Any:
    """Return a setting; require it to equal one of the choices and to have the same type."""
    value = made[setting]
    known = any(type(value) is type(choice) and value == choice for choice in choices)
    require(known, f"a {class_name(made)} has {setting}={shown(value)}")
    return value


def _weight(weight: Any) -> float:
    require(type(weight) in (int, float), f"a weight is of type {class_name(weight)}, not float")
    return _sound([float(weight)], "the weights")[0]


def _numbers(array: Any, what: str) -> list[float]:
    if type(array) is float:
        return _sound([array], what)
    require(type(array) is Array, f"{what} are a {class_name(array)}")
    numbers = array.numbers()
    require(array.dtype.code in ("f8", "f4"), f"the dtype of {what} is {array.dtype.code}")
    return _sound(numbers, what)


def _sound(numbers: list[float], what: str) -> list[float]:
    sound = all(abs(number) <= LARGEST_NUMBER for number in numbers)  # false for NaN
    require(sound, f"in {what} a number is not finite, or larger than {LARGEST_NUMBER:,.0f}")
    return numbers


def _linear(classifier: Any) -> tuple[list[float], float]:
    """Return the coefficients and the intercept of a classifier that applies the logistic function to the sum."""
    known = _is(classifier, "LogisticRegression") or _is(classifier, "SGDClassifier")
    require(known, f"the classifier is a {class_name(classifier)}")
    if _is(classifier, "SGDClassifier"):
        _choice(classifier, "loss", "log_loss")
    elif "multi_class" in classifier:  # a setting before scikit-learn 1.8; "multinomial" doubles the log-odds
        _choice(classifier, "multi_class", "auto", "ovr", "deprecated", "warn")
    classes = classifier["classes_"]
    require(type(classes) is Array, f"the classifier's classes are a {class_name(classes)}")
    require_sound(classes.numbers() == [0, 1], "the classifier's classes are not [0, 1]")
    (intercept,) = _numbers(classifier["intercept_"], "the intercept")
    return _numbers(classifier["coef_"], "the coefficients"), intercept


def _analysis(vectorizer: Made) -> dict[str, Any]:
    """Return how a vectorizer splits a comment into n-grams, without the settings that its analyzer ignores."""
    _choice(vectorizer, "input", "content")
    if type(vectorizer["analyzer"]) is Name:
        return {"analyzer": "callable", "function": _function(vectorizer["analyzer"]), **_RAW}
    analyzer, ngrams = _choice(vectorizer, "analyzer", "word", "char", "char_wb"), vectorizer["ngram_range"]
    pair = type(ngrams) in (tuple, list) and len(ngrams) == 2 and all(type(length) is int for length in ngrams)
    require(
        pair and 1 <= ngrams[0] <= ngrams[1] <= MAX_NGRAM, f"a vectorizer's ngram_range is not within 1 to {MAX_NGRAM}"
    )
    analysis = {"analyzer": analyzer, "ngram_range": list(ngrams), **_preprocessing(vectorizer)}
    return analysis | _tokenisation(vectorizer) if analyzer == "word" else analysis


def _preprocessing(vectorizer: Made) -> dict[str, Any]:
    if vectorizer["preprocessor"] is not None:
        return _RAW | {"preprocessor": _function(vectorizer["preprocessor"])}
    lowercase = _choice(vectorizer, "lowercase", True, False)
    return _RAW | {
        "lowercase": lowercase,
        "strip_accents": _choice(vectorizer, "strip_accents", "ascii", "unicode", None),
    }


def _tokenisation(vectorizer: Made) -> dict[str, Any]:
    tokenizer, pattern, words = (vectorizer[name] for name in ("tokenizer", "token_pattern", "stop_words"))
    if tokenizer is None:
        known = type(pattern) is str and pattern in _TOKEN_PATTERNS
        require(known, f"a vectorizer's token_pattern is {shown(pattern)}, which may take very long")
    listed = words is None or (type(words) is list and all(type(word) is str for word in words))
    require(listed, f"a vectorizer's stop_words are {shown(words)}, not the words themselves in a list")
    return {
        "tokenizer": None if tokenizer is None else _function(tokenizer),
        "token_pattern": pattern if tokenizer is None else None,
        "stop_words": words and sorted(set(words)),
    }


def _function(named: Any) -> str:
    known = type(named) is Name and named.path.startswith("pmip.text.")
    require(known, f"a vectorizer calls {shown(named)}")
    return str(class_name(named))


def _vocabulary(vocabulary: Any) -> list[str]:
    sound = type(vocabulary) is dict and all(type(number) is int for number in vocabulary.values())
    require_sound(sound, "a vocabulary does not map terms to numbers")
    terms = sorted(vocabulary, key=vocabulary.__getitem__)
    require_sound(all(type(term) is str for term in terms), "a vocabulary holds terms that are not texts")
    require_sound(
        [vocabulary[term] for term in terms] == [*range(len(terms))], "a vocabulary has gaps in its numbering"
    )
    require(not any(map(_SURROGATE_PAIR.search, terms)), "a vocabulary holds surrogate pairs, which JSON would join")
    return terms
