"""Unpickling by an allow-list of classes; the only place where a pickle is opened."""

import bz2
import io
import lzma
import re
import struct
import zlib
from collections.abc import Callable, Iterable
from types import FunctionType
from typing import Any

import joblib
import numpy as np
import scipy.sparse
from joblib.numpy_pickle import NumpyArrayWrapper, NumpyUnpickler
from sklearn.base import BaseEstimator

from pmip.errors import ArtifactError
from pmip.model.artifact import MAX_MODEL_BYTES
from pmip.model.pickled_arrays import CONSTRUCTORS, dtype_state, require_array_fields

MAX_LZMA_DICTIONARY_BYTES = 2**27

# By class, never by package: numpy and scikit-learn hold callables that run code or truncate files.
MODEL_TYPES = (BaseEstimator, NumpyArrayWrapper, scipy.sparse.spmatrix, scipy.sparse.sparray)
PLAIN_TYPES = (set, frozenset, slice, complex)
MODULES = re.compile(r"(numpy|scipy\.sparse|sklearn|joblib\.numpy_pickle|pmip\.(steps|text)|_*builtins?_*)(\..+)?")
RUNS_ON_IMPORT = re.compile(r"\.(__|tests\b|conftest\b)")  # such as numpy.f2py.__main__
# Unpickling calls these of what it fills: a state that has such a name would have it call what the pickle likes.
CALLED_BY_NAME = {"__setstate__", "append", "extend", "add"}
# Instructions that put what is on the stack into a dict or set: which of it is hashed.
HASHED = {ord("s"): slice(-2, -1), ord("u"): slice(None, None, 2), ord("d"): slice(None, None, 2)}
HASHED |= {0x90: slice(None), 0x91: slice(None)}

# The first bytes of what joblib.dump(compress=…) writes.
DECOMPRESSORS: dict[bytes, Callable[[], Any]] = {
    b"\x78": zlib.decompressobj,
    b"\x1f\x8b": lambda: zlib.decompressobj(wbits=31),
    b"BZh": bz2.BZ2Decompressor,
    b"\x5d\x00": lambda: lzma.LZMADecompressor(memlimit=MAX_LZMA_DICTIONARY_BYTES),
    b"\xfd7zXZ": lambda: lzma.LZMADecompressor(memlimit=MAX_LZMA_DICTIONARY_BYTES),
}


def dumps(model: object) -> bytes:
    """Pickle a model, compressed."""
    buffer = io.BytesIO()
    joblib.dump(model, buffer, compress=("zlib", 3))
    return buffer.getvalue()


def loads(content: bytes, trusted: Iterable[str] = (), *, max_bytes: int = MAX_MODEL_BYTES) -> Any:
    """Unpickle a model that holds allowed classes only, or those named in `trusted` (`package.module.Name`).

    Raises `ArtifactError` naming the first class that is not allowed, or saying that the bytes are no pickle.
    """
    try:
        return _AllowListUnpickler(_decompressed(content, max_bytes), frozenset(trusted)).load()
    except ArtifactError:
        raise
    except Exception as error:  # a damaged pickle can raise anything
        raise ArtifactError(f"the model cannot be unpickled ({type(error).__name__}: {error})") from error


def _hashing(load: Callable[[Any], None], hashed: slice) -> Callable[[Any], None]:
    """Return an instruction that looks at what it hashes before it does."""

    def checked(unpickler: Any) -> None:
        _require_plain(unpickler.stack[hashed])
        load(unpickler)

    return checked


def _require_plain(values: Iterable[Any]) -> None:
    """Refuse tuples where they would be hashed: nested ones take forever, or more of the C stack than there is."""
    if any(isinstance(value, tuple | frozenset | slice) for value in values):
        raise ArtifactError("the model contains a dict or set with tuples for keys; only plain values are allowed")


