"""Models as an attacker would write them, by family; written by hand, because pickle itself does not create them.

Those in `RUNNING` really leave something in the working directory when Python's own unpickler opens them.
"""

import os
import pickle
import shutil
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from fitted_models import WRITERS
from joblib import Memory
from joblib.numpy_pickle import NumpyArrayWrapper
from scipy.sparse import csr_matrix
from sklearn.ensemble import StackingClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import FeatureUnion, Pipeline
from sklearn.preprocessing import FunctionTransformer

from pmip.steps import CommentFeatures
from pmip.store.objects import FolderStorage

Files = dict[str, bytes]

TOUCH, WRITE = ["touch", "marker"], "open('marker', 'w').close()"
TOUCH_PATH = shutil.which("touch") or "/bin/touch"

CALLS: dict[str, tuple[Any, ...]] = {
    "os system": ("touch marker",),
    "os popen": ("touch marker",),
    "os mkdir": ("marker",),
    "os mkfifo": ("marker",),
    "os open": ("marker", os.O_CREAT | os.O_WRONLY),
    "os symlink": ("/etc/passwd", "marker"),
    "os posix_spawn": (TOUCH_PATH, TOUCH, {}),
    "os spawnv": (os.P_WAIT, TOUCH_PATH, TOUCH),
    "posix system": ("touch marker",),
    "subprocess Popen": (TOUCH,),
    "subprocess run": (TOUCH,),
    "subprocess getoutput": ("touch marker",),
    "multiprocessing.util spawnv_passfds": (TOUCH_PATH.encode(), TOUCH, ()),
    "uuid _get_command_stdout": ("touch", "marker"),
    "imaplib IMAP4_stream": ("touch marker",),
    "pydoc pipepager": ("text", "cat > marker"),
    "builtins eval": (WRITE,),
    "builtins exec": (WRITE,),
    "builtins open": ("marker", "w"),
    "io FileIO": ("marker", "w"),
    "runpy _run_code": (WRITE, {}),
    "timeit timeit": ("pass", WRITE),
    "cProfile run": (WRITE,),
    "profile run": (WRITE,),
    "pathlib Path.touch": (Path("marker"),),
    "shutil copyfile": ("/etc/passwd", "marker"),
    "tempfile mkdtemp": ("", "marker", "."),
    "zipfile ZipFile": ("marker", "w"),
    "tarfile open": ("marker", "w"),
    "gzip GzipFile": ("marker", "w"),
    "bz2 BZ2File": ("marker", "w"),
    "lzma LZMAFile": ("marker", "w"),
    "logging FileHandler": ("marker",),
    "shelve open": ("marker",),
    "dbm.dumb open": ("marker", "c"),
    "urllib.request urlretrieve": ("file:///etc/passwd", "marker"),
    "pickle loads": (b"cos\nsystem\n(S'touch marker'\ntR.",),
    "joblib dump": ([1], "marker"),
    "numpy save": ("marker", [1]),
    "numpy savetxt": ("marker", [1]),
    "numpy ndarray.tofile": (np.ones(1), "marker"),
    "numpy memmap": ("marker", "uint8", "w+", 0, (1,)),
    "numpy.lib.format open_memmap": ("marker", "w+", "uint8", (1,)),
    "numpy.testing._private.utils runstring": (WRITE, {}),
    "scipy.sparse save_npz": ("marker", csr_matrix((1, 1))),
    "scipy.io savemat": ("marker", {}),
    "sklearn.datasets dump_svmlight_file": ([[1]], [1], "marker"),
    "pmip.store.objects FolderStorage.write": (FolderStorage(Path()), "marker", b""),
}


def body(value: object) -> bytes:
    """Return the instructions that make a value, without a pickle's header and end."""
    return pickle.dumps(value, 2)[2:-1].replace(b"c__builtin__\n", b"cbuiltins\n")


def called(path: str, arguments: tuple[Any, ...]) -> bytes:
    return b"\x80\x04c" + path.replace(" ", "\n").encode() + b"\n" + body(arguments) + b"R."


def with_state(estimator: object, **state: Any) -> bytes:
    return body(estimator) + body(state) + b"b"


RUNNING: Files = {path: called(path, arguments) for path, arguments in CALLS.items()} | {
    "by INST": b"(S'touch marker'\nios\nsystem\n.",
    "by OBJ": b"(cos\nsystem\nS'touch marker'\no.",
    "by NEWOBJ": b"\x80\x02csubprocess\nPopen\n" + body((TOUCH,)) + b"\x810csubprocess\nrun\n" + body((TOUCH,)) + b"R.",
    "by STACK_GLOBAL": b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x0ctouch marker\x85R.",
    "by a remembered global": b"cos\nsystem\np9\n0g9\n(S'touch marker'\ntR.",
    "by getattr": b"cbuiltins\ngetattr\n(cimportlib\nimport_module\n(S'os'\ntRS'system'\ntR(S'touch marker'\ntR.",
    "by partial": b"cfunctools\npartial\n(cos\nsystem\nS'touch marker'\ntR(tR.",
    "by map": b"cbuiltins\nlist\n(cbuiltins\nmap\n(cos\nsystem\n(lS'touch marker'\natRtR.",
    "by methodcaller": b"coperator\nmethodcaller\n(S'touch'\ntR" + body((Path("marker"),)) + b"R.",
    "by __setstate__": b"\x80\x02"
    + body(LogisticRegression())
    + b"}S'__setstate__'\ncos\nsystem\nsbS'touch marker'\nb.",
    "by append": b"\x80\x02" + body(LogisticRegression()) + b"}S'append'\ncos\nsystem\nsbS'touch marker'\na.",
    "behind a model": pickle.dumps(Pipeline([]), 2)[:-1] + b"0cos\nsystem\n(S'touch marker'\ntR.",
}


