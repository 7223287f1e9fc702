"""What the errors of S3 mean: the type of each in pmip.errors, and plain words."""

from botocore.exceptions import (
    ClientError,
    CredentialRetrievalError,
    LoginError,
    NoAuthTokenError,
    PartialCredentialsError,
    SSOError,
    TokenRetrievalError,
)

from pmip.errors import (
    AccessDeniedError,
    AlreadyExistsError,
    BucketNotFoundError,
    ObjectNotFoundError,
    StorageAwayError,
    StorageError,
)

DENIED = "access denied; check the AWS credentials and what their policy allows"
EXPIRED = "the AWS credentials have expired; renew them, for example with 'aws sso login'"
# https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html
ERROR_BY_CODE: dict[str, tuple[type[StorageError], str]] = {
    "NoSuchBucket": (BucketNotFoundError, "there is no such bucket; check BUCKET, the region and AWS_ENDPOINT_URL"),
    "NoSuchKey": (ObjectNotFoundError, "there is no such object"),
    "404": (ObjectNotFoundError, "there is no such object"),
    "PreconditionFailed": (AlreadyExistsError, "exists already and is not overwritten"),
    "ConditionalRequestConflict": (AlreadyExistsError, "is being written by someone else"),
    "RequestTimeTooSkewed": (StorageAwayError, "refused, because the clock of this machine is wrong; set it"),
}
ERROR_BY_CODE |= dict.fromkeys(
    ("AccessDenied", "403", "InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken", "AllAccessDisabled"),
    (AccessDeniedError, DENIED),
)
ERROR_BY_CODE |= dict.fromkeys(
    ("ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired"), (AccessDeniedError, EXPIRED)
)
UNUSABLE_CREDENTIALS = (
    CredentialRetrievalError,
    LoginError,
    NoAuthTokenError,
    PartialCredentialsError,
    SSOError,
    TokenRetrievalError,
)
SERVER_ERROR = 500


def code_of(error: ClientError) -> str:
    """Return the code of an error that S3 answered."""
    return error.response.get("Error", {}).get("Code", "")


def meaning_of(error: ClientError) -> tuple[type[StorageError], str]:
    """Return the type of an error that S3 answered, and its meaning in plain words."""
    code = code_of(error)
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    other = StorageAwayError if status >= SERVER_ERROR else StorageError
    return ERROR_BY_CODE.get(code, (other, f"S3 answered {code or 'an error'}"))
