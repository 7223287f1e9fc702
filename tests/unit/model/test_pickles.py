"""Which pickles are opened, which are refused, and that a refused one never runs."""

import bz2
import gzip
import io
import lzma
import os
import pickle
import re
import subprocess
import tracemalloc
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from joblib.numpy_pickle import NumpyArrayWrapper
from pmip.model.unpickling import dumps, loads
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import dump_svmlight_file
from sklearn.ensemble import RandomForestClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.naive_bayes import MultinomialNB
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.svm import LinearSVC

from pmip import steps, text
from pmip.errors import ArtifactError

COMMENTS, LABELS = ["free stuff", "nice song"] * 4, [1, 0] * 4
UNREACHABLE = ["builtins getattr", "pmip.text re", "pmip.text html.unescape", "pmip.text lru_cache"]
UNREACHABLE += ["numpy load", "joblib load", "numpy.f2py.__main__ main"]
CHANGE = b"N}\x8c\x07changedK\x01s\x86b."  # BUILD with the slot state {"changed": 1}
CLASSIFIERS = [
    (MultinomialNB(), None),
    (SGDClassifier(loss="log_loss"), "sklearn._loss._loss.CyHalfBinomialLoss"),
    (CalibratedClassifierCV(LinearSVC(), cv=2), "sklearn.calibration._CalibratedClassifier"),
    (RandomForestClassifier(2), "sklearn.tree._tree.Tree"),
]
SIX_GIB = (6 * 2**30).to_bytes(8, "little")
CLAIMS = [
    b"\x96" + SIX_GIB + b"few bytes.",
    b"cbuiltins\nbytearray\n\x8a\x08" + SIX_GIB + b"\x85R.",
    b"cnumpy\nndarray\n\x8a\x08" + SIX_GIB + b"X\x01\0\0\0O\x86\x81.",
    pickle.dumps(NumpyArrayWrapper(np.ndarray, (2**36,), "C", np.dtype("f8")), 2)[2:-1] + b"\x01\xff few bytes.",
]


def joblib_dumps(model: Any, compress: Any = 0) -> bytes:
    """Pickle by joblib, as a person would who uploads a model by hand."""
    buffer = io.BytesIO()
    joblib.dump(model, buffer, compress=compress)
    return buffer.getvalue()


WRITERS: dict[str, Callable[[Any], bytes]] = {"dumps": dumps, "joblib": joblib_dumps}
WRITERS |= {name: lambda model, name=name: joblib_dumps(model, name) for name in ("zlib", "gzip", "bz2", "lzma", "xz")}
WRITERS |= {f"pickle {n}": lambda model, n=n: pickle.dumps(model, n) for n in range(2, 6)}


class Call:
    """Calls a function when it is unpickled without care."""

    def __init__(self, function: Callable[..., Any], *arguments: object) -> None:
        self.reduced = function, arguments

    def __reduce__(self) -> Any:
        return self.reduced


ATTACKS = {
    "posix.system": Call(os.system, "touch marker"),
    "subprocess.check_call": Call(subprocess.check_call, ["touch", "marker"]),
    "builtins.eval": Call(eval, "open('marker', 'w').close()"),
    "numpy.memmap": Call(np.memmap, "marker", "uint8", "w+", 0, (1,)),
    "joblib.numpy_pickle.dump": Call(joblib.dump, [1], "marker"),
    "sklearn.datasets._svmlight_format_io.dump_svmlight_file": Call(dump_svmlight_file, [[1]], [1], "marker"),
}
WRAPPERS: dict[str, Callable[[Any], bytes]] = {
    "in a model": lambda attack: pickle.dumps(Pipeline([("classifier", attack)])),
    "in an object array": lambda attack: pickle.dumps(np.array([attack], dtype=object)),
    "in a joblib array": lambda attack: joblib_dumps(np.array([attack], dtype=object)),
    "compressed": lambda attack: joblib_dumps([attack], "xz"),
}


@pytest.mark.parametrize("writer", WRITERS)
def test_a_model_comes_back_as_it_was(model: Pipeline, writer: str) -> None:
    """Whoever wrote the pickle, in whatever protocol and compression: the very same probabilities."""
    assert np.array_equal(loads(WRITERS[writer](model)).predict_proba(COMMENTS), model.predict_proba(COMMENTS))


@pytest.mark.parametrize("writer", ["joblib", "pickle 2", "pickle 5"])
@pytest.mark.parametrize(("classifier", "trusted"), CLASSIFIERS)
def test_other_classifiers_load_or_say_which_type_to_trust(classifier: Any, trusted: str | None, writer: str) -> None:
    """A class beyond the allow-list is named with the setting that trusts it, and loads with it."""
    fitted = make_pipeline(TfidfVectorizer(), classifier).fit(COMMENTS, LABELS)
    content = WRITERS[writer](fitted)
    if trusted:
        with pytest.raises(ArtifactError, match=f"MODEL_TRUSTED_TYPES={trusted} would"):
            loads(content)
    assert np.array_equal(loads(content, {trusted} - {None}).predict_proba(COMMENTS), fitted.predict_proba(COMMENTS))


@pytest.mark.parametrize("value", [np.float64(1.5), {1, 2}, np.ones(2, ">f8"), np.zeros(2, "i4,f8"), b""])
@pytest.mark.parametrize("protocol", range(2, 6))
def test_plain_values_come_back(value: Any, protocol: int) -> None:
    """What parameters of a model may be is allowed without being named."""
    assert np.array_equal(loads(pickle.dumps(value, protocol)), value)


