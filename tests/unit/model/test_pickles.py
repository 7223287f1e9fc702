"""Pickles are read with stand-ins: nothing in them runs, and a hostile file is refused in little time and memory."""

import bz2
import gzip
import io
import lzma
import pickle
import re
import tracemalloc
import zlib
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from fitted_models import WRITERS
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline

from pmip import steps, text
from pmip.errors import ArtifactError, NotReadableError, OtherTextError
from pmip.model.pickles import Array, Name, stand_ins
from pmip.model.reading import read

MOST_BYTES = 2**20


def opened(content: bytes) -> Any:
    return stand_ins(content, MOST_BYTES)


NAMED = ["builtins getattr", "pmip.text re", "pmip.text html.unescape", "pmip.text lru_cache"]
NAMED += ["pmip.text undisguised", "pmip.text _normalised"]
NAMED += ["pmip.steps CommentFeatures.fit", "numpy load", "sklearn.pipeline Pipeline.fit", "no.such.module name"]
NAMED += ["os \x1b[2J"]


@pytest.mark.parametrize("path", NAMED)
def test_only_names_of_the_tables_and_functions_of_pmip_text_are_known(path: str) -> None:
    """A name outside the tables, such as an import of pmip.text, is refused in a message that is safe on a terminal."""
    module, name = path.split()
    stacked = b"\x80\x04" + b"".join(b"\x8c" + bytes([len(part)]) + part.encode() for part in (module, name)) + b"\x93."
    for content in (f"\x80\x02c{module}\n{name}\n.".encode("latin-1"), stacked):
        with pytest.raises(NotReadableError, match="the model contains ") as refusal:
            opened(content)
        assert str(refusal.value).isprintable()


@pytest.mark.parametrize("named", [text.normalised, steps.CommentFeatures, LogisticRegression, np.float64])
@pytest.mark.parametrize("protocol", range(2, 6))
def test_a_name_stays_a_name(named: Any, protocol: int) -> None:
    """A class or function in a pickle is read as a Name with its path, and not as the object itself."""
    found = opened(pickle.dumps(named, protocol))
    assert type(found) is Name
    assert found.path == f"{named.__module__}.{named.__name__}"


ARRAY = pickle.dumps(np.ones(2, "i1"), 2)[2:-1]
CHANGES = {
    "a class": (b"cpmip.steps\nCommentFeatures\n}b.", "changes pmip.steps.CommentFeatures"),
    "a function": (b"cpmip.text\nnormalised\n}b.", "changes pmip.text.normalised"),
    "a list": (b"]}b.", "changes list"),
    "an instance twice": (b"cpmip.steps\nCommentFeatures\n)\x81}b}b.", "two states"),
    "an array twice": (ARRAY + ARRAY.partition(b"Rq\x09")[2] + b".", "numpy did not write"),
    "an instance, by an item": (b"cpmip.steps\nCommentFeatures\n)\x81K\x01a.", "puts items into a CommentFeatures"),
    "an instance, by a key": (b"cpmip.steps\nCommentFeatures\n)\x81K\x01K\x01s.", "puts items into a CommentFeatures"),
    "a list, by a key": (b"]K\x00K\x01s.", "puts items into a list"),
    "an instance with arguments": (b"cpmip.steps\nCommentFeatures\nK\x01\x85\x81.", "makes an instance of"),
    "an instance by a call": (b"cpmip.steps\nCommentFeatures\n)R.", "the model calls pmip.steps.CommentFeatures"),
    "a function, called": (b"cpmip.text\nnormalised\n)R.", "the model calls pmip.text.normalised"),
    "a text, called": (b"X\x01\0\0\0a)R.", "the model calls a"),
}


def test_a_model_of_another_text_is_refused_by_the_name_that_is_gone() -> None:
    """A model that uses a function that pmip.text no longer has is refused with its name and what to deploy."""
    with pytest.raises(OtherTextError, match=r"this one has no pmip\.text\.consonant_ngrams; deploy the API with"):
        opened(b"\x80\x04cpmip.text\nconsonant_ngrams\n.")


@pytest.mark.parametrize(("content", "reason"), CHANGES.values(), ids=CHANGES)
def test_only_what_the_tables_say_is_made_and_changed(content: bytes, reason: str) -> None:
    """A class is instantiated without arguments and gets one state; any other call or change is refused."""
    with pytest.raises(ArtifactError, match=reason):
        opened(b"\x80\x02" + content)


REFUSED = {"INST": b"(S'true'\nios\nsystem\n.", "OBJ": b"(No.", "PERSID": b"Pid\n.", "BINPERSID": b"NQ."}
REFUSED |= {"EXT1": b"\x82\x01.", "EXT2": b"\x83\x01\0.", "EXT4": b"\x84\x01\0\0\0.", "NEWOBJ_EX": b"N)}\x92."}
REFUSED |= {"NEXT_BUFFER": b"\x97.", "READONLY_BUFFER": b"N\x98.", "LONG4": b"\x8b\x01\0\0\0\0.", "unknown": b"\xff."}
REFUSED |= {
    "INT": b"I1\n.",
    "STRING": b"S'a'\n.",
    "UNICODE": b"Va\n.",
    "PUT": b"Np1\n.",
    "GET": b"Np1\ng1\n.",
    "DICT": b"(d.",
}


