"""Run the apps that the API is compared with on gunicorn's default worker, as a tutorial starts them.

The API's own configuration must not be imported here, because gevent would patch these apps too.
"""

import os
from pathlib import Path

bind = f"127.0.0.1:{os.environ['PORT']}"
workers = int(os.environ["WEB_CONCURRENCY"])
preload_app = not os.environ["PLAIN_MODEL"]  # plain code loads its model in each worker
control_socket_disable = True
worker_tmp_dir = "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108 - the heartbeat stays off the disk
