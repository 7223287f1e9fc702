"""What can go wrong, one class per meaning; each text says what is wrong, where, and how to mend it."""


class PmipError(Exception):
    """Base of all errors that the person who meets them can mend; /metrics counts them by their `kind`."""

    kind = "other"


class SettingsError(PmipError):
    """Raised when environment variables are missing or wrong; names all of them."""


class StorageError(PmipError):
    """Raised when the storage did not answer as it should; a later try may succeed."""

    kind = "storage"


class StorageAwayError(StorageError):
    """Raised when the storage cannot be reached, or is out of order for all objects alike."""

    kind = "away"


class BucketNotFoundError(StorageError):
    """Raised when the bucket does not exist."""

    kind = "no_bucket"


class ObjectNotFoundError(StorageError):
    """Raised when no object has the key."""


class AccessDeniedError(StorageError):
    """Raised when the storage refuses the caller's credentials, or there are none."""

    kind = "access_denied"


class AlreadyExistsError(StorageError):
    """Raised when a write that must not overwrite meets an object of the same key."""


class TrainingDataError(PmipError):
    """Raised when there is no training data, or what is there cannot be trained on."""


class ArtifactError(PmipError):
    """Raised when a model must not be served.

    Its `kind` is one of `damaged`, `too_large`, `metadata`, `not_readable`, `golden_answers` or `unusable`.
    """

    def __init__(self, text: str, kind: str = "unusable") -> None:
        super().__init__(text)
        self.kind = kind


class NotReadableError(ArtifactError):
    """Raised when a model can only be run, not read as data; `reason` says what stands in the way."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(
            f"{reason}: this model can only be run, not read; TRUST_PICKLES=true serves it through joblib.load "
            "if you trust everybody who can write to this bucket",
            "not_readable",
        )


class VerificationError(PmipError):
    """Raised when it could not be found out whether a model may be served; a later try may succeed."""

    kind = "not_verified"


class CacheError(PmipError):
    """Raised when the host's cache of verified models cannot be used."""

    kind = "cache"


class ModelNotFoundError(PmipError):
    """Raised when the model store has no such version."""

    kind = "no_version"


class ModelNotReadyError(PmipError):
    """Raised when an answer needs a model and none is loaded yet."""


class PayloadError(PmipError):
    """Raised when a caller's request cannot be scored; never quotes the caller's text."""


class TooLargeError(PayloadError):
    """Raised when a request asks for more work than one request may."""


class NotExplainableError(PayloadError):
    """Raised when an explanation is asked of a model that is not linear in its features."""


class Stopped(SystemExit):
    """Raised where a command is when a signal ends it; no `Exception`, so that nothing takes it for a fault."""

    def __init__(self, what: str, signal_number: int) -> None:
        super().__init__(what)
        self.signal_number = signal_number


class TrainingRunError(PmipError):
    """Raised when a training run ended without a model."""


class GateError(PmipError):
    """Raised when a model does not reach what is asked of it, so that it is not published; names each figure."""


class PreflightError(PmipError):
    """Raised when the training notebook must not be committed as it is; names all that is wrong."""


class ClusterError(PmipError):
    """Raised when a Dask cluster cannot do the work."""
