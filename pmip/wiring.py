"""The API put together: settings, log, store, reloader and routes, for each door that serves it."""

import logging
import sys
import time
from functools import partial

from flask import Flask

from pmip.api_keys import ApiKeys
from pmip.config import Settings
from pmip.errors import SettingsError
from pmip.host_cache import HostCache, cache_folder
from pmip.local_model import LocalModel
from pmip.model_store import ModelStore
from pmip.payload import Limits
from pmip.reloader import Reloader
from pmip.request_log import JsonLines, to_stderr
from pmip.storage import HURRIED, PATIENT, S3Storage
from pmip.updater import Updater
from pmip.verification_process import SECONDS, verify_in_process

DEV_POLL_SECONDS = 1.0  # a look at a local file costs nothing
CALL_SECONDS = 20  # API Gateway gives a call up after 29


def prepare() -> Settings:
    """Read the settings and send the log to stderr as JSON; bad settings end the process in one line."""
    try:
        settings = Settings.from_environ()
    except SettingsError as error:
        sys.exit(f"pmip: {error}")
    log_to_stderr = logging.StreamHandler()
    log_to_stderr.setFormatter(JsonLines())
    logging.basicConfig(handlers=[log_to_stderr], force=True)  # Lambda's runtime has set up a format of its own
    logging.getLogger("pmip").setLevel(settings.log_level.upper())  # at debug, boto3 would log what it signs
    return settings


def build(settings: Settings, *, in_calls: bool = False) -> tuple[Flask, Reloader]:
    """Wire the API for these settings; the reloader is not started, because threads do not survive a fork.

    With `in_calls` it looks for models while a caller waits, in a process that is frozen between calls.
    """
    # flask-restx imports jsonschema, and that a grammar of web addresses where Jupyter has brought one, which takes
    # a second to build and checks what no route has: https://github.com/python-jsonschema/jsonschema (_format.py).
    sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]
    from pmip.routes import create_app

    reloader = _reloader(settings, in_calls=in_calls)
    limits = Limits(settings.max_comments, settings.max_comment_chars, settings.max_body_bytes)
    app = create_app(
        reloader,
        limits,
        environment=settings.environment,
        trusted_proxies=settings.trusted_proxies,
        api_keys=ApiKeys(settings.api_keys),
        metrics_dir=settings.metrics_dir,
        log_request=to_stderr,
    )
    return app, reloader


def _reloader(settings: Settings, *, in_calls: bool) -> Reloader:
    is_dev, pinned, trusted = settings.environment == "dev", settings.pinned_model_id, settings.model_trusted_types
    store = _store(settings, in_calls=in_calls)
    served = (str(store), settings.data_dir.resolve() if is_dev else settings.endpoint, pinned, trusted)
    cache = HostCache(cache_folder(settings.model_cache_dir, *served))
    seconds = CALL_SECONDS if in_calls else SECONDS
    verify = partial(verify_in_process, environment=settings.environment, trusted=trusted, seconds=seconds)
    updater = Updater(store, cache, verify, pinned=None if is_dev else pinned)
    poll_seconds = DEV_POLL_SECONDS if is_dev else settings.model_poll_seconds
    clock = time.time if in_calls else time.monotonic  # the latter may stand still while a process is frozen
    return Reloader(cache, updater, poll_seconds=poll_seconds, trusted=trusted, clock=clock)


def _store(settings: Settings, *, in_calls: bool) -> LocalModel | ModelStore:
    if settings.environment == "dev":
        return LocalModel(settings.data_dir)
    storage = S3Storage(settings.bucket or "", HURRIED if in_calls else PATIENT)
    return ModelStore(storage, settings.environment)
