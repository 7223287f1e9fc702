"""The Lambda handler runs under the real runtime client, which gets its events from a Runtime API on the loopback."""

import base64
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from api import EXAMPLE, wait_for
from conftest import ROOT, publish
from lambda_events import v1, v2
from runtime_api import COMMAND, Function, running_function
from s3_proxy import S3Proxy

from pmip.model.artifact import Artifact
from pmip.store.objects import S3Storage
from pmip.store.versions import ModelStore

FIRST, SECOND = "20260101T000000Z", "20260202T000000Z"
CLASSES = {"result": [{"class": 1}, {"class": 0}]}
SECRET = "a comment that nobody may read"
# Everything except the temporary folder is read-only, also /dev/shm, and the user has no rights of root.
AS_ON_LAMBDA = """
set -e
mount --make-rprivate /
mount --bind "$TMPDIR" "$TMPDIR"
awk '{ print $5 }' /proc/self/mountinfo | grep -vxF -e "$TMPDIR" -e /proc | while read -r at; do
  mount -o remount,bind,ro "$at" 2>/dev/null || true
done
mount -t tmpfs -o ro none /dev/shm
! touch "$0" 2>/dev/null
exec unshare --user --map-user=993 --map-group=990 "$@"
"""


def unshared() -> list[str]:
    """Return a command that gives a process a disk like Lambda's; skip the test where the system does not allow it."""
    command = ["unshare", "--mount", *([] if os.getuid() == 0 else ["--map-root-user"])]
    if shutil.which("unshare") is None or subprocess.run([*command, "true"], check=False).returncode:
        pytest.skip("this system does not let a process have mounts of its own")
    return [*command, "sh", "-c", AS_ON_LAMBDA, __file__]


Start = Callable[..., Function]


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    """Yield a function that starts a handler with its own temporary folder; all end after the module's tests."""
    with ExitStack() as running:

        def start(log_file: str = os.devnull, **environ: str) -> Function:
            folder = tmp_path_factory.mktemp("lambda")
            (folder / "tmp").mkdir()
            log = running.enter_context(Path(log_file).open("wb"))
            settings = {"TMPDIR": str(folder / "tmp"), "HOME": str(folder / "tmp"), "MODEL_CACHE_DIR": ""}
            context = running_function(log, within=unshared(), cwd=ROOT, **settings | environ)
            return running.enter_context(context)

        yield start


@pytest.fixture
def store(bucket: S3Storage, artifact: Artifact) -> ModelStore:
    store = ModelStore(bucket, "staging")
    publish(store, artifact, FIRST)
    return store


@pytest.fixture
def settings(bucket: S3Storage) -> dict[str, str]:
    """Serve from the store, and look for a newer version only after half an hour."""
    return {"ENVIRONMENT": "staging", "BUCKET": bucket.bucket, "MODEL_POLL_SECONDS": "1800"}


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("log") / "log"


@pytest.fixture(scope="module")
def local(start: Start, log: Path, artifact: Artifact, tmp_path_factory: pytest.TempPathFactory) -> Function:
    """Serve a local model, and write what the function logs to `log`."""
    data = tmp_path_factory.mktemp("data")
    (data / "model.pkl").write_bytes(artifact.model)
    return start(str(log), DATA_DIR=str(data), MAX_BODY_BYTES="1000")


EVENTS = {
    "v1": v1("/predict", EXAMPLE),
    "v1, base64": v1("/predict", EXAMPLE, encoded=True),
    "v1, single headers": {k: v for k, v in v1("/predict", EXAMPLE).items() if not k.startswith("multiValue")},
    "v1, a path of its own": v1("/predict", EXAMPLE, stage="predict"),
    "v2": v2("/predict", EXAMPLE, "type=class"),
    "v2, base64": v2("/predict", EXAMPLE, encoded=True),
    "v2, a named stage": v2("/predict", EXAMPLE, stage="prod"),
    "v2, a stage named like a route": v2("/predict", EXAMPLE, stage="predict"),
}


@pytest.mark.parametrize("kind", EVENTS)
def test_each_kind_of_event_is_answered(kind: str, local: Function) -> None:
    """Events of both versions are answered, with plain or base64 bodies, single or repeated headers, and any stage."""
    outcome = local.call(EVENTS[kind])
    assert (outcome.status, outcome.body) == (200, CLASSES)
    assert outcome.headers["x-model-id"] == "local"
    assert ("multiValueHeaders" in outcome.payload) == ("multiValueHeaders" in EVENTS[kind])


@pytest.mark.parametrize("made", [v1, v2])
def test_errors_are_those_of_the_api(made: Callable[..., Any], local: Function) -> None:
    """Each wrong request gets the API's status (400, 404, 405, 413 or 415) and a message."""
    cases = {
        400: made("/predict", EXAMPLE, "type=class&type=probability"),
        404: made("/nothing", EXAMPLE),
        405: made("/predict"),
        413: made("/predict", {"comments": ["x" * 1000]}),
        415: made("/predict", EXAMPLE, **{"Content-Type": "text/plain"}),
    }
    for status, event in cases.items():
        outcome = local.call(event)
        assert (outcome.status, [*outcome.body]) == (status, ["message"])
    assert local.call(made("/predict", EXAMPLE, "type=probability")).body["result"][0].keys() == {"probability"}


