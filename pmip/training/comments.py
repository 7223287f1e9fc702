"""Comment files, CSV or zips of CSVs, read into one checked table."""

import csv
import io
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from hashlib import file_digest
from pathlib import Path, PurePosixPath
from typing import Any

import pandas as pd

from pmip.errors import TrainingDataError

MIN_COMMENTS = 20
MAX_UNPACKED_BYTES = 2**30
MAX_ENTRIES = 2000  # a table each, whatever is in it
BYTE_ORDER_MARK = "\ufeff"
UNREADABLE_ZIP = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError, OSError)


@dataclass(frozen=True)
class CommentFile:
    """A .csv or .zip file on this machine; `origin` (a path or an s3:// address) names it in messages."""

    path: Path
    name: str
    origin: str

    @property
    def sha256(self) -> str:
        """Hash the file's bytes."""
        with self.path.open("rb") as file:
            return file_digest(file, "sha256").hexdigest()


def is_comment_file(name: str) -> bool:
    """Tell a .csv or .zip from folder marks, hidden files and what a Mac puts into a zip."""
    path = PurePosixPath(name)
    parts = [part for part in path.parts if part != ".."]  # `require_inside_folder` refuses it; don't pass it over
    hidden = any(part.startswith(".") or part == "__MACOSX" for part in parts)
    return path.suffix.lower() in (".csv", ".zip") and not hidden and not name.endswith("/")


def require_inside_folder(name: str, origin: str) -> None:
    """Refuse a name that would leave the folder it is put into."""
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or ":" in name.split("/", maxsplit=1)[0]:
        raise TrainingDataError(f"{origin}: {name!r} would leave its folder; it is refused")


def require_printable(name: str, origin: str) -> None:
    """Refuse a name that would do something to the terminal or the log that shows it."""
    if not name.isprintable():
        raise TrainingDataError(f"{origin}: {name!r} has characters that cannot be printed; give it another name")


def read_comments(files: Iterable[CommentFile], max_unpacked_bytes: int = MAX_UNPACKED_BYTES) -> pd.DataFrame:
    """Read all comments into one table, one row each, in the order of the files.

    Columns: `source_file`, `source_row` (1 = the file's first comment), then those of the files, with CONTENT (text)
    and CLASS (0 or 1). Raises `TrainingDataError` naming the file and the line of the first mistake.
    """
    tables = []
    for file in files:
        for name, origin, content in _csvs_in(file, max_unpacked_bytes):
            tables.append(_table(content, name, origin))
    comments = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame({"CLASS": []})
    _require_trainable(comments)
    return comments


def describe(files: Iterable[CommentFile], comments: pd.DataFrame) -> list[dict[str, Any]]:
    """Return name, sha256 and number of comments of each file, as a model's metadata keeps them."""
    counts = comments["source_file"].value_counts()

    def rows(file: CommentFile) -> int:
        return sum(int(n) for source, n in counts.items() if source == file.name or source.startswith(f"{file.name}/"))

    return [{"name": file.name, "sha256": file.sha256, "rows": rows(file)} for file in files]


def _require_trainable(comments: pd.DataFrame) -> None:
    if len(comments) < MIN_COMMENTS:
        raise TrainingDataError(f"{len(comments)} comments are too few to train on; at least {MIN_COMMENTS} are needed")
    if comments["CLASS"].nunique() < 2:
        raise TrainingDataError(f"every comment has CLASS {comments['CLASS'].iloc[0]}; both 0 and 1 are needed")


def _csvs_in(file: CommentFile, max_bytes: int) -> Iterator[tuple[str, str, bytes]]:
    """Yield name, origin and bytes of each CSV in a file; a zip is read in memory, never unpacked to disk."""
    if _is_csv(file.name):
        yield file.name, file.origin, file.path.read_bytes()
        return
    try:
        with zipfile.ZipFile(file.path) as archive:
            left = max_bytes
            for entry in _csv_entries(archive, file.origin):
                content = _unpacked(archive, entry, left + 1)
                left -= len(content)
                if left < 0:
                    raise TrainingDataError(
                        f"{file.origin}: unpacks to more than {max_bytes:,} bytes; split it into several files"
                    )
                yield f"{file.name}/{entry.filename}", f"{file.origin}, entry {entry.filename}", content
    except UNREADABLE_ZIP as error:
        raise TrainingDataError(f"{file.origin}: not a zip that can be read ({error}); upload it again") from error


