"""Unpickling by an allow-list of classes; the only place where a pickle is opened."""

import bz2
import gzip
import io
import lzma
import zlib
from collections.abc import Callable, Iterable
from types import FunctionType
from typing import Any

import joblib
import numpy as np
import scipy.sparse
from joblib.numpy_pickle import NumpyUnpickler
from sklearn.base import BaseEstimator

from pmip.errors import ArtifactError

MAX_MODEL_BYTES = 2**30

# By class, never by package: numpy and scikit-learn hold callables that run code or truncate files.
ARRAY_TYPES = (np.ndarray, np.dtype, np.generic, scipy.sparse.spmatrix, scipy.sparse.sparray)
ARRAY_CONSTRUCTORS = {
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy.core.multiarray", "scalar"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "scalar"),
}
PLAIN_TYPES = (set, frozenset, slice, complex, bytearray)
MODEL_TYPES = (BaseEstimator, joblib.numpy_pickle.NumpyArrayWrapper)
MODULES = ("numpy.", "scipy.sparse.", "sklearn.", "joblib.numpy_pickle.", "pmip.steps.", "pmip.text.", "builtins.")

# The first bytes of what joblib.dump(compress=…) writes.
DECOMPRESSORS: dict[bytes, Callable[[io.BytesIO], Any]] = {
    b"\x1f\x8b": lambda file: gzip.GzipFile(fileobj=file),
    b"BZh": bz2.BZ2File,
    b"\xfd7zXZ": lzma.LZMAFile,
}


def dumps(model: object) -> bytes:
    """Pickle a model, compressed."""
    buffer = io.BytesIO()
    joblib.dump(model, buffer, compress=("zlib", 3))
    return buffer.getvalue()


def loads(content: bytes, trusted: Iterable[str] = ()) -> Any:
    """Unpickle a model that holds allowed classes only, or those named in `trusted` (`package.module.Name`).

    Raises `ArtifactError` naming the first class that is not allowed, or saying that the bytes are no pickle.
    """
    try:
        return _AllowListUnpickler(_decompressed(content), frozenset(trusted)).load()
    except ArtifactError:
        raise
    except Exception as error:  # a damaged pickle can raise anything
        raise ArtifactError(f"the model cannot be unpickled ({type(error).__name__}: {error})") from error


class _AllowListUnpickler(NumpyUnpickler):  # type: ignore[misc]
    """joblib's unpickler, which also asks `find_class` for what a nested object array holds."""

    dispatch = NumpyUnpickler.dispatch.copy()

    def __init__(self, file: io.BytesIO, trusted: frozenset[str]) -> None:
        super().__init__("", file, ensure_native_byte_order=True)
        self._trusted = trusted

    def find_class(self, module: str, name: str) -> Any:
        if f"{module}.{name}" in self._trusted:
            return super().find_class(module, name)
        if "." not in name and f"{module}.".startswith(MODULES):
            found = super().find_class(module, name)
            if (module, name) in ARRAY_CONSTRUCTORS or _is_allowed(found, module):
                return found
        raise ArtifactError(
            f"the model contains {module}.{name}, which is not on the allow-list; "
            f"MODEL_TRUSTED_TYPES={module}.{name} would trust it, and whatever code it runs"
        )

    def load_build(self) -> None:
        """Refuse to patch a class or a function: state belongs to instances."""
        target = self.stack[-2]
        if isinstance(target, type | FunctionType) or not hasattr(target, "__class__"):
            raise ArtifactError("the model tries to change a class or a function while it is loaded")
        super().load_build()

    dispatch[ord("b")] = load_build


def _is_allowed(found: Any, module: str) -> bool:
    if isinstance(found, type):
        return issubclass(found, ARRAY_TYPES + MODEL_TYPES) or found in PLAIN_TYPES
    return isinstance(found, FunctionType) and module == found.__module__ == "pmip.text"


def _decompressed(content: bytes) -> io.BytesIO:
    """Unpack at most `MAX_MODEL_BYTES`: a small file can hold a very large one."""
    if content[:1] == b"\x78":
        unpacker = zlib.decompressobj()
        unpacked = unpacker.decompress(content, MAX_MODEL_BYTES)
        if unpacker.unconsumed_tail:
            raise ArtifactError(f"the model unpacks to more than {MAX_MODEL_BYTES:,} bytes")
        return io.BytesIO(unpacked)
    for magic, opened in DECOMPRESSORS.items():
        if content.startswith(magic):
            unpacked = opened(io.BytesIO(content)).read(MAX_MODEL_BYTES + 1)
            if len(unpacked) > MAX_MODEL_BYTES:
                raise ArtifactError(f"the model unpacks to more than {MAX_MODEL_BYTES:,} bytes")
            return io.BytesIO(unpacked)
    return io.BytesIO(content)
