"""Settings from environment variables; the only reader of the environment."""

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Self

from pmip.errors import SettingsError

ENVIRONMENTS = ("dev", "staging", "prod")
LOG_LEVELS = ("debug", "info", "warning", "error", "critical")
MEBIBYTE = 2**20


def read(name: str, default: Any, parse: Callable[[str], Any], *, secret: bool = False) -> Any:
    """Declare a setting: its variable, its default, and how a text becomes its value."""
    return field(default=default, repr=not secret, metadata={"name": name, "parse": parse})


def _one_of(allowed: tuple[str, ...]) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text.lower() not in allowed:
            raise ValueError("must be one of " + ", ".join(allowed))
        return text.lower()

    return parse


def _number(kind: type[int] | type[float], *, minimum: float, maximum: float = float("inf")) -> Callable[[str], float]:
    def parse(text: str) -> float:
        noun = "a whole number" if kind is int else "a number"
        bounds = f"of at least {minimum}" if maximum == float("inf") else f"from {minimum} to {maximum}"
        try:
            number = kind(text)
        except ValueError:
            raise ValueError(f"must be {noun} {bounds}") from None
        if not minimum <= number <= maximum or number == float("inf"):
            raise ValueError(f"must be {noun} {bounds}")
        return number

    return parse


def _bucket_name(text: str) -> str:
    """Check S3's rule: https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html."""
    name = text.removeprefix("s3://").rstrip("/")
    if not re.fullmatch("[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", name):
        raise ValueError("must be a bucket's name (lower case, digits, - and .), with or without s3://, without a path")
    return name


def _boolean(text: str) -> bool:
    if text.lower() not in ("true", "false", "1", "0"):
        raise ValueError("must be true or false")
    return text.lower() in ("true", "1")


def _trust(text: str) -> bool:
    """Check that an API that may run pickles has the libraries for them; its image has them only on request."""
    trusted = _boolean(text)
    missing = [name for name in ("joblib", "sklearn") if trusted and not find_spec(name)]
    if missing:
        raise ValueError(
            f"a model can only be run with {' and '.join(missing)}, which this installation does not have; build the "
            "API image with EXTRAS=lambda,pickles, or install pmip[pickles]"
        )
    return trusted


def keys_in(text: str) -> tuple[str, ...]:
    """Return the API keys in a text, which commas or line breaks separate."""
    keys = tuple(key.strip() for key in re.split("[,\n]", text) if key.strip())
    if not keys:
        raise ValueError("holds no key; unset it to allow everybody")
    return keys


def _path(text: str) -> str:
    path = text.rstrip("/")
    if not re.fullmatch(r"(/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)+", path):
        raise ValueError("must be a path such as /spam: letters, digits, and . _ ~ - within its parts")
    return path


def _origins(text: str) -> tuple[str, ...]:
    """Check origins as browsers send them: https://developer.mozilla.org/docs/Web/HTTP/Reference/Headers/Origin."""
    origins = tuple(origin.strip() for origin in text.split(",") if origin.strip())
    if not origins or not all(re.fullmatch("https?://[A-Za-z0-9.-]+(:[0-9]{1,5})?", origin) for origin in origins):
        raise ValueError("must be origins such as https://example.org, separated by commas; * is not allowed")
    return origins


@dataclass(frozen=True)
class Limits:
    """Limits of one request; the slowest request within them takes about one second of one core.

    A body of `max_body_bytes` holds the largest request also where each character is two escapes of six bytes.
    """

    max_comments: int = read("MAX_COMMENTS", 1000, _number(int, minimum=1))
    max_comment_chars: int = read("MAX_COMMENT_CHARS", 10_000, _number(int, minimum=1))
    max_total_chars: int = read("MAX_TOTAL_CHARS", 300_000, _number(int, minimum=1))
    max_explained_chars: int = read("MAX_EXPLAINED_CHARS", 100_000, _number(int, minimum=1))
    max_body_bytes: int = read("MAX_BODY_BYTES", 4 * MEBIBYTE, _number(int, minimum=1))


@dataclass(frozen=True)
class Settings(Limits):
    """All settings, each declared once; scripts/README.md has a table of them."""

    environment: str = read("ENVIRONMENT", "dev", _one_of(ENVIRONMENTS))
    bucket: str | None = read("BUCKET", None, _bucket_name)
    endpoint: str | None = read("AWS_ENDPOINT_URL", None, str)
    data_dir: Path = read("DATA_DIR", Path("data"), Path)
    pinned_model_id: str | None = read("PINNED_MODEL_ID", None, str)
    model_poll_seconds: float = read("MODEL_POLL_SECONDS", 60.0, _number(float, minimum=0.1))
    model_cache_dir: Path | None = read("MODEL_CACHE_DIR", None, Path)
    trust_pickles: bool = read("TRUST_PICKLES", False, _trust)
    api_keys: tuple[str, ...] = read("API_KEYS", (), keys_in, secret=True)
    api_keys_file: Path | None = read("API_KEYS_FILE", None, Path)
    workers: int = read("WEB_CONCURRENCY", 3, _number(int, minimum=1))
    host: str = read("HOST", "127.0.0.1", str)
    port: int = read("PORT", 8000, _number(int, minimum=1, maximum=65535))
    log_level: str = read("LOG_LEVEL", "info", _one_of(LOG_LEVELS))
    trusted_proxies: int = read("TRUSTED_PROXIES", 0, _number(int, minimum=0))
    url_prefix: str = read("URL_PREFIX", "", _path)
    cors_origins: tuple[str, ...] = read("CORS_ORIGINS", (), _origins)
    git_revision: str | None = read("GIT_REVISION", None, str)
    batch_job_id: str | None = read("AWS_BATCH_JOB_ID", None, str)
    batch_array_index: int | None = read("AWS_BATCH_JOB_ARRAY_INDEX", None, _number(int, minimum=0))
    batch_array_size: int | None = read("AWS_BATCH_JOB_ARRAY_SIZE", None, _number(int, minimum=1))
    dask_scheduler: str = read("DASK_SCHEDULER", "", str)
    metrics_dir: Path | None = read("PROMETHEUS_MULTIPROC_DIR", None, Path)  # set by gunicorn_conf.py
    on_lambda: bool = read("AWS_LAMBDA_RUNTIME_API", False, bool)  # Lambda sets it

    @classmethod
    def from_environ(cls, environ: Mapping[str, str] = os.environ) -> Self:
        """Read the settings; an empty variable counts as unset. Raise one `SettingsError` with all mistakes."""
        values, mistakes = {}, []
        for setting in fields(cls):
            name = setting.metadata["name"]
            text = environ.get(name, "").strip()
            try:
                if text:
                    values[setting.name] = setting.metadata["parse"](text)
            except ValueError as error:
                mistakes.append(f"{name}={text!r}: {error}")
        if values.get("environment") in ("staging", "prod") and not environ.get("BUCKET", "").strip():
            mistakes.append("BUCKET is missing: it is required when ENVIRONMENT is staging or prod")
        if mistakes:
            raise SettingsError("bad settings: " + "; ".join(mistakes))
        return cls(**values)
