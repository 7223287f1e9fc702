"""How gunicorn runs the API: gunicorn -c python:pmip.gunicorn_conf pmip.wsgi:app."""

import gc
import sys
from pathlib import Path
from typing import Any

from pmip.config import Settings
from pmip.errors import SettingsError

try:
    _settings = Settings.from_environ()
except SettingsError as error:
    sys.exit(f"pmip: {error}")

bind = f"{_settings.host}:{_settings.port}"
workers = _settings.workers
loglevel = _settings.log_level
preload_app = True  # the workers share what was imported before they were forked
control_socket_disable = True
worker_tmp_dir = "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108 - the heartbeat, kept off the disk


def when_ready(_arbiter: Any) -> None:
    """Exempt what was imported from garbage collection: each worker that ends would walk and copy all of it."""
    gc.freeze()


def post_worker_init(_worker: Any) -> None:
    """Start to look for models: in the worker, because a thread does not survive the fork."""
    from pmip.wsgi import reloader

    reloader.start()
