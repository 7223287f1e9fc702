"""Selects the comments that a person should label next: those about which the model is least certain."""

import csv
from collections.abc import Iterable, Sequence
from heapq import nsmallest
from pathlib import PurePosixPath
from typing import TextIO

from pmip.disguises import BYTE_ORDER_MARK
from pmip.errors import TrainingDataError
from pmip.model.scorer import SPAM_THRESHOLD
from pmip.training.comments import SOURCES, source_column
from pmip.training.evaluation import groups
from pmip.training.scoring import Contents, ScoredRow
from pmip.training.tables import PREDICTED, escaped

CANDIDATES = 20  # for each comment that is asked for, because near-duplicates are left out


def least_certain(rows: Iterable[ScoredRow], columns: Sequence[str], count: int) -> list[ScoredRow]:
    """Return the unlabelled comments nearest to the threshold, nearest first, one of each group of near-duplicates."""
    label = next((place for place, name in enumerate(columns) if name.casefold() == "class"), None)
    open_rows = (row for row in rows if row.comment.strip() and (label is None or not row.cells[label].strip()))
    nearest = nsmallest(CANDIDATES * count, open_rows, key=lambda row: abs(row.probability - SPAM_THRESHOLD))
    of_groups: dict[int, ScoredRow] = {}
    for group, row in zip(groups(row.comment for row in nearest).tolist() if nearest else [], nearest, strict=True):
        of_groups.setdefault(group, row)
    return list(of_groups.values())[:count]


def write(rows: Sequence[ScoredRow], contents: Contents, column: str, model_id: str, output: TextIO) -> None:
    """Write comments as CSV with an empty CLASS, their other columns, and a source if no column names one.

    The byte order mark makes spreadsheets open the file as UTF-8.
    """
    if column != "CONTENT" and "CONTENT" in contents.columns:
        raise TrainingDataError(f"the comments are in {column}, but there is a column CONTENT too; rename it")
    others = [
        (place, name) for place, name in enumerate(contents.columns) if name != column and name.casefold() != "class"
    ]
    has_source = any(source_column(contents.columns, wanted) for wanted in SOURCES)
    output.write(BYTE_ORDER_MARK)
    writer = csv.writer(output, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\n")
    source = [] if has_source else ["source"]
    writer.writerow(["CONTENT", "CLASS", *source, *(name for _, name in others), *PREDICTED])
    for row in rows:
        name = [] if has_source else [PurePosixPath(row.table).name.split(".")[0]]
        cells = [row.comment, "", *name, *(row.cells[place] for place, _ in others)]
        writer.writerow([*map(escaped, cells), *row.predictions, model_id])