@pytest.mark.parametrize(("made", "stage"), [(v1, "prod"), (v2, "prod"), (v2, "$default")])
def test_the_swagger_page_finds_its_parts(made: Callable[..., Any], stage: str, local: Function) -> None:
    """The Swagger page and the documents use addresses with the caller's stage, and the page's script is served."""
    below = "" if stage == "$default" else f"/{stage}"
    page = local.call(made("/", stage=stage)).payload["body"]
    [script] = re.findall(r'src="([^"]*swagger-ui-bundle\.js)"', page)
    assert script.startswith(f"{below}/swaggerui/")
    answer = local.call(made(script.removeprefix(below), stage=stage))
    assert answer.status == 200
    script_text = answer.payload["body"]
    assert "SwaggerUIBundle" in (
        base64.b64decode(script_text).decode() if answer.payload["isBase64Encoded"] else script_text
    )
    document = local.call(made("/swagger.json", stage=stage)).body
    assert document["basePath"] == (below or "/")
    assert local.call(made("/openapi.json", stage=stage)).body["servers"] == [{"url": below or "/"}]
    assert local.call(made("/try", stage=stage)).status == 200


def test_figures_are_those_of_this_process(local: Function) -> None:
    """/metrics answers with the id of the served model, although Lambda has no shared memory."""
    outcome = local.call(v2("/metrics"))
    assert outcome.status == 200
    assert 'pmip_model_info{model_id="local"} 1.0' in outcome.payload["body"]


WRONG_EVENTS = {
    "nothing": None,
    "a list": [SECRET],
    "a text": SECRET,
    "empty": {},
    "what a caller would send to the API": {"comments": [SECRET]},
    "a queue's": {"Records": [{"body": SECRET, "eventSource": "aws:sqs"}]},
    "a schedule's": {"version": "0", "source": "aws.events", "detail": {"text": SECRET}},
    "no method": {k: v for k, v in v1("/predict", SECRET).items() if k != "httpMethod"},
    "no path": {k: v for k, v in v2("/predict", SECRET).items() if k != "rawPath"},
    "no context": v2("/predict", SECRET) | {"requestContext": None},
    "a body that is no text": v2("/predict", SECRET) | {"body": {"comments": [SECRET]}},
    "a body that is no base64": v2("/predict") | {"body": SECRET + "?", "isBase64Encoded": True},
    "half a character": v1("/predict", SECRET + "\ud800"),
    "a header without value": v2("/predict", SECRET) | {"headers": {"x-request-id": None}},
    "an unknown version": v2("/predict", SECRET) | {"version": "3.0"},
}


@pytest.mark.parametrize("kind", WRONG_EVENTS)
def test_a_wrong_event_is_refused_in_one_line(kind: str, local: Function, log: Path) -> None:
    """A wrong event gets 400 with the expected type of event; neither the answer nor its one log line quotes it."""
    before = log.read_text()
    outcome = local.call(WRONG_EVENTS[kind])
    assert outcome.status == 400
    assert "this is not an HTTP event of API Gateway" in outcome.body["message"]
    [line] = log.read_text().removeprefix(before).splitlines()
    assert json.loads(line)["message"] == f"an event was refused: {outcome.body['message']}"
    assert SECRET not in line + outcome.body["message"]


def test_the_log_is_json_without_comments(local: Function, log: Path) -> None:
    """Each line of the log is JSON, a request's line has its id, and no line has a comment or a needless warning."""
    outcome = local.call(v2("/predict", {"comments": [SECRET]}, **{"X-Request-Id": "my-id"}))
    assert outcome.headers["x-request-id"] == "my-id"
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert (lines[-1]["request_id"], lines[-1]["comments"], lines[-1]["status"]) == ("my-id", 1, 200)
    assert {line["message"] for line in lines if line["level"] == "warning"} <= {
        line["message"] for line in lines if line["message"].startswith("an event was refused")
    }
    assert SECRET not in log.read_text()


def test_a_new_model_is_taken_up_while_warm(
    store: ModelStore, settings: dict[str, str], start: Start, artifact: Artifact
) -> None:
    """A warm function serves a new model after the interval, and keeps its model when a newer one is broken."""
    started = start(**settings | {"MODEL_POLL_SECONDS": "0.1"})
    assert started.call(v1("/predict", EXAMPLE)).headers["x-model-id"] == FIRST
    publish(store, artifact, SECOND)
    wait_for(lambda: started.call(v1("/predict", EXAMPLE)).headers["x-model-id"] == SECOND, 10)
    publish(store, artifact, "20260303T000000Z", broken=True)
    wait_for(lambda: "20260303" in str(started.call(v1("/model-info")).body["result"]["last_error"]), 10)
    outcome = started.call(v1("/predict", EXAMPLE))
    assert (outcome.status, outcome.headers["x-model-id"]) == (200, SECOND)


