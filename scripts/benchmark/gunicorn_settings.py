"""The settings by which gunicorn runs the API, without its hooks, for the apps that it is compared with."""

import os

from pmip import gunicorn_conf

globals().update({name: value for name, value in vars(gunicorn_conf).items() if name[0] != "_" and not callable(value)})
preload_app = not os.environ["PLAIN_MODEL"]  # plain code loads its model in each worker
