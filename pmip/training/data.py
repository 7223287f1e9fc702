"""Training data: the newest dated prefix that holds data, its safe download, and its upload."""

import logging
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from tqdm import tqdm

from pmip.errors import AlreadyExistsError, TrainingDataError
from pmip.store.objects import FolderStorage, Storage, StoredObject
from pmip.training.comments import CommentFile, is_comment_file, read_comments, require_inside_folder, require_printable

PREFIX = "training/"
HOW_TO_SEED = "'bash scripts/seed_training_data.sh FILE' uploads training data"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainingData:
    """The comment files of one training data id."""

    training_data_id: str
    files: tuple[CommentFile, ...]


def is_training_data_id(text: str) -> bool:
    """Tell whether a text is a real calendar day of 8 digits."""
    try:
        return re.fullmatch("[0-9]{8}", text) is not None and bool(datetime.strptime(text, "%Y%m%d"))
    except ValueError:
        return False


def holds_data(storage: Storage) -> bool:
    """Tell whether there is any training data."""
    return any(_data_objects(storage, training_data_id) for training_data_id in _ids_newest_first(storage))


def find_newest(storage: Storage) -> tuple[str, list[StoredObject]]:
    """Return the newest training data id that holds data, and its objects."""
    where = storage.url(PREFIX)
    ids = _ids_newest_first(storage)
    for training_data_id in ids:
        objects = _data_objects(storage, training_data_id)
        if objects:
            return training_data_id, objects
        log.warning("%s%s/ holds no .csv or .zip file and is passed over", where, training_data_id)
    if ids:
        raise TrainingDataError(f"{where}: no .csv or .zip file in any of its {len(ids)} dated folders; {HOW_TO_SEED}")
    raise TrainingDataError(f"{where}: no folder that is named by a day (YYYYMMDD); {HOW_TO_SEED}")


def pull(storage: Storage, data_dir: Path, training_data_id: str | None = None) -> TrainingData:
    """Download the newest training data, or the given id, to `data_dir/training/<id>/`, with a progress bar."""
    if training_data_id:
        _require_training_data_id(training_data_id)
        objects = _data_objects(storage, training_data_id)
    else:
        training_data_id, objects = find_newest(storage)
    if not objects:
        raise TrainingDataError(f"{storage.url(PREFIX)}{training_data_id}/ holds no .csv or .zip file; {HOW_TO_SEED}")
    prefix = f"{PREFIX}{training_data_id}/"
    total = sum(found.size for found in objects)
    with tqdm(total=total, unit="B", unit_scale=True, desc=f"download {prefix}", disable=None) as bar:
        files = []
        for found in objects:
            name = found.key.removeprefix(prefix)
            require_inside_folder(name, storage.url(prefix))
            require_printable(name, storage.url(prefix))
            storage.download(found.key, data_dir / prefix / name, bar.update)
            files.append(CommentFile(data_dir / prefix / name, name, storage.url(found.key)))
    return TrainingData(training_data_id, tuple(files))


def find_local(data_dir: Path, sample: Path, training_data_id: str | None = None) -> TrainingData:
    """Return the newest training data below `data_dir`, or that of the given id; the sample where there is none."""
    try:
        training_data_id, objects = find_newest(FolderStorage(data_dir))
    except TrainingDataError:
        log.warning("no training data in %s: using the sample", data_dir / PREFIX)
        return TrainingData("sample", local_files(sorted(sample.glob("*.csv"))))
    prefix = f"{PREFIX}{training_data_id}/"
    files = (CommentFile(data_dir / key, key.removeprefix(prefix), str(data_dir / key)) for key, *_ in objects)
    return TrainingData(training_data_id, tuple(files))


def seed(storage: Storage, paths: Sequence[Path], training_data_id: str) -> list[str]:
    """Upload files as the training data of a day that holds none yet, and return their addresses.

    They are read and checked before the first is uploaded: a run never meets data that it cannot train on.
    """
    _require_training_data_id(training_data_id)
    if len({path.name for path in paths}) < len(paths):
        raise TrainingDataError("two of the files have the same name")
    prefix = f"{PREFIX}{training_data_id}/"
    if _data_objects(storage, training_data_id):
        raise AlreadyExistsError(f"{storage.url(prefix)} holds data already; give another day, as YYYYMMDD")
    read_comments(local_files(paths))
    for path in tqdm(paths, desc=f"upload {prefix}", unit="file", disable=None):
        storage.write(prefix + path.name, path.read_bytes(), overwrite=False)
    return [storage.url(prefix + path.name) for path in paths]


def local_files(paths: Iterable[Path]) -> tuple[CommentFile, ...]:
    """Name comment files of this machine by their paths; another kind of file is refused."""
    files = tuple(CommentFile(path, path.name, str(path)) for path in paths)
    for file in files:
        if not is_comment_file(file.name):
            raise TrainingDataError(f"{file.origin}: not a .csv or .zip file")
        if not file.path.is_file():
            raise TrainingDataError(f"{file.origin}: there is no such file")
    return files


def _require_training_data_id(text: str) -> None:
    if not is_training_data_id(text):
        raise TrainingDataError(f"{text!r} is no day of the calendar, written as YYYYMMDD")


def _ids_newest_first(storage: Storage) -> list[str]:
    names = list(storage.prefixes(PREFIX))
    for name in names:
        if not is_training_data_id(name):
            log.warning("%s%s/ is not named by a day (YYYYMMDD) and is ignored", storage.url(PREFIX), name)
    return sorted(filter(is_training_data_id, names), reverse=True)


def _data_objects(storage: Storage, training_data_id: str) -> list[StoredObject]:
    prefix = f"{PREFIX}{training_data_id}/"
    return [found for found in storage.objects(prefix) if is_comment_file(found.key.removeprefix(prefix))]
