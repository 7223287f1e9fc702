"""The API as gunicorn imports it: settings, store, reloader and routes wired together."""

import logging
import sys

from flask import Flask

from pmip.api_keys import ApiKeys
from pmip.artifact import Artifact
from pmip.config import Settings
from pmip.errors import SettingsError
from pmip.local_model import LocalModel
from pmip.model_store import ModelStore
from pmip.payload import Limits
from pmip.reloader import Reloader
from pmip.request_log import JsonLines, to_stderr
from pmip.routes import create_app
from pmip.scorer import Scorer, load
from pmip.storage import S3Storage

DEV_POLL_SECONDS = 1.0  # a look at a local file costs nothing


def build(settings: Settings) -> tuple[Flask, Reloader]:
    """Wire the API for these settings; the reloader is not started, because threads do not survive a fork."""

    def load_scorer(artifact: Artifact, model_id: str) -> Scorer:
        return load(artifact, model_id, settings.environment, settings.model_trusted_types)

    if settings.environment == "dev":
        reloader = Reloader(LocalModel(settings.data_dir), load_scorer, poll_seconds=DEV_POLL_SECONDS)
    else:
        store = ModelStore(S3Storage(settings.bucket or ""), settings.environment)
        pinned = settings.pinned_model_id
        reloader = Reloader(store, load_scorer, poll_seconds=settings.model_poll_seconds, pinned=pinned)
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


try:
    settings = Settings.from_environ()
except SettingsError as error:
    sys.exit(f"pmip: {error}")
log_to_stderr = logging.StreamHandler()
log_to_stderr.setFormatter(JsonLines())
logging.basicConfig(handlers=[log_to_stderr])
logging.getLogger("pmip").setLevel(settings.log_level.upper())  # at debug, boto3 would log what it signs
app, reloader = build(settings)
