"""Reads CSV tables row by row: encoding, delimiter and header are detected, and each row has the lines it stands in."""

import codecs
import csv
import io
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple

from pmip.disguises import BYTE_ORDER_MARK
from pmip.errors import TrainingDataError
from pmip.training.files import Entry
from pmip.training.mistakes import Mistakes

PREDICTED = ("predicted_class", "predicted_probability", "predicted_by")  # the columns that scoring adds
FORMER_PREDICTED = ("class", "probability")  # those that it added before
MAX_ROW_CHARS = 2**20
MAX_BLANK_ROWS = 200_000  # a small zip can hold a thousand times as many
BLANK = f' ,;|\t\r\n"{BYTE_ORDER_MARK}'
SEPARATOR_LINE = re.compile(r'"?sep=([^\w\s]|\t)"?\s*', re.IGNORECASE)  # a line that other programs write for Excel
LINE_END = re.compile(r"\r\n?|\n")
# A spreadsheet runs a cell that begins so as a formula. Scoring puts an apostrophe before it, and reading takes it off.
# https://owasp.org/www-community/attacks/CSV_Injection
FORMULA = re.compile(r"'*[=+\-@\t\r]")
_NUMBER = re.compile(r"[+-]?\d+(?:[.,]\d+)?")
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
BACKSLASH = r'a quote is written as \"; write it as "", in Python by pandas.read_csv(FILE, escapechar="\\").to_csv(NEW)'


class Row(NamedTuple):
    """The cells of a row, and the first and the last of its lines."""

    line: int
    last: int
    cells: list[str]


@dataclass(frozen=True)
class Table:
    """A table whose rows are read from its file one by one, once."""

    name: str
    origin: str
    delimiter: str
    header: list[str]
    rows: Iterator[Row]


def open_table(entry: Entry, required: tuple[str, ...], mistakes: Mistakes) -> Table:
    """Return a table that has the required columns, the first of which holds the comments.

    Rows that cannot be read are not yielded but added to `mistakes`; the others have as many cells as the header.
    """
    lines = _Lines(entry)
    delimiter = _to_header(lines) or _delimiter(lines.current, entry.name, required)
    rows = _rows(lines, delimiter, mistakes)
    first = next(rows, Row(1, 1, []))
    mistakes.require_none()
    where = f"{entry.origin}, line {first.line}"
    header = _header(first.cells, required)
    _require_labels(first.cells, header, required, where)
    _require_columns(header, required, where)
    return Table(entry.name, entry.origin, delimiter, header, _checked(rows, header, required, mistakes, entry.origin))


class _Lines:
    """The lines of a table as text; the last one can be read once more."""

    def __init__(self, entry: Entry) -> None:
        is_utf16 = entry.content.peek(2).startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        self.origin, self._encoding = entry.origin, "utf-16" if is_utf16 else "utf-8-sig"
        self._text = io.TextIOWrapper(entry.content, self._encoding, newline="")
        self.number, self.current, self.again = 0, "", False
        self.begin_row()

    def begin_row(self) -> None:
        """Begin to look at the lines of another row."""
        self.has_backslash, self._chars = False, 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        if self.again:
            self.again = False
            return self.current
        try:
            self.current = self._text.readline(MAX_ROW_CHARS)
        except UnicodeDecodeError as error:
            raise self._not_decoded(error) from None
        if not self.current:
            raise StopIteration
        self.number += 1
        self._chars += len(self.current)
        self.has_backslash |= '\\"' in self.current
        if self._chars >= MAX_ROW_CHARS:
            raise TrainingDataError(f"{self.origin}, line {self.number}: a row of {MAX_ROW_CHARS:,} characters or more")
        return self.current

    def _not_decoded(self, error: UnicodeDecodeError) -> TrainingDataError:
        before = error.object[: error.start].decode(self._encoding, "ignore")
        line = self.number + len(LINE_END.findall(before)) + 1
        wanted = self._encoding.removesuffix("-sig").upper()
        return TrainingDataError(f"{self.origin}, line {line}: not {wanted}; save the file as UTF-8")


def _to_header(lines: _Lines) -> str:
    """Go to the line of the header; return the delimiter if a line before it names one."""
    delimiter = ""
    for text in lines:
        lines.begin_row()
        _require_few_blank(lines.number, lines.number, lines.origin)
        if separator := SEPARATOR_LINE.fullmatch(text):
            delimiter = separator[1]
        elif text.strip(BLANK):
            break
    lines.again = bool(lines.current)
    return delimiter


