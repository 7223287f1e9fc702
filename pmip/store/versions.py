"""Where versions live durably, in a bucket or in a folder of the same layout."""

import fcntl
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from pmip.errors import AlreadyExistsError, ArtifactError, ModelNotFoundError, ObjectNotFoundError
from pmip.model.artifact import MAX_MODEL_BYTES, METADATA, MODEL, Artifact, Metadata
from pmip.store.objects import FolderStorage, Storage, StoredObject

RUN_ID = "%Y%m%dT%H%M%SZ"


def new_model_id() -> str:
    """Return the model id of a run that starts now."""
    return datetime.now(UTC).strftime(RUN_ID)


def next_model_id(model_id: str) -> str:
    """Return the id one second after a run's id; a plain day is followed by the run that starts now."""
    if "T" not in model_id:
        return new_model_id()
    return (datetime.strptime(model_id, RUN_ID) + timedelta(seconds=1)).strftime(RUN_ID)


def is_model_id(text: str) -> bool:
    """Tell whether a text is the UTC time of a run, or the plain day of a model that was uploaded by hand."""
    for pattern, layout in (("[0-9]{8}T[0-9]{6}Z", RUN_ID), ("[0-9]{8}", "%Y%m%d")):
        if re.fullmatch(pattern, text):
            try:
                return bool(datetime.strptime(text, layout))
            except ValueError:
                return False
    return False


log = logging.getLogger(__name__)

REPORT = "model-training"
RECENT = 20  # versions among which a retried job looks for its own


class Version(NamedTuple):
    """A model id, and a mark that changes whenever the same id stands for another file."""

    model_id: str
    mark: str = ""


