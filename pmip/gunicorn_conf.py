"""How gunicorn runs the API: gunicorn -c python:pmip.gunicorn_conf pmip.wsgi:app."""

import atexit
import gc
import glob
import logging
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from pmip.config import Settings
from pmip.errors import SettingsError

log = logging.getLogger("pmip.gunicorn")

try:
    _settings = Settings.from_environ()
except SettingsError as error:
    sys.exit(f"pmip: {error}")

bind = f"[{_settings.host}]:{_settings.port}" if ":" in _settings.host else f"{_settings.host}:{_settings.port}"
workers = _settings.workers
loglevel = _settings.log_level
logger_class = "pmip.http.worker.Logger"
worker_class = "pmip.http.worker.Worker"
threads = 64  # each slow caller takes one, for two seconds or as long as 16 kB a second arrive
worker_connections = 500  # below the number of open files that systems allow by default
keepalive = 75  # longer than that of nginx and AWS's load balancer: whose end closes first must not lose a request
timeout = 30
forwarder_headers = ""  # nobody's header says below which path the API is: URL_PREFIX does
preload_app = True  # the workers share what was imported before they were forked
control_socket_disable = True
_memory = "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108 - what follows is kept off the disk
worker_tmp_dir = _memory  # the heartbeat
_prefix = f"pmip-metrics-{_settings.host}-{_settings.port}-"
_metrics_dir = tempfile.mkdtemp(prefix=_prefix, dir=_memory)
atexit.register(shutil.rmtree, _metrics_dir, ignore_errors=True)
raw_env = [f"PROMETHEUS_MULTIPROC_DIR={_metrics_dir}"]  # prometheus_client reads it when it is imported


def post_fork(_server: Any, _worker: Any) -> None:
    """Leave the folder of the metrics to the others when this worker ends."""
    atexit.unregister(shutil.rmtree)


def when_ready(_arbiter: Any) -> None:
    """Remove the figures of servers that were killed: who listens at this address is the only one that runs.

    What was imported is exempted from garbage collection: each worker that ends would walk and copy all of it.
    """
    for folder in Path(_metrics_dir).parent.glob(f"{glob.escape(_prefix)}*"):
        if folder != Path(_metrics_dir):
            shutil.rmtree(folder, ignore_errors=True)
    gc.freeze()


def post_worker_init(_worker: Any) -> None:
    """Start to look for models: in the worker, because a thread does not survive the fork."""
    from pmip.wsgi import reloader

    reloader.start()


def child_exit(server: Any, worker: Any) -> None:
    """Tell the metrics that a worker is gone; its counts stay."""
    from prometheus_client.multiprocess import mark_process_dead

    if worker.aborted:
        from pmip.wsgi import app

        app.extensions["pmip"].metrics.killed()
        log.error("worker %d did not answer for %d s and was ended", worker.pid, server.timeout)
    mark_process_dead(worker.pid, _metrics_dir)  # type: ignore[no-untyped-call]