@pytest.mark.parametrize("wrapper", WRAPPERS)
@pytest.mark.parametrize("attack", ATTACKS)
def test_an_attack_never_runs(attack: str, wrapper: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An ordinary unpickler runs what hides in the model and leaves a mark; here it is refused, wherever it hides."""
    monkeypatch.chdir(tmp_path)
    content = WRAPPERS[wrapper](ATTACKS[attack])
    with pytest.raises(ArtifactError, match="dtype 'O8'" if "array" in wrapper else f"model contains {attack}, which"):
        loads(content)
    assert not [*tmp_path.iterdir()]
    pickle.loads(pickle.dumps(ATTACKS[attack]))
    assert [*tmp_path.iterdir()]


@pytest.mark.parametrize("path", UNREACHABLE)
def test_only_classes_and_the_own_functions_are_found(path: str) -> None:
    """What a module imports cannot be reached through it, and one that runs when it is imported is not imported."""
    with pytest.raises(ArtifactError, match=re.escape(path.replace(" ", "."))):
        loads(b"\x80\x04c" + path.replace(" ", "\n").encode() + b"\n.")


@pytest.mark.parametrize("target", [text.word_ngrams, steps.CheapFeatures, LogisticRegression])
def test_a_class_or_function_is_never_changed(target: Any) -> None:
    """A state belongs to instances: the pickle must not patch the code that serves all models."""
    glob = pickle.dumps(target, 2)[:-1].split(b"q\x00")[0]
    wrapper = NumpyArrayWrapper(np.ndarray, (1,), "C", LogisticRegression())
    wrapper.dtype.hasobject = True  # has joblib read what follows by an unpickler of its own
    for content in (glob + CHANGE, pickle.dumps(wrapper, 2)[:-1] + glob + CHANGE + b"."):
        with pytest.raises(ArtifactError, match=r"tries to change|joblib did not write"):
            loads(content)
    assert not hasattr(target, "changed")


@pytest.mark.parametrize("content", [b"Pid\n.", b"NQ.", b"\x82\x01.", b"(S'true'\nios\nsystem\n.", b"(No."])
def test_outdated_instructions_are_refused(content: bytes) -> None:
    """Persistent ids, extension codes and old-style instances go past the allow-list, so they go nowhere."""
    with pytest.raises(ArtifactError, match="instruction that is not on the allow-list"):
        loads(b"\x80\x02" + content)


def test_a_vectorizer_that_opens_files_is_refused() -> None:
    """With input='filename' a comment would name a file to read."""
    with pytest.raises(ArtifactError, match="open the files that comments name"):
        loads(dumps(TfidfVectorizer(input="filename")))


def test_a_model_works_by_one_process() -> None:
    """Whatever number of jobs it was trained by: the processors belong to the requests."""
    assert loads(dumps(RandomForestClassifier(n_jobs=-1))).n_jobs is None


@pytest.mark.parametrize("name", ["append", "extend", "add", "__setstate__"])
@pytest.mark.parametrize("state", ["%b", "N%b\x86", "%bN\x86"])
def test_a_method_that_unpickling_calls_is_never_changed(name: str, state: str) -> None:
    """What follows in the pickle would be its argument."""
    named = b"}" + pickle.dumps(name, 2)[2:-1] + b"cnumpy\nvoid\ns"
    forged = pickle.dumps(LogisticRegression(), 2)[:-1] + state.encode("latin-1").replace(b"%b", named) + b"b."
    with pytest.raises(ArtifactError, match="tries to change a method of sklearn"):
        loads(forged)


@pytest.mark.parametrize("value", [{(1, 2): 3}, {(1,)}, frozenset({frozenset()}), {slice: {(1,): 1}}])
@pytest.mark.parametrize("protocol", range(2, 6))
def test_tuples_are_never_hashed(value: Any, protocol: int) -> None:
    """No model needs them for keys, and nested ones end the process or take forever."""
    with pytest.raises(ArtifactError, match="dict or set with tuples for keys"):
        loads(pickle.dumps(value, protocol))


@pytest.mark.parametrize("compress", [zlib.compress, gzip.compress, bz2.compress, lzma.compress, bytes])
def test_a_bomb_is_refused_before_it_takes_the_memory(compress: Callable[[bytes], bytes]) -> None:
    """A small file that unpacks to a large one stops at the limit."""
    bomb = compress(bytes(2**25))
    tracemalloc.start()
    with pytest.raises(ArtifactError, match="more than 1,048,576 bytes"):
        loads(bomb, max_bytes=2**20)
    assert tracemalloc.get_traced_memory()[1] < 2**24
    tracemalloc.stop()


@pytest.mark.parametrize("content", CLAIMS)
def test_claiming_a_huge_array_takes_no_memory(content: bytes) -> None:
    """A hundred bytes that claim gigabytes are an error of the model, not the end of the process."""
    with pytest.raises(ArtifactError):
        loads(b"\x80\x02" + content)


@pytest.mark.parametrize("writer", WRITERS)
def test_a_truncated_model_is_refused(model: Pipeline, writer: str) -> None:
    """A file that was cut anywhere is no model."""
    content = WRITERS[writer](model)
    for end in (0, 1, 2, 10, len(content) // 2, len(content) - 1):
        with pytest.raises(ArtifactError):
            loads(content[:end])


@settings(max_examples=200, deadline=None)
@given(st.builds(bytes.__add__, st.sampled_from([b"", b"\x80\x04", b"\x78\x9c"]), st.binary()))
def test_any_bytes_are_a_value_or_an_error_of_the_model(content: bytes) -> None:
    """Nothing but ArtifactError comes out of a damaged file."""
    with suppress(ArtifactError):
        loads(content)
