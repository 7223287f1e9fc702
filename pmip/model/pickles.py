"""Reads a pickle as data: nothing that it names is imported, constructed or called.

1. The file is decompressed, up to a limit, and read by the standard library's unpickler in pure Python.
2. Each class or function that it names must be in a table below, or in `pmip.text`; it becomes a `Name`.
3. An instance becomes a `Made`, which only records its state; arrays and numbers of numpy are read from their bytes.
4. Every instruction that models do not need is refused.
5. Sets become lists and keys of dicts are limited, because a hostile file could choose keys that hash slowly.
"""

import bz2
import io
import lzma
import math
import pickle
import struct
import zlib
from collections.abc import Callable
from types import FunctionType
from typing import Any, ClassVar, NoReturn

from pmip import text
from pmip.errors import ArtifactError, NotReadableError, OtherTextError

MAX_LZMA_DICTIONARY_BYTES = 2**27
DEPLOY = "deploy the API with the code that trained the model, or train a model with this code"
MAX_KEY = 1000  # larger whole numbers can be chosen such that a dict of them takes forever

# By the first bytes of files of joblib.dump(compress=…).
_DECOMPRESSORS: dict[bytes, Callable[[], Any]] = {
    b"\x78": zlib.decompressobj,
    b"\x1f\x8b": lambda: zlib.decompressobj(wbits=31),
    b"BZh": bz2.BZ2Decompressor,
    b"\x5d\x00": lambda: lzma.LZMADecompressor(lzma.FORMAT_ALONE, MAX_LZMA_DICTIONARY_BYTES),
    b"\xfd7zXZ": lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, MAX_LZMA_DICTIONARY_BYTES),
}
_LZ4 = b"\x04\x22\x4d\x18"
# numpy's names of number types, and those of `struct`.
_FORMATS = {"f8": "d", "f4": "f", "i8": "q", "i4": "i", "i2": "h", "i1": "b"}
_FORMATS |= {"u8": "Q", "u4": "I", "u2": "H", "u1": "B", "b1": "?"}


def stand_ins(content: bytes, max_bytes: int) -> Any:
    """Return the content of a pickle that decompresses to at most `max_bytes`.

    Raise `NotReadableError` with the name of the first class or function that is not in the tables, and `ArtifactError`
    for a damaged or hostile file.
    """
    return _Reader(_unpacked(content, max_bytes)).load()


def require_sound(condition: bool, fault: str) -> None:
    """Raise `ArtifactError` for a damaged or hostile file unless the condition holds."""
    if not condition:
        raise ArtifactError(fault)


def require(condition: bool, reason: str) -> None:
    """Raise `NotReadableError` for a model that can be run but not read, unless the condition holds."""
    if not condition:
        raise NotReadableError(reason)


def class_name(something: Any) -> str:
    """Return the name of the class of an object in the pickle."""
    if isinstance(something, Made | Name):
        return something.path.rpartition(".")[2]
    return {Dtype: "dtype", Array: "ndarray"}.get(type(something), type(something).__name__)


def shown(value: Any) -> str:
    """Return a value of the pickle as a short, printable text for a message."""
    return ascii(value[:100])[1:-1] if type(value) is str else value.path if type(value) is Name else class_name(value)


def _unpacked(content: bytes, max_bytes: int) -> bytes:
    """Decompress at most `max_bytes`, because a small file can decompress to a very large one."""
    require_sound(not content.startswith(_LZ4), "model.pkl is compressed by lz4, which is not read; use compress=3")
    for magic, decompressor in _DECOMPRESSORS.items():
        if content.startswith(magic):
            unpacker = decompressor()
            content = unpacker.decompress(content, max_bytes + 1)
            require_sound(len(content) > max_bytes or unpacker.eof, "model.pkl is cut short")
            require_sound(not unpacker.unused_data, "model.pkl has bytes after its end")
            break
    require_sound(len(content) <= max_bytes, f"model.pkl unpacks to more than {max_bytes:,} bytes")
    require_sound(content[:1] == pickle.PROTO, "model.pkl is not a pickle of protocol 2 to 5")
    return content


class Name:
    """The name of a class or function; the object itself is never imported."""

    __slots__ = ("path",)

    def __init__(self, path: str) -> None:
        self.path = path


class Made:
    """Stands for an instance: the name of its class, and its state."""

    __slots__ = ("path", "state")

    def __init__(self, path: str) -> None:
        self.path = path
        self.state: Any = None

    def __getitem__(self, attribute: str) -> Any:
        require_sound(attribute in self, f"the model's {class_name(self)} has no {attribute}; was it fitted?")
        return self.state[attribute]

    def __contains__(self, attribute: str) -> bool:
        return type(self.state) is dict and attribute in self.state

    def build(self, state: Any) -> None:
        """Record the state, once."""
        require_sound(self.state is None, f"the model gives a {class_name(self)} two states")
        self.state = state


