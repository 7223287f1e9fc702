"""Hostile models and comment files: none of them runs, writes, starts or fills anything.

| family | files | what they try |
|---|---|---|
| RUNNING | 60 | calls of 48 functions, and one by 12 other ways: INST, OBJ, NEWOBJ, partial, `__setstate__`… |
| CLAIMING | 20 | a few bytes that claim a gigabyte: arrays, bytes, frames, numbers, `numpy.void` |
| WALKED | 16 | tuples so deep or so often shared that hashing them crashes or never ends |
| MISUSING | 13 | known classes that open files or start processes, older formats, memmaps, objects |
| TRICKING | 30 | what went past an allow-list of classes: methods named by states, forged arrays, expensive settings |
| SLIPPING | 24 | names that lead out of the folder, and such as only look so |
| NAMING | 15 | NUL, line breaks, escapes, devices, twins, 65,000 characters |
| LINKING | 7 | links, devices, pipes |
| BOMBING | 13 | small files that unpack to large ones, overlapping, nested or very many entries |
| DAMAGED | 31 | encrypted, of other methods, with sizes, places and counts that are not true |

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
    "MISUSING": {"many processes", "a cache on the disk"},  # they answer, by one process and without the cache
    "SLIPPING": {"..%2fmarker.csv", "..∕marker.csv", "．．／marker.csv", "~/marker.csv", "$HOME/marker.csv"},
    "BOMBING": {"not comments", "10,000 other entries"},
}
# What Python's zipfile makes of these differs from release to release: they are refused, or read as what they hold.
EITHER = {"NAMING", "LINKING", "DAMAGED"}
MEGABYTES, SECONDS = 64, 5

Outcome = dict[str, Any]


def environ() -> dict[str, str]:
    """Let the other process find what this one does; a thread takes address space."""
    return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OPENBLAS_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Outcome]]:
    """Open all files in a process of its own, which one of them could have crashed."""
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
    """No file is left anywhere, no process runs, and opening takes little memory and time."""
    found = outcomes[family]
    assert len(found) == FILES[family]
    for name, outcome in found.items():
        assert set(outcome["left"]) <= {"one", "one/two", "x.zip"}, name
        assert outcome["children"] == 0, name
        assert outcome["megabytes"] < MEGABYTES, name
        assert outcome["seconds"] < SECONDS, name


@pytest.mark.parametrize("family", sorted(FILES.keys() - EITHER))
def test_what_is_hostile_is_refused(outcomes: dict[str, dict[str, Outcome]], family: str) -> None:
    """Only what could do no harm is opened."""
    opened = {name for name, outcome in outcomes[family].items() if outcome["refusal"] is None}
    assert opened == HARMLESS.get(family, set())


def test_the_reason_can_be_shown(outcomes: dict[str, dict[str, Outcome]]) -> None:
    """Whatever stands in the file, it does nothing to the terminal, and is not taken for another line of the log."""
    reasons = [outcome["refusal"] for found in outcomes.values() for outcome in found.values() if outcome["refusal"]]
    assert all(reason.isprintable() for reason in reasons)
    assert Counter("TRUST_PICKLES" in reason for reason in reasons)[True] > 50


def test_an_ordinary_unpickler_runs_them(tmp_path: Path) -> None:
    """Each of those that are to run leaves a mark when Python's own opens it: the trial can fail."""
    command = [sys.executable, "-W", "ignore", "-c", UNCAREFULLY, str(tmp_path)]
    subprocess.run(command, env=environ(), stdin=subprocess.DEVNULL, capture_output=True, timeout=120, check=True)
    names = dict(enumerate(RUNNING))
    wait_for(lambda: all(any((tmp_path / str(number)).iterdir()) for number in names), 10)
