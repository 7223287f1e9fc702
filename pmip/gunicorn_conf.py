"""The configuration of gunicorn: gunicorn -c python:pmip.gunicorn_conf pmip.wsgi:app."""

# gevent asks to patch the standard library before anything else is imported.
from gevent import monkey

monkey.patch_all()

import atexit
import gc
import glob
import logging
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from pmip.config import Settings
from pmip.errors import SettingsError
from pmip.http.log import log_to_stderr, stderr

log = logging.getLogger("pmip.gunicorn")

try:
    _settings = Settings.from_environ()
except SettingsError as error:
    sys.exit(f"pmip: {error}")

bind = f"[{_settings.host}]:{_settings.port}" if ":" in _settings.host else f"{_settings.host}:{_settings.port}"
workers = _settings.workers
loglevel = _settings.log_level
log_to_stderr(_settings.log_level)
stderr.select = monkey.get_original("select", "select")  # it never waits, and gevent's own is slow
errorlog = None  # gunicorn's logger has the handler above; its setting `logconfig_dict` would also log each request
worker_class = "gevent"  # slow and idle callers cost a greenlet each
worker_connections = 900  # of each worker; below 1024, the usual limit of open files
keepalive = 75  # longer than that of nginx and AWS's load balancer: if we closed first, a request could be lost
timeout = 30
graceful_timeout = 8  # how long idle connections may delay an end; `docker stop` kills after 10 seconds
limit_request_line = 8190  # the most that gunicorn can limit it to
forwarder_headers = ""  # no header may set the path prefix: the setting URL_PREFIX does
preload_app = True  # the workers share what was imported before they were forked
control_socket_disable = True
_memory = "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108 - keeps the files below off the disk
worker_tmp_dir = _memory  # the heartbeat
_prefix = f"pmip-metrics-{_settings.host}-{_settings.port}-"
_metrics_dir = tempfile.mkdtemp(prefix=_prefix, dir=_memory)
atexit.register(shutil.rmtree, _metrics_dir, ignore_errors=True)
raw_env = [f"PROMETHEUS_MULTIPROC_DIR={_metrics_dir}"]  # prometheus_client reads it when it is imported


def post_fork(_server: Any, _worker: Any) -> None:
    """Keep the folder of the metrics when this worker ends, because the others use it."""
    atexit.unregister(shutil.rmtree)


def when_ready(arbiter: Any) -> None:
    """Remove the metrics of killed servers: only this one can listen at this address, or after USR2 its parent too.

    Exempt the imported modules from garbage collection: otherwise each worker would copy their memory when it ends.
    """
    for folder in Path(_metrics_dir).parent.glob(f"{glob.escape(_prefix)}*"):
        if folder != Path(_metrics_dir) and not arbiter.master_pid:
            shutil.rmtree(folder, ignore_errors=True)
    gc.freeze()


def post_worker_init(_worker: Any) -> None:
    """Start the reader of API_KEYS_FILE and the reloader in the worker, because a thread does not survive the fork."""
    from pmip.wsgi import app, reloader

    app.extensions["pmip"].api_keys.start()
    reloader.start()


def post_request(_worker: Any, _request: Any, _environ: Any, _response: Any) -> None:
    """Let the other callers of a worker run after each request, also if the next one of this caller has arrived."""
    time.sleep(0)


def child_exit(server: Any, worker: Any) -> None:
    """Mark an ended worker in the metrics, which keep its counts; count and log it if it was killed."""
    from prometheus_client.multiprocess import mark_process_dead

    if worker.aborted:
        from pmip.wsgi import app

        app.extensions["pmip"].metrics.killed()
        log.error("worker %d did not answer for %d s and was ended", worker.pid, server.timeout)
    mark_process_dead(worker.pid, _metrics_dir)  # type: ignore[no-untyped-call]