class Dtype:
    """A dtype of numpy for numbers: their type and byte order."""

    __slots__ = ("code", "order")

    def __init__(self, code: Any, *_: Any) -> None:
        require(type(code) is str and code in _FORMATS, f"the model contains an array of dtype {shown(code)}")
        self.code, self.order = code, "="

    def build(self, state: Any) -> None:
        """Record the byte order; a dtype of numbers has no fields and no shape."""
        sound = type(state) is tuple and state[2:5] == (None,) * 3 and state[1] in ("<", ">", "|", "=")
        require_sound(sound, "the model holds a dtype that numpy did not write")
        self.order = state[1].replace("|", "=")

    def bytes_of(self, shape: Any) -> int:
        """Return the size of an array in bytes."""
        sound = type(shape) is tuple and len(shape) <= 32 and all(type(n) is int and 0 <= n < 2**40 for n in shape)
        require_sound(sound, "the model holds an array that numpy did not write")
        size: int = math.prod(shape) * int(self.code[1])
        return size

    def numbers(self, content: bytes) -> tuple[Any, ...]:
        """Read numbers from bytes."""
        return struct.unpack(f"{self.order}{len(content) // int(self.code[1])}{_FORMATS[self.code]}", content)


class Array:
    """An array of numbers, kept as its bytes."""

    __slots__ = ("content", "dtype", "shape")

    def __init__(self, *_: Any) -> None:
        self.dtype: Dtype | None = None

    def build(self, state: Any) -> None:
        """Record dtype, shape and bytes, once."""
        _, shape, dtype, _, content = state
        require_sound(self.dtype is None and type(dtype) is Dtype, "the model holds an array that numpy did not write")
        require_sound(dtype.bytes_of(shape) == len(content), "the model holds an array of the wrong size")
        self.dtype, self.shape, self.content = dtype, shape, bytes(content)

    def numbers(self) -> list[Any]:
        """Return the numbers of a vector, or of a matrix of one row."""
        if self.dtype is None:
            raise ArtifactError("the model holds an array without a state")
        require(math.prod(self.shape[:-1]) == 1, f"an array of the model has the shape {self.shape}")
        return list(self.dtype.numbers(self.content))


def _array(dtype: Any, shape: Any, content: Any) -> Array:
    array = Array()
    array.build((1, shape, dtype, False, content))
    return array


def _scalar(dtype: Any, content: Any) -> Any:
    require_sound(type(dtype) is Dtype and type(content) is bytes, "the model holds a number that numpy did not write")
    (number,) = dtype.numbers(content)
    return number


def _listed(items: Any) -> Any:
    require_sound(type(items) is list, "the model holds a set that pickle did not write")
    return items


# The names in pickles of scikit-learn 1.5 to 1.9, numpy 1 and 2, and joblib. Instances of these classes have a state.
_CLASSES = {
    "sklearn.pipeline.Pipeline",
    "sklearn.pipeline.FeatureUnion",
    "sklearn.feature_extraction.text.TfidfVectorizer",
    "sklearn.feature_extraction.text.TfidfTransformer",
    "sklearn.linear_model._logistic.LogisticRegression",
    "sklearn.linear_model._stochastic_gradient.SGDClassifier",
    "joblib.numpy_pickle.NumpyArrayWrapper",
    "pmip.steps.CommentFeatures",
}
# The loss of an SGDClassifier and random states, which do not influence the answers of a model.
_IGNORED = (
    "sklearn._loss._loss.CyHalfBinomialLoss",
    "_loss.CyHalfBinomialLoss",
    "sklearn.linear_model._sgd_fast.Log",
    "numpy.random._pickle.__randomstate_ctor",
    "numpy.random._pickle.__bit_generator_ctor",
)
# The pickle calls these; functions of this module do their work instead.
_CONSTRUCTORS: dict[str, Callable[..., Any]] = {path: lambda *_, path=path: Made(path) for path in _IGNORED} | {
    "numpy.dtype": Dtype,
    "numpy.core.multiarray._reconstruct": Array,
    "numpy.core.multiarray.scalar": _scalar,
    "numpy.core.numeric._frombuffer": lambda content, dtype, shape, _: _array(dtype, shape, content),
    "_codecs.encode": lambda characters, _: bytes(characters, "latin-1"),
    "__builtin__.bytes": lambda: b"",
    "__builtin__.set": _listed,
    "__builtin__.frozenset": _listed,
}
_NAMED = {"numpy.ndarray", "numpy.float64", "numpy.random._mt19937.MT19937"}
_RENAMED = {"builtins": "__builtin__", "numpy._core.multiarray": "numpy.core.multiarray"}
_RENAMED |= {"numpy._core.numeric": "numpy.core.numeric"}


_PythonUnpickler: Any = pickle._Unpickler  # the instructions of the unpickler in C cannot be replaced


