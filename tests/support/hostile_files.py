"""Models and comment files as an attacker would write them, by family; made by hand, since nobody pickles such things.

`RUNNING` really do leave something in the working directory when Python's own unpickler opens them.
"""

import os
import pickle
import shutil
import struct
from pathlib import Path
from typing import Any

import numpy as np
from joblib.numpy_pickle import NumpyArrayWrapper
from scipy.sparse import csr_matrix
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import FeatureUnion, Pipeline

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
    """Return the instructions that make a value, without the frame around them."""
    return pickle.dumps(value, 2)[2:-1].replace(b"c__builtin__\n", b"cbuiltins\n")


def called(path: str, arguments: tuple[Any, ...]) -> bytes:
    """Return a pickle that calls a function."""
    return b"\x80\x04c" + path.replace(" ", "\n").encode() + b"\n" + body(arguments) + b"R."


def with_state(estimator: object, **state: Any) -> bytes:
    """Return a pickle of an estimator with one more state."""
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
    """Claim an array of joblib's, with a few bytes behind it."""
    wrapper = NumpyArrayWrapper(np.ndarray, shape, "C", np.dtype(dtype))
    return b"\x80\x02" + body(wrapper) + b"\x01\xff few bytes."


BIG = 2**30
CLAIMING: Files = {
    "joblib array": _array((BIG,), "i1"),
    "joblib array of huge items": _array((1,), f"S{BIG}"),
    "joblib array of many dimensions": _array((2**10,) * 3, "i1"),
    "joblib array of a negative size": _array((-1, -BIG), "i1"),
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
    "extension 1": b"\x80\x02\x82\x01.",
    "extension 2": b"\x80\x02\x83\x01\x00.",
    "extension 4": b"\x80\x02\x84\x01\x00\x00\x00.",
    "an outside object": b"Pmarker\n.",
    "an outside object, shown": b"S'marker'\nQ.",
    "an outside buffer": b"\x80\x05\x97.",
    "an outside buffer, sealed": b"\x80\x05\x97\x98.",
}
