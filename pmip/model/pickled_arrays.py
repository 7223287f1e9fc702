"""What numpy and joblib pickle arrays by, each taken only as they write it: numbers and texts, never objects."""

import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np

from pmip.errors import ArtifactError

ARRAY_FIELDS = {"subclass", "shape", "order", "dtype", "allow_mmap", "numpy_array_alignment_bytes"}


def _dtype(code: str, *_: object) -> np.dtype[Any]:
    """Make a dtype of numbers or fixed-length text; an array of objects could smuggle in anything."""
    if not re.fullmatch("[biufcSUV][0-9]+", code):
        raise ArtifactError(f"the model contains an array of dtype {code[:20]!r}; only numbers and texts are allowed")
    return np.dtype(code, copy=True)  # a new one: its state is still to come


def dtype_state(dtype: np.dtype[Any], state: Any) -> Any:
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


def require_array_fields(state: Any, most_bytes: int) -> None:
    """Refuse what joblib would not write, or what claims more than the file holds: its place is reserved first."""
    if not (isinstance(state, dict) and state.keys() <= ARRAY_FIELDS and isinstance(state.get("dtype"), np.dtype)):
        raise ArtifactError("the model contains an array that joblib did not write")
    if math.prod(state.get("shape", ())) * state["dtype"].itemsize > most_bytes:
        raise ArtifactError("the model contains an array that is larger than the file")


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
