"""The requests that are sent, each with its right answer."""

import json
import multiprocessing
import signal
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path

SIZES = (1, 100)


@dataclass(frozen=True)
class Question:
    """The body of a request, and the classes that the model itself gives its comments."""

    body: str
    classes: list[int]


def questions(model: Path, files: Sequence[Path], trusted: Sequence[str]) -> dict[int, list[Question]]:
    """Return the questions for each number of comments; together they hold all comments of the files.

    Another process asks the model: this one must not share the pages of scikit-learn with the servers.
    """
    spawn = multiprocessing.get_context("spawn")
    ignore = (signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for this process, which then ends that one
    with ProcessPoolExecutor(1, mp_context=spawn, initializer=signal.signal, initargs=ignore) as pool:
        comments = pool.submit(_labelled, model, files, trusted).result()
    return {size: _of_size(comments, size) for size in SIZES}


def _labelled(model: Path, files: Sequence[Path], trusted: Sequence[str]) -> list[tuple[str, int]]:
    from models import labelled

    return labelled(model, files, trusted)


def _of_size(comments: list[tuple[str, int]], size: int) -> list[Question]:
    """Fill questions with comments in their order, the last one from the beginning again."""
    endless = cycle(comments)
    groups = [list(islice(endless, size)) for _ in range(0, len(comments), size)]
    return [
        Question(json.dumps({"comments": [comment for comment, _ in group]}), [label for _, label in group])
        for group in groups
    ]