class ModelStore:
    """The versions of one environment. A version exists once its model.pkl does, and is never overwritten."""

    def __init__(self, storage: Storage, environment: str) -> None:
        self._storage = storage
        self.environment = environment
        self._prefix = f"models/{environment}/"

    def __str__(self) -> str:
        return self._storage.url(self._prefix)

    def versions(self) -> list[Version]:
        """Return all versions, newest first; a folder whose model.pkl is not there yet is among them."""
        names = self._storage.prefixes(self._prefix)
        return [Version(name) for name in sorted(filter(is_model_id, names), reverse=True)]

    def published(self) -> list[str]:
        """Return the ids of all versions that have their model.pkl, newest first."""
        names = (found.key.removeprefix(self._prefix) for found in self._storage.objects(self._prefix))
        ids = [name.removesuffix(f"/{MODEL}") for name in names if name.endswith(f"/{MODEL}")]
        return sorted(filter(is_model_id, ids), reverse=True)

    def since(self, model_id: str) -> list[Version]:
        """Return a version and all that are newer, newest first, by one request as long as these are few.

        Each has its mark, but for a model that is too large; a version whose model.pkl is not there is left out.
        """
        folders: dict[str, dict[str, StoredObject]] = {}
        for found in self._storage.objects(self._prefix, after=self._key(model_id, "")):
            folder, _, name = found.key.removeprefix(self._prefix).partition("/")
            folders.setdefault(folder, {})[name] = found
        there = [folder for folder, files in folders.items() if is_model_id(folder) and MODEL in files]
        return [Version(folder, _mark(folders[folder])) for folder in sorted(there, reverse=True)]

    def marked(self, version: Version) -> Version:
        """Return a version with the mark of its files; raises `ModelNotFoundError` when its model.pkl is not there."""
        folder = self._key(version.model_id, "")
        files = {found.key.removeprefix(folder): found for found in self._storage.objects(folder)}
        if MODEL not in files:
            raise ModelNotFoundError(f"{self}{version.model_id}/ holds no {MODEL}")
        if not (mark := _mark(files)):
            raise ArtifactError(f"{MODEL} has {files[MODEL].size:,} bytes; at most {MAX_MODEL_BYTES:,} are loaded")
        return version._replace(mark=mark)

    def fetch(self, model_id: str) -> Artifact:
        """Return a version's artifact; raises `ModelNotFoundError` when there is none."""
        # Listed, because who may not list the whole bucket gets from S3 for a missing object that access is denied:
        # https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObject.html
        keys = {found.key for found in self._storage.objects(self._key(model_id, ""))}
        model, metadata = (self._read_if(self._key(model_id, name), keys) for name in (MODEL, METADATA))
        if model is None:
            raise ModelNotFoundError(f"{self}{model_id}/ holds no {MODEL}")
        return Artifact(model, None if metadata is None else Metadata.from_json(metadata))

    def fetch_newest(self) -> tuple[str, Artifact]:
        """Return the model id and the artifact of the newest version."""
        for version in self.versions():
            with suppress(ModelNotFoundError):  # its model.pkl is not there yet
                return version.model_id, self.fetch(version.model_id)
        raise ModelNotFoundError(f"{self} holds no version; 'bash scripts/train.sh' publishes one")

    def recent(self, count: int) -> list[Metadata]:
        """Return the metadata of the newest versions, newest first."""
        found = (self.fetch(model_id).metadata for model_id in self.published()[:count])
        return [metadata for metadata in found if metadata]

    def publish(self, artifact: Artifact) -> Artifact:
        """Store a new version and return it as published: under a later model id when the wanted one is taken.

        A retried job, whose job id a recent version bears already, publishes nothing more.
        """
        metadata = artifact.metadata
        if metadata is None:
            raise ArtifactError("only a model with metadata can be published")
        earlier = self._published_by(metadata.batch_job_id)
        if earlier:
            return earlier
        newest = max((found.model_id for found in self.since(metadata.model_id)), default="")
        while True:
            metadata = replace(metadata, report=self._key(metadata.model_id, f"{REPORT}.html"))
            if self._claim(metadata, artifact.model):
                if newest > metadata.model_id:
                    told = "model %s will not be served: %s is newer; is this machine's clock right?"
                    log.warning(told, metadata.model_id, newest)
                return Artifact(artifact.model, metadata)
            metadata = replace(metadata, model_id=next_model_id(metadata.model_id))

    def publish_report(self, model_id: str, files: dict[str, bytes], *, beside_model: bool) -> str:
        """Store a run's report, beside its model or, when nothing was published, under runs/; return where."""
        folder = f"{'models' if beside_model else 'runs'}/{self.environment}/{model_id}/"
        for suffix, content in files.items():
            self._storage.write(f"{folder}{REPORT}{suffix}", content)
        return self._storage.url(folder)

    def retire(self, model_id: str) -> None:
        """Take a version out of service: running APIs go back to the one before it."""
        self._move(self._key(model_id, ""), f"retired/{self.environment}/{model_id}/")

    def restore(self, model_id: str) -> None:
        """Put a retired version back into service."""
        self._move(f"retired/{self.environment}/{model_id}/", self._key(model_id, ""))

    def promote(self, model_id: str, environment: str) -> None:
        """Copy a version, with its report, into another environment; one that is there already is not overwritten."""
        source, target = (f"models/{name}/{model_id}/" for name in (self.environment, environment))
        there = [found.key for found in self._storage.objects(target) if found.key == target + MODEL]
        if there and self._storage.read(target + MODEL) != self._storage.read(source + MODEL):
            raise AlreadyExistsError(f"{self._storage.url(target)} holds another model, which is not overwritten")
        self._copy(source, target)

    def _key(self, model_id: str, name: str) -> str:
        return f"{self._prefix}{model_id}/{name}"

    def _read_if(self, key: str, keys: set[str]) -> bytes | None:
        with suppress(ObjectNotFoundError):  # retired since it was listed
            return self._storage.read(key) if key in keys else None
        return None

    def _published_by(self, batch_job_id: str | None) -> Artifact | None:
        for model_id in self.published()[:RECENT] if batch_job_id else []:
            with suppress(ModelNotFoundError, ArtifactError):  # retired meanwhile, or nobody's
                keys = {found.key for found in self._storage.objects(self._key(model_id, ""))}
                metadata = self._read_if(self._key(model_id, METADATA), keys)
                if metadata and Metadata.from_json(metadata).batch_job_id == batch_job_id:
                    return self.fetch(model_id)
        return None

    def _claim(self, metadata: Metadata, model: bytes) -> bool:
        """Write metadata.json, which claims the model id, then model.pkl, which makes it a version."""
        return self._write_new(metadata.model_id, METADATA, metadata.to_json()) and self._write_new(
            metadata.model_id, MODEL, model
        )

    def _write_new(self, model_id: str, name: str, content: bytes) -> bool:
        try:
            self._storage.write(self._key(model_id, name), content, overwrite=False)
        except AlreadyExistsError:
            # A write whose answer got lost is sent again and then meets itself.
            return self._storage.read(self._key(model_id, name)) == content
        return True

    def _move(self, source: str, target: str) -> None:
        """Copy all objects, then delete them, model.pkl first: whole or absent at every moment."""
        for key in reversed(self._copy(source, target)):
            self._storage.delete(key)

    def _copy(self, source: str, target: str) -> list[str]:
        """Copy all objects, model.pkl last, which makes them a version; an interrupted copy can be made again."""
        keys = [found.key for found in self._storage.objects(source)]
        if not keys:
            hint = "'python -m pmip versions' lists what there is"
            raise ModelNotFoundError(f"{self._storage.url(source)} holds no version; {hint}")
        keys.sort(key=lambda key: key.endswith(f"/{MODEL}"))
        for key in keys:
            self._storage.copy(key, target + key.removeprefix(source))
        return keys


