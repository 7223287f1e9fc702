"""Opens each hostile file in a process with limits, and prints a JSON line about what it did.

usage: python open_hostile_files.py FOLDER
"""

import json
import os
import resource
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import hostile_files
import hostile_zips
import psutil

from pmip.errors import ArtifactError, TrainingDataError
from pmip.model.artifact import Artifact
from pmip.model.verification import verify
from pmip.training import comments, files

ADDRESS_SPACE, CPU_SECONDS = 6 * 2**30, 150
files.MAX_UNPACKED_BYTES = 2**24


def trials(folder: Path) -> Iterator[tuple[str, str, Callable[[], object]]]:
    """Yield the family and the name of each file, and a function by which pmip opens it."""
    for family in ("RUNNING", "CLAIMING", "WALKED", "MISUSING", "TRICKING"):
        for name, content in getattr(hostile_files, family).items():
            yield family, name, lambda content=content: verify(Artifact(content, None), "20260101", "dev")
    for family in ("SLIPPING", "NAMING", "LINKING", "BOMBING", "DAMAGED"):
        for name, content in getattr(hostile_zips, family).items():
            path = folder / "x.zip"
            path.write_bytes(content)
            file = files.CommentFile(path, "x.zip", "s3://bucket/x.zip")
            yield family, name, lambda file=file: comments.read_comments([file])


def outcome(opened: Callable[[], object]) -> dict[str, object]:
    """Open a file; return the refusal, if any, and the time and memory that it took. Other errors are raised."""
    refusal = None
    tracemalloc.start()
    begin = time.process_time()
    try:
        opened()
    except (ArtifactError, TrainingDataError) as error:
        refusal = str(error)
    seconds, megabytes = time.process_time() - begin, tracemalloc.get_traced_memory()[1] / 2**20
    tracemalloc.stop()
    return {"refusal": refusal, "seconds": seconds, "megabytes": megabytes}


def main(folder: Path) -> None:
    """Open all files in an empty folder two levels below the given one."""
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    inner = folder / "one" / "two"
    inner.mkdir(parents=True)
    os.chdir(inner)
    for family, name, opened in trials(folder):
        print(json.dumps({"family": family, "name": name}), flush=True)  # noqa: T201 - the file of a crash
        told = outcome(opened)
        left = sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))
        children = len(psutil.Process().children())
        print(json.dumps(told | {"left": left, "children": children}), flush=True)  # noqa: T201


if __name__ == "__main__":
    main(Path(sys.argv[1]))
