"""The settings of gunicorn for the apps that the API is compared with: its default worker, as a tutorial starts them.

The API's own configuration must not be imported here, because gevent would patch these apps too.
"""

import os

from pmip.config import Settings

_settings = Settings.from_environ()
bind = f"{_settings.host}:{_settings.port}"
workers = _settings.workers
loglevel = "warning"
control_socket_disable = True
worker_tmp_dir = "/dev/shm" if os.path.isdir("/dev/shm") else None  # noqa: PTH112, S108 - keeps the heartbeat off the disk
preload_app = not os.environ["PLAIN_MODEL"]  # plain code loads its model in each worker