def _is_csv(name: str) -> bool:
    return name.lower().endswith(".csv")


def _csv_entries(archive: zipfile.ZipFile, origin: str) -> list[zipfile.ZipInfo]:
    for entry in archive.infolist():
        require_inside_folder(entry.filename, origin)
    entries = [entry for entry in archive.infolist() if is_comment_file(entry.filename) and _is_csv(entry.filename)]
    if not entries:
        raise TrainingDataError(f"{origin}: holds no .csv file")
    if len(entries) > MAX_ENTRIES:
        raise TrainingDataError(f"{origin}: holds {len(entries):,} .csv files; put them into at most {MAX_ENTRIES:,}")
    for entry in entries:
        require_printable(entry.filename, origin)
        if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):  # zipfile unpacks others unbounded
            raise TrainingDataError(f"{origin}, entry {entry.filename}: not compressed by deflate; zip it again")
    return entries


def _unpacked(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, max_bytes: int) -> bytes:
    """Unpack no more than allowed: the size that an entry states may be a lie."""
    with archive.open(entry) as file:
        return file.read(max_bytes)


def _table(content: bytes, name: str, origin: str) -> pd.DataFrame:
    rows = _numbered_rows(_decoded(content, origin), origin)
    header = [column.strip() for column in next(rows, (1, []))[1]]
    _require_columns(header, origin)
    table = pd.DataFrame(list(_checked_rows(rows, header, origin)), columns=header)
    table["CLASS"] = table["CLASS"].astype("int64")
    table.insert(0, "source_file", name)
    table.insert(1, "source_row", range(1, len(table) + 1))
    return table


def _decoded(content: bytes, origin: str) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise TrainingDataError(f"{origin}, line {line}: not UTF-8; save the file as UTF-8") from error


def _numbered_rows(text: str, origin: str) -> Iterator[tuple[int, list[str]]]:
    """Yield each row with the line where it begins."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    line = 1
    try:
        for row in reader:
            yield line, row
            line = reader.line_num + 1
    except csv.Error as error:
        raise TrainingDataError(f"{origin}, line {line}: not a well-formed CSV row ({error})") from error


def _require_columns(header: list[str], origin: str) -> None:
    """Refuse a header, never quoting it: in a file without one it is a comment."""
    missing = [column for column in ("CONTENT", "CLASS") if column not in header]
    if missing:
        raise TrainingDataError(
            f"{origin}, line 1: no column {' and no column '.join(missing)}; the first line must name the columns"
        )
    columns = ["source_file", "source_row", *header]
    if len(set(columns)) < len(columns):
        raise TrainingDataError(f"{origin}, line 1: two columns are named alike, or one source_file or source_row")


def _checked_rows(rows: Iterable[tuple[int, list[str]]], header: list[str], origin: str) -> Iterator[list[str]]:
    """Yield the rows, blank lines left out."""
    content, label = header.index("CONTENT"), header.index("CLASS")
    for line, row in rows:
        if row:
            mistake = _mistake(row, len(header), content, label)
            if mistake:
                raise TrainingDataError(f"{origin}, line {line}: {mistake}")
            row[label] = row[label].strip()
            yield row


def _mistake(row: list[str], width: int, content: int, label: int) -> str | None:
    """Say what is wrong with a row, never quoting the comment."""
    if len(row) != width:
        return f"{len(row)} fields where the header has {width}; is a quote or a comma missing?"
    if row[label].strip() not in ("0", "1"):
        return "CLASS must be 0 (not spam) or 1 (spam)"
    if not row[content].replace(BYTE_ORDER_MARK, "").strip():
        return "CONTENT is empty"
    return None
