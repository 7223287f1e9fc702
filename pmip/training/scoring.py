"""Scores the comments of files row by row on all cores or a Dask cluster, with the memory of a few thousand rows."""

import csv
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import NamedTuple, TextIO

from joblib import Parallel, delayed
from tqdm import tqdm

from pmip.errors import TrainingDataError, VerificationError
from pmip.model.scorer import SPAM_THRESHOLD, Scorer
from pmip.training import scale
from pmip.training.files import CommentFile, entries
from pmip.training.mistakes import Mistakes
from pmip.training.tables import PREDICTED, Table, escaped, open_table

CHUNK = 1000  # comments of one task
FEW = 10_000  # comments; for so few, other processes are not worth their start
CHUNKS_IN_MEMORY = 128

_scorers: dict[str, Scorer] = {}  # the scorer of this process


class Version(NamedTuple):
    """The version that scores; `load` is called in each process."""

    model_id: str
    sha256: str
    load: Callable[[], Scorer]


@dataclass
class Contents:
    """What some files hold: all columns in the order in which they occur, and the numbers of tables and rows."""

    columns: list[str] = field(default_factory=list)
    tables: int = 0
    rows: int = 0


class ScoredRow(NamedTuple):
    """A row of a table, its cells in the order of all columns, and the probability that its comment is spam."""

    table: str
    comment: str
    cells: list[str]
    probability: float = 0.0

    @property
    def predictions(self) -> tuple[int, float]:
        """The values of the first two columns that scoring adds."""
        return int(self.probability > SPAM_THRESHOLD), self.probability


def look_through(files: Sequence[CommentFile], column: str) -> Contents:
    """Read all files once, so that their mistakes are told before hours of work."""
    contents = Contents()
    for table, mistakes in _tables(files, column):
        for added in sorted(set(PREDICTED).intersection(table.header)):
            raise TrainingDataError(f"{table.origin}: has a column {added}, which scoring adds; rename it")
        contents.columns += [name for name in table.header if name not in contents.columns]
        contents.tables += 1
        contents.rows += sum(1 for _ in table.rows)
        mistakes.require_none()
    return contents


def scored(
    files: Sequence[CommentFile], column: str, contents: Contents, version: Version, scheduler: str = ""
) -> Iterator[ScoredRow]:
    """Yield the rows of some files in order, with a progress bar; few rows are scored in this process."""
    _score(version, [])  # in this process first, so that a wrong model is reported before others start
    chunks = _chunks(_rows(files, column, contents.columns))
    with tqdm(total=contents.rows, desc="score", unit="comment", unit_scale=True, disable=None) as bar:
        answers = _here(chunks, version) if contents.rows <= FEW else _by_workers(chunks, version, scheduler)
        for rows, probabilities in answers:
            for row, probability in zip(rows, probabilities, strict=True):
                yield row._replace(probability=probability)
            bar.update(len(rows))


def write(rows: Iterable[ScoredRow], contents: Contents, model_id: str, output: TextIO) -> None:
    """Write scored rows as CSV, with the columns that scoring adds; `file` names the table if there are several."""
    if contents.tables > 1 and "file" in contents.columns:
        raise TrainingDataError("several files, and one has a column 'file', which scoring adds; rename it")
    several = contents.tables > 1
    # All texts in quotes: otherwise a lone CR in a text would end its row.
    writer = csv.writer(output, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\n")
    writer.writerow([*contents.columns, *(["file"] if several else []), *PREDICTED])
    for row in rows:
        cells = [*row.cells, row.table] if several else row.cells
        writer.writerow([*map(escaped, cells), *row.predictions, model_id])


def _tables(files: Sequence[CommentFile], column: str) -> Iterator[tuple[Table, Mistakes]]:
    for entry in (entry for file in files for entry in entries(file, limited=False)):
        mistakes = Mistakes(entry.origin)
        yield open_table(entry, (column,), mistakes), mistakes


def _rows(files: Sequence[CommentFile], column: str, columns: Sequence[str]) -> Iterator[ScoredRow]:
    for table, _ in _tables(files, column):
        places = {name: place for place, name in enumerate(table.header)}
        ordered = [places.get(name, -1) for name in columns]
        for row in table.rows:
            cells = [row.cells[place] if place >= 0 else "" for place in ordered]
            yield ScoredRow(table.name, row.cells[places[column]], cells)


def _chunks(rows: Iterator[ScoredRow]) -> Iterator[list[ScoredRow]]:
    while chunk := list(islice(rows, CHUNK)):
        yield chunk


Answers = Iterator[tuple[list[ScoredRow], list[float]]]


def _here(chunks: Iterator[list[ScoredRow]], version: Version) -> Answers:
    for rows in chunks:
        yield rows, _score(version, [row.comment for row in rows])


def _by_workers(chunks: Iterator[list[ScoredRow]], version: Version, scheduler: str) -> Answers:
    """Yield the answers of joblib's workers in order; only so many chunks are read ahead of what has been written."""
    waiting: deque[list[ScoredRow]] = deque()

    def tasks(first: list[ScoredRow]) -> Iterator[object]:
        for rows in chain([first], islice(chunks, CHUNKS_IN_MEMORY - 1)):
            waiting.append(rows)
            yield delayed(_score)(version, [row.comment for row in rows])

    try:
        with scale.workers("score", scheduler, cached=False):
            for first in chunks:
                for probabilities in Parallel(batch_size=1, return_as="generator")(tasks(first)):
                    yield waiting.popleft(), probabilities
    except BrokenProcessPool:
        raise VerificationError("a process ended while it scored; is there enough memory?") from None


def _score(version: Version, comments: list[str]) -> list[float]:
    if version.sha256 not in _scorers:
        _scorers.clear()
        _scorers[version.sha256] = version.load()
    return _scorers[version.sha256].spam(comments)
