"""The versions of the model in a bucket, or in a folder with the same layout."""

import logging
import re
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from pmip.errors import AlreadyExistsError, ArtifactError, ModelNotFoundError, ObjectNotFoundError
from pmip.model.artifact import MAX_METADATA_BYTES, MAX_MODEL_BYTES, METADATA, MODEL, Artifact, Metadata
from pmip.store.objects import FolderStorage, Storage, StoredObject

RUN_ID = "%Y%m%dT%H%M%SZ"


def new_model_id() -> str:
    """Return the model id of a run that starts now."""
    return datetime.now(UTC).strftime(RUN_ID)


def next_model_id(model_id: str) -> str:
    """Return the id one second later than a run's id; for a plain day, return the id of a run that starts now."""
    if "T" not in model_id:
        return new_model_id()
    return (datetime.strptime(model_id, RUN_ID) + timedelta(seconds=1)).strftime(RUN_ID)


def is_model_id(text: str) -> bool:
    """Return whether a text is the UTC time of a run, or the plain day of a model that was uploaded by hand."""
    for pattern, layout in (("[0-9]{8}T[0-9]{6}Z", RUN_ID), ("[0-9]{8}", "%Y%m%d")):
        if re.fullmatch(pattern, text):
            try:
                return bool(datetime.strptime(text, layout))
            except ValueError:
                return False
    return False


log = logging.getLogger(__name__)

REPORT = "model-training"
RECENT = 20  # among this many newest versions, a retried job searches for its own


class Version(NamedTuple):
    """A model id, a mark that changes when a file of the version changes, and the sizes of its files."""

    model_id: str
    mark: str = ""
    model_bytes: int = 0
    metadata_bytes: int | None = None  # None if there is no metadata.json

    def require_loadable(self) -> None:
        """Raise `ArtifactError` if a file is too large to be read into memory."""
        sizes = ((MODEL, self.model_bytes, MAX_MODEL_BYTES), (METADATA, self.metadata_bytes or 0, MAX_METADATA_BYTES))
        for name, size, most in sizes:
            if size > most:
                raise ArtifactError(f"{name} has {size:,} bytes; at most {most:,} are loaded", "too_large")


