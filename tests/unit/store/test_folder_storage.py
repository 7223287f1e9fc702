"""Files that appear whole or not at all, and what only a folder does."""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pmip.errors import AlreadyExistsError, StorageError
from pmip.store.objects import FolderStorage, Storage, written_whole

KEY = "models/staging/20260101/model.pkl"
MANY_BYTES = bytes(range(256)) * 2**13  # 2 MiB: more than one piece of a download


def files_under(folder: Path) -> list[Path]:
    """List every file of a folder, hidden ones too."""
    return [path for path in folder.rglob("*") if path.is_file()]


def test_a_download_is_whole_and_readable_by_others(storage: Storage, tmp_path: Path) -> None:
    """Folders are made, an older file is replaced, `on_bytes` is told of every byte, and a container may read it."""
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
    """Neither a half file nor a temporary one stays, and an older file is kept."""
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
    """However many write a key at the same time without overwriting, one succeeds and the others are told."""

    def attempt(number: int) -> int | None:
        try:
            storage.write(KEY, b"%d" % number, overwrite=False)
        except AlreadyExistsError:
            return None
        return number

    with ThreadPoolExecutor(8) as pool:
        winners = [number for number in pool.map(attempt, range(16)) if number is not None]
    assert [storage.read(KEY)] == [b"%d" % number for number in winners]


def test_a_file_appears_only_when_it_is_whole(tmp_path: Path) -> None:
    """Who looks while it is written sees the older file."""
    path = tmp_path / "model.pkl"
    path.write_bytes(b"older")
    with written_whole(path) as file:
        file.write(b"newer")
        file.flush()
        assert path.read_bytes() == b"older"
    assert path.read_bytes() == b"newer"


def test_readers_never_meet_a_half_file(tmp_path: Path) -> None:
    """While a file is written again and again, each read gives one whole content."""
    storage = FolderStorage(tmp_path)
    contents = [letter * 2**18 for letter in (b"a", b"b")]
    storage.write(KEY, contents[0])
    seen = []
    reader = threading.Thread(target=lambda: seen.extend(storage.read(KEY) for _ in range(200)))
    reader.start()
    while reader.is_alive():
        for content in contents:
            storage.write(KEY, content)
    assert len(seen) == 200
    assert set(seen) <= set(contents)


def test_a_write_that_fails_leaves_the_older_file_alone(tmp_path: Path) -> None:
    """Whatever fails on the way leaves no temporary file."""
    path = tmp_path / "model.pkl"
    path.write_bytes(b"older")
    with pytest.raises(TypeError), written_whole(path) as file:
        file.writelines([b"newer", None])  # type: ignore[list-item]
    assert [file.read_bytes() for file in files_under(tmp_path)] == [b"older"]


def test_delete_takes_emptied_folders_along_but_not_the_root(tmp_path: Path) -> None:
    """A bucket has no empty folders either; the storage itself stays."""
    storage = FolderStorage(tmp_path / "store")
    storage.write("models/prod/1/model.pkl", b"")
    storage.write("models/staging/1/model.pkl", b"")
    storage.delete("models/prod/1/model.pkl")
    assert list(storage.prefixes("models/")) == ["staging"]
    storage.delete("models/staging/1/model.pkl")
    assert list((tmp_path / "store").iterdir()) == []


def test_a_folder_is_no_object(tmp_path: Path) -> None:
    """Asking for a folder by key is an error that names it."""
    storage = FolderStorage(tmp_path)
    storage.write(KEY, b"")
    attempts = (
        lambda: storage.read("models"),
        lambda: storage.write("models", b""),
        lambda: storage.delete("models"),
    )
    for attempt in attempts:
        with pytest.raises(StorageError, match=f"^{tmp_path}/models: "):
            attempt()
    assert [found.key for found in storage.objects("")] == [KEY]
