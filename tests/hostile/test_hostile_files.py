"""Hostile models and comment files run no code, write no file, start no process and fill no memory.

| family | files | what they try |
|---|---|---|
| RUNNING | 60 | calls of 48 functions, and one by 12 other ways: INST, OBJ, NEWOBJ, partial, `__setstate__`… |
| CLAIMING | 20 | a few bytes that claim a gigabyte: arrays, bytes, frames, numbers, `numpy.void` |
| WALKED | 16 | tuples so deep or so often shared that hashing them crashes or never ends |
| MISUSING | 13 | known classes that open files or start processes, older formats, memmaps, objects |
| TRICKING | 30 | what an allow-list of classes accepted: methods named by states, forged arrays, expensive settings |
| SLIPPING | 24 | names that lead out of the folder, and names that only seem to |
| NAMING | 15 | NUL, line breaks, escapes, devices, twins, 65,000 characters |
| LINKING | 7 | links, devices, pipes |
| BOMBING | 13 | small files that unpack to large ones, overlapping, nested or very many entries |
| DAMAGED | 31 | encrypted, of other methods, with wrong sizes, offsets and counts |

Compressed bombs, truncated and random models, and refused instructions are in test_pickles.py, large and slow models in
test_reading.py and test_verification.py, damage of each byte in test_comments.py.
"""

import json
import os
import subprocess
import sys
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import hostile_files
import pytest
from api import wait_for
from hostile_files import RUNNING

OPEN = Path(hostile_files.__file__).with_name("open_hostile_files.py")
UNCAREFULLY = """
import contextlib, os, pathlib, sys
import hostile_files
for number, (name, content) in enumerate(hostile_files.RUNNING.items()):
    folder = pathlib.Path(sys.argv[1], str(number))
    folder.mkdir()
    os.chdir(folder)
    with contextlib.suppress(BaseException):
        hostile_files.pickle.loads(content)
"""
FILES = {"RUNNING": 60, "CLAIMING": 20, "WALKED": 16, "MISUSING": 13, "TRICKING": 30}
FILES |= {"SLIPPING": 24, "NAMING": 15, "LINKING": 7, "BOMBING": 13, "DAMAGED": 31}
HARMLESS = {
    "MISUSING": {"many processes", "a cache on the disk"},  # they answer, with one process and without the cache
    "SLIPPING": {"..%2fmarker.csv", "..∕marker.csv", "．．／marker.csv", "~/marker.csv", "$HOME/marker.csv"},
    "BOMBING": {"not comments", "10,000 other entries"},
}
# Releases of Python's zipfile differ about these: they are refused, or read as what they hold.
EITHER = {"NAMING", "LINKING", "DAMAGED"}
MEGABYTES, SECONDS = 64, 5

Outcome = dict[str, Any]


def environ() -> dict[str, str]:
    """Let the other process find the modules of this one, with one thread, because threads take address space."""
    return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OPENBLAS_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Outcome]]:
    """Open all files in a separate process, because one of them could crash it."""
    command = [sys.executable, "-W", "ignore", str(OPEN), str(tmp_path_factory.mktemp("hostile"))]
    ended = subprocess.run(command, env=environ(), capture_output=True, text=True, timeout=300, check=False)
    lines = [json.loads(line) for line in ended.stdout.splitlines()]
    assert ended.returncode == 0, f"{ended.returncode} at {lines[-1]}: {ended.stderr[-2000:]}"
    found: dict[str, dict[str, Outcome]] = defaultdict(dict)
    for opened, outcome in zip(lines[::2], lines[1::2], strict=True):
        found[opened["family"]][opened["name"]] = outcome
    return found


@pytest.mark.parametrize("family", FILES)
def test_nothing_runs_writes_or_fills(outcomes: dict[str, dict[str, Outcome]], family: str) -> None:
    """A hostile file that is opened leaves no file and no process, and takes less than 64 MB and 5 seconds."""
    found = outcomes[family]
    assert len(found) == FILES[family]
    for name, outcome in found.items():
        assert set(outcome["left"]) <= {"one", "one/two", "x.zip"}, name
        assert outcome["children"] == 0, name
        assert outcome["megabytes"] < MEGABYTES, name
        assert outcome["seconds"] < SECONDS, name


@pytest.mark.parametrize("family", sorted(FILES.keys() - EITHER))
def test_what_is_hostile_is_refused(outcomes: dict[str, dict[str, Outcome]], family: str) -> None:
    """Each hostile file is refused, except for those listed as harmless."""
    opened = {name for name, outcome in outcomes[family].items() if outcome["refusal"] is None}
    assert opened == HARMLESS.get(family, set())


def test_the_reason_can_be_shown(outcomes: dict[str, dict[str, Outcome]]) -> None:
    """Each refusal is printable, so that a file cannot change the terminal or forge a line of the log."""
    reasons = [outcome["refusal"] for found in outcomes.values() for outcome in found.values() if outcome["refusal"]]
    assert all(reason.isprintable() for reason in reasons)
    assert Counter("TRUST_PICKLES" in reason for reason in reasons)[True] > 50


def test_an_ordinary_unpickler_runs_them(tmp_path: Path) -> None:
    """Each RUNNING pickle leaves a file if Python's own unpickler opens it, which shows that the tests can fail."""
    command = [sys.executable, "-W", "ignore", "-c", UNCAREFULLY, str(tmp_path)]
    subprocess.run(command, env=environ(), stdin=subprocess.DEVNULL, capture_output=True, timeout=120, check=True)
    names = dict(enumerate(RUNNING))
    wait_for(lambda: all(any((tmp_path / str(number)).iterdir()) for number in names), 10)
