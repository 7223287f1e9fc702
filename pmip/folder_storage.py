"""Objects by key in a local folder, with the same layout and the same verbs as a bucket."""

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, NamedTuple

from pmip.errors import AccessDeniedError, AlreadyExistsError, ObjectNotFoundError, StorageError


class StoredObject(NamedTuple):
    """One listed object; `size` is in bytes, `tag` changes with the content."""

    key: str
    size: int
    tag: str = ""


@contextmanager
def written_whole(path: Path, *, overwrite: bool = True) -> Iterator[IO[bytes]]:
    """Open a file for writing that appears under its name only when the block ends without an error.

    Other users may read it: a container that serves the file seldom runs as the user who wrote it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
        partial = Path(file.name)
        try:
            yield file
            file.flush()
            os.fsync(file.fileno())
            partial.chmod(0o644)
            if overwrite:
                partial.replace(path)
            else:
                path.hardlink_to(partial)
        finally:
            partial.unlink(missing_ok=True)


class FolderStorage:
    """The files below a folder, with the same layout and the same verbs as a bucket."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def url(self, key: str) -> str:
        """Name a file for a person, or a folder by a key that ends in a slash."""
        return f"{self.root}/{key}"

    def prefixes(self, prefix: str) -> Iterator[str]:
        """List the names of the folders right under a prefix, in order."""
        folder = self.root / prefix
        yield from sorted(path.name for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else ()

    def objects(self, prefix: str, after: str = "") -> Iterator[StoredObject]:
        """List all files under a prefix whose keys come after one, in the order of their keys."""
        paths = (path for path in (self.root / prefix).rglob("*") if path.is_file())
        keys = (path.relative_to(self.root).as_posix() for path in paths)
        for key in sorted(key for key in keys if key > after):
            with suppress(FileNotFoundError):  # deleted meanwhile
                found = (self.root / key).stat()
                yield StoredObject(key, found.st_size, f"{found.st_size}-{found.st_mtime_ns}")

    def read(self, key: str) -> bytes:
        """Return a file's bytes."""
        with self._errors_of(key):
            return (self.root / key).read_bytes()

    def download(self, key: str, path: Path, on_bytes: Callable[[int], object]) -> None:
        """Copy a file out of the storage, whole or not at all."""
        content = self.read(key)
        with written_whole(path) as file:
            file.write(content)
            on_bytes(len(content))

    def write(self, key: str, content: bytes, *, overwrite: bool = True) -> None:
        """Store a file; without `overwrite`, an `AlreadyExistsError` keeps the older one as it is."""
        with self._errors_of(key), written_whole(self.root / key, overwrite=overwrite) as file:
            file.write(content)

    def copy(self, key: str, to: str) -> None:
        """Copy a file inside the storage."""
        self.write(to, self.read(key))

    def delete(self, key: str) -> None:
        """Delete a file and the folders that it leaves empty; one that is not there is no error."""
        path = self.root / key
        with self._errors_of(key):
            path.unlink(missing_ok=True)
        for folder in path.parents:
            if folder == self.root or not folder.is_dir() or any(folder.iterdir()):
                return
            folder.rmdir()

    @contextmanager
    def _errors_of(self, key: str) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError as error:
            raise ObjectNotFoundError(f"{self.url(key)}: there is no such file") from error
        except FileExistsError as error:
            raise AlreadyExistsError(f"{self.url(key)}: exists already and is not overwritten") from error
        except PermissionError as error:
            raise AccessDeniedError(f"{self.url(key)}: access denied; check the folder's owner and mode") from error
        except OSError as error:
            raise StorageError(f"{self.url(key)}: {error.strerror}") from error
