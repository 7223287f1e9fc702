"""Training data: finding the newest dated prefix that holds data, download and upload."""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from pmip.errors import AlreadyExistsError, TrainingDataError
from pmip.store.objects import FolderStorage, Storage, StoredObject
from pmip.store.versions import is_model_id
from pmip.training.comments import read_comments
from pmip.training.files import KINDS, CommentFile, is_comment_file, is_hidden, named

PREFIX = "training/"  # the policies in training.yml and foundation.yml name it too, also under s3:prefix
HOW_TO_SEED = "'bash scripts/seed_training_data.sh FILE' uploads training data"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainingData:
    """The comment files of one training data id."""

    training_data_id: str
    files: tuple[CommentFile, ...]


def is_training_data_id(text: str) -> bool:
    """Return whether a text is a calendar day, written as 8 digits."""
    return len(text) == len("YYYYMMDD") and is_model_id(text)


def holds_data(storage: Storage) -> bool:
    """Return whether there is any training data."""
    return any(_data_objects(storage, training_data_id) for training_data_id in _ids_newest_first(storage))


def find_newest(storage: Storage) -> tuple[str, list[StoredObject]]:
    """Return the newest training data id that holds data, and its objects."""
    where = storage.url(PREFIX)
    ids = _ids_newest_first(storage)
    for training_data_id in ids:
        objects = _data_objects(storage, training_data_id)
        if objects:
            return training_data_id, objects
        log.warning("%s%s/ holds no %s file and is skipped", where, training_data_id, KINDS)
        _warn_of_others(storage, training_data_id)
    if ids:
        raise TrainingDataError(f"{where}: no {KINDS} file in any of its {len(ids)} dated folders; {HOW_TO_SEED}")
    raise TrainingDataError(f"{where}: no folder is named by a day (YYYYMMDD); {HOW_TO_SEED}")


def pull(storage: Storage, data_dir: Path, training_data_id: str | None = None) -> TrainingData:
    """Download the newest training data, or the given id, to `data_dir/training/<id>/`, with a progress bar."""
    training_data_id, objects = _find(storage, training_data_id)
    prefix = f"{PREFIX}{training_data_id}/"
    total = sum(item.size for item in objects)
    with tqdm(total=total, unit="B", unit_scale=True, desc=f"download {prefix}", disable=None) as bar:
        files = []
        for item in objects:
            name = item.key.removeprefix(prefix)
            file = CommentFile(data_dir / prefix / name, name, storage.url(item.key))
            storage.download(item.key, file.path, bar.update)
            files.append(file)
    return TrainingData(training_data_id, tuple(files))


def find_local(data_dir: Path, sample: Path, training_data_id: str | None = None) -> TrainingData:
    """Return the newest training data below `data_dir`, or the given id; the sample if there is no file at all."""
    storage = FolderStorage(data_dir)
    if not training_data_id and all(is_hidden(item.key.removeprefix(PREFIX)) for item in storage.objects(PREFIX)):
        log.warning("no training data in %s: using the sample", data_dir / PREFIX)
        return TrainingData("sample", local_files(sorted(sample.glob("*.csv"))))
    training_data_id, objects = _find(storage, training_data_id)
    prefix = f"{PREFIX}{training_data_id}/"
    files = (CommentFile(data_dir / key, key.removeprefix(prefix), str(data_dir / key)) for key, *_ in objects)
    return TrainingData(training_data_id, tuple(files))


def seed(storage: Storage, paths: Sequence[Path], training_data_id: str) -> list[str]:
    """Upload files as the training data of a day that has none yet, and return their addresses.

    All files are read and checked before the first upload, so that a run never finds data that it cannot use.
    """
    _require_training_data_id(training_data_id)
    if len({path.name for path in paths}) < len(paths):
        raise TrainingDataError("two of the files have the same name")
    prefix = f"{PREFIX}{training_data_id}/"
    if _data_objects(storage, training_data_id):
        raise AlreadyExistsError(f"{storage.url(prefix)} already holds data; give another day, as YYYYMMDD")
    read_comments(local_files(paths))
    for path in tqdm(paths, desc=f"upload {prefix}", unit="file", disable=None):
        storage.write(prefix + path.name, path.read_bytes(), overwrite=False)
    if (newest := find_newest(storage)[0]) > training_data_id:
        text = "the next run does not train on %s, because %s is newer; TRAINING_DATA_ID=%s selects it"
        log.warning(text, storage.url(prefix), newest, training_data_id)
    return [storage.url(prefix + path.name) for path in paths]


def local_files(paths: Iterable[Path]) -> tuple[CommentFile, ...]:
    """Return the comment files at some paths; raise `TrainingDataError` for a missing file or another kind."""
    files = tuple(CommentFile(path, path.name, str(path)) for path in paths)
    for file in files:
        if not is_comment_file(file.name):
            raise TrainingDataError(f"{file.origin}: not a {KINDS} file; save it as one of these")
        if not file.path.is_file():
            raise TrainingDataError(f"{file.origin}: there is no such file")
    return files


def _require_training_data_id(text: str) -> None:
    if not is_training_data_id(text):
        raise TrainingDataError(f"{text!r} is not a calendar day, written as YYYYMMDD")


def _find(storage: Storage, training_data_id: str | None) -> tuple[str, list[StoredObject]]:
    """Return the given id, or the newest, and its objects; log the names of other files in its folder."""
    if training_data_id:
        _require_training_data_id(training_data_id)
        objects = _data_objects(storage, training_data_id)
    else:
        training_data_id, objects = find_newest(storage)
    _warn_of_others(storage, training_data_id)
    if not objects:
        raise TrainingDataError(f"{storage.url(PREFIX)}{training_data_id}/ holds no {KINDS} file; {HOW_TO_SEED}")
    return training_data_id, objects


def _ids_newest_first(storage: Storage) -> list[str]:
    names = list(storage.prefixes(PREFIX))
    for name in names:
        if not is_training_data_id(name):
            log.warning("%s%s/ is not named by a day (YYYYMMDD) and is ignored", storage.url(PREFIX), name)
    return sorted(filter(is_training_data_id, names), reverse=True)


def _data_objects(storage: Storage, training_data_id: str) -> list[StoredObject]:
    prefix = f"{PREFIX}{training_data_id}/"
    return [item for item in storage.objects(prefix) if is_comment_file(item.key.removeprefix(prefix))]


def _warn_of_others(storage: Storage, training_data_id: str) -> None:
    """Log the names of the files of a day that are not read."""
    prefix = f"{PREFIX}{training_data_id}/"
    names = [item.key.removeprefix(prefix) for item in storage.objects(prefix)]
    others = [name for name in names if not is_comment_file(name) and not is_hidden(name)]
    if others:
        log.warning("%s: only %s files are read; left out: %s", storage.url(prefix), KINDS, named(others))