class _Reader(_PythonUnpickler):  # type: ignore[misc]
    """Executes a pickle's instructions, but only on lists, dicts, texts, numbers and stand-ins."""

    def __init__(self, content: bytes) -> None:
        super().__init__(io.BytesIO(content))

    def load(self) -> Any:
        """Return the content of the pickle; raise `ArtifactError` if bytes follow it."""
        value = super().load()
        require_sound(not self.read(1), "model.pkl has bytes after its end")
        return value

    def find_class(self, module: str, name: str) -> Name:
        """Return the name of a class or function; raise if it is not in the tables."""
        path = f"{_RENAMED.get(module, module)}.{name}"
        known = path in _CLASSES or path in _CONSTRUCTORS or path in _NAMED or _is_text_function(module, name)
        gone = module == "pmip.text" and name.isidentifier() and not hasattr(text, name)
        if gone:
            raise OtherTextError(f"the model needs another pmip.text: this one has no {shown(path)}; {DEPLOY}")
        require(known, f"the model contains {shown(f'{module}.{name}')}")
        return Name(path)

    def load_reduce(self) -> None:
        """Replace the call of a constructor by the function in the table."""
        arguments, called = self.stack.pop(), self.stack.pop()
        known = type(called) is Name and called.path in _CONSTRUCTORS and type(arguments) is tuple
        require(known, f"the model calls {shown(called)}")
        self.append(_CONSTRUCTORS[called.path](*arguments))

    def load_newobj(self) -> None:
        """Replace an instance of a class by a stand-in."""
        arguments, made = self.stack.pop(), self.stack.pop()
        known = type(made) is Name and made.path in _CLASSES and type(arguments) is tuple and not arguments
        require(known, f"the model makes an instance of {shown(made)}")
        self.append(Made(made.path))

    def load_build(self) -> None:
        """Record a state; after a joblib wrapper, also read the bytes of its array, which follow."""
        state, target = self.stack.pop(), self.stack[-1]
        require_sound(type(target) in (Made, Dtype, Array), f"the model changes {shown(target)} while it is read")
        target.build(state)
        if type(target) is Made and target.path == "joblib.numpy_pickle.NumpyArrayWrapper":
            if target.state.get("numpy_array_alignment_bytes"):
                self.read(self.read(1)[0])
            dtype, shape = target["dtype"], target["shape"]
            self.stack[-1] = _array(dtype, shape, self.read(dtype.bytes_of(shape)))

    def load_binput(self) -> None:
        """Store a value in the memo; refuse numbers that no pickler writes, because they could take forever."""
        self._remember(self.read(1)[0])

    def load_long_binput(self) -> None:
        """Do the same for a number of four bytes."""
        self._remember(struct.unpack("<I", self.read(4))[0])

    def _remember(self, number: int) -> None:
        require_sound(number <= len(self.memo), "the model numbers its parts as no pickler does")
        self.memo[number] = self.stack[-1]

    def load_bytearray8(self) -> None:
        """Read only the bytes that exist, instead of reserving the size that the pickle claims."""
        self.append(self.read(struct.unpack("<Q", self.read(8))[0]))

    def load_append(self) -> None:
        """Append one item to a list."""
        self._fill(list, [self.stack.pop()])

    def load_appends(self) -> None:
        """Append items to a list."""
        self._fill(list, self.pop_mark())

    def load_setitem(self) -> None:
        """Put one item into a dict."""
        self._fill(dict, [self.stack.pop(-2), self.stack.pop()])

    def load_setitems(self) -> None:
        """Put items into a dict."""
        self._fill(dict, self.pop_mark())

    def _fill(self, wanted: type, items: list[Any]) -> None:
        target = self.stack[-1]
        require_sound(type(target) is wanted, f"the model puts items into a {class_name(target)}")
        if wanted is list:
            target.extend(items)
            return
        plain = all(type(key) is str or (type(key) is int and abs(key) <= MAX_KEY) for key in items[::2])
        require(plain, "the model holds a dict with keys that are not texts")
        target.update(zip(items[::2], items[1::2], strict=True))

    def load_frozenset(self) -> None:
        """Read a set as a list."""
        items = self.pop_mark()
        self.append(items)

    def load_refused(self) -> NoReturn:
        """Refuse old-style instances, registered extensions, persistent ids and instructions of Python 2."""
        raise ArtifactError("the model uses a pickle instruction that models do not need")

    _UNCHANGED = b".(012NJKMG})]tcXBChj\x80\x85\x86\x87\x88\x89\x8a\x8c\x8d\x8e\x93\x94\x95"
    dispatch: ClassVar[dict[int, Any]] = dict.fromkeys(range(256), load_refused)
    dispatch |= {code: _PythonUnpickler.dispatch[code] for code in _UNCHANGED}
    dispatch |= {ord("R"): load_reduce, 0x81: load_newobj, ord("b"): load_build, ord("q"): load_binput}
    dispatch |= {ord("r"): load_long_binput, 0x96: load_bytearray8, ord("a"): load_append, ord("e"): load_appends}
    dispatch |= {ord("s"): load_setitem, ord("u"): load_setitems}
    dispatch |= {0x8F: dispatch[ord("]")], 0x90: load_appends, 0x91: load_frozenset}  # sets


def _is_text_function(module: str, name: str) -> bool:
    member = vars(text).get(name)
    function = getattr(member, "__wrapped__", member)  # without its lru_cache
    public = module == "pmip.text" and not name.startswith("_")
    return public and isinstance(function, FunctionType) and function.__module__ == "pmip.text"
