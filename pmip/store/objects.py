"""Objects by key, in an S3 bucket or in a local folder of the same layout; the only user of boto3."""

import logging
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cached_property, partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, NamedTuple

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    CredentialRetrievalError,
    LoginError,
    NoAuthTokenError,
    NoCredentialsError,
    PartialCredentialsError,
    SSOError,
    TokenRetrievalError,
)

from pmip.errors import (
    AccessDeniedError,
    AlreadyExistsError,
    BucketNotFoundError,
    ObjectNotFoundError,
    StorageAwayError,
    StorageError,
)

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

log = logging.getLogger(__name__)


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


CHUNK_BYTES = 2**20


class Patience(NamedTuple):
    """How long a call waits for S3: to connect, between two pieces of an answer, and how often it is tried."""

    connect_seconds: float
    read_seconds: float
    attempts: int


PATIENT = Patience(connect_seconds=5, read_seconds=15, attempts=3)
HURRIED = Patience(connect_seconds=1, read_seconds=1, attempts=2)  # twice: a connection may be dead after a pause

DENIED = "access denied; check the AWS credentials and what their policy allows"
EXPIRED = "the AWS credentials have expired; renew them, for example with 'aws sso login'"
# https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html
ERROR_BY_CODE: dict[str, tuple[type[StorageError], str]] = {
    "NoSuchBucket": (BucketNotFoundError, "there is no such bucket; check BUCKET, the region and AWS_ENDPOINT_URL"),
    "NoSuchKey": (ObjectNotFoundError, "there is no such object"),
    "404": (ObjectNotFoundError, "there is no such object"),
    "PreconditionFailed": (AlreadyExistsError, "exists already and is not overwritten"),
    "ConditionalRequestConflict": (AlreadyExistsError, "is being written by someone else"),
    "RequestTimeTooSkewed": (StorageAwayError, "refused, because the clock of this machine is wrong; set it"),
}
ERROR_BY_CODE |= dict.fromkeys(
    ("AccessDenied", "403", "InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken", "AllAccessDisabled"),
    (AccessDeniedError, DENIED),
)
ERROR_BY_CODE |= dict.fromkeys(
    ("ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired"), (AccessDeniedError, EXPIRED)
)
UNUSABLE_CREDENTIALS = (
    CredentialRetrievalError,
    LoginError,
    NoAuthTokenError,
    PartialCredentialsError,
    SSOError,
    TokenRetrievalError,
)
SERVER_ERROR = 500
NO_CONDITIONS = "%s: this S3 server has no conditional writes: two runs of the same second could overwrite each other"


class S3Storage:
    """The objects of one bucket. Nothing is connected before the first call, so it may be made before a fork."""

    def __init__(self, bucket: str, patience: Patience = PATIENT) -> None:
        self.bucket = bucket
        self._patience = patience
        self._knows_conditions = False

    @cached_property
    def _client(self) -> "S3Client":
        import boto3  # here, because an API that starts from its cache is ready without it, a sixth of a second sooner
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
        """Name an object for a person."""
        return f"s3://{self.bucket}/{key}"

    def prefixes(self, prefix: str) -> Iterator[str]:
        """List the names of the folders right under a prefix, in order."""
        with self._errors_of(prefix):
            for page in self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self.bucket, Prefix=prefix, Delimiter="/"
            ):
                for item in page.get("CommonPrefixes", []):
                    yield item["Prefix"].removeprefix(prefix).rstrip("/")

    def objects(self, prefix: str, after: str = "") -> Iterator[StoredObject]:
        """List all objects under a prefix whose keys come after one, however many, in the order of their keys."""
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
        """Write an object to a file, whole or not at all; `on_bytes` is told the size of each piece."""
        with self._errors_of(key), written_whole(path) as file:
            for chunk in self._client.get_object(Bucket=self.bucket, Key=key)["Body"].iter_chunks(CHUNK_BYTES):
                file.write(chunk)
                on_bytes(len(chunk))

    def write(self, key: str, content: bytes, *, overwrite: bool = True) -> None:
        """Store an object; without `overwrite`, an `AlreadyExistsError` keeps the older one as it is."""
        with self._errors_of(key):
            if overwrite:
                self._client.put_object(Bucket=self.bucket, Key=key, Body=content)
            else:
                self._write_new(key, content)

    def _write_new(self, key: str, content: bytes) -> None:
        """Store an object unless there is one; it is listed first, because some servers ignore the condition."""
        if any(found.key == key for found in self.objects(key)):
            raise AlreadyExistsError(f"{self.url(key)}: exists already and is not overwritten")
        put = partial(self._client.put_object, Bucket=self.bucket, Key=key, Body=content)
        try:
            put(IfNoneMatch="*")
        except ClientError as error:
            if _code(error) != "NotImplemented":
                raise
            log.warning(NO_CONDITIONS, self.url(key))
            put()
        else:
            if not self._knows_conditions and len(content) <= CHUNK_BYTES:
                self._try_conditions(put, key)

    def _try_conditions(self, put: Callable[..., object], key: str) -> None:
        """Write the same bytes once more, which only a server that ignores conditions accepts."""
        with suppress(ClientError, BotoCoreError):
            put(IfNoneMatch="*")
            log.warning(NO_CONDITIONS, self.url(key))
        self._knows_conditions = True

    def create(self) -> None:
        """Make the bucket; one that is the caller's already is no error."""
        with self._errors_of(""), suppress(self._client.exceptions.BucketAlreadyOwnedByYou):
            region = self._client.meta.region_name
            if region == "us-east-1":  # the one region that must not be named
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
        """Delete an object; one that is not there is no error."""
        with self._errors_of(key):
            self._client.delete_object(Bucket=self.bucket, Key=key)

    @contextmanager
    def _errors_of(self, key: str) -> Iterator[None]:
        """Turn boto3's exceptions into ours, with bucket and key, and without its texts, which tell the endpoint."""
        try:
            yield
        except ClientError as error:
            kind, meaning = _meaning(error)
            raise self._told(kind, key, meaning) from None
        except NoCredentialsError:
            meaning = "there are no AWS credentials; set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
            raise self._told(AccessDeniedError, key, meaning) from None
        except UNUSABLE_CREDENTIALS as error:
            meaning = f"the AWS credentials cannot be used ({type(error).__name__}); renew them, as by 'aws sso login'"
            raise self._told(AccessDeniedError, key, meaning) from None
        except BotoCoreError as error:
            raise self._told(StorageAwayError, key, f"S3 did not answer ({type(error).__name__})") from None
        except OSError as error:
            raise StorageError(f"{error.filename or self.url(key)}: {error.strerror}") from error

    def _told(self, kind: type[StorageError], key: str, meaning: str) -> StorageError:
        """Make an error; one of access ends the session, because a session reads a file of credentials only once."""
        if issubclass(kind, AccessDeniedError):
            self.__dict__.pop("_client", None)
        return kind(f"{self.url(key)}: {meaning}")


def _code(error: ClientError) -> str:
    return error.response.get("Error", {}).get("Code", "")


def _meaning(error: ClientError) -> tuple[type[StorageError], str]:
    """Return the kind of an answer of S3, and what it means for a person."""
    code = _code(error)
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    other = StorageAwayError if status >= SERVER_ERROR else StorageError
    return ERROR_BY_CODE.get(code, (other, f"S3 answered {code or 'an error'}"))


Storage = S3Storage | FolderStorage
