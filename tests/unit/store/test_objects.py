"""Files that are written completely or not at all, and what only the folder storage does."""

import threading
from pathlib import Path

import pytest

from pmip.errors import StorageError
from pmip.store.objects import FolderStorage, written_whole

KEY = "models/staging/20260101/model.pkl"


def files_under(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_readers_never_meet_a_half_file(tmp_path: Path) -> None:
    """A reader of a file that is being rewritten gets the complete content of one of the writes."""
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
    """A write that fails leaves the older file unchanged and no temporary file."""
    path = tmp_path / "model.pkl"
    path.write_bytes(b"older")
    with pytest.raises(TypeError), written_whole(path) as file:
        file.writelines([b"newer", None])  # type: ignore[list-item]
    assert [file.read_bytes() for file in files_under(tmp_path)] == [b"older"]


def test_delete_takes_emptied_folders_along_but_not_the_root(tmp_path: Path) -> None:
    """Deleting an object also removes folders that become empty, but not the storage itself, as in a bucket."""
    storage = FolderStorage(tmp_path / "store")
    storage.write("models/prod/1/model.pkl", b"")
    storage.write("models/staging/1/model.pkl", b"")
    storage.delete("models/prod/1/model.pkl")
    assert list(storage.prefixes("models/")) == ["staging"]
    storage.delete("models/staging/1/model.pkl")
    assert list((tmp_path / "store").iterdir()) == []


def test_a_folder_is_no_object(tmp_path: Path) -> None:
    """Reading, writing or deleting a folder as an object raises an error that names the folder."""
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
