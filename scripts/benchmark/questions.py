"""The requests that are sent, each with its right answer."""

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path

HERE = Path(__file__).resolve().parent
SIZES = (1, 100)


@dataclass(frozen=True)
class Question:
    """The body of a request, and the classes that the model itself gives its comments."""

    body: str
    classes: list[int]


def questions(model: Path, files: Sequence[Path]) -> dict[int, list[Question]]:
    """Return the questions for each number of comments; together they hold all comments of the files.

    Another process asks the model: this one must not share the pages of scikit-learn with the servers.
    """
    command = [sys.executable, str(HERE), "labelled", *(f"--comments={file}" for file in files), str(model)]
    outcome = subprocess.run(command, stdout=subprocess.PIPE, check=False)
    if outcome.returncode:
        sys.exit(outcome.returncode)  # it has said why
    comments = json.loads(outcome.stdout)
    return {size: _of_size(comments, size) for size in SIZES}


def _of_size(comments: list[tuple[str, int]], size: int) -> list[Question]:
    """Fill questions with comments in their order, the last one from the beginning again."""
    endless = cycle(comments)
    groups = [list(islice(endless, size)) for _ in range(0, len(comments), size)]
    return [
        Question(json.dumps({"comments": [comment for comment, _ in group]}), [label for _, label in group])
        for group in groups
    ]