def test_a_start_brings_the_model_and_within_the_interval_a_call_asks_nobody(
    store: ModelStore, settings: dict[str, str], start: Start, proxy: S3Proxy, artifact: Artifact
) -> None:
    """The start loads the model, and calls within the interval send S3 no request, although a newer version exists."""
    started = start(**settings)
    asked = len(proxy.requests)
    assert started.call(v2("/model-info")).body["result"]["scorer"] == "lookups"
    publish(store, artifact, SECOND)
    assert {started.call(v2("/predict", EXAMPLE)).headers["x-model-id"] for _ in range(20)} == {FIRST}
    assert len(proxy.requests) == asked


def test_with_s3_away_the_last_good_model_answers(
    store: ModelStore, settings: dict[str, str], start: Start, proxy: S3Proxy, artifact: Artifact
) -> None:
    """While S3 fails, callers get the last model's answers within 5 s and /model-info says so; then it recovers."""
    proxy.slow_seconds = 3
    started = start(**settings | {"MODEL_POLL_SECONDS": "0.1"})
    publish(store, artifact, SECOND)
    for fault in ("stopped", "slow", 503, 403):
        proxy.fault, asked, outcomes = fault, len(proxy.requests), []
        while len(proxy.requests) == asked:
            outcomes.append(started.call(v2("/predict", EXAMPLE)))
        assert {(outcome.status, outcome.headers["x-model-id"]) for outcome in outcomes} == {(200, FIRST)}
        sys.stderr.write(f"{fault}: {max(outcome.seconds for outcome in outcomes):.1f} s\n")
        assert max(outcome.seconds for outcome in outcomes) < 5
        assert str(store) in started.call(v2("/model-info")).body["result"]["last_error"]
    proxy.fault = None
    wait_for(lambda: started.call(v2("/predict", EXAMPLE)).headers["x-model-id"] == SECOND, 10)
    assert started.call(v2("/model-info")).body["result"]["last_error"] is None


def test_a_cold_start_without_s3_is_not_ready_and_tries_at_each_call(
    store: ModelStore, settings: dict[str, str], start: Start, proxy: S3Proxy
) -> None:
    """A cold start without S3 answers 503 within 5 s, and the first call after S3 is back is answered."""
    proxy.fault = "stopped"
    started = start(**settings)
    outcome = started.call(v2("/predict", EXAMPLE))
    assert (outcome.status, outcome.headers["retry-after"]) == (503, "5")
    assert outcome.seconds < 5
    proxy.fault = None
    assert started.call(v2("/predict", EXAMPLE)).body == CLASSES


@pytest.mark.slow
@pytest.mark.alone
def test_a_slow_s3_does_not_hold_the_start(
    store: ModelStore, settings: dict[str, str], start: Start, proxy: S3Proxy
) -> None:
    """A start with a slow S3 ends before Lambda's limit of 10 seconds, and a later call loads the model."""
    proxy.fault = "throttled"
    started = start(**settings)
    assert started.seconds_to_start < 10
    proxy.fault = None
    wait_for(lambda: started.call(v2("/predict", EXAMPLE)).status == 200, 30)
    assert started.call(v2("/predict", EXAMPLE)).headers["x-model-id"] == FIRST


def test_bad_settings_end_it_in_one_line() -> None:
    """Bad settings end the function with one line of the log that names all of them."""
    environ = os.environ | {"AWS_LAMBDA_RUNTIME_API": "127.0.0.1:9", "ENVIRONMENT": "prod", "MAX_COMMENTS": "0"}
    run = subprocess.run(COMMAND, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=60, check=False)
    assert run.returncode == 1
    [line] = run.stderr.splitlines()
    assert "BUCKET" in line
    assert "MAX_COMMENTS" in line


@pytest.mark.slow
@pytest.mark.alone
def test_it_starts_and_answers_in_time(store: ModelStore, settings: dict[str, str], start: Start) -> None:
    """The median start takes less than Lambda's 10 s, the median warm call less than 0.1 s, and both are printed."""
    functions = [start(**settings) for _ in range(3)]
    cold = [function.seconds_to_start for function in functions]
    first = [function.call(v2("/predict", EXAMPLE)).seconds for function in functions]
    warm = [functions[0].call(v2("/predict", EXAMPLE)).seconds for _ in range(200)]
    figures = f"start {statistics.median(cold):.2f} s, first call {statistics.median(first) * 1000:.1f} ms"
    sys.stderr.write(f"{figures}, warm {statistics.median(warm) * 1000:.2f} ms\n")
    assert statistics.median(cold) < 10
    assert statistics.median(warm) < 0.1