def _array(shape: Any, dtype: str) -> bytes:
    """Return a pickle that claims an array of joblib's but has only a few bytes of data."""
    wrapper = NumpyArrayWrapper(np.ndarray, shape, "C", np.dtype(dtype))
    return b"\x80\x02" + body(wrapper) + b"\x01\xff few bytes."


BIG = 2**30
CLAIMING: Files = {
    "joblib array": _array((BIG,), "i1"),
    "joblib array of huge items": _array((1,), f"S{BIG}"),
    "joblib array of many dimensions": _array((2**10,) * 3, "i1"),
    "joblib array of a negative size": _array((-1, -BIG), "i1"),
    "joblib array of a truth's size": _array((True,), "f8"),
    "joblib array of nothing": _array((2**62,), "V0"),
    "bytearray": b"\x80\x05\x96" + struct.pack("<Q", BIG) + b"few.",
    "bytes": b"\x80\x05\x8e" + struct.pack("<Q", BIG) + b"few.",
    "text": b"\x80\x05\x8d" + struct.pack("<Q", BIG) + b"few.",
    "frame": b"\x80\x05\x95" + struct.pack("<Q", BIG) + b"few.",
    "whole number": b"\x80\x02\x8b" + struct.pack("<i", 2**31 - 1) + b"few.",
    "whole number of digits": b"I" + b"9" * 200_000 + b"\n.",
    "memo": b"\x80\x02Nr\xff\xff\xff\xff.",
    "numpy void": b"\x80\x02" + with_state(LogisticRegression()) + b"}S'append'\ncnumpy\nvoid\nsb" + body(BIG) + b"a.",
    "numpy void by __setstate__": b"\x80\x02"
    + body(LogisticRegression())
    + b"}S'__setstate__'\ncnumpy\nvoid\nsb"
    + body(BIG)
    + b"b.",
    "numpy void by a slot": b"\x80\x02"
    + body(csr_matrix((1, 1)))
    + b"}}S'append'\ncnumpy\nvoid\ns\x86b"
    + body(BIG)
    + b"a.",
    "numpy void called": called("numpy void", (BIG,)),
    "numpy ndarray called": called("numpy ndarray", ((BIG,),)),
    "bytes called": called("builtins bytearray", (BIG,)),
    "range": called("builtins list", (range(BIG),)),
}

DEEP, DOUBLED = b")" + b"\x85" * 200_000, b")" + b"2\x86" * 60
WALKED: Files = {
    f"{name} as {use}": b"\x80\x04" + use_it.replace(b"KEY", key)
    for name, key in {"a deep tuple": DEEP, "a tuple of itself": DOUBLED}.items()
    for use, use_it in {
        "a key": b"}KEYNs.",
        "the key of a state": body(LogisticRegression()) + b"}(KEYNub.",
        "the key of a dict": b"(KEYNd.",
        "one of a set": b"\x8f(KEY\x90.",
        "one of a frozenset": b"(KEY\x91.",
        "one of an older set": b"cbuiltins\nset\n]KEYa\x85R.",
        "one of a set of a tuple": b"cbuiltins\nfrozenset\nKEY\x85\x85R.",
        "the bound of a slice that is a key": b"}cbuiltins\nslice\nKEY\x85RNs.",
    }.items()
}


def _fitted() -> Pipeline:
    features = FeatureUnion([(name, TfidfVectorizer()) for name in ("a", "b", "c")])
    return Pipeline([("features", features), ("classifier", LogisticRegression())]).fit(["spam", "ham"] * 2, [1, 0] * 2)


def _changed(step: str, **state: Any) -> bytes:
    model = _fitted()
    vars(model.named_steps[step] if step else model).update(state)
    return pickle.dumps(model)


def _changed_vectorizer(**state: Any) -> bytes:
    model = _fitted()
    vars(model[0].transformer_list[0][1]).update(state)
    return pickle.dumps(model, 2)


def _with_deep(setting: str) -> bytes:
    """Return a model with a setting so deep that hashing, comparing or printing it would crash the process."""
    return _changed_vectorizer(**{setting: "DEEP"}).replace(b"X\x04\0\0\0DEEP", DEEP)


