"""Reads pickles that name every class of scikit-learn, and records each import, file, process or compiled code.

usage: python read_with_audit.py FOLDER <NAMES     FOLDER/*.pkl are models that must be readable; prints its counts
"""

import pickle
import sys
from pathlib import Path
from typing import Any

from pmip.errors import ArtifactError
from pmip.model.reading import read

FORBIDDEN = {"import", "open", "exec", "compile", "marshal.loads", "pickle.find_class", "object.__setattr__"}
FORBIDDEN |= {"code.__new__", "function.__new__", "sys._getframe", "builtins.input", "syslog.syslog", "glob.glob"}
PREFIXES = ("os.", "subprocess.", "shutil.", "socket.", "tempfile.", "ctypes.", "mmap.", "signal.", "pty.", "sqlite3.")


def attempts(module: bytes, name: bytes) -> list[bytes]:
    """Return pickles that name a class in both ways, and that create, call or change an object of it."""
    by_line = b"\x80\x02c" + module + b"\n" + name + b"\n"
    texts = b"".join(b"\x8c" + bytes([len(text)]) + text for text in (module, name))
    by_stack = b"\x80\x04" + texts + b"\x93"
    uses = (b"", b")R", b")\x81", b")\x81}b", b"}b", b")}\x92", b"K\x01\x85R", b")\x81)\x81", b")R}X\x01\0\0\0aK\x01sb")
    return [named + use + b"." for named in (by_line, by_stack) for use in uses]


def main(folder: Path, names: list[str]) -> None:
    sound = [path.read_bytes() for path in sorted(folder.glob("*.pkl"))]
    hostile = [content for name in names for content in attempts(*(part.encode() for part in name.split()))]
    events: list[str] = []

    def hook(event: str, _: Any) -> None:
        if event in FORBIDDEN or event.startswith(PREFIXES):
            events.append(event)

    sys.addaudithook(hook)
    for content in sound:
        read(content)
    refused = 0
    for content in hostile:
        try:
            read(content)
        except ArtifactError:
            refused += 1
    seen = list(events)  # printing and exiting raise events too
    loaded = {"numpy", "scipy", "sklearn", "joblib"} & sys.modules.keys()
    print(len(sound), len(hostile), refused, sorted(set(seen)), sorted(loaded))  # noqa: T201
    pickle.loads(b"\x80\x02cwave\nopen\n.")  # proves that the hook records an ordinary unpickler
    print({"import", "pickle.find_class"} <= set(events))  # noqa: T201


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.stdin.read().splitlines())
