"""Reads the tables in files of comments, and labelled comments into one checked table.

The csv module parses them, because pandas fills short rows, drops stray quotes and does not report the line.
"""

import logging
import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any

import pandas as pd

from pmip.disguises import BYTE_ORDER_MARK
from pmip.errors import TrainingDataError
from pmip.training.doubts import Doubts
from pmip.training.files import CommentFile, Entry, entries, named
from pmip.training.mistakes import Mistakes
from pmip.training.tables import Row, Table, open_table

SOURCES = ("source", "videoname", "videoid")  # columns that name the source of a comment, without case and signs
WORDS = {
    0: "0|false|f|no|n|ham|not spam|notspam|no spam|non spam|nonspam|nicht spam|falsch|nein|faux|falso|onwaar",
    1: "1|true|t|yes|y|spam|wahr|ja|vrai|verdadero|verdadeiro|vero|waar",  # as Excel writes them in other languages
}
LABELS = {word: label for label, words in WORDS.items() for word in words.split("|")}
WHOLE_NUMBER = re.compile(r"([01])[.,]0+")
APP = re.compile(r"\b(?:app|web|iphone|ipad|android|mobile|desktop|windows|mac|tweetdeck)\b", re.IGNORECASE)
MIN_COMMENTS = 20
MAX_COMMENTS, MAX_CELLS = 3_000_000, 30_000_000  # of training data; training needs about 2.3 GB for a million comments

log = logging.getLogger(__name__)


def read_comments(files: Iterable[CommentFile]) -> pd.DataFrame:
    """Read all comments into one table, one row each, in the order of the files.

    Its columns are `source_file`, `source_row` (1 = the file's first comment), the columns of the files, among them
    CONTENT (text) and CLASS (0 or 1), and `source` (from a column of the files, or the file's name). Raise
    `TrainingDataError` with the first mistakes of a file and their number.
    """
    files = list(files)
    comments = labelled_comments(files)[0]
    _require_trainable(comments, named([file.origin for file in files]))
    if number := contradictory(comments).sum():
        log.warning("%d comments have a text that is labelled both 0 and 1; correct the labels", number)
    return comments.drop(columns="source_is_file")


def labelled_comments(files: Iterable[CommentFile], *, to_merge: bool = False) -> tuple[pd.DataFrame, int]:
    """Read comments as `read_comments` does, few or of one class too, and return how many without a label were skipped.

    The column `source_is_file` is true where the source is the file's name. `to_merge` skips rows with an empty CLASS,
    which are mistakes otherwise, and takes a source from a column even if that names only one.
    """
    tables, skipped, room = [], 0, _Room()
    for entry in (entry for file in files for entry in entries(file, limited=True)):
        table, without_label = _labelled(entry, room, skip_unlabelled=to_merge)
        if table.empty and not without_label:
            log.warning("%s: holds no comment", entry.origin)
        tables.append(table)
        skipped += without_label
    comments = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame({"CLASS": []})
    if not comments.empty:
        comments["source"], comments["source_is_file"] = _sources(comments, 1 if to_merge else 2)
    return comments, skipped


@lru_cache(maxsize=100)
def label_of(text: str) -> int | None:
    """Return the class that a label means, or None: `1.00`, `1,0`, `Not spam`, `yes` and the like are unambiguous."""
    label = text.strip(' "').casefold()
    if number := WHOLE_NUMBER.fullmatch(label):
        return int(number[1])
    return LABELS.get(re.sub(r"[\s_-]+", " ", label))


def contradictory(comments: pd.DataFrame) -> "pd.Series[bool]":
    """Return for each comment whether the same text has the other class somewhere."""
    return comments.groupby(comments["CONTENT"].str.strip())["CLASS"].transform("nunique") > 1


def describe(files: Iterable[CommentFile], comments: pd.DataFrame) -> list[dict[str, Any]]:
    """Return name, SHA-256 and number of comments of each file, for a model's metadata."""
    counts = comments["source_file"].value_counts()

    def rows(file: CommentFile) -> int:
        return sum(int(n) for source, n in counts.items() if source == file.name or source.startswith(f"{file.name}/"))

    return [{"name": file.name, "sha256": file.sha256, "rows": rows(file)} for file in files]


class _Room:
    """How many more comments and cells are read, because a small zip can hold very many."""

    def __init__(self) -> None:
        self._comments, self._cells = MAX_COMMENTS, MAX_CELLS

    def take(self, row: list[str], origin: str) -> None:
        self._comments -= 1
        self._cells -= len(row)
        if min(self._comments, self._cells) < 0:
            most = f"{MAX_COMMENTS:,} comments or {MAX_CELLS:,} cells"
            limits = "MAX_COMMENTS and MAX_CELLS in pmip/training/comments.py"
            raise TrainingDataError(f"{origin}: the training data holds more than {most} ({limits}); take a sample")


