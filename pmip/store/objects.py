"""Objects by key, in an S3 bucket or in a local folder with the same layout; only this module uses boto3."""

import fcntl
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cached_property, partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, NamedTuple

from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

from pmip.errors import AccessDeniedError, AlreadyExistsError, ObjectNotFoundError, StorageAwayError, StorageError
from pmip.store.s3_errors import UNUSABLE_CREDENTIALS, code_of, meaning_of

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

log = logging.getLogger(__name__)


class StoredObject(NamedTuple):
    """One listed object; `size` is in bytes, and `tag` changes when the content changes."""

    key: str
    size: int
    tag: str = ""


@contextmanager
def written_whole(path: Path, *, overwrite: bool = True) -> Iterator[IO[bytes]]:
    """Open a file for writing; it gets its name only if the block ends without an error.

    All users may read it, because a container that serves the file often runs as another user.
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
    """The files below a folder, with the same layout and the same methods as a bucket."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def url(self, key: str) -> str:
        """Return the path of a file for messages; a key with a slash at its end names a folder."""
        return f"{self.root}/{key}"

    def prefixes(self, prefix: str) -> Iterator[str]:
        """Yield the names of the folders directly under a prefix, in order."""
        folder = self.root / prefix
        yield from sorted(path.name for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else ()

    def objects(self, prefix: str, after: str = "") -> Iterator[StoredObject]:
        """Yield all files under a prefix with keys greater than `after`, in the order of their keys."""
        paths = (path for path in (self.root / prefix).rglob("*") if path.is_file())
        keys = (path.relative_to(self.root).as_posix() for path in paths)
        for key in sorted(key for key in keys if key > after):
            if stored := self.find(key):  # it may be deleted in the meantime
                yield stored

    def find(self, key: str) -> StoredObject | None:
        """Return a file's size and its tag, or None if it does not exist."""
        try:
            status = (self.root / key).stat()
        except FileNotFoundError:
            return None
        return StoredObject(key, status.st_size, f"{status.st_size}-{status.st_mtime_ns}")

    def read(self, key: str) -> bytes:
        """Return a file's bytes."""
        with self._errors_of(key):
            return (self.root / key).read_bytes()

    def download(self, key: str, path: Path, on_bytes: Callable[[int], object]) -> None:
        """Copy a file out of the storage, completely or not at all."""
        content = self.read(key)
        with written_whole(path) as file:
            file.write(content)
            on_bytes(len(content))

    def write(self, key: str, content: bytes, *, overwrite: bool = True) -> None:
        """Store a file; without `overwrite`, raise `AlreadyExistsError` if it exists."""
        with self._errors_of(key), written_whole(self.root / key, overwrite=overwrite) as file:
            file.write(content)

    def upload(self, key: str, content: IO[bytes]) -> None:
        """Store what a file of any size holds, completely or not at all."""
        with self._errors_of(key), written_whole(self.root / key) as file:
            shutil.copyfileobj(content, file)

    def copy(self, key: str, to: str) -> None:
        """Copy a file inside the storage."""
        self.write(to, self.read(key))

    def delete(self, key: str) -> None:
        """Delete a file, if it exists, and the folders that are empty without it."""
        path = self.root / key
        with self._errors_of(key):
            path.unlink(missing_ok=True)
        for folder in path.parents:
            if folder == self.root or not folder.is_dir() or any(folder.iterdir()):
                return
            folder.rmdir()

    @contextmanager
    def locked(self, key: str) -> Iterator[None]:
        """Hold the lock on a file, which other processes wait for."""
        path = self.root / key
        with self._errors_of(key):
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("w") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                yield

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


CHUNK_BYTES = 2**20


class Patience(NamedTuple):
    """How long a call waits for S3 to connect and for the next bytes of an answer, and how often it is tried."""

    connect_seconds: float
    read_seconds: float
    attempts: int


PATIENT = Patience(connect_seconds=5, read_seconds=15, attempts=3)
HURRIED = Patience(connect_seconds=1, read_seconds=1, attempts=2)  # the second if a pause broke the connection

NO_CONDITIONS = "%s: this S3 server has no conditional writes: two runs of the same second could overwrite each other"


class S3Storage:
    """The objects of one bucket. It connects at the first call, so it may be created before a fork."""

    def __init__(self, bucket: str, patience: Patience = PATIENT) -> None:
        self.bucket = bucket
        self._patience = patience
        self._knows_conditions = False

    @cached_property
    def _client(self) -> "S3Client":
        import boto3  # here, because an API that starts from its cache does not need it and is ready 0.17 s earlier
        from botocore.config import Config

        connect, read, attempts = self._patience
        config = Config(
            connect_timeout=connect,
            read_timeout=read,
            retries={"mode": "standard", "total_max_attempts": attempts},
        )
        try:
            return boto3.session.Session().client("s3", config=config)
        except UNUSABLE_CREDENTIALS:
            raise
        except (BotoCoreError, ValueError) as error:  # an unknown profile, no region, an unusable endpoint
            raise StorageError(
                f"s3://{self.bucket}: {error}; check AWS_PROFILE, AWS_DEFAULT_REGION, AWS_ENDPOINT_URL"
            ) from error

    def url(self, key: str) -> str:
        """Return the address of an object for messages."""
        return f"s3://{self.bucket}/{key}"

    def prefixes(self, prefix: str) -> Iterator[str]:
        """Yield the names of the folders directly under a prefix, in order."""
        with self._errors_of(prefix):
            for page in self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self.bucket, Prefix=prefix, Delimiter="/"
            ):
                for item in page.get("CommonPrefixes", []):
                    yield item["Prefix"].removeprefix(prefix).rstrip("/")

    def objects(self, prefix: str, after: str = "") -> Iterator[StoredObject]:
        """Yield all objects under a prefix with keys greater than `after`, in the order of their keys."""
        with self._errors_of(prefix):
            pages = self._client.get_paginator("list_objects_v2")
            start = {"StartAfter": after} if after else {}
            for page in pages.paginate(Bucket=self.bucket, Prefix=prefix, **start):  # type: ignore[arg-type]
                for item in page.get("Contents", []):
                    yield StoredObject(item["Key"], item["Size"], item.get("ETag", ""))

    def read(self, key: str) -> bytes:
        """Return an object's bytes."""
        with self._errors_of(key):
            return self._client.get_object(Bucket=self.bucket, Key=key)["Body"].read()

    def download(self, key: str, path: Path, on_bytes: Callable[[int], object]) -> None:
        """Write an object to a file, completely or not at all; call `on_bytes` with the size of each chunk."""
        with self._errors_of(key), written_whole(path) as file:
            for chunk in self._client.get_object(Bucket=self.bucket, Key=key)["Body"].iter_chunks(CHUNK_BYTES):
                file.write(chunk)
                on_bytes(len(chunk))

    def write(self, key: str, content: bytes, *, overwrite: bool = True) -> None:
        """Store an object; without `overwrite`, raise `AlreadyExistsError` if it exists."""
        with self._errors_of(key):
            if overwrite:
                self._client.put_object(Bucket=self.bucket, Key=key, Body=content)
            else:
                self._write_new(key, content)

    def _write_new(self, key: str, content: bytes) -> None:
        """Store an object unless it exists; list it first, because some servers ignore the condition."""
        if any(stored.key == key for stored in self.objects(key)):
            raise AlreadyExistsError(f"{self.url(key)}: exists already and is not overwritten")
        put = partial(self._client.put_object, Bucket=self.bucket, Key=key, Body=content)
        try:
            put(IfNoneMatch="*")
        except ClientError as error:
            if code_of(error) != "NotImplemented":
                raise
            log.warning(NO_CONDITIONS, self.url(key))
            put()
        else:
            if not self._knows_conditions and len(content) <= CHUNK_BYTES:
                self._try_conditions(put, key)

    def _try_conditions(self, put: Callable[..., object], key: str) -> None:
        """Write the same bytes again; a server that accepts this ignores conditions, so log a warning."""
        with suppress(ClientError, BotoCoreError):
            put(IfNoneMatch="*")
            log.warning(NO_CONDITIONS, self.url(key))
        self._knows_conditions = True

    def upload(self, key: str, content: IO[bytes]) -> None:
        """Store what a file of any size holds, in parts if it is large, completely or not at all."""
        with self._errors_of(key):
            self._client.upload_fileobj(content, self.bucket, key)

    def create(self) -> None:
        """Create the bucket, unless the caller already owns it."""
        with self._errors_of(""), suppress(self._client.exceptions.BucketAlreadyOwnedByYou):
            region = self._client.meta.region_name
            if region == "us-east-1":  # S3 refuses this one as a LocationConstraint
                self._client.create_bucket(Bucket=self.bucket)
            else:
                self._client.create_bucket(
                    Bucket=self.bucket,
                    CreateBucketConfiguration={"LocationConstraint": region},  # type: ignore[typeddict-item]
                )

    def copy(self, key: str, to: str) -> None:
        """Copy an object inside the bucket."""
        with self._errors_of(key):
            self._client.copy_object(Bucket=self.bucket, Key=to, CopySource={"Bucket": self.bucket, "Key": key})

    def delete(self, key: str) -> None:
        """Delete an object, if it exists."""
        with self._errors_of(key):
            self._client.delete_object(Bucket=self.bucket, Key=key)

    @contextmanager
    def _errors_of(self, key: str) -> Iterator[None]:
        """Turn boto3's exceptions into ours with bucket and key, without its messages, which contain the endpoint."""
        try:
            yield
        except ClientError as error:
            error_class, meaning = meaning_of(error)
            raise self._error(error_class, key, meaning) from None
        except NoCredentialsError:
            meaning = "there are no AWS credentials; set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
            raise self._error(AccessDeniedError, key, meaning) from None
        except UNUSABLE_CREDENTIALS as error:
            reason = type(error).__name__
            meaning = f"the AWS credentials cannot be used ({reason}); renew them, for example with 'aws sso login'"
            raise self._error(AccessDeniedError, key, meaning) from None
        except BotoCoreError as error:
            raise self._error(StorageAwayError, key, f"S3 did not answer ({type(error).__name__})") from None
        except OSError as error:
            raise StorageError(f"{error.filename or self.url(key)}: {error.strerror}") from error

    def _error(self, error_class: type[StorageError], key: str, meaning: str) -> StorageError:
        """Return an error; after denied access drop the session, because it reads a credentials file only once."""
        if issubclass(error_class, AccessDeniedError):
            self.__dict__.pop("_client", None)
        return error_class(f"{self.url(key)}: {meaning}")


Storage = S3Storage | FolderStorage
