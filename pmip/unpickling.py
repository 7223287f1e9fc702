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

from pmip.artifact import MAX_MODEL_BYTES
from pmip.errors import ArtifactError

MAX_LZMA_DICTIONARY_BYTES = 2**27

# By class, never by package: numpy and scikit-learn hold callables that run code or truncate files.
MODEL_TYPES = (BaseEstimator, NumpyArrayWrapper, scipy.sparse.spmatrix, scipy.sparse.sparray)
PLAIN_TYPES = (set, frozenset, slice, complex)
MODULES = re.compile(r"(numpy|scipy\.sparse|sklearn|joblib\.numpy_pickle|pmip\.(steps|text)|_*builtins?_*)(\..+)?")
RUNS_ON_IMPORT = re.compile(r"\.(__|tests\b|conftest\b)")  # such as numpy.f2py.__main__
ARRAY_FIELDS = {"subclass", "shape", "order", "dtype", "allow_mmap", "numpy_array_alignment_bytes"}

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


class _AllowListUnpickler(NumpyUnpickler):  # type: ignore[misc]
    """joblib's unpickler, which finds, calls and changes nothing but what a fitted model needs."""

    dispatch = NumpyUnpickler.dispatch.copy()

    def __init__(self, file: io.BytesIO, trusted: frozenset[str]) -> None:
        super().__init__("", file, ensure_native_byte_order=True)
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
        self._require_callable(self.stack[-2])
        super().load_reduce()

    def load_newobj(self) -> None:
        """Make instances of models and trusted classes alone: others take memory or files when they are made."""
        made = self.stack[-2]
        if not (isinstance(made, type) and issubclass(made, MODEL_TYPES)):
            self._require_callable(made)
        super().load_newobj()

    def load_build(self) -> None:
        """Give a state to instances alone; one that tells numpy how to read bytes has to be sound."""
        target = self.stack[-2]
        if isinstance(target, type | FunctionType):
            raise ArtifactError(f"the model tries to change {_path(target)} while it is loaded")
        if isinstance(target, np.dtype):
            self.stack[-1] = _dtype_state(target, self.stack[-1])
        if isinstance(target, NumpyArrayWrapper):
            _require_array_fields(self.stack[-1])
        if isinstance(target, BaseEstimator) and dict(self.stack[-1]).get("input", "content") != "content":
            raise ArtifactError("the model would open the files that comments name (input is not 'content')")
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


def _dtype(code: str, *_: object) -> np.dtype[Any]:
    """Make a dtype of numbers or fixed-length text; an array of objects could smuggle in anything."""
    if not re.fullmatch("[biufcSUV][0-9]+", code):
        raise ArtifactError(f"the model contains an array of dtype {code[:20]!r}; only numbers and texts are allowed")
    return np.dtype(code, copy=True)  # a new one: its state is still to come


def _dtype_state(dtype: np.dtype[Any], state: Any) -> Any:
    """Return the state that numpy itself would write: a forged one has it take an array's bytes for pointers."""
    order, names, fields = state[1], state[3], state[4]
    if not names:
        return dtype.newbyteorder(order).__reduce__()[2]
    formats, offsets = zip(*((fields[name][0], fields[name][1]) for name in names), strict=True)
    layout = {"names": list(names), "formats": list(formats), "offsets": list(offsets), "itemsize": dtype.itemsize}
    structured = np.dtype(layout)  # type: ignore[call-overload]
    if structured.hasobject or dtype.kind != "V":
        raise ArtifactError("the model contains an array of objects; only numbers and texts are allowed")
    return structured.__reduce__()[2]


def _require_array_fields(state: Any) -> None:
    if not (isinstance(state, dict) and state.keys() <= ARRAY_FIELDS and isinstance(state.get("dtype"), np.dtype)):
        raise ArtifactError("the model contains an array that joblib did not write")


# What numpy pickles its arrays by, each as a function that takes only what numpy writes.
ARRAY_CONSTRUCTORS: dict[str, Callable[..., Any]] = {
    "multiarray._reconstruct": lambda *_: np.empty(0, np.int8),
    "multiarray.scalar": lambda dtype, data: np.frombuffer(data, dtype)[0],
    "numeric._frombuffer": lambda data, dtype, shape, order: np.frombuffer(data, dtype).reshape(shape, order=order),
}
CONSTRUCTORS: dict[str, Callable[..., Any]] = {
    "_codecs.encode": lambda text, _: text.encode("latin-1"),
    "__builtin__.bytes": lambda: b"",
    "numpy.dtype": _dtype,
    **{f"numpy.core.{name}": constructor for name, constructor in ARRAY_CONSTRUCTORS.items()},
    **{f"numpy._core.{name}": constructor for name, constructor in ARRAY_CONSTRUCTORS.items()},
}


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