@pytest.mark.parametrize("content", REFUSED.values(), ids=REFUSED)
def test_instructions_that_models_do_not_need_are_refused(content: bytes) -> None:
    """Instructions for outside objects, extension codes, old-style instances and Python 2 formats are refused."""
    with pytest.raises(ArtifactError, match="instruction that models do not need"):
        opened(b"\x80\x02" + content)


PLAIN: list[Any] = [None, True, 1, -(2**40), 0.5, "é\ud800", b"bytes", (1, "a"), [[]], {"a": {0: 1.0}}, np.float64(1.5)]
PLAIN += [np.float32(0.5), np.int64(-3), np.bool_(True), np.uint8(200), np.array(7, ">i4")[()], b"", ""]


@pytest.mark.parametrize("value", PLAIN)
@pytest.mark.parametrize("protocol", range(2, 6))
def test_plain_values_come_back(value: Any, protocol: int) -> None:
    """Plain values are read unchanged, and numbers of numpy as those of Python."""
    found = opened(pickle.dumps(value, protocol))
    assert found == value
    assert type(found) is (type(value.item()) if isinstance(value, np.generic) else type(value))


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("dtype", ["f8", ">f8", "f4", "i4", "i8", ">i2", "u1", "?"])
def test_arrays_come_back_from_their_bytes(dtype: str, writer: str) -> None:
    """An array is read with its numbers and shape, whatever its type, byte order and place in the file."""
    array = np.array([[0, 1, 100]], dtype)
    found = opened(WRITERS[writer](array))
    assert type(found) is Array
    assert (found.shape, found.numbers()) == ((1, 3), array[0].tolist())


@pytest.mark.parametrize("value", [set("ab"), frozenset("ab"), set()])
@pytest.mark.parametrize("protocol", range(2, 6))
def test_sets_are_read_as_lists(value: Any, protocol: int) -> None:
    """A set is read as a list, so that none of its members is hashed."""
    assert sorted(opened(pickle.dumps(value, protocol))) == sorted(value)


@pytest.mark.parametrize("value", [{(1, 2): 3}, {2**61: 1}, {1.5: 1}, {b"": 1}, {None: 1}, {True: 1}])
@pytest.mark.parametrize("protocol", range(2, 6))
def test_only_texts_and_small_numbers_are_keys(value: Any, protocol: int) -> None:
    """A dict with other keys is refused, because a hostile file could choose keys that hash slowly or crash."""
    with pytest.raises(ArtifactError, match="keys that are not texts"):
        opened(pickle.dumps(value, protocol))


@pytest.mark.parametrize("writer", WRITERS)
def test_a_file_that_was_cut_or_goes_on_is_refused(model: Pipeline, writer: str) -> None:
    """A file that ends too early is refused, and so is one with bytes after its end, which could take all memory."""
    content = WRITERS[writer](model)
    for end in (0, 1, 2, 10, len(content) // 2, len(content) - 1):
        with pytest.raises(ArtifactError):
            read(content[:end])
    for more in (b"\0", b"\0" * 2**20, content):
        with pytest.raises(ArtifactError, match=r"after its end|more than"):
            read(content + more)


@pytest.mark.parametrize("compress", [zlib.compress, gzip.compress, bz2.compress, lzma.compress, bytes])
def test_a_bomb_is_refused_before_it_takes_the_memory(compress: Callable[[bytes], bytes]) -> None:
    """A small file that unpacks to a large one is refused as soon as it exceeds the limit."""
    bomb = compress(bytes(2**25))
    tracemalloc.start()
    with pytest.raises(ArtifactError, match="more than 1,048,576 bytes"):
        opened(bomb)
    assert tracemalloc.get_traced_memory()[1] < 2**24
    tracemalloc.stop()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"\x04\x22\x4d\x18", "lz4, which is not read; use compress=3"),
        (pickle.dumps([1], 0), "not a pickle of protocol 2 to 5"),
        (pickle.dumps([1], 1), "not a pickle of protocol 2 to 5"),
    ],
)
def test_other_formats_are_refused_by_name(content: bytes, reason: str) -> None:
    """A file in an unsupported format is refused with a message that names the formats that are read."""
    with pytest.raises(ArtifactError, match=re.escape(reason)):
        opened(content)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.builds(bytes.__add__, st.sampled_from([b"", b"\x80\x04", b"\x78\x9c"]), st.binary()))
def test_any_bytes_are_a_model_or_an_error_of_it(content: bytes) -> None:
    """Any bytes are read as a model or raise ArtifactError, and never another exception."""
    with suppress(ArtifactError):
        read(content)


@pytest.mark.parametrize("writer", ["joblib 0", "pickle 2", "pickle 5"])
def test_a_damaged_byte_is_an_error_or_another_model(model: Pipeline, writer: str) -> None:
    """A file with one changed bit gives another model or an ArtifactError, and never another exception."""
    content = WRITERS[writer](model)
    for place in np.random.default_rng(0).integers(0, len(content), 100):
        damaged = bytearray(content)
        damaged[place] ^= 1 << int(place) % 8
        with suppress(ArtifactError):
            read(io.BytesIO(damaged).getvalue())