class _AllowListUnpickler(NumpyUnpickler):  # type: ignore[misc]
    """joblib's unpickler, which finds, calls and changes nothing but what a fitted model needs."""

    dispatch = NumpyUnpickler.dispatch.copy()

    def __init__(self, file: io.BytesIO, trusted: frozenset[str]) -> None:
        super().__init__("", file, ensure_native_byte_order=True)
        self._bytes = file.getbuffer().nbytes
        self._trusted = trusted
        self._callable: list[Any] = [*PLAIN_TYPES, *CONSTRUCTORS.values()]

    def find_class(self, module: str, name: str) -> Any:
        path = f"{module}.{name}"
        if path in self._trusted:
            self._callable.append(super().find_class(module, name))
            return self._callable[-1]
        if path in CONSTRUCTORS:
            return CONSTRUCTORS[path]
        if "." not in name and MODULES.fullmatch(module) and not RUNS_ON_IMPORT.search(module):
            found = super().find_class(module, name)
            if _is_allowed(found):
                return found
        raise _not_allowed(path)

    def load_reduce(self) -> None:
        """Call constructors alone: a class gets its state, not arguments of the pickle's choice."""
        called, arguments = self.stack[-2:]
        self._require_callable(called)
        if called is set or called is frozenset:
            for values in arguments:
                _require_plain(values)
        super().load_reduce()

    def load_newobj(self) -> None:
        """Make instances of models and trusted classes alone: others take memory or files when they are made."""
        made = self.stack[-2]
        if not (isinstance(made, type) and issubclass(made, MODEL_TYPES)):
            self._require_callable(made)
        super().load_newobj()

    def load_build(self) -> None:
        """Give a state to instances alone; one that tells numpy how to read bytes has to be sound."""
        target, state = self.stack[-2:]
        if isinstance(target, type | FunctionType):
            raise ArtifactError(f"the model tries to change {_path(target)} while it is loaded")
        if any(isinstance(part, dict) and part.keys() & CALLED_BY_NAME for part in (state, *_slots(state))):
            raise ArtifactError(f"the model tries to change a method of {_path(target)} while it is loaded")
        if isinstance(target, np.dtype):
            self.stack[-1] = dtype_state(target, state)
        if isinstance(target, NumpyArrayWrapper):
            require_array_fields(state, self._bytes)
        if isinstance(target, BaseEstimator):
            self.stack[-1] = _estimator_state(dict(state))
        super().load_build()

    def load_bytearray8(self) -> None:
        """Take the bytes that are there, rather than reserve as many as the pickle claims."""
        (size,) = struct.unpack("<Q", self.read(8))
        self.append(bytearray(self.read(size)))

    def load_outdated(self) -> None:
        """Refuse what no pickle of a model needs: old-style instances, registered extensions, outside objects."""
        raise ArtifactError("the model uses a pickle instruction that is not on the allow-list")

    def _require_callable(self, called: Any) -> None:
        if not any(called is allowed for allowed in self._callable):
            raise _not_allowed(_path(called))

    dispatch |= {ord("R"): load_reduce, 0x81: load_newobj, ord("b"): load_build, 0x96: load_bytearray8}
    dispatch |= dict.fromkeys([*b"ioPQ", 0x82, 0x83, 0x84, 0x92, 0x97], load_outdated)
    dispatch |= {code: _hashing(NumpyUnpickler.dispatch[code], hashed) for code, hashed in HASHED.items()}


def _slots(state: Any) -> tuple[Any, ...]:
    return state if isinstance(state, tuple) else ()


def _estimator_state(state: dict[str, Any]) -> dict[str, Any]:
    """Return the state of an estimator that opens no files and starts no processes."""
    if state.get("input", "content") != "content":
        raise ArtifactError("the model would open the files that comments name (input is not 'content')")
    return state | {"n_jobs": None} if "n_jobs" in state else state


def _is_allowed(found: Any) -> bool:
    if isinstance(found, type):
        return found in (np.ndarray, *PLAIN_TYPES) or issubclass(found, (np.generic, *MODEL_TYPES))
    return isinstance(found, FunctionType) and found.__module__ == "pmip.text"


def _not_allowed(path: str) -> ArtifactError:
    return ArtifactError(
        f"the model contains {path}, which is not on the allow-list; "
        f"MODEL_TRUSTED_TYPES={path} would trust it, and whatever code it runs"
    )


def _path(found: Any) -> str:
    named = found if hasattr(found, "__qualname__") else type(found)
    return f"{named.__module__}.{named.__qualname__}"


def _decompressed(content: bytes, max_bytes: int) -> io.BytesIO:
    """Unpack at most `max_bytes`: a small file can hold a very large one."""
    for magic, decompressor in DECOMPRESSORS.items():
        if content.startswith(magic):
            unpacker = decompressor()
            content = unpacker.decompress(content, max_bytes + 1)
            if len(content) <= max_bytes and not unpacker.eof:
                raise ArtifactError("the model is cut short")
            break
    if len(content) > max_bytes:
        raise ArtifactError(f"the model unpacks to more than {max_bytes:,} bytes")
    return io.BytesIO(content)