def _rows(lines: _Lines, delimiter: str, mistakes: Mistakes) -> Iterator[Row]:
    """Yield the header and then each row; a table whose header has a space after each delimiter has them everywhere."""
    delimiters = lines.current.count(delimiter)
    spaced = 0 < delimiters == lines.current.count(f"{delimiter} ")
    reader = csv.reader(lines, delimiter=delimiter, strict=True, skipinitialspace=spaced)
    while True:
        lines.begin_row()
        line = lines.number + (not lines.again)
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            mistakes.add(line, BACKSLASH if lines.has_backslash else f"not a well-formed CSV row ({error})")
            return
        yield Row(line, lines.number, cells)


def _delimiter(line: str, name: str, required: tuple[str, ...]) -> str:
    """Return the delimiter that splits the header into the required columns and, among several, into most columns."""

    def columns(delimiter: str) -> int:
        with suppress(csv.Error):
            header = _header(next(csv.reader([line], delimiter=delimiter)), required)
            return len(header) * set(required).issubset(header)
        return 0

    return max("\t,;|" if ".tsv" in name.lower() else ",;\t|", key=columns)


def _header(row: list[str], required: tuple[str, ...]) -> list[str]:
    """Return the names of the columns, the required ones in the required case; unnamed ones as pandas names them."""
    header = [name.strip(f" {BYTE_ORDER_MARK}") or f"Unnamed: {place}" for place, name in enumerate(row)]
    for column in required:
        alike = [place for place, name in enumerate(header) if name.casefold() == column.casefold()]
        if column not in header and len(alike) == 1:
            header[alike[0]] = column
    return header


def _require_labels(names: list[str], header: list[str], required: tuple[str, ...], where: str) -> None:
    """Refuse a table whose classes were predicted, because a model must not be trained on its own answers."""
    former = set(FORMER_PREDICTED).issubset(names) and "CLASS" not in names
    if "CLASS" in required and (former or (PREDICTED[0] in header and "CLASS" not in header)):
        mend = "add a column CLASS, and fill it by hand"
        raise TrainingDataError(f"{where}: the classes in this file are predictions of 'score' and no labels; {mend}")


def _require_columns(header: list[str], required: tuple[str, ...], where: str) -> None:
    """Refuse a wrong header without quoting it, because in a file without a header it is a comment."""
    missing = [column for column in required if column not in header]
    if missing:
        hint = "the first line must name the columns: CONTENT for the texts and CLASS for the labels"
        if "CLASS" not in required:
            hint = "use --column to name the column of the texts"
        if any("\0" in name for name in header):
            hint = "save the file as UTF-8, or as UTF-16 with a byte order mark"
        raise TrainingDataError(f"{where}: no column {' and no column '.join(missing)}; {hint}")
    if len(set(header)) < len(header):
        raise TrainingDataError(f"{where}: two columns have the same name; rename one of them")


def _require_few_blank(blank: int, line: int, origin: str) -> None:
    if blank > MAX_BLANK_ROWS:
        raise TrainingDataError(f"{origin}, line {line}: more than {MAX_BLANK_ROWS:,} blank rows; remove them")


def _checked(
    rows: Iterator[Row], header: list[str], required: tuple[str, ...], mistakes: Mistakes, origin: str
) -> Iterator[Row]:
    """Yield the rows without blank ones and repeated headers, in files of scoring without its apostrophes."""
    is_scored, blank = not set(PREDICTED).isdisjoint(header), 0
    for row in rows:
        cells = row.cells
        if len(cells) <= len(header) and not any(map(str.strip, cells)):
            blank += 1
            _require_few_blank(blank, row.line, origin)
            continue
        if (
            cells[-1].strip().casefold() == header[-1].casefold()
            and len(cells) > 1
            and _header(cells, required) == header
        ):
            continue  # a header in the middle, from files that were joined
        if len(cells) != len(header):
            what = f"{len(cells)} fields where the header has {len(header)}; is a quote or a comma missing?"
            mistakes.add(row.line, what)
        else:
            yield row._replace(cells=[*map(unescaped, cells)]) if is_scored else row


def escaped(cell: str) -> str:
    """Return a cell that no spreadsheet runs as a formula, and no terminal as a command."""
    return _CONTROL.sub("\ufffd", f"'{cell}" if FORMULA.match(cell) and not _NUMBER.fullmatch(cell) else cell)


def unescaped(cell: str) -> str:
    """Return a cell without the apostrophe that `escaped` put before it."""
    return cell[1:] if cell.startswith("'") and FORMULA.match(cell) else cell
