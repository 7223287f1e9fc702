"""The API as gunicorn imports it."""

from pmip.wiring import build, prepare

app, reloader = build(prepare())
