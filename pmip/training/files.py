"""Files that may hold comments: their names, their kinds, and the CSV tables inside them, as streams."""

import codecs
import io
import logging
import re
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from gzip import GzipFile
from hashlib import file_digest
from pathlib import Path, PurePosixPath
from typing import IO, Any, NamedTuple

from pmip.errors import TrainingDataError

TABLES = (".csv", ".tsv", ".csv.gz", ".tsv.gz")
KINDS = ".csv, .tsv, .csv.gz or .zip"  # as messages name them
MAX_UNPACKED_BYTES = 2**30  # of a file of training data
MAX_ENTRIES = 2000  # each entry becomes a table, even if it is empty
HEAD_BYTES = 2**16
UNREADABLE = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError, OSError)
PACKED = {".zip": b"PK", ".gz": b"\x1f\x8b"}  # how a file with such a name begins
CONTENT_TYPES = "[Content_Types].xml"  # an entry of every Excel workbook
ENCRYPTED = 1  # a flag of a zip's entry
WORKBOOK = "an Excel workbook; save it from Excel as 'CSV UTF-8'"
EMPTY = "an empty file; save or download it again"
COMPRESSED = "compressed in a way that is not read; unpack it and save the table as .csv or .csv.gz"
# The first bytes that reveal what is no table. https://en.wikipedia.org/wiki/List_of_file_signatures
OTHER_KINDS = (
    (rb"\xd0\xcf\x11\xe0|PK\x03\x04.{26}(?:\[Content_Types\]|_rels/|docProps/|xl/)", WORKBOOK),
    (rb"PK\x03\x04.{26}mimetypeapplication/vnd\.oasis", "an OpenDocument file; save its table as CSV in UTF-8"),
    (rb"PK\x03\x04", "a zip file; give it a name that ends in .zip"),
    (rb"\x1f\x8b", "a gzip file; give it a name that ends in .csv.gz"),
    (rb"BZh|\xfd7zXZ|\(\xb5/\xfd|7z\xbc\xaf|Rar!", COMPRESSED),
    (rb"(?i:PAR1)", "a Parquet file; save the table as CSV"),
    (rb"ARROW1|SQLite format 3|%PDF|\{\\rtf", "an Arrow file, a database or a document; save its table as CSV"),
    (rb"version https://git-lfs", "a Git LFS pointer, not the file itself; run 'git lfs pull'"),
    (rb"(?i:<\?xml)", "XML; save its table as CSV"),
    (
        rb"(?i:<!doctype|<(?:html|head|body|table|div|p|meta|script)\b)",
        "a web page; download the file itself, and sign in first if the site requires it, or save its table as CSV",
    ),
    (
        rb'[\[{].*"(?:annotations|annotation_id|annotator|lead_time)"\s*:',
        "an export of Label Studio as JSON; export it as CSV, and name the columns CONTENT and CLASS",
    ),
    (
        rb'\{\s*"[^\n]*\}\s*\{',
        "JSON Lines; save the table as CSV, in Python by pandas.read_json(FILE, lines=True).to_csv(NEW, index=False)",
    ),
    (
        rb'[\[{]\s*["\[{\]}]',
        "JSON; save the table as CSV, in Python by pandas.read_json(FILE).to_csv(NEW, index=False)",
    ),
)

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


class Entry(NamedTuple):
    """A table in a file, unpacked while it is read, with its name and what names it in messages."""

    name: str
    origin: str
    content: "io.BufferedReader[Any]"


def is_hidden(name: str) -> bool:
    """Return whether a name is that of a hidden file, a folder mark, or a file that a Mac adds to a zip."""
    parts = [part for part in PurePosixPath(name).parts if part != ".."]  # ".." is refused later
    return name.endswith("/") or any(part.startswith(".") or part == "__MACOSX" for part in parts)


def is_comment_file(name: str) -> bool:
    """Return whether the name of a file is that of comments."""
    return name.lower().endswith((*TABLES, ".zip")) and not is_hidden(name)


def named(names: Sequence[str], separator: str = ", ") -> str:
    """Return the first five of some names and the number of the others, for a message."""
    shown = separator.join(name if name.isprintable() else repr(name) for name in names[:5])
    return f"{shown} and {len(names) - 5:,} more" if len(names) > 5 else shown


def entries(file: CommentFile, *, limited: bool) -> Iterator[Entry]:
    """Yield each table in a file; a zip is not extracted to disk. `limited` holds the size of training data.

    Read an entry before asking for the next one.
    """
    unpacked = _Unpacked(file.origin, file.name, MAX_UNPACKED_BYTES if limited else None)
    with unpacked.errors(), file.path.open("rb") as stream:
        ending = PurePosixPath(file.name).suffix.lower()
        if ending in PACKED and not stream.peek(HEAD_BYTES).startswith(PACKED[ending]):
            _require_table(stream.peek(HEAD_BYTES), file.origin)
        if ending != ".zip":
            yield _entry(file.name, file.origin, stream, unpacked)
            return
        with zipfile.ZipFile(stream) as archive:
            for info in _infos(archive, file.origin):
                origin = f"{file.origin}, entry {info.filename}"
                with archive.open(info) as packed:
                    yield _entry(f"{file.name}/{info.filename}", origin, packed, unpacked)


def _entry(name: str, origin: str, packed: IO[bytes], unpacked: "_Unpacked") -> Entry:
    is_gzip = name.lower().endswith(".gz")
    source = GzipFile(fileobj=packed) if is_gzip else packed
    content = io.BufferedReader(_Stream(source, unpacked), HEAD_BYTES)
    head = content.peek(HEAD_BYTES)
    if is_gzip and head.startswith(PACKED[".gz"]):
        raise TrainingDataError(f"{origin}: gzipped twice; unpack it once with gunzip")
    _require_table(head, origin)
    return Entry(name, origin, content)


class _Unpacked:
    """What one file has unpacked to so far, because the size that an archive states may be wrong."""

    def __init__(self, origin: str, name: str, at_most: int | None) -> None:
        self._origin, self._ending, self._at_most, self._bytes = origin, PurePosixPath(name).suffix.lower(), at_most, 0

    def add(self, count: int) -> None:
        self._bytes += count
        if self._at_most is not None and self._bytes > self._at_most:
            limit = f"holds more than {self._at_most:,} bytes (MAX_UNPACKED_BYTES in pmip/training/files.py)"
            raise TrainingDataError(f"{self._origin}: {limit}; split it into several files")

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Turn the errors of a damaged file into ours."""
        try:
            yield
        except UNREADABLE as error:
            kind = {".zip": "zip", ".gz": "gzip file"}.get(self._ending, "file")
            mend = "remove .gz from its name if it is plain CSV, or " if self._ending == ".gz" else ""
            reason = f"{self._origin}: not a readable {kind} ({error}); {mend}upload it again"
            raise TrainingDataError(reason) from error


class _Stream(io.RawIOBase):
    """A stream that decompresses only as much as the file may still hold."""

    def __init__(self, source: IO[bytes] | GzipFile, unpacked: _Unpacked) -> None:
        self._source, self._unpacked = source, unpacked

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "memoryview") -> int:  # type: ignore[override]
        with self._unpacked.errors():
            chunk = self._source.read(len(buffer))
        self._unpacked.add(len(chunk))
        buffer[: len(chunk)] = chunk
        return len(chunk)


def _infos(archive: zipfile.ZipFile, origin: str) -> list[zipfile.ZipInfo]:
    """Return the entries of a zip that are read, and log the names of the others."""
    for name in archive.namelist():
        _require_inside_folder(name, origin)
    shown = [entry for entry in archive.infolist() if not is_hidden(entry.filename)]
    tables = [entry for entry in shown if entry.filename.lower().endswith(TABLES)]
    others = [entry.filename for entry in shown if not entry.filename.lower().endswith(TABLES)]
    if CONTENT_TYPES in others:
        raise TrainingDataError(f"{origin}: this is {WORKBOOK}")
    if not tables:
        raise TrainingDataError(f"{origin}: holds no .csv file; it holds: {named(others) or 'nothing'}")
    if len(tables) > MAX_ENTRIES:
        raise TrainingDataError(f"{origin}: holds {len(tables):,} tables; put them into at most {MAX_ENTRIES:,}")
    if others:
        log.warning("%s: only CSV files are read; left out: %s", origin, named(others))
    for entry in tables:
        _require_usable(entry, origin)
    return tables


def _require_usable(entry: zipfile.ZipInfo, origin: str) -> None:
    _require_printable(entry.filename, origin)
    if entry.flag_bits & ENCRYPTED:
        mend = "unpack the zip with its password, and zip the files again without one"
        raise TrainingDataError(f"{origin}, entry {entry.filename}: encrypted; {mend}")
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):  # others have no size limit
        raise TrainingDataError(f"{origin}, entry {entry.filename}: not compressed by deflate; zip it again")


def _require_inside_folder(name: str, origin: str) -> None:
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or ":" in name.split("/", maxsplit=1)[0]:
        raise TrainingDataError(f"{origin}: {name!r} points outside its folder; use a name without '..', ':' and '\\'")


def _require_printable(name: str, origin: str) -> None:
    if not name.isprintable():
        raise TrainingDataError(f"{origin}: {name!r} has characters that cannot be printed; give it another name")


def _require_table(head: bytes, origin: str) -> None:
    """Refuse other kinds of files, which their first bytes reveal; the message names the kind."""
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        head = head.decode("utf-16", "ignore").encode()
    elif not head:
        raise TrainingDataError(f"{origin}: this is {EMPTY}")
    head = head.removeprefix(codecs.BOM_UTF8).lstrip()
    for beginning, kind in OTHER_KINDS:
        if re.match(beginning, head, re.DOTALL):
            raise TrainingDataError(f"{origin}: this is {kind}")