class ModelStore:
    """The versions of one environment. A version exists once its model.pkl exists, and is never overwritten."""

    def __init__(self, storage: Storage, environment: str) -> None:
        self._storage = storage
        self.environment = environment
        self._prefix = f"models/{environment}/"

    def __str__(self) -> str:
        return self._storage.url(self._prefix)

    def versions(self, since: str = "") -> list[Version]:
        """Return all versions from the id `since` on, newest first; one S3 request lists about 250 versions."""
        start = self._key(since, "") if since else ""
        return _versions(self._storage.objects(self._prefix, after=start), self._prefix)

    def version(self, model_id: str) -> Version:
        """Return one version; raise `ModelNotFoundError` if its model.pkl does not exist."""
        folder = self._key(model_id, "")
        for version in _versions(self._storage.objects(folder), self._prefix):
            return version
        raise ModelNotFoundError(f"{self}{model_id}/ holds no {MODEL}")

    def published(self) -> list[str]:
        """Return the ids of all versions, newest first."""
        return [version.model_id for version in self.versions()]

    def recent(self, count: int | None = None, *, retired: bool = False) -> list[Metadata]:
        """Return the metadata of at most `count` versions, newest first: published versions, or `retired` ones.

        For a version without a readable metadata.json, only the `model_id` and the environment are set.
        """
        prefix = f"{'retired' if retired else 'models'}/{self.environment}/"
        listed = _versions(self._storage.objects(prefix), prefix)[:count]
        with ThreadPoolExecutor(8) as pool:
            return list(pool.map(lambda version: self._metadata(version, prefix), listed))

    def download(self, model_id: str, folder: Path) -> None:
        """Copy a version's files into a folder without reading them; raise `ModelNotFoundError` if there is none."""
        # Look in the listing first: for a missing object S3 answers "access denied" to callers who may not list the
        # whole bucket (https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObject.html).
        version = self.version(model_id)
        try:
            _download(self._storage, self._key(model_id, ""), version, folder)
        except ObjectNotFoundError as error:  # retired after it was listed
            raise ModelNotFoundError(f"{self}{model_id}/ holds no {MODEL}") from error

    def fetch(self, model_id: str) -> Artifact:
        """Return a version's artifact; raise `ModelNotFoundError` if there is none."""
        return _fetched(self, model_id)

    def fetch_newest(self) -> tuple[str, Artifact]:
        """Return the model id and the artifact of the newest version."""
        for version in self.versions():
            with suppress(ModelNotFoundError):  # retired after it was listed
                return version.model_id, self.fetch(version.model_id)
        raise ModelNotFoundError(f"{self} holds no version; 'bash scripts/train.sh' publishes one")

    def publish(self, artifact: Artifact) -> Artifact:
        """Store a new version and return it as published; if its model id is taken, it gets a later one.

        If a recent version has the same AWS Batch job id, the job was retried: return that version, publish nothing.
        """
        metadata = artifact.metadata
        if metadata is None:
            raise ArtifactError("only a model with metadata can be published")
        earlier = self._published_by(metadata.batch_job_id)
        if earlier:
            return earlier
        newest = max((version.model_id for version in self.versions(since=metadata.model_id)), default="")
        while True:
            metadata = replace(metadata, report=self._key(metadata.model_id, f"{REPORT}.html"))
            if self._claim(metadata, artifact.model):
                if newest > metadata.model_id:
                    warning = "model %s will not be served: %s is newer; is this machine's clock right?"
                    log.warning(warning, metadata.model_id, newest)
                return Artifact(artifact.model, metadata)
            metadata = replace(metadata, model_id=next_model_id(metadata.model_id))

    def publish_report(self, model_id: str, files: dict[str, bytes], *, beside_model: bool) -> str:
        """Store a run's report beside its model, or under runs/ if nothing was published; return the address."""
        folder = self._folder("models" if beside_model else "runs", model_id)
        for suffix, content in files.items():
            self._storage.write(f"{folder}{REPORT}{suffix}", content)
        return self._storage.url(folder)

    def retire(self, model_id: str) -> None:
        """Take a version out of service; running APIs return to the version before it."""
        self._move(self._key(model_id, ""), self._folder("retired", model_id))

    def restore(self, model_id: str) -> None:
        """Put a retired version back into service."""
        self._move(self._folder("retired", model_id), self._key(model_id, ""))

    def promote(self, model_id: str, environment: str) -> None:
        """Copy a version with its report to another environment; raise `AlreadyExistsError` if the id is taken."""
        source, target = self._key(model_id, ""), ModelStore(self._storage, environment)._key(model_id, "")
        is_taken = any(stored.key == target + MODEL for stored in self._storage.objects(target))
        if is_taken and self._storage.read(target + MODEL) != self._storage.read(source + MODEL):
            raise AlreadyExistsError(f"{self._storage.url(target)} holds another model, which is not overwritten")
        self._copy(source, target)

    def _key(self, model_id: str, name: str) -> str:
        return self._folder("models", model_id) + name

    def _folder(self, place: str, model_id: str) -> str:
        """Return the prefix of a version in `models`, `retired` or `runs`.

        Without the check, an empty id would name all versions, and one with slashes the files of another environment.
        """
        if not is_model_id(model_id):
            hint = "such as 20260131T235959Z; 'python -m pmip versions' lists the versions"
            raise ModelNotFoundError(f"{model_id[:100]!a} is not a model id {hint}")
        return f"{place}/{self.environment}/{model_id}/"

    def _metadata(self, version: Version, prefix: str) -> Metadata:
        if version.metadata_bytes is not None:
            with suppress(ArtifactError, ObjectNotFoundError):  # damaged, or moved after it was listed
                version.require_loadable()
                metadata = Metadata.from_json(self._storage.read(f"{prefix}{version.model_id}/{METADATA}"))
                return metadata.known_as(version.model_id, self.environment)
        return Metadata(version.model_id, self.environment)

    def _published_by(self, batch_job_id: str | None) -> Artifact | None:
        for metadata in self.recent(RECENT) if batch_job_id else []:
            if metadata.batch_job_id == batch_job_id:
                with suppress(ModelNotFoundError, ArtifactError):  # retired in the meantime
                    return self.fetch(metadata.model_id)
        return None

    def _claim(self, metadata: Metadata, model: bytes) -> bool:
        """Write metadata.json, which reserves the model id, and then model.pkl, which makes it a version."""
        return self._write_new(metadata.model_id, METADATA, metadata.to_json()) and self._write_new(
            metadata.model_id, MODEL, model
        )

    def _write_new(self, model_id: str, name: str, content: bytes) -> bool:
        try:
            self._storage.write(self._key(model_id, name), content, overwrite=False)
        except AlreadyExistsError:
            # If the answer of the first attempt was lost, the retry finds its own object.
            return self._storage.read(self._key(model_id, name)) == content
        return True

    def _move(self, source: str, target: str) -> None:
        """Copy all objects, then delete them, model.pkl first, so that no version is ever incomplete."""
        for key in reversed(self._copy(source, target)):
            self._storage.delete(key)

    def _copy(self, source: str, target: str) -> list[str]:
        """Copy all objects, model.pkl last, because it makes them a version; an interrupted copy can be repeated."""
        keys = [stored.key for stored in self._storage.objects(source)]
        if not keys:
            hint = "'python -m pmip versions' lists the versions"
            raise ModelNotFoundError(f"{self._storage.url(source)} holds no version; {hint}")
        keys.sort(key=lambda key: key.endswith(f"/{MODEL}"))
        for key in keys:
            self._storage.copy(key, target + key.removeprefix(source))
        return keys


