"""Objects are stored by key in the same way in a folder and in a bucket of a real S3 server."""

import re
import socket
import traceback
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from conftest import free_port
from s3_proxy import S3Proxy

from pmip.errors import (
    AccessDeniedError,
    AlreadyExistsError,
    BucketNotFoundError,
    ObjectNotFoundError,
    StorageError,
)
from pmip.store.objects import S3Storage, Storage

KEY = "models/staging/20260101/model.pkl"
MANY_BYTES = bytes(range(256)) * 2**13  # 2 MiB: more than one piece of a download


def keys(storage: Storage, prefix: str = "") -> list[str]:
    return [found.key for found in storage.objects(prefix)]


def test_what_was_written_is_read(storage: Storage) -> None:
    """A caller reads the bytes that were written, also empty ones, and a second write replaces the first."""
    for content in (b"first", b"", MANY_BYTES):
        storage.write(KEY, content)
        assert storage.read(KEY) == content
        assert [(found.key, found.size) for found in storage.objects("models/")] == [(KEY, len(content))]


def test_any_name_of_a_file_is_a_key(storage: Storage) -> None:
    """Keys may contain spaces, accents and characters with a meaning in addresses, also in a copy."""
    names = ["training/20260101/Été 1 + 1 = 100%?#&.csv", "training/20260101/日本語.csv"]
    for name in names:
        storage.write(name, name.encode())
        storage.copy(name, f"copies/{name}")
    assert keys(storage, "training/") == names
    assert [storage.read(f"copies/{name}") for name in names] == [name.encode() for name in names]


def test_objects_and_prefixes_are_listed_in_order(storage: Storage) -> None:
    """Objects of all depths are listed by key and prefixes one level down; an empty place gives an empty list."""
    assert keys(storage) == list(storage.prefixes("")) == []
    for key in ("a/c/2", "a/b/deep/1", "a/b/1", "a/file", "b/c/1", "a/c/1"):
        storage.write(key, b"")
    assert keys(storage, "a/") == ["a/b/1", "a/b/deep/1", "a/c/1", "a/c/2", "a/file"]
    assert [found.key for found in storage.objects("a/", after="a/b/deep/1")] == ["a/c/1", "a/c/2", "a/file"]
    assert list(storage.prefixes("a/")) == ["b", "c"]
    assert list(storage.prefixes("")) == ["a", "b"]
    assert keys(storage, "training/") == list(storage.prefixes("training/")) == []


def test_more_than_a_thousand_are_all_listed(storage: Storage) -> None:
    """All of 1,100 objects and prefixes are listed, although S3 returns at most 1,000 in one call."""
    names = [f"{number:04}" for number in range(1100)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda name: storage.write(f"many/{name}/file", b""), reversed(names)))
    assert keys(storage, "many/") == [f"many/{name}/file" for name in names]
    assert list(storage.prefixes("many/")) == names


def test_a_write_that_must_not_overwrite_keeps_the_older_object(storage: Storage) -> None:
    """A write with overwrite=False over an object raises an error with its address and keeps the object."""
    storage.write(KEY, b"older", overwrite=False)
    with pytest.raises(AlreadyExistsError) as raised:
        storage.write(KEY, b"newer", overwrite=False)
    assert str(raised.value).startswith(f"{storage.url(KEY)}: exists already")
    assert storage.read(KEY) == b"older"
    assert keys(storage) == [KEY]


def test_a_missing_object_is_named(storage: Storage, tmp_path: Path) -> None:
    """Reading, downloading or copying a missing object raises an error with its address, and leaves no file."""
    attempts = (
        lambda: storage.read(KEY),
        lambda: storage.copy(KEY, "other"),
        lambda: storage.download(KEY, tmp_path / "out" / "model.pkl", len),
    )
    for attempt in attempts:
        with pytest.raises(ObjectNotFoundError) as raised:
            attempt()
        assert str(raised.value).startswith(f"{storage.url(KEY)}: there is no such ")
    assert not list(tmp_path.rglob("*model.pkl*"))


