"""Reads files of comments (CSV, also with tabs or semicolons, gzipped or in a zip) into one checked table.

The csv module parses them, because pandas fills short rows, drops stray quotes and does not report the line.
"""

import codecs
import csv
import gzip
import io
import logging
import re
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from hashlib import file_digest
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import IO, Any

import pandas as pd

from pmip.errors import TrainingDataError

TABLES = (".csv", ".tsv", ".csv.gz", ".tsv.gz")
KINDS = ".csv, .tsv, .csv.gz or .zip"  # as messages name them
SOURCES = ("source", "video_name", "video_id")  # columns that name the source of a comment, in any case
LABELS = dict.fromkeys(("0", "0.0", "false", "ham"), 0) | dict.fromkeys(("1", "1.0", "true", "spam"), 1)
MIN_COMMENTS = 20
MAX_UNPACKED_BYTES = 2**30
MAX_ENTRIES = 2000  # each entry becomes a table, even if it is empty
BYTE_ORDER_MARK = "\ufeff"
BLANK = f' ,;|\t\r\n"{BYTE_ORDER_MARK}'
SEPARATOR_LINE = re.compile(r'"?sep=([^\w\s]|\t)"?\s*', re.IGNORECASE)  # a line that other programs write for Excel
UNREADABLE = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError, OSError)
CONTENT_TYPES = "[Content_Types].xml"  # an entry of every Excel workbook
WORKBOOK = "an Excel workbook; save it from Excel as 'CSV UTF-8'"
EMPTY = "an empty file; save or download it again"
WEB_PAGE = "a web page; download the file itself, and sign in first if the site requires it"
PACKED = {
    b"PK\x03\x04": "a zip file; give it a name that ends in .zip",
    b"\x1f\x8b": "a gzip file; give it a name that ends in .csv.gz",
}
OTHER_KINDS = {  # by their first bytes, in lower case
    b"\xd0\xcf\x11\xe0": WORKBOOK,
    b"par1": "a Parquet file; save the table as CSV",
    b"version https://git-lfs": "a Git LFS pointer, not the file itself; run 'git lfs pull'",
    b"<!doctype": WEB_PAGE,
    b"<html": WEB_PAGE,
    b'{"': "JSON; save the table as CSV",
    b"[{": "JSON; save the table as CSV",
}

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class CommentFile:
    """A file of comments on this machine; `origin` (a path or an s3:// address) names it in messages.

    Raise `TrainingDataError` if its name points outside its folder, or has characters that cannot be printed.
    """

    path: Path
    name: str
    origin: str

    def __post_init__(self) -> None:
        folder = self.origin.removesuffix(self.name)
        _require_inside_folder(self.name, folder)
        _require_printable(self.name, folder)

    @property
    def sha256(self) -> str:
        """The hash of the file's bytes."""
        with self.path.open("rb") as file:
            return file_digest(file, "sha256").hexdigest()


def is_hidden(name: str) -> bool:
    """Return whether a name is that of a hidden file, a folder mark, or a file that a Mac adds to a zip."""
    parts = [part for part in PurePosixPath(name).parts if part != ".."]  # ".." is refused later
    return name.endswith("/") or any(part.startswith(".") or part == "__MACOSX" for part in parts)


def is_comment_file(name: str) -> bool:
    """Return whether the name of a file is that of comments."""
    return name.lower().endswith((*TABLES, ".zip")) and not is_hidden(name)


def named(names: Sequence[str]) -> str:
    """Return the first five of some names and the number of the others, for a message."""
    shown = ", ".join(name if name.isprintable() else repr(name) for name in names[:5])
    return f"{shown} and {len(names) - 5:,} more" if len(names) > 5 else shown


def read_comments(files: Iterable[CommentFile]) -> pd.DataFrame:
    """Read all comments into one table, one row each, in the order of the files.

    Its columns are `source_file`, `source_row` (1 = the file's first comment), the columns of the files, among them
    CONTENT (text) and CLASS (0 or 1), and `source` (from a column of the files, or the file's name). Raise
    `TrainingDataError` with the file and the line of the first mistake.
    """
    files, tables = list(files), []
    for name, origin, table in read_tables(files, ("CONTENT", "CLASS")):
        if "source_file" in table or "source_row" in table:
            raise TrainingDataError(f"{origin}: a column is named source_file or source_row; give it another name")
        table["CLASS"] = table["CLASS"].map(_class).astype("int64")
        table.insert(0, "source_file", name)
        table.insert(1, "source_row", range(1, len(table) + 1))
        tables.append(table)
    comments = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame({"CLASS": []})
    _require_trainable(comments, named([file.origin for file in files]))
    comments["source"] = _sources(comments)
    return comments