def _with_unions(depth: int) -> bytes:
    """Return a model of nested unions, each of which holds the previous one twice."""
    union = FeatureUnion([("no", "drop")])
    for _ in range(depth):
        union = FeatureUnion([("a", union), ("b", union)])
    return pickle.dumps(Pipeline([("features", union), _fitted().steps[1]]))


def _out_of_range() -> csr_matrix:
    matrix = csr_matrix(np.ones((1, 6)))
    matrix.indices[:] = 2**30
    return matrix


_SMALL = Pipeline(
    [
        ("features", FeatureUnion([("words", TfidfVectorizer()), ("comment", CommentFeatures())])),
        ("classifier", LogisticRegression()),
    ]
).fit(["spam", "ham"], [1, 0])
SOUND: Files = {name: write(_SMALL) for name, write in WRITERS.items()}

MISUSING: Files = {
    "many processes": _changed("features", n_jobs=8),
    "a cache on the disk": _changed("", memory="marker"),
    "files that comments name": pickle.dumps(TfidfVectorizer(input="filename")),
    "streams that comments name": pickle.dumps(TfidfVectorizer(input="file")),
    "files, said later": b"\x80\x02" + with_state(TfidfVectorizer(), input="filename") + b".",
    "files, by a slot": b"\x80\x02" + body(TfidfVectorizer()) + b"N" + body({"input": "filename"}) + b"\x86b.",
    "an older joblib's file": b"cjoblib.numpy_pickle_compat\nNDArrayWrapper\n(S'/etc/passwd'\nNtR.",
    "an older joblib's format": b"ZF0x" + b"0" * 32,
    "an array on the disk": body(NumpyArrayWrapper(np.memmap, (1,), "C", np.dtype("i1"), True)) + b".",
    "an array of dates": pickle.dumps(np.zeros(1, "M8[s]")),
    "an array of objects": pickle.dumps(np.array([TfidfVectorizer()], dtype=object)),
    "an array with objects": pickle.dumps(np.zeros(1, "i4,O")),
    "laughs": b"\x80\x02]q\x00" + b"".join(b"](h%ch%ceq%c0h%c" % (n, n, n + 1, n + 1) for n in range(40)) + b".",
}

# Each of these passed a list of allowed classes of scikit-learn.
_STATE_OF_PAIRS = b"csklearn.feature_extraction.text\nTfidfVectorizer\n)\x81" + body([("input", "filename")]) + b"b"
TRICKING: Files = {
    "methods named by a state": pickle.dumps(StackingClassifier([("a", LogisticRegression())])),
    "any function as a transformer": pickle.dumps(FunctionTransformer(np.ndarray.tofile)),
    "a grid of anything": pickle.dumps(GridSearchCV(LogisticRegression(), {"C": [1]})),
    "a cache that is loaded": _changed("", memory=Memory("marker", verbose=0)),
    "a method of its own": _changed("classifier", predict_proba=np.ndarray.tofile),
    "a state of pairs": b"\x80\x02" + _STATE_OF_PAIRS + b".",
    "sparse coefficients out of range": _changed("classifier", coef_=_out_of_range()),
    "terms out of range": _changed_vectorizer(vocabulary_={"spam": 2**40}),
    "a negative term": _changed_vectorizer(vocabulary_={"spam": -1}),
    "an expensive pattern": _changed_vectorizer(token_pattern=r"(\w+\s*)+!"),
    "an expensive n-gram range": _changed_vectorizer(ngram_range=(1, 10_000)),
    "a tokenizer that is a method": _changed_vectorizer(tokenizer="(a+)+b".split),
    "files that are looked up as words": _changed_vectorizer(stop_words="english", input="filename"),
    "zeros after the end": pickle.dumps(_fitted()) + bytes(2**24),
    "zeros after the end, compressed": zlib.compress(pickle.dumps(_fitted()) + bytes(2**24)),
    "zeros after the end of what is compressed": zlib.compress(pickle.dumps(_fitted())) + bytes(2**24),
    "a second pickle": pickle.dumps(_fitted()) * 2,
    "numbers of one hash": b"\x80\x04}(" + b"".join(body(n * (2**61 - 1)) + b"N" for n in range(2**16)) + b"u.",
    "parts numbered for one hash": b"\x80\x02N"
    + b"".join(b"r" + struct.pack("<I", n << 16) for n in range(2**16))
    + b".",
    "instances of instances": b"\x80\x02cpmip.steps\nCommentFeatures\nq\0"
    + b"h\0)\x81" * 200_000
    + b"b" * 199_999
    + b".",
    "lists of lists": b"\x80\x02" + b"]" * 200_000 + b"a" * 199_999 + b".",
    "unions of unions": _with_unions(40),
    "a deep setting": _with_deep("analyzer"),
    "a deep pattern": _with_deep("token_pattern"),
}
TRICKING |= {
    f"importing {module}": b"\x80\x02c" + module.encode() + b"\nname\n."
    for module in ("numpy.f2py.__main__", "antigravity", "idlelib.idle", "sklearn.conftest", "tests.conftest", "marker")
}
