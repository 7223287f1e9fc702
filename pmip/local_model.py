"""The one model in the data folder, which dev serves."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pmip.artifact import METADATA, MODEL, Artifact, Metadata
from pmip.errors import ModelNotFoundError, ObjectNotFoundError
from pmip.folder_storage import FolderStorage
from pmip.model_store import Version

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
