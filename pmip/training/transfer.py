"""Brings files to score to this machine, and results to their place: local paths and folders, or s3:// addresses."""

import io
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import TextIO

from tqdm import tqdm

from pmip.errors import TrainingDataError
from pmip.store.objects import FolderStorage, S3Storage, Storage
from pmip.training.data import local_files
from pmip.training.files import KINDS, CommentFile, is_comment_file

S3 = "s3://"


def is_folder(address: str) -> bool:
    """Return whether an address is that of a folder: it ends with a slash, or is one on this machine."""
    return address.endswith("/") or (not address.startswith(S3) and Path(address).is_dir())


def files_below(folder: str) -> list[str]:
    """Return the addresses of the comment files below a folder, in order."""
    storage, prefix = _located(f"{folder.rstrip('/')}/.")
    prefix = prefix.removesuffix(".")
    names = [item.key.removeprefix(prefix) for item in storage.objects(prefix)]
    if not any(map(is_comment_file, names)):
        raise TrainingDataError(f"{folder}: holds no {KINDS} file")
    return [f"{folder.rstrip('/')}/{name}" for name in names if is_comment_file(name)]


@contextmanager
def fetched(addresses: Sequence[str]) -> Iterator[list[CommentFile]]:
    """Give the files at some addresses; those of S3 are on this machine for the time of the block."""
    with tempfile.TemporaryDirectory(prefix="pmip-") as folder:
        files = []
        for number, address in enumerate(addresses):
            if address.startswith(S3):
                files.append(_downloaded(address, Path(folder, str(number))))
            else:
                files += local_files([Path(address)])
        yield files


def _downloaded(address: str, folder: Path) -> CommentFile:
    name = PurePosixPath(address).name
    if not is_comment_file(name):
        raise TrainingDataError(f"{address}: not a {KINDS} file; save it as one of these")
    file = CommentFile(folder / name, name, address)
    storage, key = _located(address)
    with tqdm(unit="B", unit_scale=True, desc=f"download {name}", disable=None) as bar:
        storage.download(key, file.path, bar.update)
    return file


@contextmanager
def written(address: str | None) -> Iterator[TextIO]:
    """Open a text to write; it gets to its address, or to stdout, only if the block ends without an error."""
    with tempfile.TemporaryFile() as file, io.TextIOWrapper(file, "utf-8", newline="") as text:
        yield text
        text.seek(0)
        if address is None:
            shutil.copyfileobj(text, sys.stdout)
            return
        storage, key = _located(address)
        storage.upload(key, file)


def _located(address: str) -> tuple[Storage, str]:
    """Return the storage of an address, and the key in it."""
    if address.startswith(S3):
        bucket, _, key = address.removeprefix(S3).partition("/")
        return S3Storage(bucket), key
    return FolderStorage(Path(address).parent), Path(address).name
