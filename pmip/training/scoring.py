"""Scoring of files of comments on all processors of this machine."""

import csv
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path

import pandas as pd
from joblib import cpu_count
from tqdm import tqdm

from pmip.errors import TrainingDataError, VerificationError
from pmip.model.scorer import SPAM_THRESHOLD, Scorer
from pmip.training.comments import read_tables
from pmip.training.data import local_files

CHUNK = 1000  # comments that a process scores at a time; for fewer, a second process is not worth its start

_scorers: list[Scorer] = []  # the scorer of this process


def score(paths: Sequence[Path], column: str, load: Callable[[], Scorer]) -> str:
    """Return the rows of some files as CSV, with class and probability (of spam); add a column for several files."""
    tables = []
    for name, origin, table in read_tables(local_files(paths), (column,)):
        for added in {"file", "class", "probability"}.intersection(table):
            raise TrainingDataError(f"{origin}: has a column {added}, which scoring adds; rename it")
        tables.append(table.assign(file=name))
    table = pd.concat(tables, ignore_index=True)
    probabilities = list(_spam_probabilities(table[column].tolist(), load))
    table["class"] = [int(probability > SPAM_THRESHOLD) for probability in probabilities]
    table["probability"] = probabilities
    if len(tables) == 1:
        table = table.drop(columns="file")
    scored: str = table.to_csv(
        index=False, quoting=csv.QUOTE_NONNUMERIC
    )  # otherwise a lone CR in a text would end its row
    return scored


def _spam_probabilities(comments: list[str], load: Callable[[], Scorer]) -> Iterator[float]:
    """Yield the probability of spam of each comment, with a progress bar."""
    chunks = [comments[start : start + CHUNK] for start in range(0, len(comments), CHUNK)]
    _begin(load)  # in this process first, so that a wrong model is reported before others start
    with tqdm(total=len(comments), desc="score", unit="comment", unit_scale=True, disable=None) as bar:
        for found in map(_score, chunks) if len(chunks) < 2 else _in_processes(chunks, load):
            yield from found
            bar.update(len(found))


def _in_processes(chunks: list[list[str]], load: Callable[[], Scorer]) -> Iterator[list[float]]:
    """Yield the answers of new processes, which are spawned because a fork would copy the locks of threads."""
    workers = min(cpu_count(), len(chunks))
    try:
        with ProcessPoolExecutor(workers, get_context("spawn"), _begin_in_process, (load,)) as pool:
            yield from pool.map(_score, chunks)
    except BrokenProcessPool:
        raise VerificationError("a process ended while it scored; is there enough memory?") from None


def _begin_in_process(load: Callable[[], Scorer]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; the first one ends the others
    _begin(load)


def _begin(load: Callable[[], Scorer]) -> None:
    _scorers[:] = [load()]


def _score(comments: list[str]) -> list[float]:
    return [probability for _, probability in _scorers[0].probabilities(comments)]