def read_tables(files: Iterable[CommentFile], required: tuple[str, ...]) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """Yield name, origin and content of each table in some files, all of it as text.

    The first required column holds the comments. If CLASS is required, it is one of LABELS, and no comment is empty.
    """
    for file in files:
        for name, origin, content in _contents_in(file):
            table = _table(content, name, origin, required)
            if table.empty:
                log.warning("%s: holds no comment", origin)
            yield name, origin, table


def describe(files: Iterable[CommentFile], comments: pd.DataFrame) -> list[dict[str, Any]]:
    """Return name, SHA-256 and number of comments of each file, for a model's metadata."""
    counts = comments["source_file"].value_counts()

    def rows(file: CommentFile) -> int:
        return sum(int(n) for source, n in counts.items() if source == file.name or source.startswith(f"{file.name}/"))

    return [{"name": file.name, "sha256": file.sha256, "rows": rows(file)} for file in files]


def _require_inside_folder(name: str, origin: str) -> None:
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or ":" in name.split("/", maxsplit=1)[0]:
        raise TrainingDataError(f"{origin}: {name!r} points outside its folder; use a name without '..', ':' and '\\'")


def _require_printable(name: str, origin: str) -> None:
    if not name.isprintable():
        raise TrainingDataError(f"{origin}: {name!r} has characters that cannot be printed; give it another name")


def _require_trainable(comments: pd.DataFrame, where: str) -> None:
    if len(comments) < MIN_COMMENTS:
        few = f"{len(comments)} comments are too few to train on"
        raise TrainingDataError(f"{few}; at least {MIN_COMMENTS} are needed: {where}")
    if comments["CLASS"].nunique() < 2:
        one = f"every comment has CLASS {comments['CLASS'].iloc[0]}"
        raise TrainingDataError(f"{one}; both 0 and 1 are needed: {where}")


def _sources(comments: pd.DataFrame) -> pd.Series:
    """Return the source of each comment: from a column of the files that names several, or else the file's name."""
    stems = comments["source_file"].str.rsplit("/").str[-1].str.replace(r"(?i)\.[ct]sv(\.gz)?$", "", regex=True)
    for wanted in SOURCES:
        columns = [column for column in comments if str(column).casefold() == wanted]
        if columns:
            told = comments[columns].apply(lambda column: column.str.strip()).replace("", None).bfill(axis=1).iloc[:, 0]
            if told.nunique() > 1:
                return told.fillna(stems)
    return stems


def _contents_in(file: CommentFile) -> Iterator[tuple[str, str, bytes]]:
    """Yield name, origin and bytes of each table in a file; a zip is read in memory, not extracted to disk."""
    ending = PurePosixPath(file.name).suffix.lower()
    try:
        with file.path.open("rb") as stream:
            _require_kind(stream.peek(512), file.origin, OTHER_KINDS)
            if ending != ".zip":
                yield file.name, file.origin, _unpacked(stream, file.name, file.origin)
                return
            done = 0
            with zipfile.ZipFile(stream) as archive:
                for entry in _entries(archive, file.origin):
                    with archive.open(entry) as packed:
                        content = _unpacked(packed, entry.filename, file.origin, done)
                    done += len(content)
                    yield f"{file.name}/{entry.filename}", f"{file.origin}, entry {entry.filename}", content
    except UNREADABLE as error:
        kind = {".zip": "zip", ".gz": "gzip file"}.get(ending, "file")
        mend = "remove .gz from its name if it is plain CSV, or " if ending == ".gz" else ""
        reason = f"{file.origin}: not a readable {kind} ({error}); {mend}upload it again"
        raise TrainingDataError(reason) from error


def _unpacked(stream: IO[bytes], name: str, origin: str, done: int = 0) -> bytes:
    """Decompress only as much as the file may still hold, because the size that an archive states may be wrong."""
    content = io.BytesIO()
    unpacking: IO[bytes] | gzip.GzipFile = gzip.GzipFile(fileobj=stream) if name.lower().endswith(".gz") else stream
    while chunk := unpacking.read(2**16):
        content.write(chunk)
        if done + content.tell() > MAX_UNPACKED_BYTES:
            raise TrainingDataError(
                f"{origin}: holds more than {MAX_UNPACKED_BYTES:,} bytes; split it into several files"
            )
    return content.getvalue()