def _labelled(entry: Entry, room: _Room, *, skip_unlabelled: bool) -> tuple[pd.DataFrame, int]:
    """Return the labelled comments of a table, and the number of those without a label; raise all its mistakes."""
    mistakes = Mistakes(entry.origin)
    table = open_table(entry, ("CONTENT", "CLASS"), mistakes)
    _require_no_own_columns(table)
    text, label = table.header.index("CONTENT"), table.header.index("CLASS")
    doubts = Doubts(table, lambda cells: label_of(cells[label]) is not None)
    columns, numbers, number = [list[str]() for _ in table.header], list[int](), 0
    for number, row in enumerate(table.rows, 1):
        room.take(row.cells, entry.origin)
        if skip_unlabelled and not row.cells[label].strip():
            continue
        _check(row, row.cells[text], row.cells[label], mistakes)
        doubts.look(row, row.cells[text])
        numbers.append(number)
        for column, cell in zip(columns, row.cells, strict=True):
            column.append(cell)
    mistakes.require_none()
    doubts.warn()
    labels = pd.Series([label_of(cell) for cell in columns[label]], dtype="int64")
    frame = pd.DataFrame(dict(zip(table.header, columns, strict=True)), dtype=str).assign(CLASS=labels)
    frame.insert(0, "source_file", entry.name)
    frame.insert(1, "source_row", numbers)
    return frame, number - len(numbers)


def _require_no_own_columns(table: Table) -> None:
    for column in ("source_file", "source_row", "source_is_file"):
        if column in table.header:
            raise TrainingDataError(f"{table.origin}: a column is named {column}; give it another name")


def _check(row: Row, text: str, label: str, mistakes: Mistakes) -> None:
    if not label.strip():
        mistakes.add(row.line, "CLASS must be 0 (not spam) or 1 (spam); it is empty")
    elif label_of(label) is None:
        mistakes.add_label(row.line, label)
    if not text.replace(BYTE_ORDER_MARK, "").strip():
        mistakes.add(row.line, "CONTENT is empty")


def _require_trainable(comments: pd.DataFrame, where: str) -> None:
    if len(comments) < MIN_COMMENTS:
        few = f"{len(comments)} comments are too few to train on"
        raise TrainingDataError(f"{few}; at least {MIN_COMMENTS} are needed: {where}")
    if comments["CLASS"].nunique() < 2:
        one = f"every comment has CLASS {comments['CLASS'].iloc[0]}"
        raise TrainingDataError(f"{one}; both 0 and 1 are needed: {where}")


def source_column(header: Sequence[str], wanted: str) -> list[str]:
    """Return the columns of that meaning, in any case and with any signs: `videoId`, `VIDEO_ID`."""
    return [column for column in header if re.sub(r"[\W_]", "", str(column).casefold()) == wanted]


def _sources(comments: pd.DataFrame, at_least: int) -> tuple["pd.Series[str]", "pd.Series[bool]"]:
    """Return the source of each comment, and whether that is the name of its file, because no column names enough."""
    of_files = _names_of_files(comments["source_file"])
    for wanted in SOURCES:
        if columns := source_column(list(comments), wanted):
            cells = comments[columns].apply(lambda column: column.str.strip()).replace("", None)
            sources = cells.bfill(axis=1).iloc[:, 0]
            if sources.nunique() < at_least:
                continue
            if reason := _names_no_videos(sources.dropna()):
                log.warning("the column %s is not used as the source of the comments, because %s", columns[0], reason)
                continue
            return sources.fillna(of_files), sources.isna()
    return of_files, pd.Series(True, comments.index)


def _names_no_videos(sources: "pd.Series[str]") -> str:
    counts = sources.value_counts()
    if counts[[bool(APP.search(name)) for name in counts.index]].sum() > len(sources) / 2:
        return "it names apps or devices; name the column of the videos video_id"
    if len(sources) >= MIN_COMMENTS and (counts == 1).sum() > len(sources) / 2:
        return "most of its values occur only once"
    return ""


def _names_of_files(files: "pd.Series[str]") -> "pd.Series[str]":
    """Return the name of each file without folder and ending, or the whole name where two would be the same."""
    names = pd.Series(files.unique())
    stems = names.str.rsplit("/").str[-1].str.replace(r"(?i)\.[ct]sv(\.gz)?$", "", regex=True)
    return files.map(dict(zip(names, stems.where(~stems.duplicated(keep=False), names), strict=True)))