def test_a_copy_leaves_the_original(storage: Storage) -> None:
    """A copy replaces an older object under the new key and leaves the original."""
    storage.write("other", b"older")
    storage.write(KEY, b"model")
    storage.copy(KEY, "other")
    assert (storage.read(KEY), storage.read("other")) == (b"model", b"model")


def test_delete_removes_one_object_and_may_be_repeated(storage: Storage) -> None:
    """Deleting removes one object and none beside it; deleting what is not there is no error."""
    storage.write(KEY, b"")
    storage.write(f"{KEY}.txt", b"")
    for _ in range(2):
        storage.delete(KEY)
    storage.delete("never/was/there")
    assert keys(storage) == [f"{KEY}.txt"]


def files_under(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_a_download_is_whole_and_readable_by_others(storage: Storage, tmp_path: Path) -> None:
    """A download creates folders, replaces an older file, reports every byte, and can be read by other users."""
    storage.write(KEY, MANY_BYTES)
    path = tmp_path / "data" / "deep" / "model.pkl"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"older")
    sizes: list[int] = []
    storage.download(KEY, path, sizes.append)
    assert path.read_bytes() == MANY_BYTES
    assert sum(sizes) == len(MANY_BYTES)
    assert path.stat().st_mode & 0o777 == 0o644
    assert files_under(tmp_path / "data") == [path]