def _entries(archive: zipfile.ZipFile, origin: str) -> list[zipfile.ZipInfo]:
    """Return the entries of a zip that are read, and log the names of the others."""
    for name in archive.namelist():
        _require_inside_folder(name, origin)
    shown = [entry for entry in archive.infolist() if not is_hidden(entry.filename)]
    entries = [entry for entry in shown if entry.filename.lower().endswith(TABLES)]
    others = [entry.filename for entry in shown if not entry.filename.lower().endswith(TABLES)]
    if CONTENT_TYPES in others:
        raise TrainingDataError(f"{origin}: this is {WORKBOOK}")
    if not entries:
        raise TrainingDataError(f"{origin}: holds no .csv file; it holds: {named(others) or 'nothing'}")
    if len(entries) > MAX_ENTRIES:
        raise TrainingDataError(f"{origin}: holds {len(entries):,} tables; put them into at most {MAX_ENTRIES:,}")
    if others:
        log.warning("%s: only CSV files are read; left out: %s", origin, named(others))
    for entry in entries:
        _require_printable(entry.filename, origin)
        if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):  # others have no size limit
            raise TrainingDataError(f"{origin}, entry {entry.filename}: not compressed by deflate; zip it again")
    return entries


def _require_kind(content: bytes, origin: str, others: dict[bytes, str]) -> None:
    """Refuse other kinds of files, which their first bytes reveal; the message names the kind."""
    head = content[:512].lstrip()
    kinds = [kind for beginning, kind in others.items() if head.lower().startswith(beginning.lower())]
    if kinds or not content:
        raise TrainingDataError(f"{origin}: this is {kinds[0] if kinds else EMPTY}")


def _table(content: bytes, name: str, origin: str, required: tuple[str, ...]) -> pd.DataFrame:
    rows = _numbered_rows(_lines(content, origin), name, origin, required)
    line, first = next(rows, (1, []))
    header = _header(first, required)
    _require_columns(header, required, f"{origin}, line {line}")
    return pd.DataFrame(list(_checked_rows(rows, header, required, origin)), columns=header)


def _lines(content: bytes, origin: str) -> io.TextIOWrapper:
    """Open a table as text; if it is not text, raise an error with its kind or the line."""
    if content.startswith(b"PK") and CONTENT_TYPES.encode() in content:
        raise TrainingDataError(f"{origin}: this is {WORKBOOK}")
    _require_kind(content, origin, OTHER_KINDS | PACKED)
    encoding = "utf-16" if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"
    try:
        content.decode(encoding)  # the error of a TextIOWrapper does not have the line
    except UnicodeDecodeError as error:
        line = error.object[: error.start].decode(encoding, "ignore").count("\n") + 1
        wanted = encoding.removesuffix("-sig").upper()
        raise TrainingDataError(f"{origin}, line {line}: not {wanted}; save the file as UTF-8") from None
    return io.TextIOWrapper(io.BytesIO(content), encoding, newline="")


def _numbered_rows(
    lines: Iterator[str], name: str, origin: str, required: tuple[str, ...]
) -> Iterator[tuple[int, list[str]]]:
    """Yield the header and then each row, with the number of its first line."""
    number, text, delimiter = 1, "", ""
    for number, text in enumerate(lines, 1):  # noqa: B007 - used after the loop
        if separator := SEPARATOR_LINE.fullmatch(text):
            delimiter = separator[1]
        elif text.strip(BLANK):
            break
    delimiter = delimiter or _delimiter(text, name, required)
    reader = csv.reader(chain([text], lines), delimiter=delimiter, strict=True)
    line = number
    try:
        for row in reader:
            yield line, row
            line = number + reader.line_num
    except csv.Error as error:
        raise TrainingDataError(f"{origin}, line {line}: not a well-formed CSV row ({error})") from error


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


def _checked_rows(
    rows: Iterable[tuple[int, list[str]]], header: list[str], required: tuple[str, ...], origin: str
) -> Iterator[list[str]]:
    """Yield the rows without blank ones and repeated headers."""
    for line, row in rows:
        if len(row) <= len(header) and not any(map(str.strip, row)):
            continue
        if row[-1].strip().casefold() == header[-1].casefold() and len(row) > 1 and _header(row, required) == header:
            continue  # a header in the middle, from files that were joined
        if mistake := _mistake(row, header, required):
            raise TrainingDataError(f"{origin}, line {line}: {mistake}")
        yield row


def _mistake(row: list[str], header: list[str], required: tuple[str, ...]) -> str | None:
    """Return what is wrong with a row, without quoting the comment."""
    if len(row) != len(header):
        return f"{len(row)} fields where the header has {len(header)}; is a quote or a comma missing?"
    if "CLASS" in required:
        label, text = row[header.index("CLASS")], row[header.index(required[0])]
        if _class(label) is None:
            return f"CLASS must be 0 (not spam) or 1 (spam){'' if label.strip() else '; it is empty'}"
        if not text.replace(BYTE_ORDER_MARK, "").strip():
            return "CONTENT is empty"
    return None


def _class(label: str) -> int | None:
    return LABELS.get(label.strip().casefold())
