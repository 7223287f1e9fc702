"""The figures for Prometheus, in one process; tests/test_gunicorn_conf.py has them over all workers."""

from pathlib import Path

import pytest
from flask.testing import FlaskClient
from prometheus_client.parser import text_string_to_metric_families

from pmip.artifact import Artifact
from pmip.local_model import LocalModel
from pmip.payload import Limits
from pmip.reloader import Reloader
from pmip.routes import create_app
from pmip.scorer import load
from pmip.swagger import EXAMPLE

Figures = dict[tuple[str, frozenset[tuple[str, str]]], float]


def figures_in(text: str) -> Figures:
    """Read what /metrics answers as Prometheus does: values by name and labels."""
    families = text_string_to_metric_families(text)  # type: ignore[no-untyped-call]
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
    }


def figure(client: FlaskClient, name: str, **labels: str) -> float | None:
    """Return one figure; `kind` stands for the label `class`, which is a word of Python."""
    named = {"class" if label == "kind" else label: value for label, value in labels.items()}
    return figures_in(client.get("/metrics").text).get((name, frozenset(named.items())))


def client_of(folder: Path, artifact: Artifact | None) -> FlaskClient:
    """Return a caller of an API that serves the artifact from a folder."""
    local = LocalModel(folder)
    if artifact:
        local.save(artifact)
    reloader = Reloader(local, lambda artifact, model_id: load(artifact, model_id, "dev"), poll_seconds=60)
    reloader.check()
    return create_app(reloader, Limits()).test_client()


@pytest.fixture
def client(tmp_path: Path, artifact: Artifact) -> FlaskClient:
    """Serve the artifact."""
    return client_of(tmp_path, artifact)


def test_it_is_text_as_prometheus_wants_it(client: FlaskClient) -> None:
    """The content type names the format, and every figure of the package has its own name."""
    answer = client.get("/metrics")
    assert (answer.status_code, answer.mimetype) == (200, "text/plain")
    assert "version=0.0.4" in answer.headers["Content-Type"]
    assert all(name.startswith("pmip_") for name, _ in figures_in(answer.text))


def test_requests_are_counted_by_route_and_status(client: FlaskClient) -> None:
    """Each answer counts once, with its duration, errors too."""
    for body in ({"comments": EXAMPLE}, {"comments": []}, {}):
        client.post("/predict", json=body)
    count = "pmip_request_seconds_count"
    assert figure(client, count, route="/predict", status="200") == 2
    assert figure(client, count, route="/predict", status="400") == 1
    seconds = figure(client, "pmip_request_seconds_sum", route="/predict", status="200")
    assert seconds is not None
    assert 0 < seconds < 10


def test_what_callers_invent_makes_no_new_series(client: FlaskClient) -> None:
    """Unknown paths and methods are one series a status, whatever they hold."""
    client.get("/healthcheck")
    for number in range(20):
        client.get(f"/s3cr3t{number}?s3cr3t")
        client.open("/predict", method=f"S3CR3T{number}")
    text = client.get("/metrics").text
    assert "s3cr3t" not in text.lower()
    series = {labels for name, labels in figures_in(text) if name == "pmip_request_seconds_count"}
    assert series == {
        frozenset({("route", route), ("status", status)})
        for route, status in [("/healthcheck", "200"), ("other", "404"), ("other", "405")]
    }
    assert figure(client, "pmip_request_seconds_count", route="other", status="404") == 20


@pytest.mark.parametrize("kind", ["class", "probability", "explanation"])
def test_comments_are_counted_by_class_and_probability(client: FlaskClient, kind: str) -> None:
    """Every type of answer counts each comment, and its probability of spam under the model that gave it."""
    client.post(f"/predict?type={kind}", json={"comments": [*EXAMPLE, EXAMPLE[0]]})
    pairs = client.post("/predict?type=probability", json={"comments": EXAMPLE}).json["result"]
    spam, ham = (pair["probability"][1] for pair in pairs)
    assert figure(client, "pmip_comments_total", kind="1") == 3
    assert figure(client, "pmip_comments_total", kind="0") == 2
    assert figure(client, "pmip_spam_probability_count", model_id="local") == 5
    assert figure(client, "pmip_spam_probability_sum", model_id="local") == pytest.approx(3 * spam + 2 * ham)
    assert figure(client, "pmip_spam_probability_bucket", model_id="local", le="0.5") == 2


def test_the_state_of_the_model_is_told(client: FlaskClient, tmp_path: Path) -> None:
    """Which model answers, when a newer one was last looked for, and how many could not be loaded."""
    assert figure(client, "pmip_model_info", model_id="local") == 1
    assert figure(client, "pmip_load_failures_total") == 0
    checked = figure(client, "pmip_last_check_timestamp_seconds")
    assert checked is not None
    assert abs(checked - tmp_path.stat().st_mtime) < 600
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "model.pkl").write_bytes(b"no pickle")
    broken = client_of(tmp_path / "broken", None)
    assert figure(broken, "pmip_load_failures_total") == 1
    assert "pmip_model_info{" not in broken.get("/metrics").text


def test_apps_count_for_themselves(tmp_path: Path, artifact: Artifact) -> None:
    """Two apps of one process do not mix their figures."""
    first, second = (client_of(tmp_path, artifact) for _ in range(2))
    first.post("/predict", json={"comments": EXAMPLE})
    assert figure(first, "pmip_comments_total", kind="1") == 1
    assert figure(second, "pmip_comments_total", kind="1") is None