def _mark(files: dict[str, StoredObject]) -> str:
    """Return what changes with the files of a version; nothing where its model is too large to be loaded."""
    model, metadata = files[MODEL], files.get(METADATA)
    return "" if model.size > MAX_MODEL_BYTES else f"{model.tag} {metadata.tag if metadata else None}"


LOCAL = "local"


class LocalModel:
    """The one model in the data folder, which dev serves; it changes whenever the notebook writes it again."""

    def __init__(self, data_dir: Path) -> None:
        self._folder = FolderStorage(data_dir)
        self.environment = "dev"

    def __str__(self) -> str:
        return self._folder.url(MODEL)

    def versions(self) -> list[Version]:
        """Return the local model, marked by its files' sizes and times, or nothing."""
        paths = [self._folder.root / name for name in (MODEL, METADATA)]
        marks = [f"{path.stat().st_size}-{path.stat().st_mtime_ns}" if path.exists() else "none" for path in paths]
        return [Version(LOCAL, " ".join(marks))] if paths[0].exists() else []

    def since(self, model_id: str) -> list[Version]:  # noqa: ARG002 - asked like a model store
        """Return the local model: none is newer."""
        return self.versions()

    def marked(self, version: Version) -> Version:
        """Return the version: it was listed with its mark."""
        return version

    def fetch(self, model_id: str = LOCAL) -> Artifact:  # noqa: ARG002 - asked like a model store
        """Return the local model."""
        try:
            model = self._folder.read(MODEL)
        except ObjectNotFoundError as error:
            raise ModelNotFoundError(f"{self}: there is no local model; 'bash scripts/train.sh' makes one") from error
        try:
            return Artifact(model, Metadata.from_json(self._folder.read(METADATA)))
        except ObjectNotFoundError:
            return Artifact(model, None)

    def save(self, artifact: Artifact) -> None:
        """Replace the local model; two runs that end together leave the whole model of one of them."""
        with self._locked():
            if artifact.metadata:
                self._folder.write(METADATA, artifact.metadata.to_json())
            else:
                self._folder.delete(METADATA)
            self._folder.write(MODEL, artifact.model)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self._folder.root.mkdir(parents=True, exist_ok=True)
        with (self._folder.root / ".model.lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield
