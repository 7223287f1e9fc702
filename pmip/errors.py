"""The errors of pmip. Each message says what is wrong, where, and how to correct it.

PmipError
  + SettingsError
  + StorageError
    + StorageAwayError
    + BucketNotFoundError
    + ObjectNotFoundError
    + AccessDeniedError
    + AlreadyExistsError
  + TrainingDataError
  + ArtifactError
    + NotReadableError
    + OtherTextError
  + VerificationError
  + CacheError
  + ModelNotFoundError
  + ModelNotReadyError
  + PayloadError
    + TooLargeError
    + NotExplainableError
  + TrainingRunError
  + GateError
  + PreflightError
  + ClusterError
SystemExit
  + Stopped
"""


class PmipError(Exception):
    """Base of all errors that a user or operator can correct; /metrics counts them by their `kind`."""

    kind = "other"


class SettingsError(PmipError):
    """Raised when environment variables are missing or wrong; the message names all of them."""


class StorageError(PmipError):
    """Raised when the storage answers with an error; a later attempt may succeed."""

    kind = "storage"


class StorageAwayError(StorageError):
    """Raised when the storage cannot be reached, or fails for all objects."""

    kind = "away"


class BucketNotFoundError(StorageError):
    """Raised when the bucket does not exist."""

    kind = "no_bucket"


class ObjectNotFoundError(StorageError):
    """Raised when no object has the key."""


class AccessDeniedError(StorageError):
    """Raised when the storage refuses the credentials, or when there are none."""

    kind = "access_denied"


class AlreadyExistsError(StorageError):
    """Raised when a write that must not overwrite finds an object with the same key."""


class TrainingDataError(PmipError):
    """Raised when there is no training data, or when it cannot be used."""


class ArtifactError(PmipError):
    """Raised when a model must not be served.

    Its `kind` is one of `damaged`, `too_large`, `metadata`, `not_readable`, `golden_answers` or `unusable`.
    """

    kind = "unusable"

    def __init__(self, text: str, kind: str | None = None) -> None:
        super().__init__(text)
        self.kind = kind or self.kind


class NotReadableError(ArtifactError):
    """Raised when a model can be run but not read as data, for the `reason`."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(
            f"{reason}: this model can be run but not read as data; if you trust everybody who can write to this "
            "bucket, set TRUST_PICKLES=true, which serves it through joblib.load",
            "not_readable",
        )


class OtherTextError(ArtifactError):
    """Raised when a model needs another `pmip.text` than that of this process."""

    kind = "golden_answers"


class VerificationError(PmipError):
    """Raised when the verification of a model failed without a result; a later attempt may succeed."""

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
    """Raised when a caller's request cannot be scored; the message never quotes the caller's text."""


class TooLargeError(PayloadError):
    """Raised when a request exceeds the limit of work for one request."""


class NotExplainableError(PayloadError):
    """Raised when a caller requests an explanation from a model that is not linear in its features."""


class Stopped(SystemExit):
    """Raised when a signal stops a command; not an `Exception`, so that no handler of errors catches it."""

    def __init__(self, what: str, signal_number: int) -> None:
        super().__init__(what)
        self.signal_number = signal_number


class TrainingRunError(PmipError):
    """Raised when a training run ended without a model."""


class GateError(PmipError):
    """Raised when a model misses a limit of the gate and is not published; the message names each metric."""


class PreflightError(PmipError):
    """Raised when the training notebook cannot be run or committed; the message names all mistakes."""


class ClusterError(PmipError):
    """Raised when a Dask cluster cannot do the work."""