def _versions(objects: Iterable[StoredObject], prefix: str) -> list[Version]:
    """Return the versions among listed objects, newest first."""
    folders: dict[str, dict[str, StoredObject]] = {}
    for stored in objects:
        folder, _, name = stored.key.removeprefix(prefix).partition("/")
        folders.setdefault(folder, {})[name] = stored
    return [
        _version(name, files[MODEL], files.get(METADATA))
        for name, files in sorted(folders.items(), reverse=True)
        if is_model_id(name) and MODEL in files
    ]


def _version(name: str, model: StoredObject, metadata: StoredObject | None) -> Version:
    tags = f"{model.tag} {metadata.tag if metadata else None}"
    return Version(name, tags, model.size, metadata.size if metadata else None)


def _download(storage: Storage, prefix: str, version: Version, folder: Path) -> None:
    version.require_loadable()
    for name in (MODEL,) if version.metadata_bytes is None else (MODEL, METADATA):
        storage.download(prefix + name, folder / name, lambda _: None)


def _fetched(store: "ModelStore | LocalModel", model_id: str) -> Artifact:
    with TemporaryDirectory() as folder:
        store.download(model_id, Path(folder))
        return Artifact.read(Path(folder) / MODEL)


LOCAL = "local"


class LocalModel:
    """The one model in the data folder, which dev serves; each training run replaces it."""

    def __init__(self, data_dir: Path) -> None:
        self._folder = FolderStorage(data_dir)
        self.environment = "dev"

    def __str__(self) -> str:
        return self._folder.url(MODEL)

    def versions(self, since: str = "") -> list[Version]:  # noqa: ARG002 - asked like a model store
        """Return the local model, with the sizes and times of its files as mark, or an empty list."""
        model = self._folder.find(MODEL)
        return [_version(LOCAL, model, self._folder.find(METADATA))] if model else []

    def version(self, model_id: str) -> Version:
        """Return the local model; raise `ModelNotFoundError` if there is none."""
        for version in self.versions():
            return version
        raise ModelNotFoundError(f"{self}: there is no {model_id} model; 'bash scripts/train.sh' makes one")

    def download(self, model_id: str, folder: Path) -> None:
        """Copy the model's files into a folder without reading them; raise `ModelNotFoundError` if there is none."""
        _download(self._folder, "", self.version(model_id), folder)

    def fetch(self, model_id: str = LOCAL) -> Artifact:
        """Return the local model."""
        return _fetched(self, model_id)

    def save(self, artifact: Artifact) -> None:
        """Replace the local model; if two runs end at the same time, one complete model remains."""
        with self._folder.locked(".model.lock"):
            if artifact.metadata:
                self._folder.write(METADATA, artifact.metadata.to_json())
            else:
                self._folder.delete(METADATA)
            self._folder.write(MODEL, artifact.model)
