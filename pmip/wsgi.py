"""The API assembled for gunicorn and for Lambda: settings, log, store, reloader and routes."""

import sys
import time
from functools import partial

from flask import Flask

from pmip.config import Settings
from pmip.errors import SettingsError
from pmip.http.keys import ApiKeys
from pmip.http.log import log_to_stderr
from pmip.model.verification import SECONDS, verify_in_child
from pmip.routes import create_app
from pmip.serving.cache import HostCache, cache_folder
from pmip.serving.reloader import Reloader
from pmip.serving.updater import Updater
from pmip.store.objects import HURRIED, PATIENT, S3Storage
from pmip.store.versions import LocalModel, ModelStore

DEV_POLL_SECONDS = 1.0  # reading a local file's time costs nothing
CALL_SECONDS = 20  # API Gateway ends a call after 29


def prepare() -> Settings:
    """Read the settings and log to stderr as JSON; wrong settings end the process with a message of one line."""
    try:
        settings = Settings.from_environ()
    except SettingsError as error:
        sys.exit(f"pmip: {error}")
    log_to_stderr(settings.log_level)
    return settings


def build(settings: Settings) -> tuple[Flask, Reloader]:
    """Build the API for these settings; the reloader is not started, because threads do not survive a fork."""
    reloader = _reloader(settings)
    app = create_app(
        reloader,
        settings,
        environment=settings.environment,
        url_prefix=settings.url_prefix,
        trusted_proxies=settings.trusted_proxies,
        cors_origins=settings.cors_origins,
        api_keys=_api_keys(settings),
        metrics_dir=settings.metrics_dir,
        git_revision=settings.git_revision,
    )
    return app, reloader


def _api_keys(settings: Settings) -> ApiKeys:
    """Read the API keys; a file that cannot be read ends the process with a message of one line."""
    try:
        return ApiKeys(settings.api_keys, settings.api_keys_file)
    except SettingsError as error:
        sys.exit(f"pmip: {error}")


def _reloader(settings: Settings) -> Reloader:
    is_dev, pinned, trust_pickles = settings.environment == "dev", settings.pinned_model_id, settings.trust_pickles
    store = _store(settings)
    served = (str(store), settings.data_dir.resolve() if is_dev else settings.endpoint, pinned, trust_pickles)
    cache = HostCache(cache_folder(settings.model_cache_dir, *served))
    seconds = CALL_SECONDS if settings.on_lambda else SECONDS
    verify = partial(verify_in_child, environment=settings.environment, trust_pickles=trust_pickles, seconds=seconds)
    updater = Updater(store, cache, verify, pinned=None if is_dev else pinned)
    poll_seconds = DEV_POLL_SECONDS if is_dev else settings.model_poll_seconds
    clock = time.time if settings.on_lambda else time.monotonic  # the latter may stop while Lambda freezes the process
    return Reloader(cache, updater, poll_seconds=poll_seconds, clock=clock)


def _store(settings: Settings) -> LocalModel | ModelStore:
    if settings.environment == "dev":
        return LocalModel(settings.data_dir)
    storage = S3Storage(settings.bucket or "", HURRIED if settings.on_lambda else PATIENT)
    return ModelStore(storage, settings.environment)


app, reloader = build(prepare())