@pytest.mark.parametrize("older", [None, b"older"])
def test_a_download_that_fails_leaves_no_file(storage: Storage, tmp_path: Path, older: bytes | None) -> None:
    """A download that is interrupted leaves no partial or temporary file, and keeps an older file."""
    storage.write(KEY, MANY_BYTES)
    path = tmp_path / "data" / "model.pkl"
    path.parent.mkdir()
    if older:
        path.write_bytes(older)

    def interrupt(size: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        storage.download(KEY, path, interrupt)
    assert [file.read_bytes() for file in files_under(path.parent)] == ([older] if older else [])


def test_of_writers_at_once_one_wins(storage: Storage) -> None:
    """Of simultaneous writes with overwrite=False one succeeds, and the others raise AlreadyExistsError."""

    def attempt(number: int) -> int | None:
        try:
            storage.write(KEY, b"%d" % number, overwrite=False)
        except AlreadyExistsError:
            return None
        return number

    with ThreadPoolExecutor(8) as pool:
        winners = [number for number in pool.map(attempt, range(16)) if number is not None]
    assert [storage.read(KEY)] == [b"%d" % number for number in winners]


def test_create_may_be_repeated(bucket: S3Storage) -> None:
    """Creating a bucket that the caller already has leaves its objects as they are."""
    bucket.write(KEY, b"model")
    bucket.create()
    assert bucket.read(KEY) == b"model"


def test_a_missing_bucket_is_named(s3: dict[str, str], tmp_path: Path) -> None:
    """Listing, reading, writing or downloading in a missing bucket raises an error that names it and BUCKET."""
    storage = S3Storage("pmip-no-such-bucket")
    attempts = (
        lambda: list(storage.objects("models/")),
        lambda: list(storage.prefixes("models/")),
        lambda: storage.read(KEY),
        lambda: storage.write(KEY, b""),
        lambda: storage.download(KEY, tmp_path / "model.pkl", len),
    )
    for attempt in attempts:
        with pytest.raises(BucketNotFoundError, match=r"^s3://pmip-no-such-bucket/models/.*check BUCKET"):
            attempt()


@pytest.mark.parametrize("name", ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"])
def test_wrong_credentials_are_refused(bucket: S3Storage, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """A wrong key id or secret raises AccessDeniedError, which says what to check and does not show it."""
    monkeypatch.setenv(name, "wrong-value")
    storage = S3Storage(bucket.bucket)
    for attempt in (lambda: storage.read(KEY), lambda: storage.write(KEY, b""), lambda: list(storage.objects(""))):
        with pytest.raises(AccessDeniedError, match=f"^s3://{bucket.bucket}/.*check the AWS credentials") as raised:
            attempt()
        assert "wrong-value" not in shown(raised.value)


def test_without_credentials_the_error_says_what_to_set(s3: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A new user without credentials gets an error that names the variables to set."""
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(AccessDeniedError, match="set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"):
        S3Storage("comments").read(KEY)


def test_credentials_that_a_tool_renews_are_read_again(
    bucket: S3Storage, s3: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """After a denied call, the next call reads the file of credentials again and uses the renewed ones."""
    file = tmp_path / "credentials"
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    text = f"[default]\naws_access_key_id = {s3['AWS_ACCESS_KEY_ID']}\naws_secret_access_key = "
    file.write_text(f"{text}wrong\n")
    storage = S3Storage(bucket.bucket)
    with pytest.raises(AccessDeniedError):
        storage.read(KEY)
    file.write_text(f"{text}{s3['AWS_SECRET_ACCESS_KEY']}\n")
    with pytest.raises(ObjectNotFoundError):
        storage.read(KEY)


def test_expired_credentials_are_told_as_such(
    bucket: S3Storage, proxy: S3Proxy, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Expired credentials, or a failure of the profile's tool, raise AccessDeniedError that says to renew them."""
    proxy.fault = 400
    with pytest.raises(AccessDeniedError, match="the AWS credentials have expired; renew them"):
        S3Storage(bucket.bucket).read(KEY)
    (tmp_path / "config").write_text("[profile tool]\ncredential_process = false\n")
    with monkeypatch.context() as patch:
        patch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
        patch.setenv("AWS_PROFILE", "tool")
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.delenv(name)
        with pytest.raises(AccessDeniedError, match=r"cannot be used \(CredentialRetrievalError\); renew them"):
            S3Storage(bucket.bucket).read(KEY)


@pytest.mark.parametrize("fault", [None, "unconditional", "ignoring"])
def test_a_server_without_conditional_writes_is_told(
    bucket: S3Storage, proxy: S3Proxy, fault: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    """A server without conditional writes causes one warning, and an existing object is still not overwritten."""
    proxy.fault, storage = fault, S3Storage(bucket.bucket)
    storage.write(KEY, b"older", overwrite=False)
    with pytest.raises(AlreadyExistsError):
        storage.write(KEY, b"newer", overwrite=False)
    assert bucket.read(KEY) == b"older"
    told = f"{bucket.url(KEY)}: this S3 server has no conditional writes: two runs of the same second could overwrite "
    assert [message.startswith(told) for message in caplog.messages] == ([True] if fault else [])


def test_a_server_that_is_away_is_a_storage_error_without_its_address(
    s3: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that does not answer raises StorageError without its address, as the log may hold text and traceback."""
    endpoint = f"127.0.0.1:{free_port()}"
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{endpoint}")
    with pytest.raises(StorageError, match=r"^s3://comments/models/.*: S3 did not answer") as raised:
        S3Storage("comments").read(KEY)
    assert endpoint not in shown(raised.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [("AWS_ENDPOINT_URL", "no address"), ("AWS_ENDPOINT_URL", "127.0.0.1:8333"), ("AWS_PROFILE", "nobody")],
)
def test_unusable_settings_of_boto3_are_named(
    s3: dict[str, str], monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    """A mistyped endpoint or profile raises an error at the first call, which names the value and the variable."""
    monkeypatch.setenv(name, value)
    storage = S3Storage("comments")
    with pytest.raises(StorageError, match=f"^s3://comments: .*{re.escape(value)}.*check .*{name}"):
        storage.read(KEY)


def test_nothing_is_connected_before_the_first_call(s3: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A new storage opens no connection, so that it can be made before a fork or while the server is away."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.getsockname()[1]}")
        assert S3Storage("comments").url(KEY) == f"s3://comments/{KEY}"
        server.setblocking(False)
        with pytest.raises(BlockingIOError):
            server.accept()


def shown(error: BaseException) -> str:
    """Return all that a traceback prints of an error, its causes included."""
    return "".join(traceback.format_exception(error))
