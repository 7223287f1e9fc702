"""The settings by which gunicorn runs the API, without its hooks and its worker, for the apps that it is compared with.

Those run on gunicorn's own worker, as a tutorial starts them; so did the API of version 0.1.0, and the ratios of the
two versions can be compared.
"""

import os

from pmip import gunicorn_conf

OWN = ("worker_class", "logger_class", "threads", "keepalive")
globals().update(
    {
        name: value
        for name, value in vars(gunicorn_conf).items()
        if name[0] != "_" and name not in OWN and not callable(value)
    }
)
preload_app = not os.environ["PLAIN_MODEL"]  # plain code loads its model in each worker
